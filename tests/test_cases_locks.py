"""Runs that are started together: none writes where another does."""

import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny_run
from tiny_run import CHECKPOINTS, RUN, files_below

from learned_aggregation import cli, export
from learned_aggregation.errors import UserError
from learned_aggregation.runs.lock import LOCK, lock
from learned_aggregation.runs.run_directory import same_run, unused

HELD = rf"expected a directory that no other run writes, got one that is held by process {os.getpid()} on "
TINY = "--task mlp4_digits_8 --num_grads 2 --num_local_steps 1 --local_batch_size 4 --num_inner_steps 2 --num_runs 1"


def test_the_second_is_told_who_holds_it(tmp_path):
    with lock(tmp_path):
        with (
            pytest.raises(
                UserError, match=rf"{HELD}{socket.gethostname()!r} since 20\d\d-\d\d-\d\d .* UTC\. "
            ),
            lock(tmp_path),
        ):
            pass
        with pytest.raises(UserError), lock(tmp_path):  # the refusal takes nothing from the first
            pass
    with lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_of_a_dead_process_is_taken_over(tmp_path):
    holds = f"""
from pathlib import Path
from learned_aggregation.runs.lock import lock
with lock(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"process {process.pid} on"), lock(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK).is_file()
    with lock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', "[" * 100000])
def test_whatever_a_lock_file_says_the_message_is_one_line(content, tmp_path):
    with lock(tmp_path):
        (tmp_path / LOCK).write_text(content)
        with pytest.raises(UserError, match=r"held by another process\. ") as error, lock(tmp_path):
            pass
    assert "\n" not in str(error.value)


def test_runs_that_start_together_get_a_directory_each(tmp_path):
    number, found = 6, []
    together = threading.Barrier(number)

    def one(seed: int) -> None:
        together.wait()
        with unused(tmp_path / "run", explicit=False) as path:
            (path / "config.py").write_text(f"seed = {seed}\n")
            found.append(path)

    with ThreadPoolExecutor(number) as threads:
        list(threads.map(one, range(number)))
    assert len({path.name for path in found}) == number
    assert {path.name for path in found} == {"run", *(f"run-{i}" for i in range(2, number + 1))}
    assert len({(path / "config.py").read_text() for path in found}) == number


def test_a_directory_that_is_asked_for_is_had_by_one(tmp_path):
    with unused(tmp_path / "run", explicit=True), pytest.raises(UserError, match=HELD):
        unused(tmp_path / "run", explicit=True).__enter__()
    (tmp_path / "run/config.py").write_text("")
    with pytest.raises(UserError, match="expected an unused run directory"):
        unused(tmp_path / "run", explicit=True).__enter__()


def test_a_sweep_that_runs_is_not_run_twice(tmp_path):
    with same_run(tmp_path / "[s]", "a = 1\n", explicit=False) as path:
        (path / "config.py").write_text("a = 1\n")
        with pytest.raises(UserError, match=HELD):
            same_run(tmp_path / "[s]", "a = 1\n", explicit=False).__enter__()
        with same_run(tmp_path / "[s]", "a = 2\n", explicit=False) as other:
            assert other.name == "[s]-2"
            (other / "config.py").write_text("a = 2\n")
    with same_run(tmp_path / "[s]", "a = 2\n", explicit=False) as again:
        assert again.name == "[s]-2"


@pytest.mark.parametrize("content", [b"\xff", b"a = 1\r\n"])
def test_a_config_that_is_not_the_runs_is_another_runs(content, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/config.py").write_bytes(content)
    with same_run(tmp_path / "s", "a = 1\n", explicit=False) as path:
        assert path.name == "s-2"


COMMANDS = {
    "benchmark": f"--run_type benchmark --optimizer fedavg --run_dir runs/tiny {TINY}",
    "sweep": f"--config sweep.py --run_dir runs/tiny {TINY}",
    "compare": f"--config compare.py --run_dir runs/tiny {TINY}",
}
CONFIGS = {
    "sweep.py": 'run_type="sweep"\noptimizer="fedavg"\n'
    "sweep_config=dict(method='grid', parameters=dict(local_learning_rate=dict(values=[0.5])))\n",
    "compare.py": "run_type='compare'\nentrants=[dict(label='a', optimizer='fedavg')]\n",
}


@pytest.mark.parametrize("what", COMMANDS)
def test_every_run_type_holds_its_directory(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in CONFIGS.items():
        Path(name).write_text(text)
    RUN.mkdir(parents=True)
    with lock(RUN):
        before = files_below(tmp_path)
        assert cli.main(shlex.split(COMMANDS[what])) == 2
        assert files_below(tmp_path) == before
    assert f"error: {RUN}: expected a directory that no other run writes" in capsys.readouterr().err


BOTH = [*itertools.product((CHECKPOINTS, RUN), (True, False))]


@pytest.mark.parametrize(("directory", "resumes"), BOTH)
def test_a_meta_training_holds_both_of_its_directories(directory, resumes, tmp_path, monkeypatch, capsys):
    tiny_run.run_here(monkeypatch, tmp_path)
    directory.mkdir(parents=True)
    with lock(directory):
        before = files_below(tmp_path)
        assert tiny_run.meta_train(*(["--from_checkpoint"] if resumes else [])) == 2
        assert files_below(tmp_path) == before
    assert f"{directory}: expected a directory that no other run writes" in capsys.readouterr().err


def test_an_export_holds_its_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("out/p").mkdir(parents=True)
    with lock(Path("out/p")):
        assert export.main(["--name", "p", "--to", "out", "--note", "x"]) == 2
    assert "out/p: expected a directory that no other run writes" in capsys.readouterr().err
