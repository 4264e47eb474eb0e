"""Runs in a shell that is not at its best: closed and full streams, JAX's options, interrupts; resumed otherwise."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import CHECKPOINTS, RUN

from learned_aggregation import cli
from learned_aggregation.config.resolve import Config, load_config
from learned_aggregation.config.resumed import changes, resumed_lines, settings_in
from learned_aggregation.devices import parallel
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.jobs.compare import empty_targets
from learned_aggregation.meta_testing.comparison import Entry, compare
from learned_aggregation.registry import nearest
from learned_aggregation.runs import progress
from learned_aggregation.streams import say, to_stdout
from learned_aggregation.types import Traffic

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}
TINY = "--task=mlp4_digits_8 --num_grads=2 --num_local_steps=1 --local_batch_size=4 --num_inner_steps=2 --num_runs=1"
BENCHMARK = ["--run_type=benchmark", "--optimizer=fedavg", "--run_dir=out", *TINY.split()]


class _Stream:
    """A standard output that fails as one does."""

    def __init__(self, error):
        self.error, self.encoding = error, "utf-8"

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return False


BROKEN, FULL = BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")


@pytest.mark.parametrize(("error", "status"), [(BROKEN, 0), (FULL, 1)])
def test_the_report_is_there_whatever_becomes_of_the_table(error, status, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", _Stream(error))
    assert cli.main(BENCHMARK) == status
    assert Path("out/report.html").is_file()
    assert "finished" in json.loads(Path("out/run.json").read_text())
    printed = capsys.readouterr().err
    assert ("error: standard output: expected to write it, got 'No space left" in printed) == (status == 1)


@pytest.mark.parametrize("flag", ["--list_tasks", "--print_config"])
def test_lists_end_quietly_where_nobody_reads(flag, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", _Stream(BROKEN))
    assert cli.main([flag]) == 0
    assert capsys.readouterr().err == ""


def test_a_closed_pipe_is_quiet_to_the_end_of_the_process():
    command = f"{sys.executable} {ROOT}/src/main.py --print_config | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_closed_streams_are_opened_on_nothing():
    """Else the first file that is opened gets their number, and what libraries print goes into it."""
    script = (
        "import os, sys\n"
        "from learned_aggregation.streams import open_closed, say\n"
        "assert sys.stderr is None and sys.stdin is None\n"
        "open_closed(); say('x')\n"
        "file = os.open('a', os.O_CREAT | os.O_WRONLY)\n"
        "print(file > 2, sys.stderr.isatty())\n"
    )
    command = f'{sys.executable} -c "{script}" <&- 2>&-'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd="/tmp"
    )
    assert done.stdout == "True False\n"


def test_a_run_without_standard_error_ends_with_its_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(BENCHMARK) == 0
    assert Path("out/report.html").is_file()


def test_lines_to_a_terminal_that_is_gone_are_no_error(monkeypatch):
    for stream in (None, _Stream(BROKEN), _Stream(FULL)):
        monkeypatch.setattr(sys, "stderr", stream)
        say("x")
        bar = progress.ProgressBar("work", 2)
        bar.update(2, {"a": "b"})
        bar.close()


def test_a_full_disk_behind_stdout_is_one_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", _Stream(FULL))
    with (
        pytest.raises(RunError, match="standard output: expected to write it, got 'No space left on device'"),
        to_stdout(),
    ):
        print("x")


def test_progress_lines_come_by_the_clock(monkeypatch, capsys):
    seconds = iter([0.0, *np.arange(0.0, 101.0, 7.0), 101.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    bar = progress.ProgressBar("work", 16)
    for done in range(1, 17):
        bar.update(done, {})
    lines = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    # At 21, 42, 63, 84 s: the first steps after 20, 40, 60 and 80 s; and the last step.
    assert lines == ["4/16", "7/16", "10/16", "13/16", "16/16"]


@pytest.mark.parametrize(
    "after", [0.15, *(pytest.param(after, marks=pytest.mark.slow) for after in (0.05, 0.3))]
)
def test_an_interrupt_while_importing_is_quiet(after, tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src/main.py"), "--list_tasks"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=tmp_path,
    )  # fmt: skip
    while not Path(f"/proc/{process.pid}/maps").read_text().count("_signal") and time.sleep(0.005):
        pass
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate()
    assert process.returncode in (130, 0, -signal.SIGINT)
    if process.returncode == 130:
        assert printed == b""


@pytest.mark.parametrize(
    "option",
    [
        "jax_enable_x64",
        pytest.param("jax_numpy_rank_promotion", marks=pytest.mark.slow),
        "jax_numpy_dtype_promotion",
    ],
)
def test_jax_options_of_the_shell_change_no_run(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    value = {
        "jax_enable_x64": True,
        "jax_numpy_rank_promotion": "raise",
        "jax_numpy_dtype_promotion": "strict",
    }[option]
    flags = [flag for flag in BENCHMARK if "optimizer" not in flag and "run_dir" not in flag]
    flags += ["--test_checkpoint=lagg-set"]
    assert cli.main([*flags, "--run_dir=plain"]) == 0
    before = getattr(jax.config, option)
    jax.config.update(option, value)
    try:
        assert cli.main([*flags, "--run_dir=other"]) == 0
        assert getattr(jax.config, option) == value
    finally:
        jax.config.update(option, before)
    assert Path("other/rounds.csv").read_bytes() == Path("plain/rounds.csv").read_bytes()


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'")])
def test_a_platform_that_is_not_here_is_one_line(error, monkeypatch):
    def devices():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(parallel.jax, "devices", devices)
    with pytest.raises(
        UserError, match=r"JAX_PLATFORMS: expected a platform that is here \(cpu\), got 'cuda'"
    ):
        parallel.check_platform()


def test_a_run_resumed_otherwise_says_so_and_keeps_both(tmp_path, monkeypatch, capsys):
    tiny_run.run_here(monkeypatch, tmp_path)
    assert tiny_run.meta_train("--num_outer_steps=1") == 0
    assert tiny_run.meta_train("--num_outer_steps=1", "--from_checkpoint", "--seed=9") == 0  # nothing to do
    assert not resumed_lines((RUN / "config.py").read_text())
    capsys.readouterr()
    assert (
        tiny_run.meta_train(
            "--num_outer_steps=2", "--from_checkpoint", "--seed=5", "--dropout=0.25", "--save_iter=7"
        )
        == 0
    )
    words = "seed=5 (was 0), dropout=0.25 (was 0.0)"
    assert f"goes on from outer step 1 with {words}" in capsys.readouterr().err
    assert tiny_run.meta_train("--num_outer_steps=3", "--from_checkpoint", "--seed=5", "--dropout=0.25") == 0
    assert "goes on" not in capsys.readouterr().err
    assert tiny_run.meta_train("--num_outer_steps=4", "--from_checkpoint", "--seed=0", "--dropout=0.25") == 0
    expected = [f"Resumed at outer step 1 with {words}", "Resumed at outer step 3 with seed=0 (was 5)"]
    for path in (RUN / "config.py", CHECKPOINTS / "global_step4/config.py"):
        assert resumed_lines(path.read_text()) == expected
        assert load_config(["--config", str(path)]).seed == 0
    assert json.loads((RUN / "run.json").read_text())["notes"][1:] == expected


def test_a_config_in_a_checkpoint_is_read_and_not_run(tmp_path):
    text = f"seed = 3\nname = open({str(tmp_path / 'ran')!r}, 'w')\nbeta, x = 1, 2\nimport os\n"
    assert settings_in(text) == {"seed": 3}
    assert not (tmp_path / "ran").exists()
    for broken in ("seed = (", "a\0", "(" * 100_000, "seed = " + "-" * 100_000 + "1"):
        assert settings_in(broken) == {}
    assert changes("seed = 1\n", "seed = 1\nnum_outer_steps = 9\nnum_devices = 2\n") == []


def _entry(label, loss):
    loss = np.asarray(loss, float)
    rounds = np.arange(loss.shape[1])
    return Entry(label, {}, rounds, {"loss": loss}, Traffic(1.0, 1.0), 2, 8)


def test_one_seed_gives_no_interval():
    base = _entry("FedAvg", [[3.0, 2.0, 1.0, 0.5, 0.4]])
    for row in compare([base, _entry("a", [[3.0, 1.0, 0.4, 0.3, 0.2]])], base):
        for percent in (25, 50, 100):
            for name in (f"rounds_to_{percent}", f"speedup_{percent}"):
                assert np.isfinite(row[name])
                assert np.isnan(row[f"{name}_low"])
                assert np.isnan(row[f"{name}_high"])
    assert empty_targets(base) == []


def test_a_baseline_worse_than_before_training_is_said():
    base = _entry("FedAvg", [[3.0, 4.0, 5.0, 6.0, 7.0]] * 2)
    rows = compare([base, _entry("a", [[3.0, 1.0, 0.4, 0.3, 0.2]] * 2)], base)
    assert [row["speedup_100"] for row in rows] == [1.0, 1.0]  # all are there before they start
    assert [row["speedup_100_low"] for row in rows] == [1.0, 1.0]
    assert empty_targets(base) == [25, 50, 100]
    gone = _entry("FedAvg", [[3.0, 2.0, np.nan, np.nan, np.nan]] * 2)
    assert empty_targets(gone) == [50, 100]
    assert np.isnan(compare([gone], gone)[0]["speedup_100"])


NEAR = {
    "log_uniform": (["uniform", "q_uniform", "int_uniform", "log_uniform_values"], "log_uniform_values"),
    "num_grad": (["num_grads", "num_tasks"], "num_grads"),
    "batch_size": (["local_batch_size", "hidden_size"], "local_batch_size"),
    "dropuot": (["dropout", "rotate"], "dropout"),
    "size_hidden": (["hidden_size", "test_hidden"], "hidden_size"),
    "FedAvg": (["fedavgm", "fedavg"], "fedavg"),
}
FAR = {
    "seed": ["base", "beta", "dropout"],
    "lr": ["beta", "base"],
    "x" * 5000: ["x" * 4999],
    "": ["a"],
    "K": ["H"],
}


def test_a_near_miss_is_near():
    for name, (known, expected) in NEAR.items():
        assert nearest(name, known) == f" Did you mean {expected!r}?"
    for name, known in FAR.items():
        assert nearest(name, known) == ""


def test_sweeping_the_seed_suggests_nothing():
    sweep = {"method": "grid", "parameters": {"seed": {"values": [1, 2]}}}
    with pytest.raises(UserError, match="expected a setting that may vary here, got 'seed'") as error:
        Config(run_type="sweep", sweep_config=sweep)
    assert "base" not in str(error.value)
