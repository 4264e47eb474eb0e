"""A run that was stopped, however, and resumed is the run that was never stopped, bit for bit."""

import os
import shutil
import signal

import pytest
import tiny_run
from tiny_run import CHECKPOINTS, RUN, files_below, meta_train, metrics, saved_state

from learned_aggregation import build
from learned_aggregation.runs import checkpoint

STEPS = 9


class _Killed(BaseException):
    """Not an Exception: nothing may tidy up after a kill."""


def _kill():
    raise _Killed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The directory of a run of STEPS outer steps that nothing stopped."""
    directory = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny_run.run_here(monkeypatch, directory)
        assert meta_train(f"--num_outer_steps={STEPS}", "--save_iter=100") == 0
    return directory


@pytest.fixture(autouse=True)
def after_step(monkeypatch, tmp_path):
    """What to call after the n-th outer step of a process: set after_step[n]."""
    calls = {}
    tiny_run.run_here(monkeypatch, tmp_path)

    def training(config):
        made, taken = tiny_run.training_of(config), 0

        def outer_step(state, datas):
            nonlocal taken
            result = made.outer_step(state, datas)
            taken += 1
            calls.pop(taken, lambda: None)()
            return result

        return made._replace(outer_step=outer_step)

    monkeypatch.setattr(build, "meta_training", training)
    return calls


def _run(*flags, steps=STEPS):
    return meta_train(f"--num_outer_steps={steps}", "--save_iter=2", *flags)


def _latest():
    return (CHECKPOINTS / "latest").read_text()


def _theta(directory="."):
    return files_below(directory / CHECKPOINTS)[f"global_step{STEPS}.safetensors"]


def _assert_as_undisturbed(undisturbed, directory):
    assert saved_state(directory) == saved_state(undisturbed)
    assert _theta(directory) == _theta(undisturbed)
    assert metrics(directory) == metrics(undisturbed)
    assert [row["step"] for row in metrics(directory)] == [str(n + 1) for n in range(STEPS)]


def test_stopping_at_a_number_of_steps(undisturbed, tmp_path):
    assert _run(steps=3) == 0
    for steps in (4, 7, STEPS):
        assert _run("--from_checkpoint", steps=steps) == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda: signal.raise_signal(signal.SIGINT), 130),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_saves_and_ends(undisturbed, tmp_path, after_step, capfd, send, status):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    after_step[3] = send
    assert _run() == status
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert "stopped at outer step 3, saved" in capfd.readouterr().err
    assert _latest() == "global_step3"
    assert len(metrics()) == 3
    assert _run("--from_checkpoint") == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


def test_a_signal_in_the_last_step_and_one_in_the_first(undisturbed, tmp_path, after_step):
    after_step[1] = lambda: signal.raise_signal(signal.SIGTERM)
    assert _run() == 143
    assert _latest() == "global_step1"
    after_step[STEPS - 1] = lambda: signal.raise_signal(signal.SIGTERM)
    assert _run("--from_checkpoint") == 143
    assert _latest() == f"global_step{STEPS}"
    _assert_as_undisturbed(undisturbed, tmp_path)


def test_a_second_sigint_ends_at_once(undisturbed, tmp_path, after_step):
    after_step[3] = lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    assert _run() == 130
    assert _latest() == "global_step2"
    assert _run("--from_checkpoint") == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


def test_rows_and_steps_after_the_last_checkpoint_are_done_again(undisturbed, tmp_path, after_step):
    for taken, rows in ((8, 5), (4, 5)):
        after_step[taken] = _kill
        with pytest.raises(_Killed):
            _run("--auto_resume", "--save_iter=4")
        assert _latest() == "global_step4"
        assert len(metrics()) == rows
    assert _run("--auto_resume") == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


@pytest.mark.parametrize("flag", ["--from_checkpoint", "--auto_resume"])
def test_a_kill_within_the_first_save_resumes(undisturbed, tmp_path, monkeypatch, flag):
    """The first checkpoint is complete, but `latest` is not there yet."""
    replace_file = checkpoint.replace_file
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint,
            "replace_file",
            lambda path, content: _kill() if str(path).endswith("latest") else replace_file(path, content),
        )
        with pytest.raises(_Killed):
            _run()
    assert (CHECKPOINTS / "global_step0").is_dir()
    assert not (CHECKPOINTS / "latest").exists()
    assert _run(flag) == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


@pytest.mark.parametrize("flags", [[], ["--auto_resume"]])
def test_a_kill_before_the_first_save_leaves_nothing_in_the_way(undisturbed, tmp_path, monkeypatch, flags):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpointer, "save", lambda *_: _kill())
        with pytest.raises(_Killed):
            _run()
    assert (RUN / "metrics.csv").is_file()
    assert _run(*flags) == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


def test_auto_resume_starts_where_there_is_nothing(undisturbed, tmp_path):
    assert _run("--auto_resume") == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


@pytest.mark.parametrize("flag", ["--from_checkpoint", "--auto_resume"])
@pytest.mark.parametrize("steps", [STEPS, STEPS - 2], ids=["as many steps", "fewer steps"])
def test_a_finished_run_stays_as_it_is(undisturbed, tmp_path, capsys, flag, steps):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    os.remove(RUN / "report.html")
    before = files_below(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in CHECKPOINTS.rglob("*")}
    assert _run(flag, steps=steps) == 0
    assert f"nothing to do, outer step {STEPS} of {steps} is done" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in CHECKPOINTS.rglob("*")} == stamps
    after = files_below(tmp_path)
    assert (RUN / "report.html").is_file()  # a kill may have come before it was written
    assert {name: after[name] for name in before if "report" not in name and "figures" not in name} == {
        name: content for name, content in before.items() if "report" not in name and "figures" not in name
    }


def _assert_refused(capsys, directory, *flags, message):
    """Exit status 2, one line with the message, and every file as before."""
    before = files_below(directory)
    assert _run(*flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert files_below(directory) == before


def test_a_new_run_is_not_started_over_an_old_one(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    _assert_refused(
        capsys, tmp_path, message="expected no checkpoints of a new run, got global_step9. Resume it"
    )
    shutil.rmtree("checkpoints")
    for flags in ([], ["--auto_resume"]):
        _assert_refused(
            capsys, tmp_path, *flags, message="expected an unused run directory, got one with the run"
        )


def test_metrics_of_another_run_are_kept(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    shutil.copytree(CHECKPOINTS, "checkpoints/other")
    _assert_refused(
        capsys,
        tmp_path,
        "--from_checkpoint",
        "--name=other",
        f"--run_dir={RUN}",
        message="got one with the run 'tiny' in it",
    )


def test_nothing_to_resume(tmp_path, capsys):
    message = "expected a checkpoint to resume from, got none. Check --name"
    _assert_refused(capsys, tmp_path, "--from_checkpoint", message=message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "was", "leaf"),
    [
        ("hidden_size=8", 4, "theta/nn/b0"),
        ("num_grads=4", 2, "theta/nn/w0"),
        ("num_tasks=4", 2, "estimator_states"),
    ],
)
def test_a_state_of_other_shapes_is_refused(undisturbed, tmp_path, capsys, flag, was, leaf):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    name, asked = flag.split("=")
    message = f"theta was meta-trained with {name}={was}, the config asks for {asked} (leaf {leaf}"
    _assert_refused(capsys, tmp_path, "--from_checkpoint", f"--{flag}", message=message)
