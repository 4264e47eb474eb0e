"""The plots of a report: curves, partition, colours."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_runs import ENTRANTS, make_benchmark, make_meta, rounds_of, write_rows

from learned_aggregation.report import write_report
from learned_aggregation.report.files import read_csv
from learned_aggregation.report.plots import curve_plots, partition_plots, style_of, to_svg
from learned_aggregation.report.plots.curves import draw_curves
from learned_aggregation.report.plots.plot import DARK_PALETTE, INK, PALETTE
from learned_aggregation.report.statistics import curves


def test_curve_and_band_are_mean_and_interval(tmp_path):
    items = rounds_of(tmp_path, "seed,round,test_loss\n0,1,1\n0,2,2\n1,1,3\n1,2,2\n2,1,2\n2,2,2\n")
    ax = Figure().add_subplot()
    draw_curves(ax, items, ("run",), "rounds")
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 2], [2, 2]])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[band[:, 0] == 1, 1].max() == pytest.approx(2 + 4.302652730 / math.sqrt(3))
    assert band[band[:, 0] == 2, 1].tolist() == pytest.approx([2] * 3)


def test_a_curve_ends_where_a_seed_diverges(tmp_path):
    items = rounds_of(tmp_path, "seed,round,test_loss\n0,1,1\n0,2,2\n1,1,3\n1,2,inf\n")
    ax = Figure().add_subplot()
    draw_curves(ax, items, ("run",), "rounds")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2, np.nan])


def test_every_metric_is_drawn_by_rounds_and_by_bytes(tmp_path):
    table = read_csv(make_benchmark(tmp_path) / "rounds.csv")
    titles = [plot.title for plot in curve_plots(curves(table), "mlp32_digits_8")]
    assert titles[:2] == ["Test loss by rounds", "Test loss by bytes"]
    assert len(titles) == 10


def test_svg_takes_all_its_colours_from_the_page(tmp_path):
    items = curves(read_csv(make_benchmark(tmp_path, optimizers=ENTRANTS) / "rounds.csv"))
    svg = to_svg(curve_plots(items, "mlp32_digits_8")[0])
    assert not [color for color in (*PALETTE, INK) if color in svg]
    assert all(f"var(--series-{i})" in svg for i in range(len(ENTRANTS)))
    assert "currentColor" in svg
    assert ">Test loss</text>" in svg


def test_sixteen_curves_look_different():
    assert len({style_of(i) for i in range(16)}) == 16
    assert len({*PALETTE, *DARK_PALETTE}) == 16


def test_partition_counts(tmp_path):
    write_rows(tmp_path / "partition.csv", [{"client": c, "class_0": c, "class_1": 5} for c in range(3)])
    (plot,) = partition_plots(read_csv(tmp_path / "partition.csv"))
    assert (
        "3 clients, 18 examples; examples per client: 5 to 7, median 6; classes per client: 1 to 2"
        in plot.caption
    )
    ax = Figure().add_subplot()
    plot.draw(ax)
    np.testing.assert_array_equal(ax.images[0].get_array().filled(0), [[0, 1, 2], [5, 5, 5]])


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report(make_meta(tmp_path))
    assert dict(matplotlib.rcParams) == before
