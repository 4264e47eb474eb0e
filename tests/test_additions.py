"""Each addition, made from outside: how many files of the package it changes, and that it works."""

import subprocess
from pathlib import Path

import additions
import pytest
from additions import MOST_FILES, NAMES, Addition, Edit, addition, apply, count, make

FILES = sorted(path.stem for path in Path(additions.__file__).parent.glob("*.py") if path.stem[0] != "_")


LONG = ("masked_task", "split_work", "static_freezing")
"""Claims have them too."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in FILES]
)
def test_an_addition_is_its_own_file_and_a_line_or_two(name):
    assert name in NAMES
    found = make(addition(name))
    assert found.met
    assert len(found.changed) <= MOST_FILES
    assert sum(found.changed.values()) <= MOST_FILES


@pytest.fixture
def package(tmp_path):
    """A package of three files."""
    for name, text in {
        "a": "def f():\n    return [\n        1,\n    ]\n",
        "b": "x = 1\n",
        "c": "y = 2\n",
    }.items():
        (tmp_path / "package").mkdir(exist_ok=True)
        (tmp_path / "package" / f"{name}.py").write_text(text)
    return tmp_path / "package"


def copied(package):
    copy = package.with_name("copy")
    copy.mkdir()
    for path in package.glob("*.py"):
        (copy / path.name).write_text(path.read_text())
    return copy


def test_what_changes_is_counted_from_the_files(package):
    copy = copied(package)
    edits = Edit("a.py", "1,", "2,"), Edit("a.py", "2,", "3,"), Edit("b.py", "x = 1", "z = 3")
    apply(Addition({"new/d.py": "one = 1\ntwo = 2\n"}, edits, ""), copy)
    assert (
        copy / "a.py"
    ).read_text() == "def f():\n    return [\n        1,\n        2,\n        3,\n    ]\n"
    (copy / "c.py").write_text("y = 3\n")
    found = count(package, copy)
    assert found.changed == {"a.py": 2, "b.py": 1, "c.py": 2}
    assert found.new == {"new/d.py": 2}
    assert not found.met


def test_a_file_that_goes_is_a_file_that_changes(package):
    copy = copied(package)
    (copy / "b.py").unlink()
    assert count(package, copy).changed == {"b.py": 1}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (Addition({"b.py": ""}, (), ""), "expected no such file"),
        (Addition({}, (Edit("b.py", "z = 1", "q = 2"),), ""), "once, got it 0 times"),
    ],
)
def test_an_addition_that_does_not_fit_is_refused(package, what, message):
    with pytest.raises(ValueError, match=message):
        apply(what, package)


def test_an_addition_that_does_not_work_fails():
    script = (
        "import sys, learned_aggregation.own\nassert learned_aggregation.own.PATH.startswith(sys.argv[1])\n"
    )
    own = Addition({"own.py": "PATH = __file__\n"}, (), script)
    assert make(own).new == {"own.py": 1}
    with pytest.raises(subprocess.CalledProcessError):
        make(own._replace(files={"own.py": "PATH = 'elsewhere'\n"}))
