"""A benchmark that nobody runs for a while still runs."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_pretrained_aggregator_takes_part_in_the_families(tmp_path):
    """Its rule's settings are those of its card, not the rule's defaults."""
    command = [sys.executable, "-m", "benchmarks.run", "--here", "families/mlp/learned", "--repeats", "1"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    [row] = json.loads(done.stdout.splitlines()[-1])
    assert row["name"] == "families/mlp/learned"
    assert row["test_loss_after"] < 0.5 * row["test_loss_before"]
