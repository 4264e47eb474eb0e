"""report.html: its sections, and what a killed or odd run makes of it. test_report_browser.py opens it in a browser."""

import ast
import itertools
import re
import sys
from pathlib import Path

import pytest
from report_runs import Reader, make_comparison, make_meta, text_of, write_rows

from learned_aggregation import report
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.report import write_report


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A comparison's run directory with its report."""
    return write_report(make_comparison(tmp_path_factory.mktemp("compare"), rounds=20, seeds=2)).parent


def test_the_whole_page(comparison):
    page = (comparison / "report.html").read_text()
    reader = Reader(page)
    assert reader.sections == ["Comparison", "Metrics by round", "Sweep", "Partition", "Meta-training",
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
        "Summary: mlp32_digits_8", "Metrics by round", "Meta-training"]  # fmt: skip


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
    assert Reader(page).sections == []  # a value of another type is no value


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
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "matplotlib", "rich", "PIL"}
    for path in Path(report.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                own = name.startswith("learned_aggregation.report")
                ground = ("errors", "atomic", "json_text")
                own |= name in [f"learned_aggregation.{module}" for module in ground]
                assert own or name.split(".")[0] in allowed, f"{path.name} imports {name}"
