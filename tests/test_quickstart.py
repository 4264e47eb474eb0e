"""What `make quickstart` meta-trains beats tuned FedAvg, whatever the meta-seed."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import SURE, paired, read_setting

ROOT = Path(__file__).parent.parent
META_SEEDS = range(5)
COMPARISON = """
_base_ = {base!r}
entrants = _base_._rivals[:2] + [
    dict(_base_._learned, label=f"meta-seed {{seed}}", test_checkpoint={checkpoints!r} + f"/seed_{{seed}}")
    for seed in range(5)
]
"""


@pytest.mark.slow
def test_five_meta_seeds_beat_tuned_fedavg(tmp_path):
    """In mean loss by two standard errors, and at its last loss within two thirds of its rounds."""
    for seed in META_SEEDS:
        _run(ROOT / "config/meta_train/quickstart.py", tmp_path, f"seed_{seed}", "--seed", str(seed))
    config = tmp_path / "compare.py"
    base, checkpoints = str(ROOT / "config/meta_test/quickstart.py"), str(tmp_path / "checkpoints")
    config.write_text(COMPARISON.format(base=base, checkpoints=checkpoints), encoding="utf-8")
    _run(config, tmp_path, "compare")

    methods = read_setting("quickstart", "quickstart", tmp_path / "compare").methods
    fedavg = min((methods["FedAvg"], methods["FedAvg (by mean)"]), key=lambda curves: curves.mean.mean())
    rounds = {label: float(curves.row["rounds_to_100"]) for label, curves in methods.items()}
    for seed in META_SEEDS:
        label = f"meta-seed {seed}"
        assert paired(methods[label].mean, fedavg.mean)[1] <= -SURE, label
        assert rounds[label] <= 2 / 3 * rounds["FedAvg"], label


def _run(config: Path, directory: Path, name: str, *flags: str) -> None:
    where = (
        "--name",
        name,
        "--run_dir",
        str(directory / name),
        "--checkpoints_dir",
        str(directory / "checkpoints"),
    )
    command = [sys.executable, str(ROOT / "src/main.py"), "--config", str(config), *where, *flags]
    subprocess.run(command, check=True, cwd=ROOT)
