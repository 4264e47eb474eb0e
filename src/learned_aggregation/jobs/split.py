"""`run_type = "split"`: the two stages of split learning, for every case and seed, seeds outermost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation import build
from learned_aggregation.build.split import Case, Stages, check_case, digests, prepare, split_cases
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.devices.distributed import runtime_error
from learned_aggregation.jobs.case_results import finished, write_result
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.jobs.groups import write_partition
from learned_aggregation.jobs.measures import measured_by
from learned_aggregation.jobs.split_files import write_clients, write_curves, write_summary
from learned_aggregation.report.html import write_report
from learned_aggregation.report.plots.plot import slug
from learned_aggregation.report.terminal import print_comparison
from learned_aggregation.runs import messages
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.progress import ProgressBar
from learned_aggregation.runs.run_directory import RunDirectory, make_writable, metric_facts, same_run
from learned_aggregation.runs.same_data import check_same_data
from learned_aggregation.split.evaluation import on_rows, on_split
from learned_aggregation.split.finetuning import Curves, Programs, Saving, compiled, finetune
from learned_aggregation.split.pretraining import padded_rows
from learned_aggregation.streams import to_stdout
from learned_aggregation.types import Server


def run(config: Config, command: str) -> Finished:
    """Runs every case with every seed; started again with the same config it goes on with what is missing.

    Writes rounds.csv, table.csv, clients.csv and the report.

    Returns:
      The status is 128 + a signal's number when SIGINT or SIGTERM stopped it (after saving).
    Raises:
      UserError: a directory that holds another run, a case that cannot run, an autoencoder of another signature.
    """
    cases, loader = split_cases(config), build.Loader()
    for case in cases:
        check_case(case, loader)
    with same_run(run_dir(config), config_text(config), explicit=config.run_dir is not None) as path:
        [task] = config.tasks
        data = loader.load(config, task)
        check_same_data(path, digests(cases, loader))
        make_writable(Path(config.checkpoints_dir))
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        metrics = measured_by({task: data})
        directory = RunDirectory(path, config_text(config), facts | {"metrics": metric_facts(metrics)})
        write_partition(path, data)
        results: list[dict[str, Any]] = []
        programs: dict[str, Programs] = {}
        with StopRequest() as stop:
            for seed in range(config.seed, config.seed + config.num_runs):
                for index, case in enumerate(cases):
                    name = f"{index:02d}_{slug(case.label)}_seed{seed}"
                    found = finished(path, name, case.label, seed) or _run_case(
                        case, seed, loader, path, name, stop, programs
                    )
                    if found is None:
                        say(f"stopped, saved; go on with the same command: {path}")
                        return Finished(stop.exit_status, path)
                    results.append(found)
        names = [metric.name for metric in metrics[task]]
        write_curves(path / "rounds.csv", results, task)
        write_summary(path / "table.csv", results, task, names)
        write_clients(path / "clients.csv", results)
        notes = [_note(found) for found in results]
        directory.finish(
            notes=notes, table_note="Mean ± 95 % interval over seeds; the bottleneck is on in all of them."
        )
        report = write_report(path)
        if messages.shown():
            with to_stdout():
                print_comparison(path)
        say(f"table: {path / 'table.csv'}  report: {report}")
        return Finished(0, path)


def _note(found: Mapping[str, Any]) -> str:
    ae = found["autoencoder"]
    where = f" {ae['path']}" if ae["path"] else ""
    return f"{found['label']}, seed {found['seed']}: autoencoder {ae['origin']}{where}"


def _run_case(
    case: Case,
    seed: int,
    loader: build.Loader,
    path: Path,
    name: str,
    stop: StopRequest,
    programs: dict[str, Programs],
) -> dict[str, Any] | None:
    """Both stages of one case with one seed; None where it was stopped. `name` is that of its files in `path`."""
    say(f"{case.label}, seed {seed}:")
    stages = prepare(case, seed, loader, say)
    if stop.signal:
        return None
    checkpointer = Checkpointer(path / "checkpoints" / name, keep=case.config.checkpoints_to_keep)
    saving = Saving(checkpointer, config_text(case.config), {"label": case.label, "seed": seed})
    bar = ProgressBar(f"{case.label}, seed {seed}", stages.budget.rounds, checkpointer.latest_step() or 0)
    try:
        made = programs.setdefault(case.label, compiled(stages.setting))
        ended = finetune(made, stages.setting, stages.server, stages.budget, saving, stop, bar.update)
    except jax.errors.JaxRuntimeError as error:
        raise runtime_error(error) from error
    finally:
        bar.close()
    if ended is None:
        return None
    server, curves = ended
    return write_result(path, name, _result(case, seed, stages, server, curves))


def _result(case: Case, seed: int, stages: Stages, server: Server, curves: Curves) -> dict[str, Any]:
    """All that is kept of a run, as JSON."""
    steps = stages.setting.sizes.num_local_steps * stages.setting.sizes.local_batch_size
    errors = stages.stage.errors
    per_client = _per_client(stages, server)
    return {
        "label": case.label,
        "seed": seed,
        "optimizer": case.config.optimizer,
        "num_grads": case.config.num_grads,
        "losses": curves.losses.tolist(),
        "eval_rounds": curves.eval_rounds.tolist(),
        "evaluated": {name: values.tolist() for name, values in curves.evaluated.items()},
        "traffic": list(stages.traffic),
        "crossed_up": {name: steps * bits for name, bits in stages.crossed.up.items()},
        "crossed_down": {name: steps * bits for name, bits in stages.crossed.down.items()},
        "autoencoder": {
            "origin": stages.stage.origin,
            "path": stages.stage.path,
            "bits_per_client": list(stages.stage.traffic),
            "own_error": errors.own.tolist(),
            "others_error": errors.others.tolist(),
        },
        "clients": {"examples": [len(ids) for ids in stages.rows], **per_client},
    }


def _per_client(stages: Stages, server: Server) -> dict[str, list[float]]:
    """Each client's metrics on its own training examples and on the test split, with its autoencoder."""
    setting, task = stages.setting, stages.parts.task
    ids, mask = padded_rows(stages.rows)
    chunks, weights = setting.evaluation["test"]
    own = jax.jit(
        lambda server, examples, ids, mask: on_rows(task, setting.sharing, server, examples, ids, mask)
    )
    found = {
        f"own_{name}": values
        for name, values in own(server, setting.train.examples, jnp.asarray(ids), jnp.asarray(mask)).items()
    }
    if not (setting.sharing.one_encoder and setting.sharing.one_decoder):
        whole = jax.jit(lambda server, chunks, mask: on_split(task, setting.sharing, server, chunks, mask))
        found |= {f"test_{name}": values for name, values in whole(server, chunks, weights).items()}
    return {name: np.asarray(values).tolist() for name, values in found.items()}
