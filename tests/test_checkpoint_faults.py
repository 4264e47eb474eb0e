"""Checkpoints after kills, damage and full disks: resumable, and never garbage."""

import errno
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_states import CONFIG, make_state, same_bits, small_state

from learned_aggregation import atomic
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.checkpoint_files import verified_meta


@pytest.fixture
def checkpointer(tmp_path):
    return Checkpointer(tmp_path / "run", keep=2)


class _Killed(BaseException):
    """Not an Exception: no handler may tidy up after a kill."""


class _KillSwitch:
    """Refuses every change to a file under a directory from the n-th on, as a kill would."""

    events = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")

    def __init__(self):
        self.directory, self.left, self.count = None, 0, 0
        sys.addaudithook(self)

    def __call__(self, event, args):
        # shutil.rmtree passes names relative to an open directory to os.rmdir and os.remove.
        if self.directory is None or event not in self.events or not isinstance(args[0], str | os.PathLike):
            return
        name = os.fspath(args[0])
        if (os.path.isabs(name) and not name.startswith(self.directory)) or "/arrays." in name:
            return
        if event == "open" and (args[1] == "rb+" or not args[2] & (os.O_WRONLY | os.O_RDWR)):
            return  # reading or syncing: a kill here is one before the next change
        self.count += 1
        if self.count > self.left:
            raise _Killed(f"{event} {name}")

    def run(self, directory, left, function):
        self.directory, self.left, self.count = str(directory), left, 0
        try:
            function()
        except _Killed:
            return False
        finally:
            self.directory = None
        return True


_SWITCH = _KillSwitch()


@pytest.mark.parametrize(
    ("step", "swap_cut"),
    [(2, False), pytest.param(3, False, marks=pytest.mark.slow), (2, True)],
    ids=["same step", "next step", "after another kill"],
)
def test_a_kill_at_any_moment_leaves_a_directory_to_resume_from(tmp_path, step, swap_cut):
    """`latest` names step 2; the killed save is of step 2 again or of step 3."""
    start = tmp_path / "start"
    first = Checkpointer(start, keep=2)
    for old in (1, 2):
        first.save(old, small_state(old), CONFIG)
    if swap_cut:
        shutil.copytree(start / "global_step1", start / ".global_step2.tmp")
        os.rename(start / "global_step2", start / ".global_step2.old")
    new = small_state(7)
    outcomes, left = [], 0
    for left in range(1000):
        run = tmp_path / f"run{left}"
        shutil.copytree(start, run)
        finished = _SWITCH.run(run, left, lambda run=run: Checkpointer(run, keep=2).save(step, new, CONFIG))
        restored = Checkpointer(run, keep=2).restore(small_state(0))
        outcomes.append(same_bits(restored, new))
        assert outcomes[-1] or same_bits(restored, small_state(2))
        for visible in Checkpointer(run, keep=2).steps():
            verified_meta(run / f"global_step{visible}")
        if left % 4 == 0 or finished:
            again = Checkpointer(run, keep=2)
            again.save(step, new, CONFIG)
            assert same_bits(again.restore(small_state(0)), new)
            assert not [name for name in os.listdir(run) if name.startswith(".")]
            assert len(again.steps()) == 2
        shutil.rmtree(run)
        if finished:
            break
    assert left > 10
    # Once the new state is there it stays.
    assert outcomes == sorted(outcomes)
    assert not outcomes[0]
    assert outcomes[-1]


@pytest.mark.parametrize("damage", ["empty", "half", "flip", "missing"])
def test_damaged_files_are_found_and_never_read(tmp_path, damage):
    checkpointer = Checkpointer(tmp_path / "run", keep=2)
    state = make_state(jax.random.key(1))
    checkpointer.save(1, state, CONFIG)
    path = checkpointer.save(2, state, CONFIG)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes({"empty": b"", "half": content[:middle], "flip": flipped}[damage])
        with pytest.raises(UserError, match=r"global_step2: .*corrupt.*global_step1 is intact") as caught:
            checkpointer.restore(state)
        assert "\n" not in str(caught.value)
        file.write_bytes(content)
    assert same_bits(checkpointer.restore(state), state)


def test_no_intact_checkpoint_left(checkpointer):
    for step in (1, 2):
        (checkpointer.save(step, small_state(step), CONFIG) / "meta.json").write_text("{")
    with pytest.raises(UserError, match="No other checkpoint is intact"):
        checkpointer.restore(small_state(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_theta_that_is_not_finite_is_not_saved(checkpointer, value):
    checkpointer.save(1, small_state(1), CONFIG)
    before = sorted(os.listdir(checkpointer.directory))
    bad = small_state(2)._replace(theta={"nn": {"w0": jnp.array([[1.0, value]])}})
    with pytest.raises(
        RunError, match=r"finite theta at step 2, got NaN or infinity in nn/w0.*global_step1\."
    ):
        checkpointer.save(2, bad, CONFIG)
    assert sorted(os.listdir(checkpointer.directory)) == before


def _full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_tensorstore(*_, **__):
    raise ValueError("RESOURCE_EXHAUSTED: Error writing d/12: write failed\n[tensorstore_spec='...']")


@pytest.mark.parametrize(
    ("target", "fails"),
    [
        ("learned_aggregation.runs.checkpoint_files.write_arrays", _full_tensorstore),
        ("learned_aggregation.runs.checkpoint_files._sync_tree", _full_disk),
        ("learned_aggregation.runs.checkpoint.replace_file", _full_disk),
        ("os.mkdir", _full_disk),
        ("os.replace", _full_disk),
    ],
)
def test_full_disk_keeps_the_old_checkpoint(checkpointer, monkeypatch, target, fails):
    checkpointer.save(1, small_state(1), CONFIG)
    monkeypatch.setattr(target, fails)
    with pytest.raises(RunError) as caught:
        checkpointer.save(2, small_state(2), CONFIG)
    monkeypatch.undo()
    assert str(caught.value) == (
        f"{checkpointer.directory / 'global_step2'}: expected to write it, got 'No space left on device'. "
        "Free space, then resume with --from_checkpoint; the last good checkpoint is "
        f"{checkpointer.directory / 'global_step1'}."
    )
    assert not [name for name in os.listdir(checkpointer.directory) if name.startswith(".")]
    assert same_bits(checkpointer.restore(small_state(0)), small_state(1))
    checkpointer.save(2, small_state(2), CONFIG)
    assert same_bits(checkpointer.restore(small_state(0)), small_state(2))


@pytest.mark.parametrize("limit", [100, 400])
def test_a_write_that_the_system_cuts_short(checkpointer, limit):
    """A limit on file sizes fails inside orbax as a full disk does."""
    resource = pytest.importorskip("resource")
    checkpointer.save(1, small_state(1), CONFIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RunError) as caught:
            checkpointer.save(2, small_state(2), CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = str(caught.value)
    assert "File too large" in message
    assert "\n" not in message
    assert message.endswith(f"the last good checkpoint is {checkpointer.directory / 'global_step1'}.")
    assert same_bits(checkpointer.restore(small_state(0)), small_state(1))


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="there is no earlier checkpoint"):
        Checkpointer(tmp_path / "file" / "run", keep=1).save(1, small_state(1), CONFIG)


def test_leftovers_go_at_the_next_save(checkpointer):
    checkpointer.save(1, small_state(1), CONFIG)
    (checkpointer.directory / ".global_step2.tmp" / "arrays").mkdir(parents=True)
    (checkpointer.directory / ".latest.77.tmp").write_text("glo")
    (checkpointer.directory / "notes.txt").write_text("mine")
    checkpointer.save(2, small_state(2), CONFIG)
    assert [name for name in os.listdir(checkpointer.directory) if name.startswith(".")] == []
    assert (checkpointer.directory / "notes.txt").exists()


def test_write_atomic_keeps_the_old_file_and_the_umask(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file.txt"
    atomic.write_atomic(path, "old é")
    assert path.read_bytes() == "old é".encode()
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    for number, remedy in (
        (errno.ENOSPC, "Free space"),
        (errno.EACCES, "writable"),
        (errno.EROFS, "writable disk"),
    ):
        monkeypatch.setattr(
            os, "replace", lambda *_, n=number: (_ for _ in ()).throw(OSError(n, os.strerror(n)))
        )
        with pytest.raises(RunError, match=f"{os.strerror(number)}.*{remedy}"):
            atomic.write_atomic(path, b"new")
    assert path.read_text() == "old é"
    assert os.listdir(path.parent) == ["file.txt"]
