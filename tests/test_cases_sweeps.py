"""Sweeps: points inside their ranges, none that cannot be run, no winner that diverged, a ledger that is checked."""

import contextlib
import csv
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation.cli import main
from learned_aggregation.config.resolve import Config, load_config
from learned_aggregation.config.sweep_config import MAX_POINTS
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import kept_curves, sweep_wandb
from learned_aggregation.jobs import sweep as sweep_job
from learned_aggregation.meta_testing.points import draw, on_edge, shown, widened
from learned_aggregation.meta_testing.program import Curves

BASE = {"run_type": "sweep", "optimizer": "fedavgm", "learning_rate": 1.0, "task": "mlp4_digits_8"}
TINY = ["--num_grads=2", "--num_local_steps=1", "--local_batch_size=4", "--num_inner_steps=2", "--num_runs=2"]


def _sweep(parameters, method="random", **more):
    return (
        {"method": method, "parameters": parameters} | ({"run_cap": 30} if method == "random" else {}) | more
    )


def _drawn(name: str, **spec) -> list:
    """30 points of a range, each of them a config that is accepted."""
    config = Config(**BASE, sweep_config=_sweep({name: spec}))
    assert config.sweep_config is not None
    points = draw(config.sweep_config["parameters"], 30, seed=0)
    for point in points:
        Config(**BASE | {"run_type": "benchmark"}).changed(point)
    return [point[name] for point in points]


@pytest.mark.parametrize("kind", ["q_uniform", "q_log_uniform_values"])
@pytest.mark.parametrize("ends", [(0.01, 0.2, 0.1), (0.01, 3e30, 1e30), (0.1, 0.3, 0.1), (1e-5, 0.35, 0.07)])
def test_q_draws_multiples_inside_the_range(ends, kind):
    low, high, q = ends
    found = _drawn("local_learning_rate", distribution=kind, min=low, max=high, q=q)
    assert all(low <= value <= high for value in found)
    assert all(math.isclose(value / q, round(value / q), rel_tol=1e-9) for value in found)
    assert len(set(found)) > 1


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
    st.sampled_from(["q_uniform", "uniform", "log"]),
)
def test_every_point_of_an_accepted_range_is_accepted(low, width, q, kind):
    name = {"log": "log_uniform_values"}.get(kind, kind)
    spec = {"min": low, "max": low + width, "distribution": name} | ({"q": q} if kind == "q_uniform" else {})
    with contextlib.suppress(UserError):
        assert all(low <= value <= low + width for value in _drawn("local_learning_rate", **spec))


@pytest.mark.parametrize("name", ["local_batch_size", "num_local_steps", "num_grads", "hidden_size"])
@pytest.mark.parametrize("kind", ["q_uniform", "q_log_uniform_values"])
def test_whole_ends_and_q_give_whole_numbers(name, kind):
    found = _drawn(name, distribution=kind, min=8, max=64, q=8)
    assert all(type(value) is int and value % 8 == 0 and 8 <= value <= 64 for value in found)
    assert len(set(found)) > 2


REFUSED = {
    "a fraction whose multiples leave it": ("beta", {"min": 0.9, "max": 0.99, "q": 0.1}, "q with multiples between"),
    "one multiple inside": ("beta", {"min": 0.31, "max": 0.39, "q": 0.05, }, None),
    "q without end": ("beta", {"min": 0.1, "max": 0.9, "q": float("inf")}, "a finite q above 0"),
    "q of 0": ("beta", {"min": 0.1, "max": 0.9, "q": 0}, "a finite q above 0"),
    "q that is no number": ("beta", {"min": 0.1, "max": 0.9, "q": "a"}, "a finite q above 0"),
    "q beyond float": ("beta", {"min": 0.1, "max": 0.9, "q": 10**400}, "a finite q above 0"),
    "fractions of whole numbers": (
        "local_batch_size",
        {"min": 8, "max": 64, "q": 0.5},
        "int_uniform, or whole min, max and q, for a setting of whole numbers, got 8.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_range_without_points_is_refused_when_it_is_read(case):
    name, spec, message = REFUSED[case]
    if message is None:
        assert set(_drawn(name, distribution="q_uniform", **spec)) == {7 * 0.05}
        return
    with pytest.raises(UserError, match=message):
        _drawn(name, distribution="q_uniform", **spec)


@pytest.mark.parametrize("distribution", ["uniform", "log_uniform_values"])
def test_the_message_shows_the_users_numbers(distribution):
    with pytest.raises(
        UserError, match=r"expected int_uniform, or whole min.*, got 8\. Change the distribution"
    ):
        _drawn("local_batch_size", distribution=distribution, min=8, max=64)


RATES = ("local_learning_rate", "beta", "dropout")
MANY = {name: {"values": [0.001 * i for i in range(1, 217)]} for name in RATES}


def test_points_are_counted_before_they_are_made():
    for sweep in (_sweep(MANY, "grid"), _sweep({"beta": {"min": 0.1, "max": 0.9}}, run_cap=2**31 - 1)):
        with pytest.raises(
            UserError, match=rf"at most {MAX_POINTS} points, got \d+\. Set run_cap to at most"
        ):
            Config(**BASE, sweep_config=sweep)
    grids = {name: spec["values"] for name, spec in MANY.items()}
    with pytest.raises(
        UserError, match=rf"entrants\[0\]\.sweep: expected at most {MAX_POINTS} points, got 10077696"
    ):
        Config(run_type="compare", entrants=[{"label": "a", "optimizer": "fedavg", "sweep": grids}])
    Config(**BASE, sweep_config=_sweep(MANY, "grid", run_cap=MAX_POINTS))  # its first points alone


def test_widening_ends_where_numbers_do():
    for name, values in (
        ("beta", [0.9, 0.99, 0.999]),
        ("local_learning_rate", [1e-300, 1e-301]),
        ("local_learning_rate", [1e300, 1e301]),
        ("rule_options.tau", [1e-3, 1e-2]),
    ):
        for best in (min, max):
            grid = {name: list(values)}
            for _ in range(20):
                grid = widened({name: best(grid[name])}, grid)
                Config(**BASE | {"run_type": "benchmark", "optimizer": "fedadam"}).changed(
                    {name: best(grid[name])}
                )
            assert len(set(grid[name])) == len(grid[name])


def test_edges_and_points_in_words():
    assert on_edge({"beta": 0.5}, {"beta": [0.1, 0.5]}) == ["beta"]
    assert shown({"beta": 0.5, "base": None}) == "beta=0.5, base=None"
    assert shown({}) == "no setting tuned"


class _Runner:
    """In the place of the program: losses that a test chooses. `diverges`: point -> its runs have no finite loss."""

    diverges = staticmethod(lambda point: False)
    ran: list[list] = []  # noqa: RUF012

    def __init__(self, config, loaded, theta, splits):
        self._splits = splits

    def run(self, points, seeds, what):
        self.ran.append([dict(point) for point in points])
        return [self._curves(point, seeds) for point in points]

    def _curves(self, point, seeds):
        rate = point.get("local_learning_rate", 1.0)
        last = np.array(
            [np.nan if self.diverges(point) else rate + 0.01 * seed for seed in seeds], np.float32
        )
        losses = np.stack([np.full_like(last, 3.0), last], axis=1)
        found = {f"{split}_loss": losses for split in self._splits}
        found |= {
            f"{split}_accuracy": np.full_like(losses, 0.9) for split in self._splits
        }  # says nothing of NaN
        return Curves(losses, np.array([0, 2]), found)


@pytest.fixture
def runner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = type("Chosen", (_Runner,), {"ran": []})
    for job in (sweep_job, kept_curves, sweep_wandb):
        monkeypatch.setattr(job, "GroupRunner", chosen)
    return chosen


def _write(metric="", rates=(0.1, 0.5)):
    Path("s.py").write_text(
        f"run_type='sweep'\noptimizer='fedavg'\ntask='mlp4_digits_8'\n"
        f"sweep_config=dict(method='grid', {metric} parameters=dict(local_learning_rate=dict(values={list(rates)})))\n"
    )


def _run(*flags):
    return main(["--config", "s.py", "--name", "s", *TINY, *flags])


ACCURACY = "metric=dict(name='outer_valid_accuracy', goal='maximize'),"


@pytest.mark.parametrize("metric", ["", ACCURACY, "metric=dict(name='train_loss'),"])
def test_a_diverged_point_never_wins(metric, runner, capsys):
    runner.diverges = staticmethod(lambda point: point["local_learning_rate"] == 0.1)
    _write(metric)
    assert _run() == 0
    assert json.loads(Path("runs/s/sweep.json").read_text())["winner"] == {"local_learning_rate": 0.5}
    assert "best local_learning_rate=0.5 with mean" in capsys.readouterr().err
    assert load_config(["--config", "runs/s/best.py"]).local_learning_rate == 0.5


@pytest.mark.parametrize("metric", ["", ACCURACY])
def test_where_all_points_diverge_there_is_no_winner(metric, runner, capsys):
    runner.diverges = staticmethod(lambda point: True)
    _write(metric)
    assert _run() == 0
    assert not Path("runs/s/best.py").exists()
    summary = json.loads(Path("runs/s/sweep.json").read_text(), parse_constant=pytest.fail)
    assert (summary["winner"], summary["winner_score"], summary["on_edge"]) == (None, None, [])
    assert "no winner: in every point a run diverged" in capsys.readouterr().err
    assert "every point diverged" in Path("runs/s/report.html").read_text()


def test_a_comparison_says_that_a_whole_grid_diverged(runner):
    runner.diverges = staticmethod(lambda point: "local_learning_rate" in point)
    grid = "sweep=dict(local_learning_rate=[0.1, 0.5])"
    Path("s.py").write_text(
        f"run_type='compare'\ntask='mlp4_digits_8'\nentrants=[dict(label='a', optimizer='fedavg', {grid})]\n"
    )
    assert _run() == 0
    [note] = json.loads(Path("runs/s/run.json").read_text())["notes"]
    assert "every point of its grid diverged: tune over lower rates" in note
    assert "chosen local_learning_rate=0.1;" in note


def test_a_wandb_server_is_told_no_metric_of_a_diverged_run(runner, monkeypatch):
    logged = []
    chosen = SimpleNamespace(config={"local_learning_rate": 0.1}, log=logged.append)
    fake = SimpleNamespace(
        login=lambda prompt: True,
        sweep=lambda config, project: "id",
        agent=lambda sweep_id, function, project: function(),
        init=lambda **_: contextlib.nullcontext(chosen),
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    runner.diverges = staticmethod(lambda point: True)
    _write(ACCURACY)
    assert _run("--sweep_engine=wandb") == 0
    assert logged[0]["outer_valid_accuracy"] == pytest.approx(0.9)
    assert math.isnan(logged[-1]["outer_valid_accuracy"])


def _cell(column, value):
    def damage(text: str) -> str:
        rows = list(csv.reader(text.splitlines()))
        rows[1][rows[0].index(column)] = value
        return "".join(",".join(row) + "\n" for row in rows)

    return damage


DAMAGED = {
    "the point": _cell("point", "x"),
    "the point's sign": _cell("point", "-1"),
    "a point that is not there": _cell("point", "7"),
    "a point of many digits": _cell("point", "9" * 5000),
    "the setting": _cell("local_learning_rate", "0.2"),
    "the seed": _cell("seed", "9"),
    "the chosen metric": _cell("outer_valid_accuracy", ""),
    "a number": _cell("outer_valid_loss", "0.1\0x"),
    "whether it diverged": _cell("diverged", "Maybe"),
    "a comma more": lambda text: text.replace("\n1,", "\n1,,", 1),
    "bytes that are no text": lambda text: text[:-1] + "\udcff\n",
    "a line is gone": lambda text: "".join(line for i, line in enumerate(text.splitlines(True)) if i != 2),
    "a line is there twice": lambda text: text.replace("\n", "\n" + text.splitlines()[1] + "\n", 1)
    .replace(text.splitlines()[2] + "\n", "", 1),
    "a line is cut": lambda text: text[:-20],
    "another heading": lambda text: text.replace("seed", "sed", 1),
    "a quote": lambda text: text.replace("\n1,", '\n"1,', 1),
    "nothing left": lambda text: "",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_ledger_has_its_points_run_again(damage, runner, capsys, monkeypatch):
    monkeypatch.setattr(sweep_job, "write_report", lambda path: path)
    _write(ACCURACY)
    assert _run() == 0
    path = Path("runs/s/sweep.csv")
    whole, best = path.read_bytes(), Path("runs/s/best.py").read_bytes()
    path.write_bytes(DAMAGED[damage](whole.decode()).encode(errors="surrogateescape"))
    runner.ran.clear()
    assert _run() == 0
    assert path.read_bytes() == whole
    assert Path("runs/s/best.py").read_bytes() == best
    assert len(runner.ran) == 1
    assert ("run again" in capsys.readouterr().err) == (damage != "nothing left")
    runner.ran.clear()
    assert _run() == 0  # and an undamaged one runs nothing
    assert runner.ran == []
