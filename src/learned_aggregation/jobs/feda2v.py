"""`run_type = "feda2v"`: clients train adapters and generators (run 1), or send samples of saved ones (run 2)."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.build import generators as made
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.devices.distributed import runtime_error
from learned_aggregation.errors import UserError
from learned_aggregation.generators.client import GeneratorClient
from learned_aggregation.generators.files import EVERY
from learned_aggregation.generators.rounds import Programs, Saving, State, classes_of, compiled, run_rounds
from learned_aggregation.generators.samples import Pool, Samples, count, pool_of
from learned_aggregation.generators.server import GeneratorServer
from learned_aggregation.jobs.case_results import finished, write_result
from learned_aggregation.jobs.feda2v_files import judged, result_of, write_files, write_points
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.report.files import read_json
from learned_aggregation.report.html import write_report
from learned_aggregation.report.plots.plot import slug
from learned_aggregation.report.terminal import print_comparison
from learned_aggregation.runs import messages
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.runs.lock import lock
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.run_directory import RunDirectory, make_writable, metric_facts, same_run
from learned_aggregation.runs.same_data import check_same_data
from learned_aggregation.runs.trackers import make_tracker
from learned_aggregation.streams import to_stdout

WITH, WITHOUT, TRAINING, PLAIN = "with samples", "without samples", "generators trained", "adapters alone"


class Case(NamedTuple):
    """One of the runs of a seed. trains: run 1; sends: run 2."""

    label: str
    trains: bool
    sends: bool


def cases_of(config: Config) -> list[Case]:
    """Run 1 is one case; run 2 is one with samples and, for comparison, one without."""
    options = made.options_of(config)
    if options.trains:
        return [Case(TRAINING, True, False)]
    if options.sends:
        compared = [Case(WITHOUT, False, False)] if options.compare_without_samples else []
        return [Case(WITH, False, True), *compared]
    return [Case(PLAIN, False, False)]


def run(config: Config, command: str) -> Finished:
    """Runs all cases with every seed; started again with the same config it goes on with what is missing.

    Writes rounds.csv, table.csv, generators.csv, quality.csv, samples.csv, metrics.csv, the report, and in run 1 the
    clients' generators.

    Returns:
      The status is 128 + a signal's number when SIGINT or SIGTERM stopped it (after saving).
    Raises:
      UserError: a directory that holds another run, a store or a generator that cannot be used.
      RunError: the disk refused.
    """
    made.check_rule(config)
    store = made.load_store(config, say)
    held, digest = made.hold(config, store), made.store_digest(config, store)
    with same_run(run_dir(config), config_text(config), explicit=config.run_dir is not None) as path:
        task = made.task_name(config)
        make_writable(made.options_of(config).generator_checkpoint_dir)
        check_same_data(path, {task: digest})
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        facts |= {"metrics": metric_facts({task: made.MEASURED})}
        with _generators_held(config, digest, path), StopRequest() as stop:
            directory = RunDirectory(path, config_text(config), facts)
            results = run_cases(config, held, path, stop, {})
        if results is None:
            say(f"stopped, saved; go on with the same command: {path}")
            return Finished(stop.exit_status, path)
        write_files(path, results, task)
        directory.finish(table_note="Mean ± 95 % interval over seeds.")
        report = write_report(path)
        if messages.shown():
            with to_stdout():
                print_comparison(path)
        say(f"table: {path / 'table.csv'}  report: {report}")
        return Finished(0, path)


@contextlib.contextmanager
def _generators_held(config: Config, digest: str | None, path: Path) -> Iterator[None]:
    """Run 1 holds the generators' directory: another one would write the same files, also when it has ended.

    Raises:
      UserError: another process is at it, or the directory holds the generators of another run than that in `path`.
    """
    options = made.options_of(config)
    with contextlib.ExitStack() as held:
        if options.trains:
            place = Path(options.generator_checkpoint_dir)
            held.enter_context(lock(place, ".generators.lock"))
            _claim(place, config, digest, path)
        yield


def _claim(place: Path, config: Config, digest: str | None, path: Path) -> None:
    """Says in `place`/generators.json whose generators these are; `digest` is of the store.

    A run that is to begin with the generators there (`use_pretrained_generators`) replaces them. Where that file is
    missing or damaged, generators are those of a run that has begun, and nobody else's.
    """
    settings = config_text(replace(config, run_dir=None, name=None, name_suffix=""))
    mine = {"run": str(path), "config": hashlib.sha256(f"{settings}{digest}".encode()).hexdigest()}
    theirs = read_json(place / "generators.json")
    asked = made.options_of(config).use_pretrained_generators
    known = isinstance(theirs.get("config"), str)
    there = any(any(place.glob(f"{folder}client_*")) for folder in ("", "seed_*/"))
    ours = theirs["config"] == mine["config"] if known else not there or (path / "checkpoints").is_dir()
    if not (ours or asked):
        whose = f"those of {theirs.get('run')!r:.200}" if known else "some without a whole generators.json"
        raise UserError(
            f"{place}: expected a directory without another run's generators, got {whose}. "
            "Choose another feda2v.generator_checkpoint_dir, or remove that one."
        )
    write_atomic(place / "generators.json", json.dumps(mine, indent=2) + "\n")


def run_cases(
    config: Config, held: made.Held, path: Path, stop: StopRequest, programs: dict[str, Programs]
) -> list[dict[str, Any]] | None:
    """All cases with every seed, seeds outermost, but those whose result lies in `path`; None where it was stopped.

    Args:
      programs: case -> its compiled programs, of runs that differ in generators, samples and seed alone; added to.
    """
    results = []
    for seed in range(config.seed, config.seed + config.num_runs):
        for case in cases_of(config):
            one = _Case(config, held, case, seed, path)
            found = finished(path, one.name, one.case.label, one.seed) or one.run(stop, programs)
            if found is None:
                return None
            results.append(found)
    return results


class _Case:
    """One case of one seed: its clients, its server and where its files go."""

    def __init__(self, config: Config, held: made.Held, case: Case, seed: int, path: Path):
        self.config, self.held, self.case, self.seed, self.path = config, held, case, seed, path
        self.name = f"{slug(case.label)}_seed{seed}"
        self.options = made.options_of(config)
        place = Path(self.options.generator_checkpoint_dir)
        several = config.num_runs > 1
        samples = path / "samples" / self.name
        self.kind = made.make_kind(
            config, held, place / f"seed_{seed}" if several else place, samples / "clients"
        )
        self.server = GeneratorServer(say, samples / "server" if self.options.optimize_memory_usage else None)
        self.clients: dict[int, GeneratorClient] = {}
        self.sent: dict[int, int] = {}
        self.together: Samples = {}
        # One set of metrics is the run's; those of other cases and seeds lie with their results.
        self.first = seed == config.seed and case == cases_of(config)[0]

    def run(self, stop: StopRequest, programs: dict[str, Programs]) -> dict[str, Any] | None:
        """All rounds; None where they were stopped."""
        say(f"{self.case.label}, seed {self.seed}:")
        self.make_clients()
        states = [self.clients[c].state for c in sorted(self.clients)] if self.case.trains else None
        run = made.prepare(self.config, self.held, self.kind, self.seed, states, self.case.sends)
        checkpointer = Checkpointer(
            self.path / "checkpoints" / self.name, keep=self.config.checkpoints_to_keep
        )
        saving = Saving(checkpointer, config_text(self.config), {"label": self.case.label, "seed": self.seed})
        tracker = make_tracker(
            ("csv", *self.config.tracker),
            self.path if self.first else self.path / "cases" / self.name,
            resume_step=checkpointer.latest_step(),
            config={"name": self.path.name, "case": self.case.label, "seed": self.seed},
            wandb_dir=self.config.wandb_dir,
            project=self.config.test_project,
            name=f"{self.path.name} {self.name}",
        )
        size = run.pool_size

        def before(number: int, present: np.ndarray) -> Pool | None:
            return self.collect(number, size) if self.case.sends else None

        def after(number: int, state: State) -> None:
            tracker.log(number, self.metrics(number, state))
            if self.case.trains:
                self.keep(number, state)

        try:
            ready = programs.setdefault(self.case.label, compiled(run.setting))
            state = run_rounds(ready, run.setting, run.server, saving, stop, before, after)
        except jax.errors.JaxRuntimeError as error:
            raise runtime_error(error) from error
        finally:
            tracker.close()
        if state is None:
            return None
        if self.case.trains:
            # A run that was killed after its last round has not loaded what it trained.
            self.keep(run.setting.rounds, state, quiet=True)
        if self.first and self.clients:
            write_points(self.path / "samples.csv", self.held, self.clients)
        quality = judged(self.held, self.clients)
        counts = {str(label): len(of) for label, of in self.together.items()}
        result = result_of(self.case.label, self.seed, self.config.num_grads, state, self.held, run.traffic)
        return write_result(self.path, self.name, result | {"quality": quality, "samples": counts})

    def make_clients(self) -> None:
        """Run 1: all clients, their generators new or, with both flags, as saved. Run 2: those with a file."""
        if not (self.case.trains or self.case.sends):
            return
        for number in range(len(self.held.rows)):
            key = jax.random.fold_in(jax.random.key(self.seed), number)
            client = GeneratorClient(number, self.kind, key)
            loaded = self.options.use_pretrained_generators and client.load_generator_checkpoint()
            if self.case.trains or loaded:
                self.clients[number] = client

    def collect(self, number: int, size: int) -> Pool | None:
        """What the server has of every client: the newest samples, of one that left those of its last round."""
        for client in self.clients.values():
            last = number
            if client.client_id == self.options.leaving_client:
                last = min(number, self.options.leaves_after_round)
            if last and self.sent.get(client.client_id) != last:
                key = jax.random.fold_in(
                    jax.random.fold_in(jax.random.key(self.seed + 1), client.client_id), last
                )
                classes = classes_of(self.held.rows, self.held.store.label, [client.client_id])
                outputs = {label: self.held.conditions[label] for label in classes}
                self.server.receive(client.client_id, client.generate_synthetic_samples(outputs, key))
                self.sent[client.client_id] = last
        self.together = self.server.aggregate_synthetic_samples()
        if not self.options.global_model_train:
            return None
        _, sequence, dim = self.held.store.audio.shape
        random = np.random.default_rng((self.seed, number))
        return pool_of(self.together, size, sequence, dim, random)

    def metrics(self, number: int, state: State) -> dict[str, float]:
        """Of a round, as trackers get them."""
        row = {"train/loss": float(state.losses[number - 1])}
        row |= {
            f"server/{name}": float(values[number])
            for name, values in state.evaluated.items()
            if values.ndim == 1
        }
        for client, loss in enumerate(np.asarray(state.generator_losses[number - 1]).tolist()):
            if self.case.trains:
                row[f"train/node_{client}/generator_loss"] = loss
        return row | (count(self.together) if self.case.sends else {})

    def keep(self, number: int, state: State, quiet: bool = False) -> None:
        """Takes the clients' generators out of the round's state, says how they go and writes their files."""
        trained = jax.device_get(state.server.clients.work.generator)
        last = number == self.config.num_inner_steps
        for client in self.clients.values():
            one = client.client_id
            client.state = jax.tree.map(lambda leaf, one=one: leaf[one], trained)
            if quiet:
                continue
            loss = float(state.generator_losses[number - 1, one])
            epoch = int(client.state.epoch)
            say(f"client {one}: round {number}, epoch {epoch}: generator loss {loss:.4g}")
            if number % EVERY == 0 or last:
                client.save_generator_checkpoint(number)
