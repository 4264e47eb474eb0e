"""theta files: exact round trip, reference pickles without running them, one-line errors."""

import collections
import os
import pickle
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from learned_aggregation.errors import RunError, UserError
from learned_aggregation.pretrained.theta_file import check_theta, load_theta, resolve_theta_path, save_theta

SETTINGS = {"optimizer": "fedlagg-adafac", "num_grads": 8, "hidden_size": 4}


def _theta(rows=46, hidden=4):
    rng = np.random.default_rng(0)
    sizes = [(rows, hidden), (hidden, hidden), (hidden, 2)]
    network = {f"w{i}": jnp.asarray(rng.normal(size=s), jnp.float32) for i, s in enumerate(sizes)}
    network |= {f"b{i}": jnp.asarray(rng.normal(size=s[1]), jnp.float32) for i, s in enumerate(sizes)}
    decays = {"momentum_decays": jnp.ones(3), "rms_decays": jnp.ones(1), "adafactor_decays": jnp.ones(3)}
    return {"nn": network, **decays}


def _assert_equal(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)


def test_round_trip_and_leaf_names(tmp_path):
    path = tmp_path / "theta.safetensors"
    save_theta(path, _theta(), SETTINGS)
    theta, metadata = load_theta(path)
    _assert_equal(theta, _theta())
    assert metadata == {name: str(value) for name, value in SETTINGS.items()}
    assert {"nn/w0", "momentum_decays"} < set(safetensors.numpy.load_file(path))
    assert os.listdir(tmp_path) == ["theta.safetensors"]


def test_arrays_that_are_not_contiguous(tmp_path):
    theta = {"nn": {"w0": np.arange(6, dtype=np.float32).reshape(2, 3).T}}
    save_theta(tmp_path / "t.safetensors", theta, {})
    np.testing.assert_array_equal(load_theta(tmp_path / "t.safetensors")[0]["nn"]["w0"], theta["nn"]["w0"])


def test_theta_without_leaves(tmp_path):
    save_theta(tmp_path / "t.safetensors", (), {"optimizer": "fedavg"})
    assert load_theta(tmp_path / "t.safetensors") == ({}, {"optimizer": "fedavg"})


def _numpy(tree):
    return jax.tree.map(np.asarray, tree)


def _haiku_layouts():
    ours = _numpy(_theta())
    decays = {name: leaf for name, leaf in ours.items() if name != "nn"}
    linear = {f"linear_{i}": {"w": ours["nn"][f"w{i}"], "b": ours["nn"][f"b{i}"]} for i in range(3)}
    flat = {f"mlp/~/{name}": leaves for name, leaves in linear.items()}
    return {
        "nested": ({"nn": {"~": ours["nn"]}, **decays}, ours),
        "slashed": ({"nn/~": ours["nn"], **decays}, ours),
        "plain": (flat, {"nn": ours["nn"]}),
        "plain nested": ({"mlp": {"~": linear}}, {"nn": ours["nn"]}),
        "ordered": (collections.OrderedDict(nn=collections.OrderedDict(ours["nn"]), **decays), ours),
    }


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("layout", _haiku_layouts())
def test_reference_pickle(tmp_path, layout, protocol):
    tree, want = _haiku_layouts()[layout]
    path = tmp_path / "global_step5000.pickle"
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    theta, metadata = load_theta(path)
    _assert_equal(theta, want)
    assert metadata == {}


@pytest.mark.parametrize(
    "leaf",
    [
        jnp.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
        np.arange(6.0, dtype=">f4").reshape(2, 3),
        np.arange(6.0).reshape(2, 3),
        np.float32(1.5),
    ],
    ids=["jax", "fortran", "big-endian", "float64", "scalar"],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reference_pickle_of_other_arrays(tmp_path, leaf, protocol):
    (tmp_path / "t.pkl").write_bytes(pickle.dumps({"nn": {"w0": leaf}}, protocol=protocol))
    np.testing.assert_array_equal(load_theta(tmp_path / "t.pkl")[0]["nn"]["w0"], np.asarray(leaf))


def test_reference_pickle_by_older_libraries(tmp_path):
    """Names of numpy 1, an older jax and haiku's mapping, written by hand."""
    array = pickle.dumps(np.arange(3, dtype=np.float32), protocol=2)[2:-1]
    array = array.replace(b"numpy._core", b"numpy.core")
    mapping = b"chaiku._src.data_structures\nFlatMapping\n(}X\x02\x00\x00\x00w0" + array + b"stR"
    (tmp_path / "t.pickle").write_bytes(b"\x80\x02}X\x02\x00\x00\x00nn" + mapping + b"s.")
    np.testing.assert_array_equal(load_theta(tmp_path / "t.pickle")[0]["nn"]["w0"], [0, 1, 2])


class _Runs:
    def __init__(self, function, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (_Runs(os.mkdir, "ran"), "posix.mkdir"),
        (_Runs(eval, "1"), "builtins.eval"),
        (_Runs(getattr, "x", "upper"), "builtins.getattr"),
        (_Runs(np.fromfile, "x"), "numpy.fromfile"),
        (pytest.param, "_pytest.mark.param"),
    ],
)
def test_pickle_that_names_code_is_refused_and_not_run(tmp_path, monkeypatch, bad, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.pickle").write_bytes(pickle.dumps({"nn": {"w0": bad}}))
    with pytest.raises(UserError, match=f"names '{named}'. It was not loaded") as caught:
        load_theta("t.pickle")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def _altered_builder() -> bytes:
    """Tries to change what `numpy.dtype` stands for, for this load or a later one."""
    return b"\x80\x02cnumpy\ndtype\n}X\x09\x00\x00\x00_functionI1\nsb."


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"nn": {"w0": np.array([{}, None], dtype=object)}}),
        pickle.dumps({"nn": {"w0": np.array([b"ab"])}}),
        pickle.dumps({"nn": {"w0": 1.0}}),
        pickle.dumps({"nn": {"w0": np.arange(3)}}),
        pickle.dumps({"unknown": np.ones(2, np.float32)}),
        pickle.dumps([np.ones(2, np.float32)]),
        pickle.dumps({"nn": {"w0": np.array([1, np.nan], np.float32)}}),
        b"\x80\x02cnumpy\ndtype\n.",
        _altered_builder(),
        b"",
        b"junk",
    ],
)
def test_pickles_of_other_things_are_one_line(tmp_path, content):
    (tmp_path / "t.pickle").write_bytes(content)
    with pytest.raises(UserError, match=r"t\.pickle: expected") as caught:
        load_theta(tmp_path / "t.pickle")
    assert "\n" not in str(caught.value)


def test_a_pickle_that_contains_itself_is_one_line(tmp_path):
    loop = {}
    loop["nn"] = loop
    (tmp_path / "t.pickle").write_bytes(pickle.dumps(loop))
    with pytest.raises(UserError, match="corrupt"):
        load_theta(tmp_path / "t.pickle")


@pytest.mark.parametrize("suffix", [".safetensors", ".pickle"])
def test_truncated_anywhere(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    save_theta(path, _theta(), {}) if suffix == ".safetensors" else path.write_bytes(
        pickle.dumps(_numpy(_theta()))
    )
    content = path.read_bytes()
    for length in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="expected"):
            load_theta(path)


def test_foreign_and_broken_safetensors(tmp_path):
    path = tmp_path / "t.safetensors"
    safetensors.numpy.save_file({"model.embed": np.ones(2, np.float32)}, path)
    with pytest.raises(UserError, match=r"expected the leaves of a theta .*, got model\.embed"):
        load_theta(path)
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(UserError, match="truncated or corrupt"):
        load_theta(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_theta_that_is_not_finite(tmp_path, value):
    save_theta(tmp_path / "t.safetensors", {"nn": {"w0": np.array([1, value])}}, {})
    with pytest.raises(UserError, match="expected finite floats in nn/w0"):
        load_theta(tmp_path / "t.safetensors")


def test_paths_that_stand_for_a_theta(tmp_path):
    run = tmp_path / "run"
    (run / "global_step20").mkdir(parents=True)
    (run / "latest").write_text("global_step20\n")
    for path in (run, run / "global_step20", run / "global_step20.safetensors", tmp_path / "none.pickle"):
        with pytest.raises(UserError, match=r"expected a theta .* Check the path"):
            resolve_theta_path(path)
    save_theta(run / "global_step20.safetensors", _theta(), {})
    for path in (run, f"{run}/", run / "global_step20", run / "global_step20.safetensors"):
        assert resolve_theta_path(path) == run / "global_step20.safetensors"


def test_save_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    save_theta(path, _theta(), {"a": 1})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"t\.safetensors: .*No space left on device.* Free space"):
        save_theta(path, _theta(47), {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_check_theta_accepts_what_fits():
    expected = jax.eval_shape(_theta)
    check_theta(_theta(), expected, "fedlagg-adafac", SETTINGS, {})
    check_theta(_theta(), expected, "fedlagg-adafac", SETTINGS, {n: str(v) for n, v in SETTINGS.items()})
    # An aggregator whose theta does not depend on num_grads takes any.
    check_theta(_theta(), expected, "fedlagg-adafac", SETTINGS, {"num_grads": "32"})


def test_check_theta_names_num_grads():
    settings = SETTINGS | {"num_grads": 16}
    with pytest.raises(UserError) as caught:
        check_theta(_theta(46), _theta(54), "fedlagg-adafac", settings, {"num_grads": "8"})
    assert str(caught.value) == (
        "fedlagg-adafac: theta was meta-trained for num_grads=8, the config asks for 16. "
        "Use fedlagg-set, which takes any K, or meta-train with 16."
    )
    with pytest.raises(
        UserError, match=r"nn/w0 \(54, 4\), got \(46, 4\)\. .* for num_grads=8, the config asks"
    ):
        check_theta(_theta(46), _theta(54), "fedlagg-adafac", settings)


def test_check_theta_names_other_differences():
    with pytest.raises(UserError, match="for hidden_size=4, the config asks for 8"):
        check_theta(
            _theta(), _theta(hidden=8), "fedlagg-adafac", SETTINGS | {"hidden_size": 8}, {"hidden_size": "4"}
        )
    with pytest.raises(UserError, match=r"for parametrization=mup, the config asks for standard\. Use"):
        check_theta(
            _theta(), _theta(), "fedlagg-adafac", {"parametrization": "standard"}, {"parametrization": "mup"}
        )
    with pytest.raises(UserError, match="for optimizer=fedlagg-wavg, the config asks for fedlagg"):
        check_theta(
            _theta(), _theta(), "fedlagg", SETTINGS | {"optimizer": "fedlagg"}, {"optimizer": "fedlagg-wavg"}
        )
    theta = _theta()
    del theta["rms_decays"]
    with pytest.raises(UserError, match=r"expected theta leaf rms_decays \(1,\), got missing"):
        check_theta(theta, _theta(), "fedlagg-adafac", SETTINGS)
    with pytest.raises(UserError, match=r"rms_decays missing, got \(1,\)"):
        check_theta(_theta(), theta, "fedlagg-adafac", SETTINGS)
