"""What a report makes of a sweep."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_runs import make_sweep, text_of, write_rows

from learned_aggregation.report import write_report
from learned_aggregation.report.plots import sweep_plots, to_png
from learned_aggregation.report.plots.sweeps import MAX_FACETS, draw_heat_map
from learned_aggregation.report.sweeps import read_sweep


def test_sweep_points(tmp_path):
    sweep = read_sweep(make_sweep(tmp_path))
    assert len(sweep.points) == 44
    assert sweep.points[0].winner
    assert sweep.points[0].values == ("0.5", "0.5")
    assert sweep.points[0].result.mean == pytest.approx(0.153)
    assert {p.values for p in sweep.points if p.result.diverged} == {("1.0", "1.0"), ("1.0", "2.0")}
    assert all(p.result.diverged for p in sweep.points[-2:])


def test_an_unfinished_sweep_has_no_winner(tmp_path):
    make_sweep(tmp_path)
    (tmp_path / "sweep.json").unlink()
    path = tmp_path / "sweep.csv"
    heading, *lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in [f"point,{heading}", *(f"7,{line}" for line in lines)]))
    sweep = read_sweep(tmp_path)
    assert sweep.parameters == ["local_learning_rate", "slowmo_learning_rate"]
    assert not any(point.winner for point in sweep.points)
    assert "has not finished" in text_of(write_report(tmp_path).read_text())


def test_the_winner_of_an_accuracy_is_the_highest(tmp_path):
    write_rows(
        tmp_path / "sweep.csv",
        [{"lr": lr, "seed": 0, "outer_valid_accuracy": 1 - lr} for lr in (0.1, 0.3, 0.2)],
    )
    sweep = read_sweep(tmp_path)
    assert [point.values for point in sweep.points] == [("0.1",), ("0.2",), ("0.3",)]


def test_heat_map_outlines_the_winner_and_hatches_the_diverged(tmp_path):
    sweep = read_sweep(make_sweep(tmp_path))
    ax = Figure().add_subplot()
    draw_heat_map(ax, sweep, x=0, y=1, points=sweep.points)
    hatched = {patch.get_xy() for patch in ax.patches if patch.get_hatch()}
    outlined = {patch.get_xy() for patch in ax.patches if not patch.get_hatch()}
    assert hatched == {(2.5, 8.5), (2.5, 9.5)}
    assert outlined == {(1.5, 6.5)}
    assert ax.images[0].get_array()[7, 2] == pytest.approx(0.153)


def test_further_parameters_become_facets_or_the_best_over_them(tmp_path):
    few = sweep_plots(read_sweep(make_sweep(tmp_path / "few", seeds=1, beta=[0.5, 0.9])))
    assert [plot.title.split(" · ")[1] for plot in few] == ["beta = 0.5", "beta = 0.9"]
    extra = {"beta": [0.5, 0.7, 0.9], "decay": [0, 1, 2]}
    (many,) = sweep_plots(read_sweep(make_sweep(tmp_path / "many", seeds=1, **extra)))
    assert MAX_FACETS < 9
    assert "the best over beta, decay" in many.caption


@pytest.mark.parametrize("diverged", [(), (1,), (0, 1, 2, 3)])
@pytest.mark.parametrize(
    "values", [[0.01, 0.1, 0.5, 1.0], ["sgd", "adamw", "momentum", "x$y$"], [2, 2, 2, 2]]
)
def test_one_parameter_is_a_line(tmp_path, values, diverged):
    rows = [
        {"p": v, "seed": 0, "outer_valid_loss": i + 1, "diverged": i in diverged}
        for i, v in enumerate(values)
    ]
    write_rows(tmp_path / "sweep.csv", rows)
    plots = sweep_plots(read_sweep(tmp_path))
    assert len(plots) == (len(set(values)) > 1)
    assert all(b"PNG" in to_png(plot)[:8] for plot in plots)


def test_a_random_sweep_is_drawn_as_points(tmp_path):
    draw = np.random.default_rng(0).random((20, 3))
    rows = [{"lr": a, "beta": b, "seed": 0, "outer_valid_loss": "nan" if c > 0.9 else c} for a, b, c in draw]
    write_rows(tmp_path / "sweep.csv", rows)
    (plot,) = sweep_plots(read_sweep(tmp_path))
    ax = Figure().add_subplot()
    plot.draw(ax)
    assert len(ax.collections[0].get_offsets()) == (draw[:, 2] <= 0.9).sum()
