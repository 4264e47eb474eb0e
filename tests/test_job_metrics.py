"""Whole runs of a task that is no classifier: benchmark, compare and sweep, from the task to the report."""

import csv
import json
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
from other_metrics import METRICS, TASK, measure_otherwise, otherwise

from learned_aggregation.cli import main
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import sweep as sweep_job
from learned_aggregation.jobs.measures import metric_columns, sweep_metric, task_configs
from learned_aggregation.meta_testing.evaluation import measured
from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.tasks import make_task
from learned_aggregation.types import Metric

TINY = "--num_grads 2 --num_local_steps 1 --local_batch_size 4 --num_inner_steps 4 --num_runs 2"
CLASSIFIER = "mlp4_digits_8"
NAMES = ("loss", "r2", "mask_iou", "nmse")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measure_otherwise(monkeypatch)
    monkeypatch.setattr("learned_aggregation.report.html.to_png", lambda plot: b"")  # half of a report's time
    return tmp_path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(command):
    return main(shlex.split(command))


def test_a_task_s_metrics_come_in_its_order_and_unlisted_ones_last():
    task, dataset = make_task(CLASSIFIER)
    found = measured(otherwise(task), dataset.splits["test"].examples)
    assert found == (*METRICS, Metric("nmse"))
    assert [m.name for m in measured(task, dataset.splits["test"].examples)] == ["loss", "accuracy"]


def test_a_benchmark_of_two_tasks_has_the_metrics_of_both(here):
    assert (
        run(f"--run_type benchmark --optimizer fedavg --task {CLASSIFIER},{TASK} --run_dir out {TINY}") == 0
    )
    found = rows(here / "out/rounds.csv")
    for row in found:
        other = row["task"] == TASK
        assert np.isfinite(float(row["test_loss"]))
        assert [bool(row[f"test_{name}"]) for name in ("accuracy", "r2", "mask_iou")] == [
            not other,
            other,
            other,
        ]
    facts = json.loads((here / "out/run.json").read_text())["metrics"]
    assert list(facts) == [CLASSIFIER, TASK]
    assert facts[TASK][0] == {"name": "loss", "higher_is_better": False, "unit": "dB"}
    assert [metric["name"] for metric in facts[TASK]] == list(NAMES)
    page = (here / "out/report.html").read_text()
    for text in ("Test r2", "Test mask iou (%)", "Test nmse", "Test accuracy (%)"):
        assert text in page


COMPARE = f"""
run_type = "compare"
task = ["{CLASSIFIER}", "{TASK}"]
entrants = [
    dict(label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=[1e-6, 0.05])),
    dict(label="slow", optimizer="fedavgm", learning_rate=1e-6),
]
"""


def test_a_comparison_of_two_tasks_has_the_metrics_of_both(here, capsys):
    (here / "compare.py").write_text(COMPARE)
    assert run(f"--config compare.py --run_dir out {TINY}") == 0
    table = rows(here / "out/table.csv")
    assert [(row["task"], row["entrant"]) for row in table] == [
        (task, method) for task in (CLASSIFIER, TASK) for method in ("FedAvg", "slow")
    ]
    assert [row["test_accuracy"] == "" for row in table] == [False, False, True, True]
    assert [row["test_r2"] == "" for row in table] == [True, True, False, False]
    assert float(table[2]["test_loss"]) < float(table[3]["test_loss"])
    assert float(table[2]["test_r2"]) > float(table[3]["test_r2"])
    bits = 32 * (64 * 5 + 5 + 5 * 10 + 10)
    assert table[2]["bits_up_per_client"] == table[2]["bits_down_per_client"] == str(bits)
    assert float(table[2]["bits_to_target"]) == 2 * bits * float(table[2]["rounds_to_100"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Comparison: {TASK}" in shown
    assert "mask" in shown.partition(f"Comparison: {TASK}")[2]
    assert (
        "Test mask" not in shown.partition(f"Comparison: {CLASSIFIER}")[2].partition(f"Comparison: {TASK}")[0]
    )


def sweep_file(metric):
    return f"""
run_type = "sweep"
optimizer = "fedavg"
sweep_config = dict(
    method="grid", metric={metric!r}, parameters=dict(local_learning_rate=dict(values=[0.5, 1e-6, 0.01]))
)
"""


def test_a_sweep_goes_for_more_of_what_is_better_higher(here):
    (here / "sweep.py").write_text(sweep_file({"name": "outer_valid_r2"}))
    assert run(f"--config sweep.py --task {TASK} --run_dir out {TINY}") == 0
    found = rows(here / "out/sweep.csv")
    columns = [f"{split}_{name}" for split in ("outer_valid", "test") for name in NAMES]
    assert list(found[0]) == ["point", "local_learning_rate", "seed", "train_loss", *columns, "diverged"]
    assert {row["diverged"] for row in found} == {"False"}
    summary = json.loads((here / "out/sweep.json").read_text())
    assert summary["metric"] == {"name": "outer_valid_r2", "goal": "maximize"}
    means = [np.mean([float(row["outer_valid_r2"]) for row in found if row["point"] == p]) for p in "012"]
    assert summary["winner_score"] == pytest.approx(max(means))
    assert summary["winner"] == {"local_learning_rate": [0.5, 1e-6, 0.01][int(np.argmax(means))]}
    assert "with the highest outer valid r2" in (here / "out/report.html").read_text()
    assert json.loads((here / "out/run.json").read_text())["metrics"][TASK][1]["higher_is_better"] is True


@pytest.mark.parametrize("engine", ["local", "wandb"])
def test_a_metric_that_the_task_does_not_have_is_one_line_before_anything_is_written(
    here, engine, monkeypatch, capsys
):
    monkeypatch.setattr(
        "learned_aggregation.jobs.sweep_wandb._connected_wandb", lambda: SimpleNamespace(sweep=None)
    )
    (here / "sweep.py").write_text(sweep_file({"name": "outer_valid_acuracy"}))
    before = list(here.iterdir())
    command = f"--config sweep.py --run_dir out --sweep_engine {engine} --compilation_cache False {TINY}"
    assert run(f"{command} --task {CLASSIFIER}") == 2
    assert (
        "sweep_config.metric.name: expected a metric of mlp4_digits_8, one of train_loss, outer_valid_loss, "
        "outer_valid_accuracy, got 'outer_valid_acuracy'. "
        "Did you mean 'outer_valid_accuracy'?\n"
    ) in capsys.readouterr().err
    assert run(f"{command} --task {TASK}") == 2
    assert "outer_valid_mask_iou, outer_valid_nmse, got" in capsys.readouterr().err
    assert list(here.iterdir()) == before


@pytest.mark.parametrize("read_back", [False, True])
def test_a_run_whose_loss_is_not_finite_never_wins(tmp_path, read_back):
    """Comparisons with NaN are false: an error rate counted with them is a perfect 0."""
    columns = list(metric_columns((Metric("loss"), Metric("error"))))
    points = [{"beta": 0.1 * point} for point in range(3)]

    def opened():
        return sweep_job.Results(tmp_path / "sweep.csv", points, [0, 1], ["beta"], [columns] * 3)

    results = opened()
    for point, (loss, error) in enumerate([(np.nan, 0.0), (0.5, 0.2), (0.4, 0.3)]):
        values = {"loss": np.full((2, 1), loss), "error": np.full((2, 1), error)}
        evaluated = {f"{split}_{name}": v for split in ("outer_valid", "test") for name, v in values.items()}
        results.add(point, points[point], [0, 1], Curves(np.ones((2, 1)), np.array([1]), evaluated))
    results.write()
    if read_back:
        results = opened()
    assert results.mean("outer_valid_error", 3) == [np.inf, pytest.approx(0.2), pytest.approx(0.3)]
    assert [row["diverged"] for row in rows(tmp_path / "sweep.csv")] == ["True"] * 2 + ["False"] * 4


def test_a_sweep_over_tasks_has_the_columns_of_all(here):
    text = sweep_file({"name": "outer_valid_loss"}).replace(
        "local_learning_rate=dict(values=[0.5, 1e-6, 0.01])", f"task=dict(values=['{CLASSIFIER}', '{TASK}'])"
    )
    (here / "sweep.py").write_text(text)
    assert run(f"--config sweep.py --run_dir out {TINY}") == 0
    found = rows(here / "out/sweep.csv")
    assert [row["test_accuracy"] == "" for row in found] == [False, False, True, True]
    assert [row["test_mask_iou"] == "" for row in found] == [True, True, False, False]


LOSS, R2 = Metric("loss"), Metric("r2", higher_is_better=True)


@pytest.mark.parametrize(
    ("asked", "goal"),
    [
        ({"name": "outer_valid_r2"}, "maximize"),
        ({"name": "outer_valid_r2", "goal": "minimize"}, "minimize"),
        ({"name": "train_loss"}, "minimize"),
    ],
)
def test_the_goal_is_the_user_s_or_the_metric_s_direction(asked, goal):
    assert sweep_metric(asked, {"a": (LOSS, R2), "b": (LOSS, Metric("nmse"), R2)}) == asked | {"goal": goal}


def test_the_goal_must_be_given_where_the_tasks_disagree():
    tasks = {"a": (LOSS, R2), "b": (LOSS, Metric("r2"))}
    with pytest.raises(
        UserError, match=r"metric.goal: expected minimize or maximize, .* got None. Give goal.$"
    ):
        sweep_metric({"name": "outer_valid_r2"}, tasks)
    assert sweep_metric({"name": "outer_valid_r2", "goal": "maximize"}, tasks)["goal"] == "maximize"
    with pytest.raises(UserError, match=r"expected a metric of c, .* got 'outer_valid_r2'"):
        sweep_metric({"name": "outer_valid_r2"}, tasks | {"c": (LOSS,)})


def test_a_sweep_has_one_task_in_each_point():
    one, two = Config(task="mlp4_digits_8"), Config(task="mlp4_digits_8", seed=1)
    assert task_configs([one, two]) == {"mlp4_digits_8": one}
    with pytest.raises(UserError, match=r"^task: expected one task in each point of a sweep, got \["):
        task_configs([one, Config(task=("mlp4_digits_8", "conv-c10"))])


def test_the_columns_of_a_sweep():
    assert list(metric_columns((LOSS, R2))) == [
        "train_loss", "outer_valid_loss", "outer_valid_r2", "test_loss", "test_r2"]  # fmt: skip
