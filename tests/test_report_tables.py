"""The tables of a report and of the terminal."""

import math
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from report_runs import TASKS, column, make_comparison, rounds_rows, write_rows
from rich.console import Console

from learned_aggregation.report import print_rounds_table
from learned_aggregation.report.files import read_csv
from learned_aggregation.report.formats import (
    format_bytes,
    format_estimate,
    format_number,
    format_settings,
    heading,
)
from learned_aggregation.report.measures import Measure
from learned_aggregation.report.statistics import Estimate, curves
from learned_aggregation.report.tables import Cell, comparison_table, final_table, mark_best, shown_rounds


@pytest.mark.parametrize(
    ("measure", "value", "expected"),
    [
        (Measure(), Estimate(0.06592, 0.00139, 5), "0.0659 ± 0.0014"),
        (Measure(), Estimate(2.3131, np.nan, 1), "2.313"),
        (Measure(), Estimate(1.5e-6, 2e-7, 3), "1.500e-06 ± 2.000e-07"),
        (Measure(True, "%"), Estimate(0.978, 0.0005, 5), "97.80 ± 0.05"),
        (Measure(), Estimate(np.nan, np.nan, 5, 2), "diverged (2 of 5)"),
        (Measure(), Estimate(np.nan, np.nan, 0), "–"),
    ],
)
def test_format_estimate(measure, value, expected):
    assert format_estimate(value, measure) == expected


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
        "Rounds to 25 %", "Bytes up per round", "Outer valid loss", "Speed-up at 25 %"]  # fmt: skip


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
    assert column(table, "Bytes per round") == ["81 kB"] * 4
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
    assert table.headings[0] == "Method"
    assert table.headings[-1] == "Tuned"
    assert column(table, "Tuned")[1] == "local_learning_rate = 0.5, beta = 0.9"
    assert column(table, "Bytes to target")[0] == "1.7 MB"
    assert table.sections == {0: TASKS[0], 6: TASKS[1]}
    assert table.note == "Equal budgets."
    best = [row[table.headings.index("Rounds to 100 %")].best for row in table.rows]
    assert best == [True, *[False] * 5, True, *[False] * 5]


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_method_that_diverged_is_shown_so(tmp_path, number):
    row = {"task": "a", "entrant": "b", "seeds": 2, "test_loss": number, "test_loss_ci95": "nan", "tuned": ""}
    write_rows(tmp_path / "table.csv", [row, row | {"entrant": "c", "test_loss": 0.5, "test_loss_ci95": 0.1}])
    table = comparison_table(read_csv(tmp_path / "table.csv"), "")
    assert column(table, "Test loss") == ["diverged", "0.5000 ± 0.1000"]


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


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "not JSON", "[1]"])
def test_settings_that_are_no_object_are_shown_as_they_are(text):
    assert format_settings(text) == text
    assert format_settings('{"a": 1, "b": "c"}') == "a = 1, b = c"
