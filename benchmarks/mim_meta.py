"""Meta-training on masked modelling, and the masked loss on held-out images that its theta reaches."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checkout import ROOT

TASK = "vit_p4_h16_m32_nh2_nl2_glyphsrgb_16"
SEEDS = (0, 1, 2)
SIZES = (
    *("--num_grads", "4", "--num_local_steps", "2", "--local_batch_size", "8", "--num_inner_steps", "40"),
    *("--local_learning_rate", "0.003", "--eval_every", "40", "--probes", "", "--task", TASK),
)


def measured(directory: Path) -> dict[str, Any]:
    """The held-out masked loss after 40 rounds: of each meta-seed's theta, and of FedAvg with the same seeds."""
    found: dict[str, Any] = {"learned": []}
    found["fedavg"] = _losses(directory / "fedavg", ("--optimizer", "fedavg"))
    for seed in SEEDS:
        kept = directory / "checkpoints"
        name = f"mim_mixture_seed{seed}"
        if (
            not (kept / name / "latest").is_file()
            or not (directory / f"train{seed}" / "report.html").is_file()
        ):
            flags = ("--seed", str(seed), "--name", name, "--checkpoints_dir", str(kept), "--auto_resume")
            _run("config/ssl/meta_train.py", (*flags, "--run_dir", str(directory / f"train{seed}")))
        theta = ("--optimizer", "fedlagg-set", "--base", "mean", "--test_checkpoint", str(kept / name))
        found["learned"].append(_losses(directory / f"test{seed}", theta))
    meta = [_meta_losses(directory / f"train{seed}" / "metrics.csv") for seed in SEEDS]
    found["meta_loss"] = {"first": [m[0] for m in meta], "last": [m[1] for m in meta]}
    return found


def _losses(directory: Path, flags: tuple[str, ...]) -> list[float]:
    """The last test loss of each seed."""
    if not (directory / "rounds.csv").is_file():
        _run(
            "config/ssl/localmim.py",
            (*SIZES, *flags, "--run_dir", str(directory), "--auto_resume"),
        )
    with (directory / "rounds.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["round"] == "40"]
    return [float(row["test_loss"]) for row in rows]


def _meta_losses(path: Path) -> tuple[float, float]:
    """The mean meta-loss of the first and of the last 20 outer steps."""
    with path.open(newline="", encoding="utf-8") as file:
        losses = [float(row["meta_loss"]) for row in csv.DictReader(file) if row.get("meta_loss")]
    return float(np.mean(losses[:20])), float(np.mean(losses[-20:]))


def _run(config: str, flags: tuple[str, ...]) -> None:
    subprocess.run(
        [sys.executable, "src/main.py", "--config", config, *flags], check=True, cwd=ROOT, stdout=sys.stderr
    )
