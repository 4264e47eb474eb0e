"""What the claims' commands share: pairs in turn, other revisions, differences of results, a suite's memory."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks import checkout, paired, suite, unchanged


def test_pairs_are_measured_in_turn_and_go_on():
    order, kept = [], []

    def measure(tree):
        order.append(tree.name)
        return {"step": float(len(order))}

    trees = Path("before"), Path("now")
    done = [{"step": (2.0, 1.0)}]
    found = paired.pairs_in_turn(measure, *trees, done, 3, kept.append)
    assert order == ["before", "now", "before", "now"]
    assert found == kept[-1] == [{"step": (2.0, 1.0)}, {"step": (1.0, 2.0)}, {"step": (3.0, 4.0)}]
    assert [len(pairs) for pairs in kept] == [2, 3]
    [one] = paired.ratios(found).values()
    assert one["ratios"] == [0.5, 2.0, 4 / 3]
    assert (one["q1"], one["median"], one["q3"]) == pytest.approx((11 / 12, 4 / 3, 5 / 3))
    assert (one["before_s"], one["now_s"]) == (2.0, 2.0)


def test_pairs_of_another_version_are_not_taken(tmp_path):
    path, what = tmp_path / "pairs", {"name": "outer_step/b", "now": "hash"}
    assert paired.kept(path, what) == []
    path.write_text(json.dumps(what | {"pairs": [{"step": [1, 2]}]}))
    assert paired.kept(path, what) == [{"step": (1.0, 2.0)}]
    assert paired.kept(path, what | {"now": "other"}) == []
    for damaged in ("", "[]", json.dumps(what), json.dumps(what | {"pairs": [{"step": 1}]})):
        path.write_text(damaged)
        assert paired.kept(path, what) == []


def test_a_benchmark_by_its_short_name():
    assert [paired.full_name(name) for name in ("b", "sweep/44", "help")] == [
        "outer_step/b",
        "sweep/44",
        "help",
    ]
    with pytest.raises(SystemExit, match="expected one of help, a, b"):
        paired.full_name("d")


def test_the_files_of_a_revision(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    (tmp_path / "file").write_text("old")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "file").write_text("new")
    with checkout.files_of("HEAD", tmp_path) as files:
        assert (files / "file").read_text() == "old"
    assert not files.exists()
    with pytest.raises(SystemExit, match="expected a commit"), checkout.files_of("none", tmp_path):
        pass


def test_a_source_s_hash_is_that_of_its_files(tmp_path):
    package = checkout.package_of(tmp_path)
    package.mkdir(parents=True)
    (package / "a.py").write_text("x = 1")
    before = checkout.source_hash(tmp_path)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_text("")
    assert checkout.source_hash(tmp_path) == before
    (package / "a.py").rename(package / "b.py")
    assert checkout.source_hash(tmp_path) != before


def test_differences_of_results():
    old = {"loss": np.array([np.nan, 2.0, -4.0]), "step": np.arange(3.0), "gone": np.zeros(1)}
    now = {"loss": np.array([np.nan, 2.0, -4.0]), "step": np.arange(3.0), "new": np.zeros(1)}
    assert unchanged.difference(old, now) == 0
    assert unchanged.difference(old, now | {"loss": np.array([np.nan, 2.0, -3.0])}) == 0.25
    assert unchanged.difference(old, now | {"loss": np.array([1.0, 2.0, -4.0])}) == np.inf
    assert unchanged.difference(old, now | {"step": np.arange(2.0)}) == np.inf
    with pytest.raises(SystemExit, match="expected common names"):
        unchanged.difference({"a": np.zeros(1)}, {"b": np.zeros(1)})


def test_a_suite_s_counts_and_the_memory_of_each_worker(tmp_path, monkeypatch):
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):  # of a measurement that this test is part of
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "test_some.py"
    path.write_text(
        "import pytest\ndef test_one(): pass\ndef test_two(): assert False\n"
        "@pytest.mark.skip\ndef test_three(): pass\ndef test_large(): bytearray(200_000_000)\n"
    )
    found = suite.measure(["python", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(path)])
    assert found["status"] == 1
    assert (found["tests"], found["failures"], found["errors"], found["skipped"]) == (4, 1, 0, 1)
    assert found["peaks_mb"].keys() == {"main", "gw0", "gw1"}
    assert 220 < max(found["peaks_mb"][worker]["own"] for worker in ("gw0", "gw1")) < 2000
    assert "tests" not in suite.measure(["python", "-c", "pass"])
