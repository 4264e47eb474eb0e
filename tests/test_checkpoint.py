"""Checkpoints: bit-exact, pruned, and refused with the reason where they do not fit."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_states import CONFIG, SETTINGS, bits_of, make_state, same_bits, small_state

from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import load_theta
from learned_aggregation.runs.checkpoint import Checkpointer


@pytest.fixture
def checkpointer(tmp_path):
    return Checkpointer(tmp_path / "run", keep=2)


@pytest.mark.parametrize("abstract", [False, True])
def test_round_trip_is_bit_exact(checkpointer, abstract):
    state = make_state(jax.random.key(1))
    path = checkpointer.save(3, state, CONFIG, SETTINGS)
    template = jax.eval_shape(make_state, jax.random.key(0)) if abstract else make_state(jax.random.key(0))
    assert same_bits(checkpointer.restore(template, settings=SETTINGS), state)
    assert (path / "config.py").read_text() == CONFIG
    theta, metadata = load_theta(checkpointer.directory)
    assert same_bits(theta, state.theta)
    assert metadata["num_grads"] == "8"
    assert metadata["step"] == "3"


def test_restored_keys_continue_the_stream(checkpointer):
    state = make_state(jax.random.key(5))
    checkpointer.save(1, state, CONFIG)
    key = checkpointer.restore(state).key
    assert bits_of(jax.random.split(key)) == bits_of(jax.random.split(state.key))


def test_restore_follows_the_template_sharding(checkpointer):
    checkpointer.save(1, small_state(1), CONFIG)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), small_state(0)
    )
    restored = checkpointer.restore(template)
    assert same_bits(restored, small_state(1))
    assert restored.theta["nn"]["w0"].committed
    assert not checkpointer.restore(jax.eval_shape(lambda: small_state(0))).theta["nn"]["w0"].committed


def test_latest_and_pruning(checkpointer):
    for step in (1, 2, 10, 9):
        checkpointer.save(step, small_state(step), CONFIG)
    # By step, not by name; `latest` is the one saved last and is kept.
    assert checkpointer.steps() == [9, 10]
    assert (checkpointer.directory / "latest").read_text() == "global_step9"
    assert sorted(p.name for p in checkpointer.directory.glob("*.safetensors")) == [
        "global_step10.safetensors",
        "global_step9.safetensors",
    ]
    checkpointer.save(3, small_state(3), CONFIG)
    assert checkpointer.steps() == [3, 10]
    assert int(checkpointer.restore(small_state(0)).step) == 3
    assert int(checkpointer.restore(small_state(0), step=10).step) == 10


def test_saving_a_step_again_replaces_it(checkpointer):
    checkpointer.save(4, small_state(1), CONFIG)
    checkpointer.save(4, small_state(2), CONFIG)
    assert same_bits(checkpointer.restore(small_state(0)), small_state(2))
    np.testing.assert_array_equal(load_theta(checkpointer.directory)[0]["nn"]["w0"], 2)
    assert sorted(os.listdir(checkpointer.directory)) == [
        "global_step4",
        "global_step4.safetensors",
        "latest",
    ]


def test_files_of_a_file_manager_do_no_harm(checkpointer):
    (checkpointer.save(1, small_state(1), CONFIG) / ".DS_Store").write_text("x")
    assert same_bits(checkpointer.restore(small_state(0)), small_state(1))


def test_no_checkpoint(checkpointer):
    with pytest.raises(UserError, match=r"run: expected a checkpoint .*without --from_checkpoint"):
        checkpointer.restore(small_state(0))


@pytest.mark.parametrize("text", ["global_step9", "", "../../etc", "global_step\x00"])
def test_latest_that_names_nothing(checkpointer, text):
    checkpointer.save(1, small_state(1), CONFIG)
    (checkpointer.directory / "latest").write_text(text)
    with pytest.raises(
        UserError, match=r"latest: expected an existing checkpoint, .* write global_step1 into"
    ):
        checkpointer.restore(small_state(0))
    with pytest.raises(
        UserError, match="global_step7: expected an existing checkpoint, got no such directory"
    ):
        checkpointer.restore(small_state(0), step=7)


def test_mismatch_names_the_setting_and_the_leaf(checkpointer):
    checkpointer.save(1, make_state(jax.random.key(1)), CONFIG, SETTINGS)
    template = jax.eval_shape(lambda key: make_state(key, rows=9), jax.random.key(0))
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
    checkpointer.save(1, small_state(1), CONFIG)
    with pytest.raises(UserError, match=r"leaf step is int32\[\] in the checkpoint, float32\[\]"):
        checkpointer.restore(small_state(0)._replace(step=jnp.float32(0)))
    with pytest.raises(UserError, match=r"leaf opt_state/m is missing in the checkpoint"):
        checkpointer.restore(small_state(0)._replace(opt_state={"m": jnp.ones(1)}))
    with pytest.raises(UserError, match=r"leaf key is key<fry>\[\] in the checkpoint, key<rbg>"):
        checkpointer.restore(small_state(0)._replace(key=jax.random.key(0, impl="rbg")))


def test_newer_format(checkpointer, monkeypatch):
    monkeypatch.setattr("learned_aggregation.runs.checkpoint_files.FORMAT", 2)
    checkpointer.save(1, small_state(1), CONFIG)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"a corrupt one \(format 2, this version reads 1\)"):
        checkpointer.restore(small_state(0))


def test_restore_writes_nothing(checkpointer):
    checkpointer.save(1, small_state(1), CONFIG)
    (checkpointer.directory / ".global_step2.tmp").mkdir()  # of a save under way elsewhere
    before = sorted(str(path) for path in checkpointer.directory.rglob("*"))
    checkpointer.restore(small_state(0))
    assert sorted(str(path) for path in checkpointer.directory.rglob("*")) == before


def test_keep_below_one(tmp_path):
    with pytest.raises(UserError, match="checkpoints_to_keep: expected a whole number of at least 1, got 0"):
        Checkpointer(tmp_path, keep=0)


def test_nothing_is_logged(checkpointer, caplog, capfd):
    checkpointer.save(1, small_state(1), CONFIG)
    checkpointer.restore(small_state(0))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
