"""Checkpoints: bit-exact, resumable after a kill at any moment, and never garbage."""

import errno
import os
import shutil
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_aggregation import atomic
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.pretrained.theta_file import load_theta
from learned_aggregation.runs.checkpoint import Checkpointer, _verified_meta
from learned_aggregation.types import MetaState

SETTINGS = {"optimizer": "fedlagg-adafac", "num_grads": 8, "hidden_size": 2, "task": ["mlp", "conv"]}
CONFIG = "num_grads = 8\n"


class _Estimator(NamedTuple):
    accumulator: jax.Array
    nothing: tuple
    extra: dict


def _make(key, rows=5):
    theta = {
        "nn": {"w0": jax.random.normal(key, (rows, 2)), "b0": jnp.zeros(2)},
        "momentum_decays": jnp.ones(3),
    }
    extra = {
        "done": jnp.array([True, False]),
        "counts": jnp.array([2**32 - 1, 7], jnp.uint32),
        "half": jnp.array([1.5, np.nan, -0.0], jnp.bfloat16),
        "odd": jnp.array([np.nan, -np.inf, -0.0, 1e-45], jnp.float32),
        "empty": jnp.zeros((0, 3)),
        "keys": jax.random.split(key, 3),
        "rbg": jax.random.key(3, impl="rbg"),
    }
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, 10))
    estimators = (_Estimator(jnp.ones((2, rows)), (), extra), ())
    return MetaState(theta, optimizer.init(theta), estimators, key, jnp.int32(0))


def _small(seed):
    return MetaState(
        {"nn": {"w0": jnp.full((2, 2), float(seed))}}, (), (), jax.random.key(seed), jnp.int32(seed)
    )


def _bits(leaf):
    leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(leaf).tobytes()


def _same(got, want):
    leaves = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return jax.tree.structure(got) == jax.tree.structure(want) and all(
        a.dtype == b.dtype and a.shape == b.shape and _bits(a) == _bits(b) for a, b in leaves
    )


@pytest.fixture
def checkpointer(tmp_path):
    return Checkpointer(tmp_path / "run", keep=2)


@pytest.mark.parametrize("abstract", [False, True])
def test_round_trip_is_bit_exact(checkpointer, abstract):
    state = _make(jax.random.key(1))
    path = checkpointer.save(3, state, CONFIG, SETTINGS)
    template = jax.eval_shape(_make, jax.random.key(0)) if abstract else _make(jax.random.key(0))
    assert _same(checkpointer.restore(template, settings=SETTINGS), state)
    assert (path / "config.py").read_text() == CONFIG
    theta, metadata = load_theta(checkpointer.directory)
    assert _same(theta, state.theta)
    assert metadata["num_grads"] == "8"
    assert metadata["step"] == "3"


def test_restored_keys_continue_the_stream(checkpointer):
    state = _make(jax.random.key(5))
    checkpointer.save(1, state, CONFIG)
    key = checkpointer.restore(state).key
    assert _bits(jax.random.split(key)) == _bits(jax.random.split(state.key))


def test_restore_follows_the_template_sharding(checkpointer):
    checkpointer.save(1, _small(1), CONFIG)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), _small(0))
    restored = checkpointer.restore(template)
    assert _same(restored, _small(1))
    assert restored.theta["nn"]["w0"].committed
    assert not checkpointer.restore(jax.eval_shape(lambda: _small(0))).theta["nn"]["w0"].committed


def test_latest_and_pruning(checkpointer):
    for step in (1, 2, 10, 9):
        checkpointer.save(step, _small(step), CONFIG)
    # By step, not by name; `latest` is the one saved last and is kept.
    assert checkpointer.steps() == [9, 10]
    assert (checkpointer.directory / "latest").read_text() == "global_step9"
    assert sorted(p.name for p in checkpointer.directory.glob("*.safetensors")) == [
        "global_step10.safetensors",
        "global_step9.safetensors",
    ]
    checkpointer.save(3, _small(3), CONFIG)
    assert checkpointer.steps() == [3, 10]
    assert int(checkpointer.restore(_small(0)).step) == 3
    assert int(checkpointer.restore(_small(0), step=10).step) == 10


def test_saving_a_step_again_replaces_it(checkpointer):
    checkpointer.save(4, _small(1), CONFIG)
    checkpointer.save(4, _small(2), CONFIG)
    assert _same(checkpointer.restore(_small(0)), _small(2))
    np.testing.assert_array_equal(load_theta(checkpointer.directory)[0]["nn"]["w0"], 2)
    assert sorted(os.listdir(checkpointer.directory)) == [
        "global_step4",
        "global_step4.safetensors",
        "latest",
    ]


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
    [(2, False), (3, False), (2, True)],
    ids=["same step", "next step", "after another kill"],
)
def test_a_kill_at_any_moment_leaves_a_directory_to_resume_from(tmp_path, step, swap_cut):
    """`latest` names step 2; the killed save is of step 2 again or of step 3."""
    start = tmp_path / "start"
    first = Checkpointer(start, keep=2)
    for old in (1, 2):
        first.save(old, _small(old), CONFIG)
    if swap_cut:
        shutil.copytree(start / "global_step1", start / ".global_step2.tmp")
        os.rename(start / "global_step2", start / ".global_step2.old")
    new = _small(7)
    outcomes, left = [], 0
    for left in range(1000):
        run = tmp_path / f"run{left}"
        shutil.copytree(start, run)
        finished = _SWITCH.run(run, left, lambda run=run: Checkpointer(run, keep=2).save(step, new, CONFIG))
        restored = Checkpointer(run, keep=2).restore(_small(0))
        outcomes.append(_same(restored, new))
        assert outcomes[-1] or _same(restored, _small(2))
        for visible in Checkpointer(run, keep=2).steps():
            _verified_meta(run / f"global_step{visible}")
        if left % 4 == 0 or finished:
            again = Checkpointer(run, keep=2)
            again.save(step, new, CONFIG)
            assert _same(again.restore(_small(0)), new)
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
    state = _make(jax.random.key(1))
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
    assert _same(checkpointer.restore(state), state)


def test_no_intact_checkpoint_left(checkpointer):
    for step in (1, 2):
        (checkpointer.save(step, _small(step), CONFIG) / "meta.json").write_text("{")
    with pytest.raises(UserError, match="No other checkpoint is intact"):
        checkpointer.restore(_small(0))


def test_files_of_a_file_manager_do_no_harm(checkpointer):
    (checkpointer.save(1, _small(1), CONFIG) / ".DS_Store").write_text("x")
    assert _same(checkpointer.restore(_small(0)), _small(1))


def test_no_checkpoint(checkpointer):
    with pytest.raises(UserError, match=r"run: expected a checkpoint .*without --from_checkpoint"):
        checkpointer.restore(_small(0))


@pytest.mark.parametrize("text", ["global_step9", "", "../../etc", "global_step\x00"])
def test_latest_that_names_nothing(checkpointer, text):
    checkpointer.save(1, _small(1), CONFIG)
    (checkpointer.directory / "latest").write_text(text)
    with pytest.raises(
        UserError, match=r"latest: expected an existing checkpoint, .* write global_step1 into"
    ):
        checkpointer.restore(_small(0))
    with pytest.raises(
        UserError, match="global_step7: expected an existing checkpoint, got no such directory"
    ):
        checkpointer.restore(_small(0), step=7)


def test_mismatch_names_the_setting_and_the_leaf(checkpointer):
    checkpointer.save(1, _make(jax.random.key(1)), CONFIG, SETTINGS)
    template = jax.eval_shape(lambda key: _make(key, rows=9), jax.random.key(0))
    with pytest.raises(UserError) as caught:
        checkpointer.restore(template, settings=SETTINGS | {"num_grads": 16})
    message = str(caught.value)
    assert message.startswith(
        f"checkpoint {checkpointer.directory / 'global_step1'}: theta was meta-trained with "
    )
    assert "with num_grads=8, the config asks for 16 (leaf theta/nn/w0 is float32[5, 2]" in message
    assert "float32[9, 2] by the config" in message
    with pytest.raises(UserError, match=r"got another \(leaf theta/nn/w0 is float32\[5, 2\]"):
        checkpointer.restore(template, settings=SETTINGS)


def test_mismatch_of_dtype_and_tree(checkpointer):
    checkpointer.save(1, _small(1), CONFIG)
    with pytest.raises(UserError, match=r"leaf step is int32\[\] in the checkpoint, float32\[\]"):
        checkpointer.restore(_small(0)._replace(step=jnp.float32(0)))
    with pytest.raises(UserError, match=r"leaf opt_state/m is missing in the checkpoint"):
        checkpointer.restore(_small(0)._replace(opt_state={"m": jnp.ones(1)}))
    with pytest.raises(UserError, match=r"leaf key is key<fry>\[\] in the checkpoint, key<rbg>"):
        checkpointer.restore(_small(0)._replace(key=jax.random.key(0, impl="rbg")))


def test_newer_format(checkpointer, monkeypatch):
    monkeypatch.setattr("learned_aggregation.runs.checkpoint.FORMAT", 2)
    checkpointer.save(1, _small(1), CONFIG)
    monkeypatch.undo()
    with pytest.raises(UserError, match="format 2, this version reads 1"):
        checkpointer.restore(_small(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_theta_that_is_not_finite_is_not_saved(checkpointer, value):
    checkpointer.save(1, _small(1), CONFIG)
    before = sorted(os.listdir(checkpointer.directory))
    bad = _small(2)._replace(theta={"nn": {"w0": jnp.array([[1.0, value]])}})
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
        ("learned_aggregation.runs.checkpoint._write_arrays", _full_tensorstore),
        ("learned_aggregation.runs.checkpoint._sync_tree", _full_disk),
        ("learned_aggregation.runs.checkpoint.replace_file", _full_disk),
        ("os.mkdir", _full_disk),
        ("os.replace", _full_disk),
    ],
)
def test_full_disk_keeps_the_old_checkpoint(checkpointer, monkeypatch, target, fails):
    checkpointer.save(1, _small(1), CONFIG)
    monkeypatch.setattr(target, fails)
    with pytest.raises(RunError) as caught:
        checkpointer.save(2, _small(2), CONFIG)
    monkeypatch.undo()
    assert str(caught.value) == (
        f"{checkpointer.directory / 'global_step2'}: expected to write it, got 'No space left on device'. "
        "Free space, then resume with --from_checkpoint; the last good checkpoint is "
        f"{checkpointer.directory / 'global_step1'}."
    )
    assert not [name for name in os.listdir(checkpointer.directory) if name.startswith(".")]
    assert _same(checkpointer.restore(_small(0)), _small(1))
    checkpointer.save(2, _small(2), CONFIG)
    assert _same(checkpointer.restore(_small(0)), _small(2))


@pytest.mark.parametrize("limit", [100, 400])
def test_a_write_that_the_system_cuts_short(checkpointer, limit):
    """A limit on file sizes fails inside orbax as a full disk does."""
    resource = pytest.importorskip("resource")
    checkpointer.save(1, _small(1), CONFIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RunError) as caught:
            checkpointer.save(2, _small(2), CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = str(caught.value)
    assert "File too large" in message
    assert "\n" not in message
    assert message.endswith(f"the last good checkpoint is {checkpointer.directory / 'global_step1'}.")
    assert _same(checkpointer.restore(_small(0)), _small(1))


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="there is no earlier checkpoint"):
        Checkpointer(tmp_path / "file" / "run", keep=1).save(1, _small(1), CONFIG)


def test_restore_writes_nothing(checkpointer):
    checkpointer.save(1, _small(1), CONFIG)
    (checkpointer.directory / ".global_step2.tmp").mkdir()  # of a save under way elsewhere
    before = sorted(str(path) for path in checkpointer.directory.rglob("*"))
    checkpointer.restore(_small(0))
    assert sorted(str(path) for path in checkpointer.directory.rglob("*")) == before


def test_leftovers_go_at_the_next_save(checkpointer):
    checkpointer.save(1, _small(1), CONFIG)
    (checkpointer.directory / ".global_step2.tmp" / "arrays").mkdir(parents=True)
    (checkpointer.directory / ".latest.77.tmp").write_text("glo")
    (checkpointer.directory / "notes.txt").write_text("mine")
    checkpointer.save(2, _small(2), CONFIG)
    assert [name for name in os.listdir(checkpointer.directory) if name.startswith(".")] == []
    assert (checkpointer.directory / "notes.txt").exists()


def test_keep_below_one(tmp_path):
    with pytest.raises(UserError, match="checkpoints_to_keep: expected a whole number of at least 1, got 0"):
        Checkpointer(tmp_path, keep=0)


def test_nothing_is_logged(checkpointer, caplog, capfd):
    checkpointer.save(1, _small(1), CONFIG)
    checkpointer.restore(_small(0))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


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
