"""The report of tasks that measure what they like: names, directions and units come from the run directory."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from other_metrics import METRICS, UNLISTED
from report_runs import column, make_benchmark, make_comparison, text_of, write_rows

from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.report import write_report
from learned_aggregation.report.files import read_csv, read_json
from learned_aggregation.report.measures import Measure, Measures, metric_columns, read_measures
from learned_aggregation.report.plots import curve_plots, sweep_plots
from learned_aggregation.report.statistics import curves
from learned_aggregation.report.sweeps import read_sweep
from learned_aggregation.report.tables import comparison_table, final_table, rounds_table
from learned_aggregation.runs.rounds_file import Record, write_rounds
from learned_aggregation.runs.run_directory import RunDirectory, metric_facts
from learned_aggregation.types import Metric, Traffic

PLAIN = Traffic(up=32000.0, down=32000.0)
SIGN = Traffic(up=1000.5, down=32000.0)
CLASSES = (Metric("loss", unit="nats"), Metric("accuracy", higher_is_better=True, unit="%"))
OTHERS = (*METRICS, UNLISTED)
AT = np.array([0, 5, 10])


def record(method, task, start, traffic=PLAIN) -> Record:
    """Three seeds whose metrics all grow by 0.1 from one evaluation to the next, from `start`."""
    metrics = CLASSES if task == "images" else OTHERS
    values = start + 0.01 * np.arange(3)[:, None] + np.array([0.0, 0.1, 0.2])
    evaluated = {f"{s}_{m.name}": values.astype(np.float32) for s in ("outer_valid", "test") for m in metrics}
    return Record(method, task, range(3), Curves(np.ones((3, 10), np.float32), AT, evaluated), traffic, 4)


def make_run(path, sign=PLAIN, tasks=("images", "field")):
    """A benchmark of two methods on two tasks with different metrics."""
    RunDirectory(path, "", {"metrics": metric_facts({"images": CLASSES, "field": OTHERS})})
    records = [record("plain", task, 0.3) for task in tasks] + [
        record("sign", task, 0.5, sign) for task in tasks
    ]
    write_rounds(path / "rounds.csv", records)
    return path


def curves_of(path):
    return curves(read_csv(path / "rounds.csv"), read_measures(read_json(path / "run.json")))


def test_measures_reach_the_report(tmp_path):
    measures = read_measures(read_json(make_run(tmp_path) / "run.json"))
    assert measures.of("test_loss", "field") == Measure(False, "dB")
    assert measures.of("outer_valid_r2", "field") == Measure(True, "")
    assert measures.of("test_loss_mean", "images") == Measure(False, "nats")
    assert measures.shared("train_loss") is None
    assert measures.shared("train_loss", ["images"]) == Measure(False, "nats")
    assert measures.shared("outer_valid_mask_iou") == Measure(True, "%")


def test_older_run_directories_have_losses_and_accuracies():
    assert Measures().of("test_loss", "t") == Measure(False, "")
    assert (
        Measures().of("outer_valid_accuracy", "t") == Measures().shared("test_accuracy") == Measure(True, "%")
    )


@pytest.mark.parametrize("facts", [None, 3, [], {"t": 3}, {"t": ["loss", {"unit": "dB"}]}])
def test_broken_facts_are_left_out(facts):
    assert read_measures({"metrics": facts}).of("test_loss", "t") == Measure()


def test_columns_in_the_task_s_order():
    names = [
        "seed",
        "train_loss",
        "outer_valid_r2",
        "test_mask_iou",
        "test_loss",
        "test_r2",
        "test_checked_by",
    ]
    measures = read_measures({"metrics": metric_facts({"field": OTHERS})})
    expected = [
        "test_loss", "test_r2", "test_mask_iou", "test_checked_by", "outer_valid_r2", "train_loss"]  # fmt: skip
    assert metric_columns(names, measures) == expected


def test_the_best_are_marked_by_direction_and_units_said(tmp_path):
    table = final_table(curves_of(make_run(tmp_path)))
    methods = [row[0].text for row in table.rows]
    assert methods == ["plain", "sign"] * 2
    best = {
        name: [row[table.headings.index(name)].best for row in table.rows]
        for name in ("Test loss", "Test accuracy (%)", "Test r2", "Test mask iou (%)", "Test nmse")
    }
    assert best == {
        "Test loss": [True, False] * 2,  # in nats and in dB: the cells say it
        "Test accuracy (%)": [False, True, False, False],
        "Test r2": [False, False, False, True],
        "Test mask iou (%)": [False, False, False, True],
        "Test nmse": [False, False, True, False],
    }
    assert column(table, "Test loss")[0].endswith(" nats")
    assert column(table, "Test loss")[2].endswith(" dB")
    assert column(table, "Test accuracy (%)")[2:] == ["–", "–"]
    assert column(table, "Test mask iou (%)")[3].startswith("71.00 ± ")
    assert column(table, "Bits per client per round") == ["64 kbit"] * 4
    assert column(table, "Bytes per round") == ["20 kB"] * 4  # 4 clients up, one message down


def test_the_table_by_round_has_the_units_of_its_task(tmp_path):
    names = [f"test_{metric.name}" for metric in OTHERS]
    table = rounds_table(curves_of(make_run(tmp_path)), "field", names)
    assert table.headings == [
        "Round", "Optimizer", "Test loss (dB)", "Test r2", "Test mask iou (%)", "Test nmse", "Seeds"]  # fmt: skip
    last = table.rows[-1]
    assert [cell.best for cell in last[2:6]] == [False, True, True, False]


@pytest.mark.parametrize(
    ("metric", "label", "last", "scale"),
    [
        ("loss", "Test loss (dB)", 0.51, "linear"),
        ("r2", "Test r2", 0.51, "linear"),
        ("mask_iou", "Test mask iou (%)", 51.0, "linear"),
        ("nmse", "Test nmse", 0.51, "log"),
    ],
)
def test_axes_have_the_metric_s_unit(tmp_path, metric, label, last, scale):
    items = curves_of(make_run(tmp_path))
    items = [item._replace(values=np.concatenate([item.values / 10, item.values], 1)) for item in items]
    items = [item._replace(rounds=np.arange(6)) for item in items]
    plots = {plot.name: plot for plot in curve_plots(items, "field")}
    ax = Figure().add_subplot()
    plots[f"field_test_{metric}_by_rounds"].draw(ax)
    assert ax.get_ylabel() == label
    assert ax.get_yscale() == scale
    assert ax.lines[0].get_ydata()[-1] == pytest.approx(last)


def test_curves_over_bits_where_the_methods_differ_in_them(tmp_path):
    same = [plot.name for plot in curve_plots(curves_of(make_run(tmp_path / "same")), "field")]
    assert not [name for name in same if "bits" in name]
    items = curves_of(make_run(tmp_path / "differ", SIGN))
    plots = {plot.name: plot for plot in curve_plots(items, "field")}
    assert set(plots) == {*same, *(name.replace("by_bytes", "by_bits") for name in same)}
    plot = plots["field_test_loss_by_bits"]
    assert plot.title == "Test loss by bits per client"
    ax = Figure().add_subplot()
    plot.draw(ax)
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "Bits per client, up and down")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [5 * 64000, 10 * 64000])  # not round 0, before any
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [5 * 33000.5, 10 * 33000.5])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.61, 0.71])


def test_a_run_directory_without_bits_has_its_curves_over_bytes(tmp_path):
    items = curves(read_csv(make_benchmark(tmp_path, optimizers=("a", "b")) / "rounds.csv"))
    assert {plot.title.partition(" by ")[2] for plot in curve_plots(items, items[0].task)} == {
        "rounds",
        "bytes",
    }
    assert "Bits per client per round" not in final_table(items).headings


def write_table(path, rows):
    columns = dict.fromkeys(name for row in rows for name in row)
    write_rows(path / "table.csv", [dict.fromkeys(columns, "") | row for row in rows])
    return read_csv(path / "table.csv")


def test_a_comparison_marks_metrics_by_direction_and_reads_their_names_as_names(tmp_path):
    metrics = (
        Metric("loss"),
        Metric("psnr", True, "dB"),
        Metric("psnr_low", True, "dB"),
        Metric("ratio_to_best"),
    )
    measures = read_measures({"metrics": metric_facts({"field": metrics, "images": CLASSES})})
    shared = {"rounds_to_100": 20, "bits_up_per_client": 1000, "bits_to_target": 4e6}
    rows = [
        shared
        | {"entrant": name, "task": "field", "test_loss": x, "test_psnr": x, "test_psnr_ci95": 0.5}
        | {"test_psnr_low": x - 1, "test_ratio_to_best": x, "test_loss_mean": x, "bits_down_per_client": x}
        for name, x in (("a", 1.0), ("b", 2.0))
    ]
    rows.append(shared | {"entrant": "a", "task": "images", "test_loss": 3.0, "test_accuracy": 0.5})
    table = comparison_table(write_table(tmp_path, rows), "", measures)
    best = {h: [row[i].best for row in table.rows[:2]] for i, h in enumerate(table.headings)}
    assert best["Test psnr (dB)"] == best["Test psnr low (dB)"] == [False, True]
    assert (
        best["Test ratio to best"] == best["Test loss mean"] == best["Bits down per client"] == [True, False]
    )
    assert column(table, "Test psnr (dB)")[0] == "1.000 ± 0.500"
    assert column(table, "Test ratio to best")[1:] == ["2.000", "–"]
    assert column(table, "Test loss") == ["1.000", "2.000", "3.000 nats"]
    assert column(table, "Bits to target")[0] == "4 Mbit"
    assert column(table, "Bits up per client")[0] == "1 kbit"


def test_an_unfinished_sweep_goes_by_the_metric_s_direction(tmp_path):
    RunDirectory(tmp_path, "", {"metrics": metric_facts({"field": METRICS})})
    rows = [
        {"point": i, "test_checkpoint": name, "seed": 0, "outer_valid_mask_iou": x, "diverged": False}
        for i, (name, x) in enumerate([("a", 0.1), ("b", 0.3), ("c", 0.2)])
    ]
    write_rows(tmp_path / "sweep.csv", rows)
    sweep = read_sweep(tmp_path)
    assert (sweep.parameters, sweep.metric, sweep.sign) == (["test_checkpoint"], "outer_valid_mask_iou", -1)
    assert [point.values for point in sweep.points] == [("b",), ("c",), ("a",)]
    ax = Figure().add_subplot()
    (plot,) = sweep_plots(sweep)
    plot.draw(ax)
    assert ax.get_ylabel() == "Outer valid mask iou (%)"
    assert max(ax.lines[0].get_ydata()) == pytest.approx(30)
    page = text_of(write_report(tmp_path).read_text())
    assert "with the highest outer valid mask iou" in page


def test_the_user_s_goal_wins(tmp_path):
    RunDirectory(tmp_path, "", {"metrics": metric_facts({"field": METRICS})})
    write_rows(tmp_path / "sweep.csv", [{"beta": x, "seed": 0, "outer_valid_r2": x} for x in (0.1, 0.3)])
    about = {"parameters": ["beta"], "metric": {"name": "outer_valid_r2", "goal": "minimize"}}
    (tmp_path / "sweep.json").write_text(json.dumps(about))
    assert read_sweep(tmp_path).points[0].values == ("0.1",)


def test_the_page_shows_every_metric_of_the_task(tmp_path):
    page = text_of(write_report(make_run(tmp_path, SIGN, tasks=["field"])).read_text())
    for metric in OTHERS:
        name = metric.name.replace("_", " ")
        assert f"Test {name} by rounds" in page
        assert f"Outer valid {name} by bytes" in page
        assert f"Test {name} by bits per client" in page
    assert "33 kbit" in page
    plots = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert len(plots) == 3 * (2 * len(OTHERS) + 1)


def test_an_older_comparison_reads_as_before(tmp_path):
    make_comparison(tmp_path, seeds=1, rounds=2, every=1)
    table = comparison_table(read_csv(tmp_path / "table.csv"))
    assert "Test accuracy (%)" in table.headings
    assert "Test loss" in table.headings
    accuracy = [row[table.headings.index("Test accuracy (%)")] for row in table.rows]
    assert [cell.best for cell in accuracy[:6]] == [True, *[False] * 5]
    assert accuracy[0].text == "98.10 ± 0.31"
