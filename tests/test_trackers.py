"""Trackers: the resumed CSV equals the undisturbed one; wandb stays in its directory and offline."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest

from learned_aggregation.errors import RunError, UserError
from learned_aggregation.runs.trackers import TRACKERS, make_tracker
from learned_aggregation.runs.trackers.csv import CsvTracker

ROWS = [(step, {"meta_loss": 1 / step, "clip": step}) for step in range(1, 6)]


def _write(path, rows, resume_step=None):
    tracker = CsvTracker(path, resume_step)
    for step, row in rows:
        tracker.log(step, row)
    tracker.close()
    return path.read_bytes()


def test_csv_values_read_back_exactly(tmp_path):
    lines = _write(tmp_path / "runs" / "metrics.csv", ROWS).decode().splitlines()
    assert lines[0] == "step,meta_loss,clip"
    assert [float(line.split(",")[1]) for line in lines[1:]] == [1 / step for step in range(1, 6)]


def test_csv_rows_are_on_disk_before_close(tmp_path):
    tracker = CsvTracker(tmp_path / "m.csv")
    tracker.log(1, {"a": 0.5})
    assert (tmp_path / "m.csv").read_text() == "step,a\n1,0.5\n"
    tracker.close()


@pytest.mark.parametrize("resume_step", range(6))
@pytest.mark.parametrize("cut", [0, 3])
def test_csv_resume_equals_the_undisturbed_file(tmp_path, resume_step, cut):
    undisturbed = _write(tmp_path / "a.csv", ROWS)
    path = tmp_path / "b.csv"
    path.write_bytes(undisturbed[: len(undisturbed) - cut])
    assert _write(path, [r for r in ROWS if r[0] > resume_step], resume_step) == (
        undisturbed if not (cut and resume_step == 5) else undisturbed[: undisturbed.rfind(b"\n5,") + 1]
    )


def test_csv_resume_without_a_file_starts_one(tmp_path):
    assert _write(tmp_path / "a.csv", ROWS, 0) == _write(tmp_path / "b.csv", ROWS)


def test_csv_new_and_missing_columns(tmp_path):
    rows = [(1, {"a": 1}), (2, {"a": 2, "b": 0.5}), (3, {"b": 1.5})]
    undisturbed = _write(tmp_path / "m.csv", rows)
    assert undisturbed == b"step,a,b\n1,1,\n2,2,0.5\n3,,1.5\n"
    # The column that only dropped rows had is dropped with them and comes back with its row.
    assert _write(tmp_path / "m.csv", [], 1) == b"step,a\n1,1\n"
    assert _write(tmp_path / "m.csv", rows[1:], 1) == undisturbed


def test_csv_without_resume_starts_over(tmp_path):
    _write(tmp_path / "m.csv", ROWS)
    assert _write(tmp_path / "m.csv", ROWS[:1]).count(b"\n") == 2


@pytest.mark.parametrize("text", ["name,b\nx,1\n", "step,a\nx,1\n", "step,a\n1,2,3\n"])
def test_csv_refuses_to_resume_a_foreign_file(tmp_path, text):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError, match=r"m\.csv: expected the metrics of the run"):
        CsvTracker(tmp_path / "m.csv", resume_step=3)
    assert (tmp_path / "m.csv").read_text() == text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_csv_full_disk_is_one_line_and_close_is_silent(tmp_path):
    tracker = CsvTracker(tmp_path / "m.csv")
    tracker.log(1, {"a": 1.0})
    tracker._file.close()
    tracker._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(RunError, match=r"m\.csv: .*No space left on device.*Free space") as caught:
        tracker.log(2, {"a": 2.0})
    assert "\n" not in str(caught.value)
    tracker.close()


def test_csv_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="expected to write it"):
        CsvTracker(tmp_path / "file" / "m.csv")


def test_make_tracker_logs_to_each_and_to_none(tmp_path):
    tracker = make_tracker(["csv"], tmp_path)
    tracker.log(1, {"a": 1})
    tracker.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a\n1,1\n"
    nowhere = make_tracker([], tmp_path / "other")
    nowhere.log(1, {"a": 1})
    nowhere.close()
    assert not (tmp_path / "other").exists()


def test_unknown_tracker_suggests(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'wandb'"):
        make_tracker(["wand"], tmp_path)


def test_registry_resolves():
    assert all(callable(TRACKERS[name]) for name in TRACKERS)


def test_wandb_missing_or_wrong_mode_is_a_user_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        make_tracker(["wandb"], tmp_path)
    with pytest.raises(UserError, match="wandb_mode: expected one of offline, online, got 'on'"):
        make_tracker(["wandb"], tmp_path, wandb_mode="on")


def test_wandb_offline_stays_in_its_directory_and_off_the_network(tmp_path):
    """Its background process is a separate program: a proxy that counts callers watches it."""
    pytest.importorskip("wandb")
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    script = textwrap.dedent(f"""
        import os
        before = dict(os.environ)
        from learned_aggregation.runs.trackers import make_tracker
        tracker = make_tracker(["wandb"], {str(tmp_path / "run")!r}, wandb_dir={str(tmp_path / "w")!r},
                               config={{"num_grads": 8}})
        tracker.log(1, {{"meta_loss": 0.5}})
        tracker.close()
        assert not {{"WANDB_CACHE_DIR", "WANDB_ERROR_REPORTING"}} & set(os.environ)
    """)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.01)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "XDG", "NO_PROXY"))}
        environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
        environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        with pytest.raises(TimeoutError):
            proxy.accept()
    assert list((tmp_path / "w" / "wandb").glob("offline-run-*/*.wandb"))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "w" not in path.parents]
    assert not files
