"""What clients without labels reach: `python -m benchmarks.mim NAME [--tfds_data_dir DIR]`, prints JSON for the claims.

probes, freezing, early, bits, aggregators, meta (3 seeds), cost (counted by XLA), seconds, features.
Each case is a run of config/ssl/ in runs/mim/CASE, skipped where it is finished and gone on with where it was killed.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.checkout import ROOT

RUNS = ROOT / "runs" / "mim"
GLYPHS = "vit_p4_h32_m64_nh2_nl4_glyphsrgb_16"
CIFAR = "vit_p4_h32_m64_nh2_nl4_c10_16"
LAYERS, LOCAL_STEPS = 4, 8
"""Of config/_base_/mim.py."""
ROUNDS = {"glyphs": 480, "cifar": 240}
SHORT = ("--num_inner_steps", "160")
"""Of the runs that are compared among themselves."""
PLAIN = ("freezing.t0=1.0",)
"""No layer freezes; all have the one cosine that a run with FreezeOut has for its last layer."""
CUBIC = ("freezing.t0=0.8",)
T0S = (0.5, 0.7, 0.8, 0.9, 1.0)
ALL = "objective_options.all_stages=True"

Case = tuple[str, tuple[str, ...], tuple[str, ...]]
"""A config of config/ssl/, flags, and what follows --cfg-options."""


def _cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for data, task in (("glyphs", GLYPHS), ("cifar", CIFAR)):
        on = ("--task", task, "--num_inner_steps", str(ROUNDS[data]))
        found[f"{data}_plain"] = ("localmim", on, PLAIN)
        found[f"{data}_freezeout"] = ("localmim_freezeout", on, CUBIC)
        fewer = ("--task", task, "--num_inner_steps", str(equal_rounds(ROUNDS[data])))
        found[f"{data}_early"] = ("localmim_freezeout", fewer, PLAIN)
    found["glyphs_none"] = ("localmim_freezeout", (), PLAIN)
    for t0 in T0S:
        found[f"four_t0_{t0}"] = ("localmim_freezeout", SHORT, (f"freezing.t0={t0}",))
        found[f"all_t0_{t0}"] = ("localmim_freezeout", SHORT, (f"freezing.t0={t0}", ALL))
    for partition in ("shared", "natural", "shards"):
        where = (
            ("--partition", partition)
            if partition == "shared"
            else ("--partition", partition, *_many(partition))
        )
        for label, flags in METHODS.items():
            found[f"{partition}_{label}"] = ("localmim_freezeout", (*SHORT, *where, *flags), PLAIN)
    return found


def _many(partition: str) -> tuple[str, ...]:
    return () if partition == "natural" else ("--num_clients", "20")


METHODS: Mapping[str, tuple[str, ...]] = {
    "fedavg": ("--optimizer", "fedavg"),
    "nesterov_0.7": ("--optimizer", "diloco", "--learning_rate", "0.7", "--beta", "0.6"),
    "nesterov_1.0": ("--optimizer", "diloco", "--learning_rate", "1.0", "--beta", "0.6"),
    "lagg-set": ("--optimizer", "fedlagg-set", "--test_checkpoint", "lagg-set"),
    "lagg-bank": ("--optimizer", "fedlagg-set", "--test_checkpoint", "lagg-bank"),
}


def equal_rounds(rounds: int) -> int:
    """Rounds of a run that freezes nothing at the cost of one of `rounds` with FreezeOut."""
    from learned_aggregation.problems.freezeout import FreezeOut, changes, phased_cost

    return round(rounds * phased_cost(changes(FreezeOut(), LAYERS, rounds, LOCAL_STEPS), LAYERS, rounds))


def rows_of(case: str, tfds_data_dir: str) -> list[dict[str, str]]:
    """The case's rounds.csv; the run is made, or gone on with, where it is not finished."""
    directory = RUNS / case
    if not (directory / "rounds.csv").is_file():
        config, flags, options = _cases()[case]
        command = [
            "src/main.py",
            "--config",
            f"config/ssl/{config}.py",
            "--run_dir",
            str(directory),
            "--auto_resume",
        ]
        data = ["--tfds_data_dir", tfds_data_dir]
        subprocess.run(
            [sys.executable, *command, *data, *flags, "--cfg-options", *options],
            check=True,
            cwd=ROOT,
            stdout=sys.stderr,
        )
    with (directory / "rounds.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(rows: Sequence[Mapping[str, str]], column: str, at: int = -1) -> np.ndarray:
    """[seeds]: the column at the evaluation `at` (0 before training, -1 the last)."""
    return np.array([curve[at][1] for curve in curves(rows, column)])


def curves(rows: Sequence[Mapping[str, str]], column: str) -> list[list[tuple[int, float]]]:
    """For each seed (round, value), where there is a value."""
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    return [
        [(int(row["round"]), float(row[column])) for row in rows if row["seed"] == seed and row[column]]
        for seed in seeds
    ]


def summary(found: Any) -> dict[str, float]:
    """mean and standard deviation over seeds."""
    array = np.asarray(found, float)
    return {
        "mean": float(array.mean()),
        "std": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "seeds": len(array),
    }


def probes(data: str) -> dict[str, Any]:
    """1. Accuracies in per cent: trained, random encoder (before training), raw pixels, fine-tuned, from scratch."""
    found = {}
    for name in ("glyphs", "cifar"):
        rows = rows_of(f"{name}_plain", data)
        columns = ("linear50", "linear200", "linear", "knn", "finetune")
        found[name] = {
            "trained": {c: summary(100 * values(rows, f"test_{c}")) for c in columns},
            "random": {c: summary(100 * values(rows, f"test_{c}", 0)) for c in columns},
            "gained": summary(100 * (values(rows, "test_linear50") - values(rows, "test_linear50", 0))),
            "pixels50": summary(100 * values(rows, "test_pixels50")),
            "scratch": summary(100 * values(rows, "test_scratch")),
        }
    return found


def freezing(data: str) -> dict[str, Any]:
    """2. The 50-label probe with FreezeOut and with the control that stops early, against no freezing, paired."""
    found = {}
    for name in ("glyphs", "cifar"):
        runs = {case: rows_of(f"{name}_{case}", data) for case in ("plain", "freezeout", "early")}
        probe = {case: 100 * values(rows, "test_linear50") for case, rows in runs.items()}
        found[name] = {
            "probe": {case: summary(accuracy) for case, accuracy in probe.items()},
            "reconstruction": {
                case: summary(values(rows, "test_reconstruction")) for case, rows in runs.items()
            },
            "lost": summary(probe["plain"] - probe["freezeout"]),
            "lost_early": summary(probe["plain"] - probe["early"]),
            "rounds_early": equal_rounds(ROUNDS[name]),
        }
    return found


def early(data: str) -> dict[str, Any]:
    """Does supervision at every block let layers freeze sooner: the 50-label probe by t0, four stages and all."""
    return {
        stages: {
            str(t0): summary(100 * values(rows_of(f"{stages}_t0_{t0}", data), "test_linear50")) for t0 in T0S
        }
        for stages in ("four", "all")
    }


def bits(data: str) -> dict[str, Any]:
    """3. Bits up of each round, by phase; bits of one client in all, and to the worse of two last probes."""
    runs = {"plain": rows_of("glyphs_none", data), "freezeout": rows_of("glyphs_freezeout", data)}
    target = min(float(values(rows, "test_linear50").mean()) for rows in runs.values())
    found: dict[str, Any] = {"target": 100 * target}
    for case, rows in runs.items():
        first = [row for row in rows if row["seed"] == rows[0]["seed"]]
        up = np.diff([float(row["bits_up"]) for row in first])
        curve = np.mean([[v for _, v in one] for one in curves(rows, "test_linear50")], axis=0)
        at = [r for r, _ in curves(rows, "test_linear50")[0]]
        reached = next((r for r, v in zip(at, curve, strict=True) if v >= target), None)
        sent = {int(row["round"]): float(row["bits_up"]) + float(row["bits_down"]) for row in first}
        found[case] = {
            "by_phase": [float(v) for v in dict.fromkeys(up.tolist())],
            "falls": bool(np.all(np.diff(up) <= 0)),
            "total": sent[max(sent)],
            "to_target": None if reached is None else sent[reached],
        }
    return found


def aggregators(data: str) -> dict[str, Any]:
    """5. Rounds to FedAvg's last masked loss, and the 50-label probe after equal rounds; Nesterov's best rate."""
    found = {}
    for partition in ("shared", "natural", "shards"):
        runs = {label: rows_of(f"{partition}_{label}", data) for label in METHODS}
        target = float(values(runs["fedavg"], "test_loss").mean())
        found[partition] = {
            label: {
                "rounds": _reach(rows, target),
                "loss": summary(values(rows, "test_loss")),
                "probe": summary(100 * values(rows, "test_linear50")),
            }
            for label, rows in runs.items()
        }
    return found


def _reach(rows: Sequence[Mapping[str, str]], target: float) -> int | None:
    found = curves(rows, "test_loss")
    mean = np.mean([[v for _, v in one] for one in found], axis=0)
    return next((r for (r, _), v in zip(found[0], mean, strict=True) if v <= target), None)


def cost(data: str) -> dict[str, Any]:
    """2. FLOPs of a gradient step by XLA's count, phase by phase, against the formula: the encoder, and all of it."""
    from benchmarks.mim_cost import counted

    return {str(layers): counted(layers) for layers in (6, 12)}


def seconds(data: str) -> dict[str, Any]:
    """2. Seconds of a gradient step by how many layers are frozen, in turn, over those with none."""
    from benchmarks.mim_cost import timed

    return timed(6, (0, 1, 2, 3, 4, 5, 6))


def features(data: str) -> dict[str, Any]:
    """A gradient step with stored features, in seconds and FLOPs, over that with the mask first."""
    from benchmarks.mim_cost import masked

    return {str(after): masked(6, after) for after in (1, 2)}


def meta(data: str) -> dict[str, Any]:
    """6. A rule meta-trained on a mixture of masked modelling and classification, on held-out images."""
    from benchmarks.mim_meta import measured

    return measured(RUNS / "meta")


NAMES = {
    "cost": cost,
    "seconds": seconds,
    "features": features,
    "probes": probes,
    "freezing": freezing,
    "bits": bits,
    "aggregators": aggregators,
    "early": early,
    "meta": meta,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--tfds_data_dir", default="../shared/data/tfds", help="where CIFAR-10 lies")
    asked = parser.parse_args(argv)
    print(json.dumps(NAMES[asked.name](asked.tfds_data_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
