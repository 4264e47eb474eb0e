"""Bad input and bad luck: one clear line, an exit status, and nothing lost or overwritten.

`python -m pytest tests/test_bad_input.py -s -q -k table` prints the table: case, message, exit status.
"""

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny_run
from tiny_run import CHECKPOINTS, FLAGS, RUN, files_below

from learned_aggregation import cli

ROOT = Path(__file__).resolve().parent.parent
THETA = str(CHECKPOINTS)
CODE_RAN = "the_code_ran"


class _Runs:
    """A pickle of it runs code where pickle.load is trusted."""

    def __reduce__(self):
        return os.mkdir, (CODE_RAN,)


class Case(NamedTuple):
    """flags: added to those of the tiny run. message: a regular expression.

    prepare: called in the working directory before the run; what it returns is called after it.
    """

    name: str
    flags: list[str]
    message: str
    status: int = 2
    prepare: Callable[[], Callable[[], None] | None] = lambda: None
    own_process: bool = False


def _config_file(text: str) -> Callable[[], None]:
    def prepare() -> None:
        Path("a.py").write_text(text)

    return prepare


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _truncated_checkpoint() -> None:
    _truncate(CHECKPOINTS / "global_step2" / "meta.json")


def _truncated_arrays() -> None:
    files = [path for path in (CHECKPOINTS / "global_step2" / "arrays").rglob("*") if path.is_file()]
    _truncate(max(files, key=lambda path: path.stat().st_size))


def _truncated_theta() -> None:
    _truncate(CHECKPOINTS / "global_step2.safetensors")


def _pickle_with_code() -> None:
    Path("theta.pickle").write_bytes(pickle.dumps({"nn": _Runs()}))


def _no_file_above(limit: int) -> Callable[[], Callable[[], None]]:
    """Larger files cannot be written; in every library below this fails as a full disk does."""

    def prepare() -> Callable[[], None]:
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return prepare


TEST = ["--run_type=benchmark", "--num_runs=1"]
RESUME = ["--from_checkpoint", "--num_outer_steps=6"]

CASES = [
    Case(
        "unknown key in a file",
        ["--config=a.py"],
        "'num_grad'.*Did you mean 'num_grads'",
        prepare=_config_file("num_grad = 4\n"),
    ),
    Case("unknown key in --cfg-options", ["--cfg-options", "schedule.peak=1e-3"], "'peak'.*'peak_value'"),
    Case("unknown flag", ["--num_grad=4"], "got '--num_grad'.*'--num_grads'"),
    Case("unknown optimizer", ["--optimizer=fedlag-adafac"], "got 'fedlag-adafac'.*'fedlagg-adafac'"),
    Case("unknown task", ["--task=mlp32_digit_8"], "got 'digit'.*'digits'"),
    Case(
        "wrong type in a file",
        ["--config=a.py"],
        "a.py: seed: .*got 'one'",
        prepare=_config_file("seed = 'one'\n"),
    ),
    Case("wrong type of a flag", ["--num_inner_steps=many"], "--num_inner_steps: .*got 'many'"),
    Case("a rate that is not a number", ["--local_learning_rate=nan"], "--local_learning_rate: .*got"),
    Case("K = 0", ["--num_grads=0"], "--num_grads: .*at least 1, got 0"),
    Case("fewer clients than K", ["--num_clients=1"], "--num_clients: expected at least num_grads, 2, got 1"),
    Case(
        "chunks that do not divide T",
        ["--tasks_per_chunk=3"],
        "--tasks_per_chunk: .*divisor of num_tasks, 2, got 3",
    ),
    Case(
        "devices that divide neither T nor K",
        ["--name=other", "--num_devices=2", "--num_tasks=3", "--num_grads=3"],
        "num_devices: expected a divisor of 3, .* got 2",
        own_process=True,
    ),
    Case(
        "more devices than there are",
        ["--name=other", "--num_devices=64"],
        "num_devices: expected at most [0-9]+, the devices there are, got 64",
    ),
    Case(
        "a window longer than the episode",
        ["--num_inner_steps=4"],
        "truncation_schedule_min_length: .*at most num_inner_steps, 4",
    ),
    Case(
        "nothing to meta-train",
        ["--name=other", "--optimizer=fedavg"],
        "optimizer: expected a learned aggregator to meta-train, got 'fedavg'",
    ),
    Case(
        "missing data set",
        ["--name=other", "--task=image-mlp-fmst", "--tfds_data_dir=empty"],
        "fmnist: expected TFDS data in .*/empty, .*tfds build fashion_mnist.*--task mlp128x128_glyphs_28",
    ),
    Case(
        "missing config file", ["--config=nowhere.py"], "--config: expected a config file, got 'nowhere.py'"
    ),
    Case(
        "config file with an error",
        ["--config=a.py"],
        "a.py: expected a config that loads",
        prepare=_config_file("x = 1 / 0\n"),
    ),
    Case(
        "missing checkpoint",
        ["--from_checkpoint", "--name=other"],
        "checkpoints/other: expected a checkpoint to resume from, got none",
    ),
    Case("missing --test_checkpoint", TEST, "test_checkpoint: expected the path .* got none"),
    Case(
        "--test_checkpoint that is not there",
        [*TEST, "--test_checkpoint=nowhere"],
        "nowhere: expected a pretrained aggregator .*lagg-set.* or the path of a theta",
    ),
    Case(
        "truncated checkpoint",
        RESUME,
        r"global_step2: expected a complete checkpoint, got a corrupt one .*global_step0 is intact",
        prepare=_truncated_checkpoint,
    ),
    Case(
        "truncated arrays in it",
        RESUME,
        r"global_step2: expected a complete checkpoint, got a corrupt one .*global_step0 is intact",
        prepare=_truncated_arrays,
    ),
    Case(
        "truncated theta file",
        [*TEST, f"--test_checkpoint={THETA}"],
        "global_step2.safetensors: expected a complete theta file",
        prepare=_truncated_theta,
    ),
    Case(
        "checkpoint for another K, resumed", [*RESUME, "--num_grads=4"], "num_grads=2, the config asks for 4"
    ),
    Case(
        "checkpoint for another K, tested",
        [*TEST, f"--test_checkpoint={THETA}", "--num_grads=4"],
        "num_grads=2, the config asks for 4. Use fedlagg-set, which takes any K, or meta-train with 4",
    ),
    Case(
        "a pickle with code in it",
        [*TEST, "--test_checkpoint=theta.pickle"],
        "theta.pickle: .*names '(posix|nt|os).mkdir'. It was not loaded",
        prepare=_pickle_with_code,
    ),
    Case("a new run over an old one", [], "expected no checkpoints of a new run, got global_step2"),
    Case(
        "unwritable run directory",
        ["--name=other", "--run_dir=a.py/run"],
        "a.py/run: expected a directory that can be written",
        prepare=_config_file(""),
    ),
    Case(
        "unwritable checkpoints directory",
        ["--name=other", "--checkpoints_dir=a.py"],
        "a.py/other: expected a directory that can be written",
        prepare=_config_file(""),
    ),
    Case(
        "disk full while saving",
        RESUME,
        "global_step4: expected to write it, got 'File too large'.*last good checkpoint is .*global_step2",
        status=1,
        prepare=_no_file_above(100_000),
    ),
    Case(
        "disk full at the start",
        RESUME,
        "config.py: expected to write it, got 'File too large'",
        status=1,
        prepare=_no_file_above(400),
    ),
    Case(
        "NaN in meta-training",
        [*RESUME, "--cfg-options", "schedule.init_value=1e38", "schedule.peak_value=1e38"],
        "expected finite metrics at outer step 3, got .*'theta_norm': inf",
        status=1,
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a run of two outer steps."""
    directory = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny_run.run_here(monkeypatch, directory)
        assert tiny_run.meta_train("--num_outer_steps=2", "--save_iter=2") == 0
    return directory


@pytest.fixture
def directory(finished, tmp_path, monkeypatch):
    """The working directory, with that run in it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    tiny_run.run_here(monkeypatch, tmp_path)
    return tmp_path


def _run(case: Case, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """(exit status, what was printed to stderr)."""
    flags = [*FLAGS, "--save_iter=2", *case.flags]
    if case.own_process:
        command = [sys.executable, ROOT / "src" / "main.py", *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    capsys.readouterr()
    status = cli.main(flags)
    return status, capsys.readouterr().err


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_table(case, directory, capsys):
    undo = case.prepare()
    before = files_below(directory)
    try:
        status, printed = _run(case, capsys)
    finally:
        if undo:
            undo()
    *progress, error = printed.splitlines()
    with capsys.disabled():
        if sys.stdout.isatty() or "-s" in sys.argv:
            print(f"\n{case.name}\n    {error}\n    exit status {status}", end="")
    assert status == case.status
    assert error.startswith("error: ")
    assert re.search(case.message, error)
    assert re.search(r"expected .* got |was meta-trained (for|with) .* the config asks for ", error)
    assert not [line for line in progress if "error" in line.lower() or "Traceback" in line]
    assert not Path(CODE_RAN).exists()
    _assert_nothing_lost(case, before, files_below(directory))


def _assert_nothing_lost(case: Case, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    if case.status == 2:
        assert after == before
        return
    # A run that had begun has written what it was about to do and maybe rows, and lost nothing that was done.
    rows, about = str(RUN / "metrics.csv"), {str(RUN / "config.py"), str(RUN / "run.json")}
    assert after[rows].startswith(before[rows])
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in before if name != rows and name not in about)
