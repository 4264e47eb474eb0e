"""The report: what it reads, computes and shows. test_report_browser.py opens it in a browser."""

import ast
import csv
import itertools
import json
import math
import re
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from learned_aggregation import report
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.report import print_rounds_table, write_report
from learned_aggregation.report.files import read_csv
from learned_aggregation.report.plots import (
    DARK_PALETTE,
    INK,
    MAX_FACETS,
    PALETTE,
    curve_plots,
    draw_curves,
    draw_heat_map,
    partition_plots,
    style_of,
    sweep_plots,
    to_png,
    to_svg,
)
from learned_aggregation.report.statistics import (
    Estimate,
    curves,
    estimate,
    interval95,
    smooth,
    standard_error,
    thin,
)
from learned_aggregation.report.sweeps import read_sweep
from learned_aggregation.report.tables import (
    Cell,
    comparison_table,
    final_table,
    format_bytes,
    format_estimate,
    format_number,
    heading,
    mark_best,
    shown_rounds,
)

ENTRANTS = (
    "fedlagg-adafac (quickstart)",
    "FedAvg, tuned",
    "SlowMo, tuned",
    "FedAdam, tuned",
    "FedAvgM, tuned",
    "sgd",
)
TASKS = ("mlp32_digits_8", "mlp128x128_glyphs_28")


def write_rows(path: Path, rows: list[dict]) -> None:
    """A CSV file as the runs write it."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def rounds_rows(optimizers=("fedavg",), tasks=("mlp32_digits_8",), seeds=3, rounds=20, every=5) -> list[dict]:
    """Rows of rounds.csv: losses that fall with a rate of the optimizer's own, and noise of the seed's."""
    noise = np.random.default_rng(0)
    return [
        {
            "optimizer": optimizer,
            "task": task,
            "seed": seed,
            "round": r,
            "train_loss": f"{loss * math.exp(0.25 * noise.normal()):.6g}",
            **{
                name: f"{value:.6g}" if evaluated else ""
                for name, value in {
                    "outer_valid_loss": 1.05 * loss,
                    "outer_valid_accuracy": 1 - loss / 3.2,
                    "test_loss": loss,
                    "test_accuracy": 1 - loss / 3,
                }.items()
            },
            "bytes_up": 8 * 9000 * r,
            "bytes_down": 9000 * r,
        }
        for t, task in enumerate(tasks)
        for o, optimizer in enumerate(optimizers)
        for seed in range(seeds)
        for offset in [math.exp(0.1 * noise.normal())]
        for r in range(rounds + 1)
        for evaluated in [r % every == 0 or r == rounds]
        for loss in [offset * (0.06 + 0.03 * o + 0.05 * t + 2.24 * math.exp(-r / (rounds / 6) / (1 + o / 2)))]
    ]


def make_benchmark(run_dir: Path, **options) -> Path:
    """A benchmark's run directory."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_rows(run_dir / "rounds.csv", rounds_rows(**options))
    return run_dir


def make_meta(run_dir: Path, steps=400) -> Path:
    """A meta-training's run directory."""
    run_dir.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).normal(size=steps)
    rows = [
        {
            "step": i,
            "meta_loss": 0.4 + 1.9 * math.exp(-i / 60) * math.exp(0.2 * noise[i]),
            "grad_norm": math.exp(noise[i]),
            "learning_rate": 3e-3,
            "outer_steps_per_s": 4 + noise[i] / 9,
            "rounds_per_s": 3300,
            "elapsed_s": i / 4,
        }
        for i in range(steps)
    ]
    write_rows(run_dir / "metrics.csv", rows)
    return run_dir


def make_sweep(run_dir: Path, seeds=3, **extra) -> Path:
    """A sweep of 4 local rates by 11 server rates (and `extra` parameters)."""
    run_dir.mkdir(parents=True, exist_ok=True)
    grid = {
        "local_learning_rate": [0.01, 0.1, 0.5, 1.0],
        "slowmo_learning_rate": [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0],
        **extra,
    }
    points, rows = [{}], []
    for name, values in grid.items():
        points = [{**point, name: value} for point in points for value in values]
    for point in points:
        local, server, *others = point.values()
        loss = (
            0.15 + 0.1 * math.log(local / 0.5) ** 2 + 0.02 * math.log(server / 0.5) ** 2 + 0.05 * sum(others)
        )
        diverged = local == 1.0 and server >= 1
        for seed in range(seeds):
            value = "nan" if diverged else f"{loss + 0.003 * seed:.6g}"
            rows.append(
                {
                    **point,
                    "seed": seed,
                    "train_loss": value,
                    "outer_valid_loss": value,
                    "outer_valid_accuracy": "nan" if diverged else 0.9,
                    "test_loss": value,
                    "test_accuracy": "nan" if diverged else 0.9,
                    "diverged": diverged,
                }
            )
    write_rows(run_dir / "sweep.csv", rows)
    winner = {"local_learning_rate": 0.5, "slowmo_learning_rate": 0.5, **{k: v[0] for k, v in extra.items()}}
    about = {
        "parameters": list(grid),
        "metric": {"name": "outer_valid_loss", "goal": "minimize"},
        "winner": winner,
        "on_edge": list(extra),
    }
    (run_dir / "sweep.json").write_text(json.dumps(about))
    return run_dir


def make_comparison(run_dir: Path, entrants=ENTRANTS, tasks=TASKS, **options) -> Path:
    """A comparison's run directory with everything a report can show."""
    make_benchmark(
        run_dir, optimizers=entrants, tasks=tasks, **{"seeds": 10, "rounds": 120, "every": 10, **options}
    )
    rows = [
        {
            "entrant": entrant,
            "task": task,
            "seeds": 10,
            "tuned": json.dumps({"local_learning_rate": 0.5, "beta": 0.9}) if i else "",
            "rounds_to_25": 4.0 + 3 * i,
            "rounds_to_25_low": 3.0 + 3 * i,
            "rounds_to_25_high": 5.0 + 3 * i,
            "rounds_to_100": 21.0 + 31 * i if i < 5 else math.inf,
            "rounds_to_100_low": 18.0 + 31 * i,
            "rounds_to_100_high": 25.0 + 31 * i if i < 4 else math.inf,
            "speedup_100": 52 / (21 + 31 * i) if i < 5 else 0.0,
            "speedup_100_low": 48 / (21 + 31 * i) if i < 5 else 0.0,
            "speedup_100_high": 55 / (21 + 31 * i) if i < 5 else 0.0,
            "test_loss": 0.061 + 0.031 * i,
            "test_loss_ci95": 0.004 + 0.001 * i,
            "test_accuracy": 0.981 - 0.011 * i,
            "test_accuracy_ci95": 0.0031,
            "bytes_up_per_round": 72_000,
            "bytes_down_per_round": 9_000,
            "bytes_to_target": 81_000.0 * (21 + 31 * i) if i < 5 else math.inf,
            "client_gradients_per_round": 1024,
        }
        for task in tasks
        for i, entrant in enumerate(entrants)
    ]
    write_rows(run_dir / "table.csv", rows)
    write_rows(
        run_dir / "partition.csv",
        [
            {"client": c, **{f"class_{k}": int(v) for k, v in enumerate(counts)}}
            for c, counts in enumerate(
                np.random.default_rng(2).multinomial(60, [0.1] * 10, size=30)
                * (np.random.default_rng(3).random((30, 10)) < 0.4)
            )
        ],
    )
    make_sweep(run_dir)
    make_meta(run_dir)
    (run_dir / "config.py").write_text(
        "optimizer = 'fedlagg-adafac'\nnote = '<script>alert(1)</script>'\nnum_grads = 8\n"
        + f"tasks = {[f'mlp32_digits_{n}' for n in range(20)]}\n"
    )
    (run_dir / "run.json").write_text(
        json.dumps(
            {
                "run_type": "compare",
                "name": "compare_digits",
                "command": "python src/main.py --config compare_digits.py",
                "started": "2025-11-21T03:01:00",
                "finished": "2025-11-21T03:06:31",
                "versions": {"python": "3.11", "jax": "0.10.2"},
                "machine": {"cores": 2},
                "notes": ["Data set <digits> is embedded.", "FedAvg was tuned on outer_valid."],
                "table_note": "Equal budgets: 256 examples a client and round, 44 grid points, the same 10 seeds.",
            }
        )
    )
    return run_dir


def text_of(page: str) -> str:
    """A page as one reads it."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def column(table, name: str) -> list[str]:
    """The texts of a table's column."""
    return [row[table.headings.index(name)].text for row in table.rows]


# --- files ---


def test_a_killed_writer_costs_its_last_line_only(tmp_path):
    path = tmp_path / "rounds.csv"
    path.write_bytes(b"round,loss\r\n1,0.5\r\n2\r\n\0\0\r\n\n3,0.25,9\nround,loss\n4,0.2\n5,0.1")
    table = read_csv(path)
    assert table.columns == {"round": ["1", "4"], "loss": ["0.5", "0.2"]}
    assert table.skipped == 4  # the short and the long line, the repeated heading, the one without a newline


def test_a_broken_quote_spoils_one_line(tmp_path):
    (tmp_path / "a.csv").write_text('name,value\n"x,1\n"{""a"": 1, ""b"": 2}",2\n')
    assert read_csv(tmp_path / "a.csv").columns == {"name": ['{"a": 1, "b": 2}'], "value": ["2"]}


@pytest.mark.parametrize("content", [None, b"", b"\n", b"step,loss", b"\0\0\0\n"])
def test_no_table_without_a_whole_heading(tmp_path, content):
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    assert read_csv(tmp_path / "a.csv") is None


# --- statistics ---


def test_interval_and_standard_error():
    values = np.arange(10.0)
    assert standard_error(values) == pytest.approx(math.sqrt(82.5 / 9 / 10))
    assert interval95(values) == pytest.approx(2.262157163 * math.sqrt(82.5 / 9 / 10))
    assert interval95(np.array([0.0, 1.0])) == pytest.approx(12.70620474 * 0.5)
    assert np.isnan(interval95(np.ones((1, 3)))).all()


def test_a_diverged_seed_is_not_averaged_away():
    assert estimate(np.array([1.0, 3.0])).mean == 2
    assert estimate(np.array([1.0, np.inf, np.nan])).diverged == 2
    assert np.isnan(estimate(np.array([1.0, np.nan])).mean)


def rounds_of(tmp_path, text: str):
    """The curves of a rounds.csv given without spaces."""
    (tmp_path / "rounds.csv").write_text(text.replace(" ", ""))
    return curves(read_csv(tmp_path / "rounds.csv"))


def test_curves_hold_the_rounds_that_all_seeds_share(tmp_path):
    (train, test) = sorted(
        rounds_of(
            tmp_path,
            """optimizer,task,seed,round,train_loss,test_loss,bytes_up,bytes_down
            fedavg,t,0,1,4,,80,10
            fedavg,t,0,2,3,1.5,160,20
            fedavg,t,1,1,5,,80,10
            fedavg,t,1,2,9,2.5,160,20
            fedavg,t,1,2,7,2.5,160,20
            fedavg,t,0,3,1,,240,30
            """,
        ),
        key=lambda curve: -len(curve.rounds),
    )
    assert (train.metric, train.rounds.tolist(), train.bytes.tolist()) == ("train_loss", [1, 2], [90, 180])
    assert train.values.tolist() == [[4, 3], [5, 7]]  # of the row written twice, the last
    assert (test.metric, test.rounds.tolist(), test.values.tolist()) == ("test_loss", [2], [[1.5], [2.5]])


def test_curves_need_only_rounds_and_a_metric(tmp_path):
    (curve,) = rounds_of(tmp_path, "round,test_loss\n2,0.5\n1,1\n")
    assert (curve.rounds.tolist(), curve.values.tolist(), curve.bytes) == ([1, 2], [[1, 0.5]], None)


def test_thin_and_smooth_keep_the_mean():
    values = np.random.default_rng(0).normal(size=(2, 1000))
    assert thin(values).shape == (2, 200)
    np.testing.assert_allclose(thin(values).mean(axis=1), values.mean(axis=1))
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0, np.nan, 4.0]), 3), [1.5, 1.5, 3.0, 4.0])


# --- tables ---


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("test_loss", Estimate(0.06592, 0.00139, 5), "0.0659 ± 0.0014"),
        ("test_loss", Estimate(2.3131, np.nan, 1), "2.313"),
        ("test_loss", Estimate(1.5e-6, 2e-7, 3), "1.500e-06 ± 2.000e-07"),
        ("test_accuracy", Estimate(0.978, 0.0005, 5), "97.80 ± 0.05"),
        ("test_loss", Estimate(np.nan, np.nan, 5, 2), "diverged (2 of 5)"),
        ("test_loss", Estimate(np.nan, np.nan, 0), "–"),
    ],
)
def test_format_estimate(metric, value, expected):
    assert format_estimate(metric, value) == expected


def test_format_numbers_and_headings():
    assert [format_number(v) for v in (3300, 0.5, 1234.5678, 1e-7, np.nan)] == [
        "3\u2009300", "0.5000", "1235", "1.000e-07", "diverged"]  # fmt: skip
    assert [format_bytes(v) for v in (12, 81_000, 9_720_000, 2.5e12)] == [
        "12 B",
        "81 kB",
        "9.72 MB",
        "2.5 TB",
    ]
    assert [heading(v) for v in ("rounds_to_25", "bytes_up_per_round", "outer_valid_loss", "speedup_25")] == [
        "Rounds to 25 %", "Bytes up a round", "Outer valid loss", "Speed-up at 25 %"]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "direction", "best"),
    [
        ([3.0, 1.0, 2.0], -1, [1]),
        ([3.0, 1.0, 3.0], 1, [0, 2]),
        ([np.nan, 2.0, 3.0], -1, [1]),
        ([2.0, 2.0], -1, []),
        ([1.0, 2.0], 0, []),
        ([np.nan, np.nan], -1, []),
    ],
)
def test_mark_best(values, direction, best):
    cells = mark_best([Cell("")] * len(values), values, direction)
    assert [i for i, cell in enumerate(cells) if cell.best] == best


def test_final_values_are_those_of_the_last_round(tmp_path):
    rows = rounds_rows(("fedavg", "slowmo"), ("a", "b"), seeds=4)
    write_rows(tmp_path / "rounds.csv", rows)
    table = final_table(curves(read_csv(tmp_path / "rounds.csv")))
    last = np.array(
        [
            float(r["test_loss"])
            for r in rows
            if (r["optimizer"], r["task"], r["round"]) == ("slowmo", "b", 20)
        ]
    )
    error = 3.182446305 * last.std(ddof=1) / 2
    assert column(table, "Test loss")[3] == f"{last.mean():.4f} ± {error:.4f}"
    assert table.sections == {0: "a", 2: "b"}
    assert column(table, "Seeds") == ["4"] * 4
    assert column(table, "Bytes a round") == ["81 kB"] * 4
    best = [[cell.best for cell in row] for row in table.rows]
    assert [row[table.headings.index("Test accuracy (%)")] for row in best] == [True, False] * 2


def test_a_seed_that_diverged_on_the_way_has_diverged(tmp_path):
    rows = rounds_rows(seeds=3)
    rows[5]["test_loss"] = "inf"
    write_rows(tmp_path / "rounds.csv", rows)
    table = final_table(curves(read_csv(tmp_path / "rounds.csv")))
    assert column(table, "Test loss") == ["diverged (1 of 3)"]
    assert table.title == "Summary: mlp32_digits_8"


def test_comparison_joins_intervals_and_says_not_reached(tmp_path):
    make_comparison(tmp_path, seeds=1, rounds=2, every=1)
    table = comparison_table(read_csv(tmp_path / "table.csv"), "Equal budgets.")
    assert column(table, "Test loss")[0] == "0.0610 ± 0.0040"
    assert column(table, "Rounds to 100 %")[3:7] == [
        "114 [111, 118]",
        "145 [142, ∞]",
        "not reached",
        "21 [18, 25]",
    ]
    assert column(table, "Speed-up at 100 %")[1] == "1× [0.923×, 1.06×]"
    assert column(table, "Speed-up at 100 %")[5] == "not reached"
    assert table.headings[0] == "Entrant"
    assert table.headings[-1] == "Tuned"
    assert column(table, "Tuned")[1] == "local_learning_rate = 0.5, beta = 0.9"
    assert column(table, "Bytes to target")[0] == "1.7 MB"
    assert table.sections == {0: TASKS[0], 6: TASKS[1]}
    assert table.note == "Equal budgets."
    best = [row[table.headings.index("Rounds to 100 %")].best for row in table.rows]
    assert best == [True, *[False] * 5, True, *[False] * 5]


def test_shown_rounds_are_evaluated_ones(tmp_path):
    write_rows(tmp_path / "rounds.csv", rounds_rows(rounds=130, every=20, seeds=1))
    assert shown_rounds(curves(read_csv(tmp_path / "rounds.csv"))) == [0, 20, 40, 100, 130]


def printed(run_dir: Path) -> str:
    """What print_rounds_table writes on a terminal of 80 columns."""
    out = StringIO()
    print_rounds_table(run_dir, Console(file=out, width=80))
    return out.getvalue()


def test_the_terminal_table_fits_and_shows_spreads(tmp_path):
    rows = rounds_rows(("fedlagg-adafac", "fedavg"), rounds=100, seeds=5)
    write_rows(tmp_path / "rounds.csv", rows)
    last = np.array([float(r["test_loss"]) for r in rows if (r["optimizer"], r["round"]) == ("fedavg", 100)])
    text = printed(tmp_path)
    line = next(line for line in text.splitlines() if re.match(r" *100 +fedavg", line))
    assert f"{last.mean():.4f} ± {last.std(ddof=1) / math.sqrt(5):.4f}" in line
    assert [int(m) for m in re.findall(r"^ *(\d+) +fedavg ", text, re.M)] == [0, 5, 25, 50, 100]
    assert "standard error" in text


def test_the_terminal_table_without_rounds(tmp_path):
    assert "no rounds.csv" in " ".join(printed(tmp_path).split())


# --- sweeps ---


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


# --- plots ---


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
        "3 clients, 18 examples; examples a client: 5 to 7, median 6; classes a client: 1 to 2"
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


# --- the page ---


class Reader(HTMLParser):
    """Checks that tags are balanced, and collects ids, attributes and headings."""

    VOID = ("meta", "wbr", "br")

    def __init__(self, page: str):
        super().__init__()
        self.open, self.ids, self.tags, self.sections = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.sections.append(data)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A comparison's run directory with its report."""
    return write_report(make_comparison(tmp_path_factory.mktemp("compare"), rounds=20, seeds=2)).parent


def test_the_whole_page(comparison):
    page = (comparison / "report.html").read_text()
    reader = Reader(page)
    assert reader.sections == ["Comparison", "Loss and accuracy by round", "Sweep", "Partition", "Meta-training",
                               "Config", "Versions and machine", "Run it again"]  # fmt: skip
    assert len(reader.ids) == len(set(reader.ids)) > 100
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "iframe")]
    text = text_of(page)
    for part in ("compare_digits", "took 5 min 31 s", "44 grid points", "python src/main.py --config", "0.10.2",
                 "&lt;script&gt;alert(1)", "Data set &lt;digits&gt;"):  # fmt: skip
        assert part in text
    plots = [attrs["aria-label"] for tag, attrs in reader.tags if tag == "svg" and "aria-label" in attrs]
    assert len(plots) == len(list((comparison / "figures").glob("*.png"))) == 20 + 1 + 1 + 2
    assert not list(comparison.rglob(".*"))


def test_the_page_needs_nothing_else(comparison):
    page = (comparison / "report.html").read_text()
    for attribute in re.findall(r'(?:href|src|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page):
        assert attribute.startswith(("#", "data:"))
    outside = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize(
    "files", [f for n in range(4) for f in itertools.combinations(("metrics", "sweep", "table"), n)]
)
def test_a_section_for_each_file_that_is_there(tmp_path, files):
    make_comparison(tmp_path, seeds=1, rounds=1, every=1)
    for name in {"metrics", "sweep", "table", "rounds", "partition"} - set(files):
        (tmp_path / f"{name}.csv").unlink()
    page = write_report(tmp_path).read_text()
    shown = {"metrics": "Meta-training", "sweep": "Sweep", "table": "Comparison"}
    assert Reader(page).sections[:-3] == [
        shown[name] for name in ("table", "sweep", "metrics") if name in files
    ]
    assert ("Nothing to show yet" in page) == (not files)


def test_an_empty_directory(tmp_path):
    assert "Nothing to show yet" in write_report(tmp_path).read_text()


def test_a_quickstart_shows_both_halves(tmp_path):
    make_meta(tmp_path)
    write_rows(
        tmp_path / "rounds.csv",
        [{"round": r, "task": "mlp32_digits_8", "test_loss": 1 / (r + 1)} for r in range(3)],
    )
    assert Reader(write_report(tmp_path).read_text()).sections == [
        "Summary: mlp32_digits_8", "Loss and accuracy by round", "Meta-training"]  # fmt: skip


def test_a_run_killed_at_any_byte_still_has_a_report(tmp_path):
    rows = [{"seed": s, "round": r, "test_loss": 1 / (r + 1)} for s in range(2) for r in range(3)]
    path = tmp_path / "rounds.csv"
    write_rows(path, rows)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        Reader(write_report(tmp_path).read_text())


@pytest.mark.parametrize(
    "about", ["", "[1]", "{", '{"notes": "one", "versions": "all", "started": 3, "finished": null}']
)
def test_a_broken_run_json(tmp_path, about):
    (tmp_path / "run.json").write_text(about)
    page = write_report(tmp_path).read_text()
    assert f"<h1>{tmp_path.name}</h1>" in page
    assert Reader(page).sections == (["Versions and machine"] if "versions" in about else [])


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "step,meta_loss\n", "step,meta_loss\n0,nan\n", "step,meta_loss\nx,1\n"]
)
@pytest.mark.parametrize("name", ["metrics", "rounds", "table", "sweep", "partition"])
def test_odd_files_do_not_stop_the_report(tmp_path, name, text):
    (tmp_path / f"{name}.csv").write_text(text)
    Reader(write_report(tmp_path).read_text())


def test_nothing_but_nan_is_drawn_empty(tmp_path):
    rows = [{"seed": s, "round": r, "test_loss": "nan"} for s in range(2) for r in range(3)]
    write_rows(tmp_path / "rounds.csv", rows)
    assert "diverged (2 of 2)" in text_of(write_report(tmp_path).read_text())


def test_no_run_directory(tmp_path):
    with pytest.raises(UserError, match=r"expected a run's directory, got .*missing"):
        write_report(tmp_path / "missing")


def test_a_report_that_cannot_be_written(tmp_path):
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html" / "x").touch()
    with pytest.raises(RunError, match=r"write the report again"):
        write_report(tmp_path)


def test_the_report_never_imports_jax():
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "matplotlib", "rich"}
    for path in Path(report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                own = name.startswith("learned_aggregation.report")
                own |= name in ("learned_aggregation.errors", "learned_aggregation.atomic")
                assert own or name.split(".")[0] in allowed, f"{path.name} imports {name}"
