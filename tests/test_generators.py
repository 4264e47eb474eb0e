"""Generators: their training and samples, files, the client's and server's operations, the parts of a round."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from embeddings import D, S, V, batches, data, made

from learned_aggregation.errors import RunError, UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.generators import files, vae
from learned_aggregation.generators.adapter import adapter_task
from learned_aggregation.generators.base import Training, new_state, train
from learned_aggregation.generators.client import GeneratorClient, Kind
from learned_aggregation.generators.quality import quality
from learned_aggregation.generators.rounds import Leaving, Programs, Saving, Setting, run_rounds
from learned_aggregation.generators.samples import CHUNK, generate, generate_to_files, pool_of
from learned_aggregation.generators.server import GeneratorServer, ServerState, training_on_samples
from learned_aggregation.generators.work import with_generators
from learned_aggregation.pretrained.theta_file import named_leaves
from learned_aggregation.types import ClientState, ClientUpdate, Server


def fit(generator, epochs=120):
    """(state, quality of each class's samples)."""
    training = Training(epochs, epochs / 2)
    state = new_state(generator, jax.random.key(0))
    state, _ = jax.jit(lambda s, b, k: train(generator, training, s, b, k))(
        state, batches(), jax.random.key(1)
    )
    audio, clip, label = data()
    samples = generate(generator, state.params, dict(enumerate(clip)), 200, jax.random.key(2))
    return state, [
        quality(samples[c].reshape(200, -1), audio[label == c].reshape(-1, S * D)) for c in range(2)
    ]


@pytest.fixture(scope="module")
def fitted():
    return fit(made())


def nats(generator, state):
    some = {name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in batches().items()}
    return float(generator.kl(state.params, some))


def test_the_vae_keeps_the_spread_of_its_data(fitted):
    state, found = fitted
    assert nats(made(), state) > 1
    assert all(0.4 < one.spread < 1.5 and one.cosine > 0.9 for one in found)
    assert int(state.epoch) == 120


def test_a_mean_error_beside_a_summed_kl_collapses(monkeypatch):
    """Why the error is summed: as its mean over the numbers, the latents carry nothing and all samples are one."""
    monkeypatch.setattr(vae, "summed_error", lambda x, y, noise: jnp.mean((x - y) ** 2, -1))
    generator = made(learning_rate=3.1e-3)  # another one than the fixture's: programs are kept by generator
    state, found = fit(generator)
    assert nats(generator, state) < 0.5
    assert all(one.spread < 0.2 for one in found)


@pytest.mark.parametrize("kind", ["gan", "gaussian"])
def test_the_others_make_samples_like_the_data(kind):
    generator = made(kind)
    _, found = fit(generator, epochs=120 if kind == "gan" else 1)
    assert all(0.3 < one.spread < 1.6 and one.cosine > 0.8 for one in found)


def test_a_condition_for_each_vector_or_one_for_all():
    generator = made()
    params = generator.init(jax.random.key(0))
    one = jnp.ones((7, V))
    same = jnp.broadcast_to(one[:, None], (7, S, V))
    label, key = jnp.zeros(7, int), jax.random.key(1)
    np.testing.assert_array_equal(
        generator.sample(params, label, one, key), generator.sample(params, label, same, key)
    )


def test_noise_is_added_only_where_it_is_asked_for():
    batch = {name: leaf[0] for name, leaf in batches().items()}
    params = made().init(jax.random.key(0))
    arguments = (params, batch, jax.random.key(1), jnp.float32(1.0))
    found = {augmented: made(augmented=augmented).loss(*arguments)[0] for augmented in (True, False)}
    assert found[True] != found[False]


def test_the_default_sizes_are_those_of_people_s_checkpoints():
    shapes = jax.eval_shape(vae.ConditionedVAEGenerator().init, jax.random.key(0))
    assert shapes["encoder"]["0"]["weight"].shape == (1024, 4 * 512 + 4 * 768)
    assert shapes["decoder"]["0"]["weight"].shape == (1024, 256 + 4 * 768)
    assert shapes["decoder"]["4"]["weight"].shape == (2048, 1024)
    assert shapes["fc_logvar"]["bias"].shape == (256,)


def kind(tmp_path, **changes):
    return Kind(made(), "vae", Training(2, 1.0), tmp_path)._replace(**changes)


def client(tmp_path, number=0, said=None, **changes):
    say = (lambda text: None) if said is None else said.append
    return GeneratorClient(number, kind(tmp_path, **changes), jax.random.key(number), batches(), say)


def test_a_client_trains_saves_and_loads_by_the_names_of_scripts(tmp_path):
    said = []
    one = client(tmp_path, said=said)
    losses = [one.train_node_generator() for _ in range(3)]
    assert losses[-1] < losses[0]
    path = one.save_generator_checkpoint(round_num=5)
    assert path.name == "client_0_generator_round_5.safetensors"
    assert files.read_about(tmp_path / "client_0_generator.safetensors") == {
        "client_id": 0, "round": 5, "generator_type": "vae", "diffusion_type": "none"
    }  # fmt: skip
    other = client(tmp_path)
    assert not files.same(other.state, one.state)
    assert other.load_generator_checkpoint()
    assert files.same(other.state, one.state)
    assert other.load_generator_checkpoint(path)
    assert one.train_node_generator() == other.train_node_generator()
    assert "client 0: generator, epoch 2: loss" in said[0]
    assert str(path) in said[3]


def test_a_missing_generator_warns_and_leaves_it_as_it_is(tmp_path):
    said = []
    one = client(tmp_path, 3, said)
    before = one.state
    assert one.load_generator_checkpoint() is False
    assert files.same(one.state, before)
    assert str(tmp_path / "client_3_generator.safetensors") in said[0]
    assert "Run 1" in said[0]


@pytest.mark.parametrize("how", ["cut", "changed", "type", "sizes"])
def test_a_generator_that_cannot_be_used_is_refused_in_a_line(how, tmp_path):
    path = client(tmp_path).save_generator_checkpoint()
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[:-7])
    elif how == "changed":
        content[-1] ^= 1
        path.write_bytes(content)
    reader = client(tmp_path)
    if how == "type":
        reader.kind = reader.kind._replace(generator_type="gan")
    elif how == "sizes":
        reader.kind = reader.kind._replace(generator=made(hidden_dim=16))
    before = reader.state
    with pytest.raises(UserError, match="generator_checkpoint_dir: expected a generator") as refused:
        reader.load_generator_checkpoint()
    assert "\n" not in str(refused.value)
    assert reader.state is before


def test_another_client_s_generator_is_taken_only_where_it_is_named(tmp_path):
    path = client(tmp_path, 0).save_generator_checkpoint()
    copied = path.with_name("client_1_generator.safetensors")
    copied.write_bytes(path.read_bytes())
    other = client(tmp_path, 1)
    before = other.state
    with pytest.raises(UserError, match=r"expected the generator of client 1, got .* of client 0\."):
        other.load_generator_checkpoint()
    assert other.state is before
    assert other.load_generator_checkpoint(copied)


def test_a_generator_that_is_not_finite_is_not_saved_over_a_good_one(tmp_path):
    one = client(tmp_path)
    path = one.save_generator_checkpoint()
    before = path.read_bytes()
    one.state = jax.tree.map(lambda leaf: leaf * jnp.nan, one.state)
    with pytest.raises(RunError, match=r"client 0: expected a finite generator, got .* in round 5\."):
        one.save_generator_checkpoint(5)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_rounds_end_where_adapters_are_no_longer_finite():
    """The checkpoint of the round before is the last one."""
    saved = []
    checkpointer = SimpleNamespace(latest_step=lambda: None, save=lambda number, *_: saved.append(number))

    def one_round(theta, train, server, present, key):
        return server._replace(params=server.params * (jnp.inf if len(saved) == 3 else 1.0)), jnp.float32(1)

    programs = Programs(one_round, lambda server, evaluation: {"test_loss": jnp.float32(1)})
    train = SimpleNamespace(rows=np.zeros((2, 1)))
    setting = Setting(None, None, (), train, {}, 2, Leaving(None, 0), 6, 1, 0)  # pyright: ignore[reportArgumentType]
    server = Server(jnp.ones(2), (), (), ClientState((), ()))
    stop = SimpleNamespace(signal=None)
    with pytest.raises(RunError, match="round 3: expected finite adapters"):
        run_rounds(programs, setting, server, Saving(checkpointer, "", {}), stop)  # pyright: ignore[reportArgumentType]
    assert saved == [0, 1, 2]


class FakeTensor:
    def __init__(self, value):
        self.value = np.array(value)

    def numpy(self):
        return self.value


def fake_torch(monkeypatch, content):
    """A module `torch` whose `load` gives `content`, or raises it; it is to be asked for weights alone."""

    def load(path, *, map_location, weights_only):
        assert weights_only is True
        assert path.is_file()
        if isinstance(content, Exception):
            raise content
        return content

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))


def test_a_torch_file_is_read_if_it_holds_no_code(tmp_path, monkeypatch):
    one = client(tmp_path)
    one.train_node_generator()
    weights = {part: layers for part, layers in one.state.params.items() if part != "latent"}
    flat = {name.replace("/", "."): FakeTensor(leaf) for name, leaf in named_leaves(weights).items()}
    assert flat["encoder.0.weight"].numpy().shape == (32, S * D + S * V)
    content = {"client_id": 1, "round": 4, "generator_type": "vae", "generator_state_dict": flat}
    (tmp_path / "client_1_generator.pt").write_bytes(b"-")
    fake_torch(monkeypatch, content)
    other = client(tmp_path, 1)
    assert other.load_generator_checkpoint()
    assert files.same({k: other.state.params[k] for k in weights}, weights)
    other.train_node_generator()
    for bad in (RuntimeError("Weights only load failed"), content | {"generator_state_dict": 3}):
        fake_torch(monkeypatch, bad)
        with pytest.raises(UserError, match="tensors and plain values"):
            other.load_generator_checkpoint()
    half = {name: FakeTensor(tensor.numpy().astype(np.float16)) for name, tensor in flat.items()}
    fake_torch(monkeypatch, content | {"generator_state_dict": half})
    assert other.load_generator_checkpoint()
    assert {leaf.dtype for leaf in jax.tree.leaves(other.state.params)} == {np.dtype("float32")}
    broken = half | {"fc_mu.bias": FakeTensor(np.full(3, np.nan))}
    for bad in ({"round": "x"}, {"round": -1}, {"epoch": 1.5}, {"generator_state_dict": broken}):
        fake_torch(monkeypatch, content | bad)
        with pytest.raises(UserError, match="generator_checkpoint_dir: expected a generator of type"):
            other.load_generator_checkpoint()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="expected torch to be installed"):
        other.load_generator_checkpoint()


@pytest.mark.parametrize(
    ("classes", "total", "per_class"),
    [([range(0, 5), range(5, 10), range(10, 15)], 150, 10), ([range(5)] * 3, 150, 30)],
)
def test_the_counts_of_disjoint_and_of_shared_classes(classes, total, per_class, tmp_path):
    said = []
    server = GeneratorServer(said.append)
    for number, labels in enumerate(classes):
        outputs = {label: np.full(V, label, np.float32) for label in labels}
        server.receive(number, client(tmp_path, number).generate_synthetic_samples(outputs))
    together = server.aggregate_synthetic_samples()
    assert sum(map(len, together.values())) == total
    assert {len(of) for of in together.values()} == {per_class}
    assert all(of.shape[1:] == (S, D) for of in together.values())
    assert f"{total} samples of 3 clients" in said[0]


def test_samples_in_files_are_those_in_memory(tmp_path):
    generator, params = made(), made().init(jax.random.key(0))
    _, clip, _ = data()
    arguments = (generator, params, dict(enumerate(clip)), CHUNK + 7, jax.random.key(3))
    plain, kept = generate(*arguments), generate_to_files(*arguments, tmp_path / "one")
    for label, samples in plain.items():
        assert len(samples) == CHUNK + 7
        assert not np.any(samples[:7] == samples[CHUNK:])  # the next chunk is not the first once more
        assert isinstance(kept[label], np.memmap)
        np.testing.assert_array_equal(samples, kept[label])
    server = GeneratorServer(lambda text: None, tmp_path / "server")
    for number in range(2):
        server.receive(number, kept)
    together = server.aggregate_synthetic_samples()
    assert isinstance(together[1], np.memmap)
    np.testing.assert_array_equal(together[1], np.concatenate([plain[1], plain[1]]))
    pool = pool_of(together, 50, S, D, np.random.default_rng(0))
    assert pool.audio.shape == (50, S, D)
    assert set(pool.label.tolist()) == {0, 1}
    for row, label in zip(np.asarray(pool.audio), pool.label.tolist(), strict=True):
        assert (plain[label] == row).all(axis=(1, 2)).any()


def task_of():
    _, clip, _ = data()
    return adapter_task("a", jnp.asarray(clip), D, S, 8)


def test_the_server_trains_on_samples_and_on_nothing_else():
    task, (audio, _, label) = task_of(), data()
    params, _ = task.init(jax.random.key(0))
    work = training_on_samples(task, 2, 16, 1e-2)
    pool = pool_of({c: audio[label == c][:20] for c in range(2)}, 48, S, D, np.random.default_rng(0))
    assert pool.valid.sum() == 40
    server = Server(params, (), (), ClientState((), ()), work=ServerState(pool, params))
    update = ClientUpdate((), (), jnp.zeros(1), jnp.ones(1))
    run = jax.jit(lambda server, key: work.run(server, update, key))
    after = run(server, jax.random.key(1))
    batch = {"audio": pool.audio[:40], "label": pool.label[:40]}
    loss = [float(task.loss(p, (), jax.random.key(0), batch)[0]) for p in (params, after.params)]
    assert loss[1] < loss[0]
    # Room in the pool is never drawn: other numbers there change nothing.
    other = pool._replace(audio=pool.audio.at[40:].set(1e6))
    again = run(server._replace(work=ServerState(other, params)), jax.random.key(1))
    assert files.same(after.params, again.params)
    empty = pool._replace(valid=jnp.zeros(48))
    idle = run(server._replace(work=ServerState(empty, params)), jax.random.key(1))
    assert files.same(idle.params, params)
    elsewhere = jax.tree.map(lambda leaf: leaf + 1, params)
    alone = training_on_samples(task, 2, 16, 1e-2, from_adapters=False)
    moved = server._replace(params=elsewhere)
    moved_on = jax.jit(lambda server, key: alone.run(server, update, key))(moved, jax.random.key(1))
    assert files.same(moved_on.params, after.params)


def test_generators_are_client_state_and_change_nothing_else():
    """The adapters' update is bit for bit the same with them, and each client's generator moves by its own data."""
    import optax

    task = task_of()
    plain = independently(local_training(task, optax.sgd(0.1)))
    work = with_generators(plain, made(), Training(1, 1.0))
    params, _ = task.init(jax.random.key(0))
    one = work.init(params)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), one)
    audio = {
        name: jnp.stack([leaf, leaf[::-1] * 1.1 if name == "audio" else leaf])
        for name, leaf in batches().items()
    }
    server = Server(params, (), (), ClientState((), ()))
    weight, key = jnp.ones(2), jax.random.key(3)
    update, after = jax.jit(work.run)(server, audio, weight, states, key)
    alone, _ = jax.jit(plain.run)(server, audio, weight, (), key)
    assert files.same(update.delta, alone.delta)
    assert after.generator.epoch.tolist() == [1, 1]
    first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], after.generator.params) for i in range(2))
    assert not files.same(first, second)
    assert work.traffic(params) == plain.traffic(params)
