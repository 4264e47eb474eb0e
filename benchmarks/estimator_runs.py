"""Meta-training with two estimators on the same work: meta-loss by wall time, several seeds each.

python -m benchmarks.estimator_runs               config/meta_train/estimator_{pes,nres}_digits.py, 3 seeds each
python -m benchmarks.estimator_runs --read        only the table, of runs that are there

The runs take turns, one process each, so that the machine's drift hits both alike; they are kept in
benchmarks/out/estimator_runs/ with their metrics.csv. Prints a table and writes benchmarks/out/estimator_runs.json.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "out" / "estimator_runs"
SEEDS = (0, 1, 2)
ESTIMATORS = ("pes", "nres")
POINTS = 5
"""Rows of the table: equal parts of the shortest run's time, and of the outer steps."""


def run(estimator: str, seed: int) -> None:
    directory = OUT / f"{estimator}_{seed}"
    command = [sys.executable, str(ROOT / "src" / "main.py")]
    command += ["--config", str(ROOT / "config" / "meta_train" / f"estimator_{estimator}_digits.py")]
    command += [f"--seed={seed}", f"--name={estimator}_{seed}", f"--run_dir={directory}"]
    subprocess.run([*command, f"--checkpoints_dir={OUT / 'checkpoints'}"], check=True)


def curve(estimator: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(seconds since the first outer step, which compiles, meta-loss) of each outer step."""
    with open(OUT / f"{estimator}_{seed}" / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("meta_loss")]
    seconds = np.array([float(row["elapsed_s"]) for row in rows])
    return seconds - seconds[0], np.array([float(row["meta_loss"]) for row in rows])


def rows() -> list[dict]:
    """The mean meta-loss within each part of the time, and of the steps, over seeds with its standard error."""
    curves = {e: [curve(e, s) for s in SEEDS] for e in ESTIMATORS}
    end = min(seconds[-1] for each in curves.values() for seconds, _ in each)
    found = []
    for part in range(POINTS):
        entry: dict = {"seconds": [end * part / POINTS, end * (part + 1) / POINTS]}
        for estimator, each in curves.items():
            by_time, by_step = [], []
            for seconds, losses in each:
                inside = (seconds >= entry["seconds"][0]) & (seconds < entry["seconds"][1])
                by_time.append(losses[inside].mean())
                by_step.append(np.array_split(losses, POINTS)[part].mean())
            for kind, values in (("time", by_time), ("steps", by_step)):
                error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
                entry[f"{estimator}_by_{kind}"] = [float(np.mean(values)), error]
        found.append(entry)
    return found


def table(found: list[dict]) -> str:
    lines = [
        "| seconds | PES | NRES | part of the outer steps | PES | NRES |",
        "|---|---|---|---|---|---|",
    ]
    for part, entry in enumerate(found):
        cells = [f"{entry['seconds'][0]:.1f} to {entry['seconds'][1]:.1f}"]
        for kind in ("time", "steps"):
            cells += ["{:.4f} +- {:.4f}".format(*entry[f"{e}_by_{kind}"]) for e in ESTIMATORS]
            if kind == "time":
                cells.append(f"{part + 1} of {POINTS}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--read", action="store_true", help="run nothing")
    if not parser.parse_args().read:
        for seed in SEEDS:
            for estimator in ESTIMATORS:
                run(estimator, seed)
    found = rows()
    print(table(found))
    OUT.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
