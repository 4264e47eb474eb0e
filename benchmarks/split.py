"""What split learning reaches: `python -m benchmarks.split NAME [--tfds_data_dir DIR]`, a table of config/split/.

curve, harsh, decoders, aggregators (Fashion-MNIST, 3 seeds). Runs its config into runs/split/NAME
where that has no table yet (killed, the same command goes on); prints what the claims judge as JSON.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checkout import ROOT

RUNS = ROOT / "runs" / "split"
NAMES = ("curve", "harsh", "decoders", "aggregators")
METHODS = ("FedAvg", "Nesterov", "lagg-set")


def run_missing(name: str, tfds_data_dir: str) -> Path:
    """The run's directory, with its table."""
    directory = RUNS / name
    if not (directory / "table.csv").is_file():
        command = ["src/main.py", "--config", f"config/split/fmnist_{name}.py", "--run_dir", str(directory)]
        subprocess.run([sys.executable, *command, "--tfds_data_dir", tfds_data_dir], check=True, cwd=ROOT)
    return directory


def results_of(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """case -> its results, by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((directory / "cases").glob("*.json")):
        one = json.loads(path.read_text())
        found.setdefault(one["label"], []).append(one)
    return {label: sorted(runs, key=lambda run: run["seed"]) for label, runs in found.items()}


def summary(values: Sequence[float]) -> dict[str, float]:
    """mean and standard deviation over seeds."""
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "seeds": len(values),
    }


def last(runs: Sequence[Mapping[str, Any]], metric: str = "test_accuracy") -> np.ndarray:
    """The last value of each seed."""
    return np.array([run["evaluated"][metric][-1] for run in runs])


def cut_bits(run: Mapping[str, Any]) -> float:
    return run["crossed_up"]["latents"] + run["crossed_down"]["gradients"]


def round_bytes(run: Mapping[str, Any]) -> float:
    """Of all clients: the cut both ways and the deltas up for each of them, the server's step down once."""
    up, down = run["traffic"]
    alone = sum(run["crossed_down"].values())
    return (run["num_grads"] * (up + alone) + down - alone) / 8


def curve(cases: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each case against identity: accuracy in per cent, points lost, how many times fewer bytes at the cut."""
    whole = cases["identity"]
    return [
        {
            "case": label,
            "accuracy": summary(100 * last(runs)),
            "lost": summary(100 * (last(whole) - last(runs))),
            "fewer": cut_bits(whole[0]) / cut_bits(runs[0]),
            "quantised": "bits" in label,
        }
        for label, runs in cases.items()
    ]


def harsh(cases: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Accuracies in per cent, and what pretraining and training along add, paired by seed."""
    accuracy = {label: 100 * last(runs) for label, runs in cases.items()}
    frozen = accuracy["pretrained, frozen"]
    return {
        "accuracy": {label: summary(values) for label, values in accuracy.items()},
        "pretraining": summary(frozen - accuracy["random, frozen"]),
        "along": summary(accuracy["pretrained, trained along"] - frozen),
    }


def decoders(cases: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean over clients of the errors on the other clients' examples, each kind of decoder; and each client's."""
    errors = {
        label: np.array([run["autoencoder"]["others_error"] for run in runs]) for label, runs in cases.items()
    }
    own = {
        label: np.array([run["autoencoder"]["own_error"] for run in runs]) for label, runs in cases.items()
    }
    apart, together = errors["own decoders"], errors["aggregated decoders"]
    return {
        "others": {label: summary(values.mean(axis=1)) for label, values in errors.items()},
        "own": {label: summary(values.mean(axis=1)) for label, values in own.items()},
        "lowered": summary(1 - together.mean(axis=1) / apart.mean(axis=1)),
        "changed": bool(np.all(apart != together)),
        "clients": {label: values.mean(axis=0).tolist() for label, values in errors.items()},
    }


def aggregators(cases: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Each method's best case by the last loss on outer_valid: rounds and bytes to FedAvg's last accuracy."""
    best = {}
    for method in METHODS:
        members = {label: runs for label, runs in cases.items() if label.split(",")[0] == method}
        losses = {
            label: np.nan_to_num(last(runs, "outer_valid_loss").mean(), nan=np.inf)
            for label, runs in members.items()
        }
        best[method] = min(losses, key=losses.__getitem__)
    # lagg-set with its network off is FedAvg: the control at the rate that was chosen for it.
    control = f"FedAvg,{best['lagg-set'].partition(',')[2]}"
    target = float(last(cases[best["FedAvg"]]).mean())
    chosen = {**best, "network off": control}
    return {
        "target": 100 * target,
        "methods": {method: _reach(cases[label], label, target) for method, label in chosen.items()},
    }


def _reach(runs: Sequence[Mapping[str, Any]], label: str, target: float) -> dict[str, Any]:
    mean = np.mean([run["evaluated"]["test_accuracy"] for run in runs], axis=0)
    reached = np.flatnonzero(mean >= target)
    rounds = runs[0]["eval_rounds"][reached[0]] if len(reached) else None
    return {
        "case": label,
        "accuracy": summary(100 * last(runs)),
        "rounds": rounds,
        "megabytes": None if rounds is None else rounds * round_bytes(runs[0]) / 1e6,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--tfds_data_dir", default="../shared/data/tfds", help="where Fashion-MNIST lies")
    asked = parser.parse_args(argv)
    cases = results_of(run_missing(asked.name, asked.tfds_data_dir))
    judged = {"curve": curve, "harsh": harsh, "decoders": decoders, "aggregators": aggregators}
    print(json.dumps(judged[asked.name](cases)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
