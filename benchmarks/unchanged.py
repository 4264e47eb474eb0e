"""Whether the same commands give the numbers of another revision: `python -m benchmarks.unchanged --against REV`.

A short meta-training and a short meta-test, at both revisions on one device. Compared are the last theta, the columns
of metrics.csv and those of rounds.csv, as far as both have them and they tell no time. Prints the largest difference of
each over the largest old number, then one line of JSON. Equal bit for bit is 0.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.checkout import BEFORE, ROOT, environment, files_of

SIZES = [
    "--num_grads=2",
    "--num_local_steps=2",
    "--local_batch_size=4",
    "--task=mlp4_digits_8",
    "--num_devices=1",
]
STEPS = 10
RUNS = {
    "meta-train": (
        "--optimizer=fedlagg-adafac",
        "--hidden_size=4",
        "--num_tasks=2",
        "--num_inner_steps=20",
        "--truncation_length=5",
        "--truncation_schedule_min_length=5",
        f"--num_outer_steps={STEPS}",
        f"--save_iter={STEPS}",
        "--cfg-options",
        "schedule.warmup_steps=0",
    ),
    "meta-test": (
        "--run_type=benchmark",
        "--optimizer=fedavg-slowmo",
        "--slowmo_learning_rate=0.2",
        "--num_inner_steps=20",
        "--num_runs=2",
    ),
}
TIMES = ("outer_steps_per_s", "rounds_per_s", "elapsed_s")

Arrays = Mapping[str, np.ndarray]


def run(tree: Path, directory: Path, flags: Sequence[str], name: str) -> None:
    """One command of a checkout, started in `directory`."""
    # The flags last: --cfg-options takes all that follows it.
    command = [sys.executable, str(tree / "src" / "main.py"), *SIZES, f"--name={name}", *flags]
    subprocess.run(command, cwd=directory, env=environment(tree), check=True, stdout=subprocess.DEVNULL)


def columns(path: Path) -> Arrays:
    """The columns of a CSV file that are numbers, without the times; an empty field is NaN."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in rows[0]:
        try:
            found[name] = np.array([float(row[name] or "nan") for row in rows])
        except ValueError:
            continue
    return {name: column for name, column in found.items() if name not in TIMES}


def results(directory: Path) -> dict[str, Arrays]:
    """What the commands left."""
    from safetensors.numpy import load_file

    theta = load_file(directory / "checkpoints" / "meta-train" / f"global_step{STEPS}.safetensors")
    runs = directory / "runs"
    return {
        "theta": theta,
        "metrics.csv": columns(runs / "meta-train" / "metrics.csv"),
        "rounds.csv": columns(runs / "meta-test" / "rounds.csv"),
    }


def difference(before: Arrays, now: Arrays) -> float:
    """The largest over the common arrays of max |now - before| / max |before|; infinite where shapes or NaNs differ.

    Raises:
      SystemExit: they have nothing in common.
    """
    common = sorted(before.keys() & now.keys())
    if not common:
        raise SystemExit(f"results: expected common names, got {sorted(before)} and {sorted(now)}.")
    return max(_difference(before[name], now[name]) for name in common)


def _difference(before: np.ndarray, now: np.ndarray) -> float:
    if before.shape != now.shape or not (np.isnan(before) == np.isnan(now)).all():
        return float("inf")
    scale = np.nanmax(np.abs(before), initial=0.0)
    distance = np.nanmax(np.abs(now.astype(np.float64) - before), initial=0.0)
    return float(distance / scale) if scale else float(distance)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REV", default=BEFORE, help=f"default {BEFORE}")
    asked = parser.parse_args(argv)
    found = []
    with files_of(asked.against) as before, tempfile.TemporaryDirectory() as scratch:
        for label, tree in (("before", before), ("now", ROOT)):
            directory = Path(scratch, label)
            directory.mkdir()
            for name, flags in RUNS.items():
                run(tree, directory, flags, name)
            found.append(results(directory))
    old, new = found
    differences = {what: difference(old[what], new[what]) for what in old}
    for what, number in differences.items():
        compared = ", ".join(sorted(old[what].keys() & new[what].keys()))
        print(f"{what}: {'equal bit for bit' if number == 0 else f'{number:.1e}'} ({compared})")
    print(json.dumps(differences))
    return 0


if __name__ == "__main__":
    sys.exit(main())
