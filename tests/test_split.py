"""Split training: the cut model, the equality with whole training, whom the aggregator sees, what crosses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from split_parts import IMAGE, TEXT, batches, dataset_of, leaves_equal, make_parts, make_training
from wire import pack

from learned_aggregation import get_aggregator, get_compressor
from learned_aggregation.errors import UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server, traffic
from learned_aggregation.problems.freezing import freeze
from learned_aggregation.split import boundary as cut
from learned_aggregation.split.evaluation import evaluate, on_split
from learned_aggregation.split.exchange import Ends, exchange
from learned_aggregation.split.model import split_model
from learned_aggregation.split.work import ClientSide, Kept, split_task
from learned_aggregation.tasks import make_model
from learned_aggregation.tasks.names import parse_task_name
from learned_aggregation.tasks.objectives import OBJECTIVES, objective_name
from learned_aggregation.types import ClientState, Server, Traffic

KEY = jax.random.key(0)


def whole_task(name):
    make = OBJECTIVES[objective_name(parse_task_name(name).dataset)].make
    return make(name, make_model(name)[0], dataset_of(name))


@pytest.mark.parametrize(
    ("name", "optimizer", "keep"),
    [
        (IMAGE, optax.sgd(0.1), False),
        (IMAGE, optax.adam(0.01, eps=1e-3), True),
        pytest.param(TEXT, optax.sgd(0.1), False, marks=pytest.mark.slow),
    ],
)
def test_with_an_identity_bottleneck_and_one_client_it_is_training_the_whole_model(name, optimizer, keep):
    task = whole_task(name)
    params, state = task.init(KEY)
    training = make_training(name, "identity", optimizer=optimizer, keep_state=keep)
    split = make_parts(training)
    alone = assemble(task, independently(local_training(task, optimizer, keep)), get_aggregator("fedavg"))
    assert leaves_equal(training.model.init(KEY), params)
    sides, here = split.task.init(KEY), init_server((), alone, params, state, 1)
    there = init_server((), split, *sides, 1)
    data = batches(name, 1)
    one = jax.jit(
        lambda parts, server: federated_round((), parts, server, data, jnp.ones(1), jnp.arange(1), KEY),
        static_argnums=0,
    )
    for _ in range(2):
        here, loss = one(alone, here)
        there, split_loss = one(split, there)
        np.testing.assert_allclose(split_loss, loss, rtol=1e-5)
    joined = training.model.join(there.params.blocks, there.model_state.top)
    for leaf, other in zip(jax.tree.leaves(joined), jax.tree.leaves(here.params), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-6)
    assert not leaves_equal(joined["layers"], params["layers"])
    data = {n: leaf[0, 0] for n, leaf in data.items()}
    np.testing.assert_allclose(
        split.task.evaluate(there.params, there.model_state, KEY, data)["loss"],
        task.evaluate(here.params, state, KEY, data)["loss"],
        rtol=1e-4,
    )


def test_each_client_steps_by_its_own_loss_and_the_server_by_the_mean_over_those_that_take_part():
    training = make_training()
    parts, weight, data = make_parts(training, 1), jnp.array([1.0, 0.0, 3.0]), batches(IMAGE, 3, 1)
    params, half = parts.task.init(KEY)
    half.top["head"]["kernel"] = jax.random.normal(KEY, half.top["head"]["kernel"].shape)  # which starts at 0
    server = init_server((), parts, params, half, 3)
    update, _ = jax.jit(parts.clients.run)(server, data, weight, server.clients.work, KEY)
    loss = lambda params, half, batch: parts.task.loss(params, half, KEY, batch)[0]  # noqa: E731
    gradient = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (None, None, 0)))
    of_clients, of_server = gradient(params, half, {n: leaf[:, 0] for n, leaf in data.items()})
    for delta, grad in zip(jax.tree.leaves(update.delta), jax.tree.leaves(of_clients), strict=True):
        np.testing.assert_allclose(delta[jnp.array([0, 2])], -0.1 * grad[jnp.array([0, 2])], atol=1e-6)
    tops = zip(*map(jax.tree.leaves, (update.model_state.top, half.top, of_server.top)), strict=True)
    for after, before, grad in tops:
        np.testing.assert_allclose(after, before - 0.1 * (grad[0] + grad[2]) / 2, atol=1e-6)


def test_a_decoder_for_each_client_steps_by_that_client_s_loss_alone():
    """And not by its share of the mean, as the server's blocks do."""
    training = make_training(one_encoder=False, one_decoder=False, trained=True)
    parts, data = make_parts(training, 1), batches(IMAGE, 2, 1)
    params, half = parts.task.init(KEY)
    half.top["head"]["kernel"] = jax.random.normal(KEY, half.top["head"]["kernel"].shape)
    server = init_server((), parts, params, half, 2)
    kept = server.clients.work
    _, after = jax.jit(parts.clients.run)(server, data, jnp.array([1.0, 3.0]), kept, KEY)

    def loss(encoder, decoder, batch):
        whole = half._replace(encoder=encoder, decoder=decoder)
        return parts.task.loss(params, whole, KEY, batch)[0]

    gradient = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))
    of_encoder, of_decoder = gradient(kept.encoder, kept.decoder, {n: leaf[:, 0] for n, leaf in data.items()})
    for new, old, grad in (
        (after.encoder, kept.encoder, of_encoder),
        (after.decoder, kept.decoder, of_decoder),
    ):
        for leaf, before, step in zip(*map(jax.tree.leaves, (new, old, grad)), strict=True):
            np.testing.assert_allclose(leaf, before - 0.1 * step, atol=1e-6)
            assert np.any(step)


@pytest.mark.parametrize("rule", ["fedavg", "fedlagg-set"])
def test_only_the_clients_blocks_reach_the_aggregator_and_a_dropped_client_leaves_no_trace(rule):
    parts = make_parts(make_training(), rule=rule)
    theta = parts.aggregator.init_theta(KEY)
    sides = parts.task.init(KEY)
    seen = []

    def update(theta, found, state, params):
        seen.append((found.delta, params))
        return jax.tree.map(jnp.zeros_like, params), state

    spying = parts._replace(aggregator=parts.aggregator._replace(update=update))
    weight, data = jnp.array([1.0, 0.0, 2.0]), batches(IMAGE, 3)
    poisoned = {**data, "label": data["label"].at[1].set(3), "image": data["image"].at[1].set(255)}
    run = jax.jit(
        lambda parts, data: federated_round(
            theta, parts, init_server(theta, parts, *sides, 5), data, weight, jnp.array([4, 0, 2]), KEY
        ),
        static_argnums=0,
    )
    after, loss = run(spying, data)
    [(delta, params)] = seen
    assert jax.tree.structure(delta) == jax.tree.structure(params) == jax.tree.structure(sides[0])
    assert leaves_equal(after.params, sides[0])  # the rule that was asked wrote no step
    assert not leaves_equal(after.model_state.top, sides[1].top)  # and could not touch the server's half
    assert leaves_equal(after.model_state.decoder, sides[1].decoder)  # frozen
    moved, _ = run(parts, data)
    assert not leaves_equal(moved.params, sides[0])
    assert leaves_equal(moved.model_state, after.model_state)
    other, other_loss = run(parts, poisoned)
    assert leaves_equal(other, moved)
    assert other_loss == loss


def test_the_bottleneck_is_on_in_evaluation_each_clients_where_it_has_one():
    """The code this follows evaluates without it."""
    coarse = get_compressor("qsgd", bits=2, norm="max")
    training = make_training(up=coarse, one_encoder=False, one_decoder=False)
    task, data = split_task(training), {n: leaf[0, 0] for n, leaf in batches(IMAGE, 1, 1, 4).items()}
    params, half = task.init(KEY)
    half.top["head"]["kernel"] = jax.random.normal(KEY, half.top["head"]["kernel"].shape)  # which starts at 0
    kept = jax.vmap(training.boundary.bottleneck.init)(jax.random.split(KEY, 2))
    server = Server(params, half, (), ClientState(Kept(kept.encoder, kept.decoder), ()))
    chunks, mask = jax.tree.map(lambda leaf: leaf[None], data), jnp.ones((1, 4))
    measure = jax.jit(
        lambda task, server: on_split(task, training.sharing, server, chunks, mask), static_argnums=0
    )
    each = measure(task, server)["loss"]
    assert each[0] != each[1]
    mean = evaluate(task, training.sharing, server, chunks, mask)["loss"]
    np.testing.assert_allclose(mean, np.mean(each), rtol=1e-6)
    blank = server._replace(
        clients=ClientState(Kept(kept.encoder, jax.tree.map(jnp.zeros_like, kept.decoder)), ())
    )
    assert np.all(measure(task, blank)["loss"] != each)
    exact = training._replace(boundary=training.boundary._replace(up=get_compressor("none")))
    assert np.all(measure(split_task(exact), server)["loss"] != each)


SHARINGS = [(True, True), (False, True), (False, False)]


@pytest.mark.parametrize(("one_encoder", "one_decoder"), SHARINGS)
def test_the_autoencoder_is_trained_along_where_it_belongs(one_encoder, one_decoder):
    training = make_training(
        one_encoder=one_encoder,
        one_decoder=one_decoder,
        trained=True,
        keep_state=True,
        optimizer=optax.sgd(0.1, 0.9),
    )
    parts = make_parts(training)
    before = init_server((), parts, *parts.task.init(KEY), 3)
    after, _ = jax.jit(
        lambda server: federated_round(
            (), parts, server, batches(IMAGE, 2), jnp.ones(2), jnp.array([2, 0]), KEY
        )
    )(before)
    assert isinstance(after.params, ClientSide)
    for one, of_all, of_each in (
        (one_encoder, lambda server: server.params.encoder, lambda server: server.clients.work.encoder),
        (one_decoder, lambda server: server.model_state.decoder, lambda server: server.clients.work.decoder),
    ):
        assert bool(jax.tree.leaves(of_all(after))) == one
        assert bool(jax.tree.leaves(of_each(after))) == (not one)
        where = of_all if one else of_each
        assert not leaves_equal(where(after), where(before))
        for new, old in zip(jax.tree.leaves(of_each(after)), jax.tree.leaves(of_each(before)), strict=True):
            np.testing.assert_array_equal(new[1], old[1])  # did not take part
            assert np.any(new[0] != new[2])


def crossed(training, clients=2, size=3):
    """The arrays that cross at a local step, and the losses."""
    blocks, top = training.model.part(training.model.init(KEY))
    top["head"]["kernel"] = jax.random.normal(KEY, top["head"]["kernel"].shape)  # which starts at 0
    encoder, decoder = training.boundary.bottleneck.init(KEY)
    spread = lambda tree: jax.tree.map(lambda x: jnp.stack([x] * clients), tree)  # noqa: E731
    data = {n: leaf[:, 0] for n, leaf in batches(training.model.name, clients, 1, size).items()}
    ends = Ends(spread(blocks), spread(encoder), top, decoder)
    share = jnp.full(clients, 1 / clients)
    step = jax.jit(
        lambda ends, data: exchange(training.model, training.boundary, True, ends, data, share, KEY)
    )
    return step(ends, data)


@pytest.mark.parametrize(
    ("name", "labels_at", "bottleneck", "class_token"),
    [
        (IMAGE, "server", "linear", "whole"),
        (IMAGE, "client", "mlp1", "through"),
        (IMAGE, "server", "conv", "whole"),
        (TEXT, "server", "identity", "whole"),
        (TEXT, "client", "linear", "whole"),
    ],
)
def test_the_count_is_the_nbytes_of_the_arrays_that_cross(name, labels_at, bottleneck, class_token):
    training = make_training(name, bottleneck, class_token=class_token, labels_at=labels_at)
    *_, wires = crossed(training)
    count = cut.count(training.model, training.boundary)
    for wire, counted in zip(wires, count, strict=True):
        assert wire.keys() == counted.keys()
        for what, arrays in wire.items():
            assert sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) * 8 == 2 * 3 * counted[what], what
    steps = 2 * 3  # H B
    params = jax.eval_shape(split_task(training).init, KEY)[0]
    weights = 8 * sum(leaf.size * 4 for leaf in jax.tree.leaves(params))
    assert traffic(make_parts(training, 2, 3), params) == Traffic(
        weights + steps * sum(count.up.values()), weights + steps * sum(count.down.values())
    )


@pytest.mark.parametrize(("bits", "class_token"), [(8, "whole"), (4, "quantised")])
def test_quantised_latents_are_counted_as_their_packed_messages(bits, class_token):
    qsgd = get_compressor("qsgd", bits=bits, norm="max")
    training = make_training(up=qsgd, down=qsgd, class_token=class_token)
    _, losses, wires = crossed(training)
    count = cut.count(training.model, training.boundary)
    for wire, counted in (
        (wires.up["latents"], count.up["latents"]),
        (wires.down["gradients"], count.down["gradients"]),
    ):
        packed = pack(wire.latents)[1] + sum(8 * leaf.nbytes for leaf in jax.tree.leaves(wire.token))
        assert packed == 2 * 3 * counted
    plain = cut.count(
        training.model, training.boundary._replace(up=get_compressor("none"), class_token="whole")
    )
    assert count.up["latents"] < plain.up["latents"]
    assert np.all(np.isfinite(losses))


def test_quantised_numbers_change_what_arrives_and_are_differentiated_straight_through():
    exact, rounded = (
        crossed(make_training(**o)) for o in ({}, {"up": get_compressor("qsgd", bits=8, norm="max")})
    )
    assert np.any(exact[1] != rounded[1])
    for leaf, other in zip(
        jax.tree.leaves(exact[0].encoder), jax.tree.leaves(rounded[0].encoder), strict=True
    ):
        np.testing.assert_allclose(leaf, other, atol=0.05 * np.max(np.abs(leaf)) + 1e-7)
        assert np.any(other != 0)


@pytest.mark.parametrize("bottleneck", ["linear", "mlp1", "mlp2", "mlp3", "conv"])
def test_the_bottlenecks(bottleneck):
    training = make_training(bottleneck=bottleneck, latent_dim=3)
    cut_, made = training.model.halves.cut, training.boundary.bottleneck
    encoder, decoder = made.init(KEY)
    x = jax.random.normal(KEY, (2, cut_.tokens, cut_.width))
    latents = made.encode(encoder, x)
    assert latents.shape == (2, 1 if bottleneck == "conv" else cut_.tokens, 3)
    assert made.decode(decoder, latents).shape == x.shape


@pytest.mark.parametrize("layer", [0, 2, -1, True, 1.0])
def test_a_split_layer_outside_the_model_is_refused(layer):
    with pytest.raises(UserError, match=r"split_layer: expected a whole number from 1 to 1 .*got"):
        split_model(IMAGE, dataset_of(IMAGE), layer)


def test_a_wrapper_of_the_task_is_refused_and_not_ignored():
    parts = make_parts(make_training())
    with pytest.raises(
        UserError, match=r"split training: expected the task that was cut, got a wrapped one of vit"
    ):
        freeze(parts, jax.tree.map(lambda leaf: True, jax.eval_shape(parts.task.init, KEY)[0]))


def test_what_cannot_be_cut_or_bottled_is_refused():
    with pytest.raises(UserError, match=r"task: expected a model in blocks .* got 'mlp8_digits_8'"):
        split_model("mlp8_digits_8", dataset_of(IMAGE), 1)
    for latent_dim in (0, -1, True):
        with pytest.raises(UserError, match="latent_dim: expected a whole number of at least 1"):
            make_training(latent_dim=latent_dim)
    with pytest.raises(UserError, match=r"tokens apart .* got 'conv'"):
        make_training(TEXT, "conv")
    for bad in (("half", "server", "linear"), ("whole", "nowhere", "linear"), ("through", "server", "conv")):
        with pytest.raises(UserError, match=r"expected .* got"):
            cut.check_boundary(*bad)
