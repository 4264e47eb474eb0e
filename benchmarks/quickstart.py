"""`python -m benchmarks.quickstart`: meta-trains the quickstart's aggregator with five meta-seeds, tests each.

What has been made is kept in runs/claims/quickstart and checkpoints/quickstart_seed_*, and not made again; a killed run
goes on. Prints as JSON, by meta-seed: the seconds of meta-training, the mean test loss, its difference to that of tuned
FedAvg in standard errors (paired over the seeds; below zero is better), and the rounds to FedAvg's last loss.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.results import paired, read_setting
from learned_aggregation.atomic import write_atomic

META_SEEDS = range(5)
RUNS = ROOT / "runs" / "claims" / "quickstart"
RIVALS = ("FedAvg", "FedAvg (by mean)", "SlowMo (by mean)", "Nesterov (by mean)", "untrained")


def main() -> int:
    """Runs what is missing and prints what was found."""
    RUNS.mkdir(parents=True, exist_ok=True)
    seconds = {seed: train(seed) for seed in META_SEEDS}
    compared = RUNS / "compare"
    if not (compared / "table.csv").is_file():
        _run("config/meta_test/quickstart_seeds.py", "--run_dir", str(compared))
    print(json.dumps(found(compared, seconds)))
    return 0


def train(seed: int) -> float:
    """Meta-trains from nothing, or goes on; the seconds that it took, with compilation."""
    name = f"quickstart_seed_{seed}"
    done = RUNS / f"{name}.json"
    if not done.is_file():
        start = time.monotonic()
        flags = ("--seed", str(seed), "--name", name, "--run_dir", str(RUNS / name), "--auto_resume")
        _run("config/meta_train/quickstart.py", *flags)
        write_atomic(done, json.dumps(time.monotonic() - start))
    return json.loads(done.read_text(encoding="utf-8"))


def found(run: Path, seconds: dict[int, float]) -> dict[str, Any]:
    """What the finished comparison says."""
    methods = read_setting("quickstart", "quickstart", run).methods
    best = min(("FedAvg", "FedAvg (by mean)"), key=lambda label: methods[label].mean.mean())
    rounds = {label: float(curves.row["rounds_to_100"]) for label, curves in methods.items()}
    learned = {
        seed: {
            "seconds": seconds[seed],
            "mean": float(methods[label].mean.mean()),
            "errors": paired(methods[label].mean, methods[best].mean)[1],
            "errors_to_nesterov": paired(methods[label].mean, methods["Nesterov (by mean)"].mean)[1],
            "rounds": rounds[label],
        }
        for seed in META_SEEDS
        for label in [f"meta-seed {seed}"]
    }
    rivals = {name: {"mean": float(methods[name].mean.mean()), "rounds": rounds[name]} for name in RIVALS}
    return {"learned": learned, "rivals": rivals, "seeds": len(methods["FedAvg"].loss)}


def _run(config: str, *flags: str) -> None:
    command = [sys.executable, "src/main.py", "--config", config, *flags]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
