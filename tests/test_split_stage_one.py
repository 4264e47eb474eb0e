"""Stage 1: autoencoders and their decoders, the store of trained ones, the cache of activations."""

import json
import multiprocessing
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from split_parts import IMAGE, dataset_of, leaves_equal

from learned_aggregation import get_aggregator
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.split import activations as kept
from learned_aggregation.split import store
from learned_aggregation.split.array_file import Refused, read_arrays, write_arrays
from learned_aggregation.split.base import Schooling, load_base, make_base, save_base
from learned_aggregation.split.bottlenecks.linear import linear
from learned_aggregation.split.model import Cut, split_model
from learned_aggregation.split.pretraining import Recipe, cosine_rate, held_out_rows, pretrain, reconstruction

KEY = jax.random.key(0)
CUT = Cut(2, 6, None, False)
RECIPE = Recipe(12, 16, 0.03, 0.003, "early_saving", 0.2, 3)
SIGNATURE = store.Signature("linear", "digits", 1.0, IMAGE, 1, 6, 2)


def tokens_of(clients=3, each=40):
    """Every client's tokens lie in a plane of its own; float32 [N, 2, 6] and the rows of each client."""
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(clients, 2, 6))
    tokens = rng.normal(size=(clients, each, 2, 2)) @ planes[:, None]
    rows = np.split(np.arange(clients * each), clients)
    return tokens.reshape(-1, 2, 6).astype(np.float32), rows


def trained(one_decoder, rule="fedavg", recipe=RECIPE, rows=None):
    tokens, every = tokens_of()
    aggregator = get_aggregator(rule)
    theta = aggregator.init_theta(KEY)
    return pretrain(linear(CUT, 2), tokens, rows or every, recipe, aggregator, theta, one_decoder, KEY)


def test_aggregated_decoders_change_the_weights_and_lower_the_errors_on_the_other_clients_data():
    """The test that the code this follows lacked: there, aggregating changes nothing."""
    tokens, rows = tokens_of()
    own, shared = trained(False), trained(True)
    learned = trained(True, "fedlagg-set")
    kernel = own.autoencoder.decoder["Dense_0"]["kernel"]
    assert kernel.shape == (3, 2, 6)
    assert np.any(kernel[0] != kernel[1])
    for one in (shared, learned):
        assert one.autoencoder.decoder["Dense_0"]["kernel"].shape == (2, 6)
        assert np.all(np.any(one.autoencoder.decoder["Dense_0"]["kernel"] != kernel, axis=(1, 2)))
        encoder = one.autoencoder.encoder["Dense_0"]["kernel"]
        assert encoder.shape == (3, 6, 2)
        assert np.any(encoder[0] != encoder[1])  # encoders stay
    other = learned.autoencoder.decoder["Dense_0"]["kernel"]
    assert np.any(other != shared.autoencoder.decoder["Dense_0"]["kernel"])
    errors = [
        reconstruction(linear(CUT, 2), t.autoencoder, False, o, tokens, rows)
        for t, o in ((own, False), (shared, True))
    ]
    assert errors[0].own.mean() < errors[0].others.mean()
    assert errors[1].others.mean() < errors[0].others.mean()
    bits = 32 * (2 * 6 + 6)
    assert own.traffic == (bits, 0)
    assert shared.traffic == (12 * bits, 12 * bits)


def test_one_client_is_central_training_and_lowers_the_error():
    rows = [np.arange(120)]
    found = trained(False, rows=rows)
    assert found.autoencoder.decoder["Dense_0"]["kernel"].shape == (2, 6)
    assert found.errors[-1] < 0.7 * found.errors[0]
    tokens, every = tokens_of()
    error = reconstruction(linear(CUT, 2), found.autoencoder, True, True, tokens, every)
    np.testing.assert_allclose(error.own.sum(), (error.others * 2).sum() / 2, rtol=1e-6)
    start = linear(CUT, 2).init(jax.random.fold_in(KEY, 1))
    before = reconstruction(linear(CUT, 2), start, True, True, tokens, every)
    assert error.own.mean() < 0.7 * before.own.mean()


def test_val_modes():
    """The best round is kept, and patience ends the run; without validation the last round is."""
    worse = RECIPE._replace(epochs=8, learning_rate=30.0, learning_rate_end=30.0)  # which only gets worse
    saved = trained(False, recipe=worse)
    assert len(saved.errors) == 8
    assert saved.best == int(np.argmin(saved.errors)) + 1 < 5
    stopped = trained(False, recipe=worse._replace(val_mode="early_stopping"))
    assert stopped.best == saved.best
    assert len(stopped.errors) == saved.best + 3
    for leaf, other in zip(
        jax.tree.leaves(stopped.autoencoder), jax.tree.leaves(saved.autoencoder), strict=True
    ):
        np.testing.assert_array_equal(leaf, other)
    last = trained(False, recipe=worse._replace(val_mode="none"))
    assert last.best == 8
    rows = [np.arange(10), np.arange(10, 11)]
    fitted, held_out = held_out_rows(rows, RECIPE, KEY)
    assert [len(ids) for ids in (*fitted, *held_out)] == [8, 1, 2, 1]
    assert sorted([*fitted[0], *held_out[0]]) == list(range(10))
    with pytest.raises(RunError, match=r"stage 1: expected a finite .* Lower ae_learning_rate\."):
        trained(False, recipe=RECIPE._replace(learning_rate=float("inf")))


def test_the_rate_falls_along_a_cosine_to_its_end():
    rate = cosine_rate(RECIPE, 5)
    found = [float(rate(step)) for step in (0, 30, 60, 99)]
    np.testing.assert_allclose(found, [0.03, (0.03 + 0.003) / 2, 0.003, 0.003], rtol=1e-5)


def stored(directory, retrain=False, details=None, said=None, values=1.0, signature=SIGNATURE):
    made = {"encoder": np.full((2, 3), values, np.float32), "decoder": np.full(2, values, np.float32)}
    calls = []

    def train():
        calls.append(1)
        return made, {"errors": [values]}

    found = store.find_or_train(
        directory,
        signature,
        details or {"seed": 0},
        made,
        train,
        retrain=retrain,
        say=(said if said is not None else []).append,
    )
    assert found.trained == bool(calls)
    return found


def test_the_second_run_loads_and_a_forced_one_trains_again(tmp_path):
    said = []
    first = stored(tmp_path, said=said)
    assert {p.name for p in first.path.iterdir()} == {"signature.json", "weights.safetensors", "results.json"}
    again = stored(tmp_path, said=said, values=2.0)
    assert (first.trained, again.trained, again.path) == (True, False, first.path)
    np.testing.assert_array_equal(again.autoencoder["encoder"], 1.0)
    forced = stored(tmp_path, retrain=True, values=2.0, said=said)
    np.testing.assert_array_equal(stored(tmp_path, said=said).autoencoder["encoder"], 2.0)
    assert forced.path == first.path
    assert [text.split()[1] for text in said] == ["trained", "loaded", "trained", "loaded"]
    assert stored(tmp_path, details={"seed": 1}).trained
    assert not list(tmp_path.glob(".*.staged"))


@pytest.mark.parametrize("changed", store.Signature._fields)
def test_ae_path_refuses_what_differs_and_names_it(tmp_path, changed):
    found = stored(tmp_path)
    template = found.autoencoder
    assert store.load(str(found.path), SIGNATURE, template).results == {"errors": [1.0]}
    other = SIGNATURE._replace(**{changed: "x" if isinstance(getattr(SIGNATURE, changed), str) else 77})
    with pytest.raises(
        UserError, match=rf"ae_path: expected the autoencoder .* of another {changed}: .* instead of"
    ):
        store.load(str(found.path), other, template)


def test_damaged_autoencoders_are_refused_by_name_and_trained_anew_otherwise(tmp_path):
    found = stored(tmp_path)
    for name in ("weights.safetensors", "signature.json", "results.json"):
        content = (found.path / name).read_bytes()
        (found.path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=r"ae_path: expected .* damaged"):
            store.load(str(found.path), SIGNATURE, found.autoencoder)
        said = []
        assert stored(tmp_path, said=said).trained
        assert "not used, trained anew" in said[0]
    (found.path / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"incomplete \(no weights.safetensors\)"):
        store.load(str(found.path), SIGNATURE, found.autoencoder)
    with pytest.raises(UserError, match="incomplete"):
        store.load(str(tmp_path / "nothing"), SIGNATURE, found.autoencoder)
    wider = {**found.autoencoder, "encoder": np.zeros((2, 4), np.float32)}
    stored(tmp_path)
    with pytest.raises(UserError, match="of another shape"):
        store.load(str(found.path), SIGNATURE, wider)
    # a kill between the two renames of a publication
    found.path.rename(found.path.with_name(f".{found.path.name}.old"))
    assert not stored(tmp_path).trained


def _train_slowly(directory, queue):
    def train():
        time.sleep(1.0)
        return {"w": np.ones(3, np.float32)}, {}

    said = []
    found = store.find_or_train(
        directory, SIGNATURE, {}, {"w": np.ones(3, np.float32)}, train, say=said.append
    )
    queue.put((found.trained, said))


def test_of_two_runs_that_train_the_same_the_second_waits_and_loads(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    runs = [context.Process(target=_train_slowly, args=(tmp_path, queue)) for _ in range(2)]
    for run in runs:
        run.start()
    found = sorted([queue.get(timeout=60) for _ in runs])
    for run in runs:
        run.join()
    assert [one[0] for one in found] == [False, True]
    assert "waiting for it" in found[0][1][0]


def test_activations_are_computed_once_and_a_bad_copy_is_never_used(tmp_path, monkeypatch):
    data = dataset_of(IMAGE)
    model = split_model(IMAGE, data, 1)
    client, _ = model.part(model.init(KEY))
    examples, calls = data.splits["train"].examples, []
    compute = kept.compute
    monkeypatch.setattr(kept, "compute", lambda *a: calls.append(1) or compute(*a))
    monkeypatch.setattr(kept, "CHUNK", 4)
    source, said = kept.Source("digits", 0.01, IMAGE, "abc", 1, 0), []
    rows = kept.chosen_rows(1000, 0.01, 0)
    first = kept.activations(tmp_path, source, model, client, examples, rows, said.append)
    batch = {n: jnp.asarray(leaf[rows]) for n, leaf in examples.items()}
    np.testing.assert_allclose(first, model.halves.client(client, batch), rtol=1e-4, atol=1e-5)
    kept.activations(tmp_path, source, model, client, examples, rows, said.append)
    assert (len(calls), said) == (1, [])
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    foreign = tmp_path / "foreign"
    about = source._replace(seed=1)._asdict()
    del about["data"]
    write_arrays(foreign, {"activations": first}, about)
    for bad, why in (
        (whole[:-9], "damaged"),
        (flipped, "hash differs"),
        (b"", "damaged"),
        (foreign.read_bytes(), "seed"),
    ):
        path.write_bytes(bad)
        again = kept.activations(tmp_path, source, model, client, examples, rows, said.append)
        np.testing.assert_array_equal(again, first)
        assert path.read_bytes() == whole
        assert why in said[-1]
        assert "not used, made anew" in said[-1]
    assert len(calls) == 5
    other = kept.activations(
        tmp_path, source._replace(weights="abd"), model, client, examples, rows, said.append
    )
    assert len(calls) == 6
    assert other.shape == first.shape
    kept.activations(tmp_path, source._replace(data="abc"), model, client, examples, rows, said.append)
    assert len(calls) == 7


def test_array_files(tmp_path):
    write_arrays(tmp_path / "a", {"x": np.zeros((2, 0), np.float32), "y": np.arange(3)}, {"k": 1})
    found = read_arrays(tmp_path / "a", {"k": 1})
    assert found["x"].shape == (2, 0)
    with pytest.raises(Refused, match="k is 1 in the file, 2 here"):
        read_arrays(tmp_path / "a", {"k": 2})
    assert json.loads(json.dumps(SIGNATURE._asdict()))["type"] == "linear"
    shutil.rmtree(tmp_path)


def test_the_base_is_made_or_loaded_once(tmp_path):
    data = dataset_of(IMAGE)
    model, said = split_model(IMAGE, data, 1), []
    untrained = make_base(model, model, data, Schooling(0, 0.01, 4), 0, tmp_path, said.append)
    assert leaves_equal(untrained, model.init(KEY))
    assert not list(tmp_path.iterdir())
    schooling = Schooling(2, 0.01, 4)
    made = make_base(model, model, data, schooling, 0, tmp_path, said.append)
    assert not leaves_equal(made, untrained)
    [path] = tmp_path.iterdir()
    changed = path.stat().st_mtime_ns
    assert leaves_equal(make_base(model, model, data, schooling, 0, tmp_path, said.append), made)
    assert (path.stat().st_mtime_ns, said) == (changed, [])
    school = model._replace(name=IMAGE.replace("digits", "glyphs"))  # another set's head is not taken
    foreign = make_base(model, school, data, schooling, 0, tmp_path, said.append)
    assert leaves_equal(foreign["head"], untrained["head"])
    assert leaves_equal(foreign["layers"], made["layers"])
    train = data.splits["train"]
    pixels = 16 - np.asarray(train.examples["image"])
    mine = data._replace(name="mine")
    inverted = mine._replace(splits={"train": train._replace(examples={**train.examples, "image": pixels})})
    of_mine = make_base(model, model, mine, schooling, 0, tmp_path, said.append)
    of_other = make_base(model, model, inverted, schooling, 0, tmp_path, said.append)
    assert not leaves_equal(of_mine, of_other)  # a user's data of one name, but other content
    save_base(str(tmp_path / "base.safetensors"), made, {"model": IMAGE})
    assert leaves_equal(load_base(str(tmp_path / "base.safetensors"), model), made)
    wider = split_model(IMAGE.replace("m8", "m16"), data, 1)
    with pytest.raises(UserError, match=r"base_path: expected the weights of .* of another shape"):
        load_base(str(tmp_path / "base.safetensors"), wider)
    with pytest.raises(UserError, match="No such file"):
        load_base(str(tmp_path / "none.safetensors"), model)
