"""A user's afternoon: the README's files in an empty folder, from Python and as a config, in few steps."""

import re
import runpy
import sys

import matplotlib
import numpy as np
import pytest

from benchmarks.checkout import ROOT
from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.cli import main

FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))


@pytest.mark.slow
def test_the_readme_s_files_run(monkeypatch, tmp_path, capsys):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    small = {
        "num_outer_steps=200": "num_outer_steps=2",
        "num_inner_steps=50": "num_inner_steps=10",
        "8, 4, 32, 50, 5": "8, 4, 32, 9, 2",
    }
    for name, text in FILES.items():
        for long, short in small.items():
            text = text.replace(long, short)
        (tmp_path / name).write_text(text)
    try:
        runpy.run_path("afternoon.py", run_name="__main__")
        printed = capsys.readouterr()
        assert re.findall(r"^(\S+): test loss \d", printed.out, re.MULTILINE) == [
            "FedAvg",
            "clipped",
            "lagg-set",
            "mine",
        ]
        assert printed.err == ""
        assert (tmp_path / "mine.png").stat().st_size > 1000
        assert main(["--config", "mine.py", "--run_dir", "run"]) == 0
    finally:
        AGGREGATORS._entries.pop("clipped", None)
        sys.modules.pop("my_work", None)
    losses = np.genfromtxt("run/rounds.csv", delimiter=",", names=True, usecols=("round", "test_loss"))
    assert losses[9]["test_loss"] < losses[0]["test_loss"]
    assert (tmp_path / "run" / "partition.csv").read_text().count("\n") == 1 + 20
