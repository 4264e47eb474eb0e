"""What generators on clients reach: `python -m benchmarks.generators NAME [--store digits|fsdd]`, 5 seeds.

leaving, quality, gan, aggregators: from runs of config/feda2v/ with options, into runs/generators/ where they are not
finished yet (killed, the same command goes on). counts, memory: measured on the spot. Prints JSON for the claims.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.checkout import ROOT
from benchmarks.split import last, results_of, summary

RUNS = ROOT / "runs" / "generators"
SEEDS = 5
STORES = ("digits", "fsdd")
SAMPLES = (10, 50)
FIRST, SECOND = "a2v_generator_training_mode", "a2v_use_pretrained_generators"
ROUNDS = 10
TRAINING = {"generator_training_epochs": 5, "generator_learning_rate": 2e-3}
"""Less than the configs' own, so that all figures take some minutes of one core."""
NESTEROV = ((0.7, 0.6), (0.7, 0.9), (1.0, 0.6), (1.0, 0.3))
"""Server rate and momentum of the grid."""
LEFT, ALL = "test_left_accuracy", "test_accuracy"
MANY = 100_000
BOUND_MB = 256
"""What 100,000 samples per class of two classes may add to the resident memory, the server's window included."""


class Job(NamedTuple):
    """A run: its config, and what differs from it."""

    config: str
    options: Mapping[str, Any]
    flags: tuple[str, ...] = ()


def first(store: str, kind: str) -> Job:
    """Run 1: clients train generators and save them."""
    return Job(FIRST, {"store": store, "generator_type": kind})


def second(store: str, kind: str, samples: int, compare: bool, *flags: str) -> Job:
    """Run 2: a client leaves after round 2."""
    options = {"store": store, "generator_type": kind, "synthetic_samples_per_class": samples}
    return Job(SECOND, {**options, "compare_without_samples": compare}, flags)


def rules(store: str) -> dict[str, Job]:
    """name -> run 2 under another aggregator; FedAvg's is the run with the VAE's 10 samples."""
    found = {
        "lagg-set": second(store, "vae", 10, True, "--optimizer=fedlagg-set", "--test_checkpoint=lagg-set")
    }
    for rate, momentum in NESTEROV:
        flags = ("--optimizer=diloco", f"--learning_rate={rate}", f"--beta={momentum}")
        found[f"nesterov-{rate:g}-{momentum:g}"] = second(store, "vae", 10, True, *flags)
    return found


def jobs(store: str, what: str) -> dict[str, Job]:
    """name -> the runs that a figure needs, in order."""
    if what == "gan":
        return {"first-gan": first(store, "gan"), "gan-10": second(store, "gan", 10, True)}
    found = {"first-vae": first(store, "vae")}
    if what == "quality":
        return found
    found["vae-10"] = second(store, "vae", 10, True)
    if what == "aggregators":
        return found | rules(store)
    found["first-gaussian"] = first(store, "gaussian")
    for kind in ("vae", "gaussian"):
        for samples in SAMPLES:
            found.setdefault(f"{kind}-{samples}", second(store, kind, samples, False))
    return found


def run_missing(store: str, found: Mapping[str, Job], fsdd: str) -> dict[str, Path]:
    """name -> the run's directory, with its results; the jobs' own code, without their reports."""
    from learned_aggregation.build import generators as made
    from learned_aggregation.config.resolve import load_config
    from learned_aggregation.data.cache import cache_dir
    from learned_aggregation.devices.numerics import plain_numerics
    from learned_aggregation.devices.parallel import use_compilation_cache
    from learned_aggregation.jobs.feda2v import cases_of, run_cases
    from learned_aggregation.jobs.feda2v_files import write_files
    from learned_aggregation.runs.interrupts import StopRequest

    use_compilation_cache(cache_dir() / "compiled")
    places = {name: RUNS / store / name for name in found}
    held: dict[str, made.Held] = {}
    programs: dict[Any, dict[str, Any]] = {}
    for name, job in found.items():
        if (places[name] / "table.csv").is_file():
            continue
        kind = job.options["generator_type"]
        options = {**job.options, **TRAINING, "generator_checkpoint_dir": str(RUNS / store / "files" / kind)}
        arguments = ["--config", str(ROOT / f"config/feda2v/{job.config}.json")]
        arguments += [f"--num_runs={SEEDS}", f"--save_iter={ROUNDS}", f"--fsdd_file={fsdd}", *job.flags]
        config = load_config([*arguments, "--cfg-options", *(f"feda2v.{k}={v}" for k, v in options.items())])
        if job.config not in held:
            held[job.config] = made.hold(config, made.load_store(config, print))
        # Runs that differ in nothing that is compiled share their programs.
        shared = (job.config, job.flags, job.options.get("synthetic_samples_per_class"))
        shared += (kind,) if job.config == FIRST else ()
        with StopRequest() as stop, plain_numerics():
            results = run_cases(config, held[job.config], places[name], stop, programs.setdefault(shared, {}))
        if results is None:
            raise SystemExit(stop.exit_status)
        print(f"{name}: {', '.join(case.label for case in cases_of(config))}, {SEEDS} seeds", flush=True)
        write_files(places[name], results, f"a2v_{store}")
    return places


def leaving(found: Mapping[str, Path]) -> dict[str, Any]:
    """Accuracy in per cent on the classes that left, and on all: points gained by samples, and over the control's."""
    cases = {name: results_of(path) for name, path in found.items() if not name.startswith("first")}
    without = cases["vae-10"]["without samples"]
    told: dict[str, Any] = {"without": _accuracies(without), "samples": {}}
    for samples in SAMPLES:
        vae, control = (cases[f"{kind}-{samples}"]["with samples"] for kind in ("vae", "gaussian"))
        told["samples"][str(samples)] = {
            "vae": _accuracies(vae),
            "control": _accuracies(control),
            "gained": _points(vae, without),
            "over_control": _points(vae, control),
        }
    return told


def _accuracies(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: summary((100 * last(runs, metric)).tolist()) for name, metric in (("left", LEFT), ("all", ALL))
    }


def _points(runs: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How far ahead on the classes that left, paired by seed."""
    return summary((100 * (last(runs, LEFT) - last(others, LEFT))).tolist())


def quality(directory: Path) -> dict[str, Any]:
    """Over seeds: the least and mean over clients and classes of each figure of quality.csv."""
    with open(directory / "quality.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told: dict[str, Any] = {}
    for name in ("kl", "spread", "cosine", "sample_cosine", "real_cosine", "nearest", "real_nearest"):
        by_seed: dict[str, list[float]] = {}
        for row in rows:
            if row[name]:
                by_seed.setdefault(row["seed"], []).append(float(row[name]))
        if by_seed:
            values = [value for seed in by_seed.values() for value in seed]
            mean = summary([float(np.mean(seed)) for seed in by_seed.values()])
            told[name] = {**mean, "least": min(values), "most": max(values)}
    return told


def aggregators(found: Mapping[str, Path]) -> dict[str, Any]:
    """Each method with and without samples; Nesterov's point by the last validation loss with samples."""
    cases = {name: results_of(path) for name, path in found.items() if not name.startswith("first")}
    losses = {
        name: float(np.nan_to_num(last(runs["with samples"], "outer_valid_loss").mean(), nan=np.inf))
        for name, runs in cases.items()
        if name.startswith("nesterov")
    }
    best = min(losses, key=losses.__getitem__)
    # lagg-set with its network off is averaging the same clients at the same rate: FedAvg's run.
    chosen = {"FedAvg": "vae-10", "Nesterov": best, "lagg-set": "lagg-set", "network off": "vae-10"}
    return {
        method: {
            "run": name,
            "with": _accuracies(cases[name]["with samples"]),
            "without": _accuracies(cases[name]["without samples"]),
            "gained": _points(cases[name]["with samples"], cases[name]["without samples"]),
        }
        for method, name in chosen.items()
    }


def counts() -> dict[str, Any]:
    """What the server has of three clients: 15 classes that nobody shares, then 5 that all do; 10 per class."""
    import jax

    from learned_aggregation.generators.base import Training
    from learned_aggregation.generators.client import GeneratorClient, Kind
    from learned_aggregation.generators.server import GeneratorServer
    from learned_aggregation.generators.vae import ConditionedVAEGenerator

    kind = Kind(ConditionedVAEGenerator(hidden_dim=32, latent_dim=4), "vae", Training(), Path("unused"))
    clients = [GeneratorClient(i, kind, jax.random.key(i)) for i in range(3)]
    told = {}
    for name, classes in (
        ("disjoint", [range(5 * i, 5 * i + 5) for i in range(3)]),
        ("shared", [range(5)] * 3),
    ):
        server = GeneratorServer()
        for client, labels in zip(clients, classes, strict=True):
            outputs = {label: np.full(768, label, np.float32) for label in labels}
            server.receive(client.client_id, client.generate_synthetic_samples(outputs))
        together = server.aggregate_synthetic_samples()
        told[name] = {
            "total": sum(map(len, together.values())),
            "per_class": [len(of) for of in together.values()],
        }
    return told


def memory() -> dict[str, Any]:
    """Megabytes that sampling 100,000 per class adds to the highest resident memory, with and without files."""
    told: dict[str, Any] = {"bound": BOUND_MB}
    for name in ("files", "arrays"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.generators", "sampling", "--into", name],
            check=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        told[name] = json.loads(done.stdout.splitlines()[-1])
    return told


def sampling(into: str) -> float:
    """Two classes of 100,000 samples, and the server's pool of them."""
    import jax

    from learned_aggregation.generators.base import Training
    from learned_aggregation.generators.client import GeneratorClient, Kind
    from learned_aggregation.generators.samples import WINDOW, pool_of
    from learned_aggregation.generators.server import GeneratorServer
    from learned_aggregation.generators.vae import ConditionedVAEGenerator

    outputs = {label: np.full(768, label, np.float32) for label in range(2)}
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) if into == "files" else None
        vae = ConditionedVAEGenerator(hidden_dim=128, latent_dim=16)
        few = Kind(vae, "vae", Training(), Path("unused"), 500, sample_dir=directory)
        client = GeneratorClient(0, few, jax.random.key(0))
        client.generate_synthetic_samples(outputs)  # compiles
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client.kind = few._replace(samples_per_class=MANY)
        server = GeneratorServer(directory=directory)
        server.receive(0, client.generate_synthetic_samples(outputs))
        together = server.aggregate_synthetic_samples()
        jax.block_until_ready(pool_of(together, WINDOW, 4, 512, np.random.default_rng(0)))
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("leaving", "quality", "gan", "aggregators", "counts", "memory", "sampling")
    parser.add_argument("name", choices=names)
    parser.add_argument("--store", choices=STORES, default=STORES[0])
    parser.add_argument("--fsdd_file", default="../shared/data/fsdd.npz", help="where the spoken digits lie")
    parser.add_argument("--into", choices=("files", "arrays"), default="files", help="of sampling")
    asked = parser.parse_args(argv)
    if asked.name in ("counts", "memory", "sampling"):
        told = {"counts": counts, "memory": memory, "sampling": lambda: sampling(asked.into)}[asked.name]()
    else:
        made = jobs(asked.store, asked.name)
        found = run_missing(asked.store, made, asked.fsdd_file)
        if asked.name == "leaving":
            told = leaving(found)
        elif asked.name == "aggregators":
            told = aggregators(found)
        elif asked.name == "quality":
            told = quality(found["first-vae"])
        else:
            runs = results_of(found["gan-10"])
            told = {
                "quality": quality(found["first-gan"]),
                "gained": _points(runs["with samples"], runs["without samples"]),
            }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
