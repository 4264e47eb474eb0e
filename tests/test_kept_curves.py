"""`curves_dir`: a comparison takes the runs that are there and computes what is missing."""

import re
import shlex
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from learned_aggregation.cli import main
from learned_aggregation.config.resolve import Config, load_config
from learned_aggregation.config.settings import SETTINGS
from learned_aggregation.jobs import kept_curves
from learned_aggregation.jobs.groups import GroupRunner
from learned_aggregation.jobs.kept_curves import run_points
from learned_aggregation.meta_testing.program import Curves

TINY = (
    "--task mlp4_digits_8 --num_grads 2 --num_local_steps 1 --local_batch_size 4 --num_inner_steps 4 --num_runs 2 "
    "--tuning_seeds 1 --curves_dir kept"
)
FEDAVG = "dict(label='FedAvg', optimizer='fedavg', sweep=dict(local_learning_rate=[0.1, 0.5]))"
MOMENTUM = "dict(label='momentum', optimizer='fedavgm', tune_by='mean', sweep=dict(beta=[0.1, 0.5]))"


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """What was computed since: a list of (what, points, seeds); an exception of name `ran.fails` where one is set."""
    monkeypatch.chdir(tmp_path)
    seen, run = [], GroupRunner.run

    def watched(self, points, seeds, what):
        if what.startswith(tuple(failing)):
            raise KeyboardInterrupt
        seen.append((what, len(points), len(seeds)))
        return run(self, points, seeds, what)

    failing = []
    monkeypatch.setattr(GroupRunner, "run", watched)
    return seen, failing


def compare(tmp_path, out, *methods, flags=""):
    (tmp_path / "compare.py").write_text(f"run_type = 'compare'\nentrants = [{', '.join(methods)}]\n")
    status = main(shlex.split(f"--config compare.py --run_dir {out} {TINY} {flags}"))
    return status, (tmp_path / out / "rounds.csv").read_text() if status == 0 else ""


def test_a_killed_comparison_computes_the_rest_and_ends_as_one_never_killed(ran, tmp_path):
    seen, failing = ran
    failing.append("momentum on")
    assert compare(tmp_path, "a", FEDAVG, MOMENTUM)[0] == 130
    assert [what.partition(" on ")[0] for what, *_ in seen] == ["tuning FedAvg", "FedAvg", "tuning momentum"]
    assert [count for _, *count in seen] == [[2, 1], [1, 2], [2, 1]]
    del seen[:], failing[:]
    resumed = compare(tmp_path, "b", FEDAVG, MOMENTUM)
    assert [what for what, *_ in seen] == ["momentum on mlp4_digits_8"]
    fresh = compare(tmp_path, "c", FEDAVG, MOMENTUM, flags="--curves_dir other")
    assert resumed == fresh
    assert resumed[0] == 0


@pytest.fixture
def asked(monkeypatch):
    """The points that were computed since; their curves are made up of their rates and seeds."""
    seen = []

    def made_up(self, points, seeds, what):
        seen.append(list(points))
        rates = [point.get("local_learning_rate", 0.0) for point in points]
        loss = [np.full((len(seeds), 2), rate, np.float32) + np.array(seeds)[:, None] for rate in rates]
        return [Curves(one, np.array([0, 2]), {"test_loss": one + 1}) for one in loss]

    monkeypatch.setattr(GroupRunner, "__init__", lambda self, *_: None)
    monkeypatch.setattr(GroupRunner, "run", made_up)
    return seen


POINTS = [{"local_learning_rate": rate} for rate in (0.1, 0.5)]
LOADED = SimpleNamespace(task=SimpleNamespace(name="a task"), dataset=SimpleNamespace(name="digits"))


def run(tmp_path, points=POINTS, seeds=(0, 1), theta=(), splits=("test",), **settings):
    config = load_config(["--optimizer", "fedavg", "--curves_dir", str(tmp_path)])
    return run_points(replace(config, **settings), points, seeds, LOADED, theta, splits, "what")


def test_what_a_run_depends_on_is_computed_anew_and_what_it_does_not_is_kept(asked, tmp_path):
    first = run(tmp_path)
    assert asked == [POINTS]
    again = run(tmp_path, tune_by="mean", widen=2, num_runs=4, run_dir="a", tuning_seeds=1)
    assert asked == [POINTS]
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours.train_loss, theirs.train_loss)
        np.testing.assert_array_equal(ours.eval_rounds, theirs.eval_rounds)
        np.testing.assert_array_equal(ours.evaluated["test_loss"], theirs.evaluated["test_loss"])
    wider = run(tmp_path, [*POINTS, {"local_learning_rate": 0.7}])
    assert asked[1:] == [[{"local_learning_rate": 0.7}]]
    assert [curves.train_loss[1, 0] for curves in wider] == pytest.approx([1.1, 1.5, 1.7])
    changes = (
        {"num_local_steps": 2}, {"seed": 1}, {"local_optimizer": "momentum"}, {"splits": ("outer_valid",)},
        {"seeds": (0, 2)}, {"seeds": (0,)}, {"theta": np.ones(2)}, {"theta": np.zeros(2)},
    )  # fmt: skip
    for number, change in enumerate(changes, start=3):
        run(tmp_path, **change)
        assert len(asked) == number, change


def test_nothing_is_kept_unless_it_is_asked_for(asked, tmp_path):
    run(tmp_path, curves_dir=None)
    run(tmp_path, curves_dir=None)
    assert asked == [POINTS, POINTS]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: b"PK", lambda content: content[:100]]
)
def test_a_damaged_file_is_computed_and_written_anew(damage, asked, tmp_path):
    run(tmp_path)
    files = list(tmp_path.glob("*.npz"))
    assert len(files) == 2
    files[0].write_bytes(damage(files[0].read_bytes()))
    curves = run(tmp_path)
    assert [len(points) for points in asked] == [2, 1]
    assert [one.train_loss[0, 0] for one in curves] == pytest.approx([0.1, 0.5])
    run(tmp_path)
    assert len(asked) == 2


def test_a_new_setting_leaves_what_is_kept_valid():
    names = [name for name in SETTINGS if name not in kept_curves.NEWER]
    text = kept_curves._text(Config())
    assert [line.partition(" = ")[0] for line in text.splitlines() if re.match(r"\w+ = ", line)] == names
    assert "start_checkpoint = 'lagg-set'" in kept_curves._text(Config(start_checkpoint="lagg-set"))
    # The settings of the format: name a new one in NEWER, or all curves that users kept are computed again.
    assert (len(names), zlib.crc32(",".join(names).encode())) == (108, 2310623572)
