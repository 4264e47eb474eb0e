"""Models: parameter counts against published ones, training at tiny sizes, running statistics."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from learned_aggregation import get_aggregator
from learned_aggregation.data.federated import to_federated
from learned_aggregation.devices.parallel import job_mesh
from learned_aggregation.errors import UserError
from learned_aggregation.federated.averaging import weighted_mean
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.meta_testing.evaluation import chunked, evaluate_split
from learned_aggregation.meta_testing.program import Budget, Program, Setting, Shared
from learned_aggregation.problems.inner_problem import RoundSizes
from learned_aggregation.tasks.listing import parameter_count
from learned_aggregation.tasks.models.conv import conv
from learned_aggregation.tasks.models.convgn import convgn
from learned_aggregation.tasks.models.gpt import gpt
from learned_aggregation.tasks.models.mlp import mlp
from learned_aggregation.tasks.models.resnet import ResNet, _Depth, resnet
from learned_aggregation.tasks.models.transformer import transformer
from learned_aggregation.tasks.models.vit import cut_patches, vit
from learned_aggregation.tasks.objectives.classification import classification
from learned_aggregation.tasks.objectives.language_modelling import language_modelling
from learned_aggregation.tasks.transformer_layers import Block, Layers
from learned_aggregation.types import SPLITS, Aggregator, Dataset, Split

SIDE, LENGTH, CLASSES = 8, 6, 4
TINY = {
    "mlp": mlp("32_pow3", CLASSES),
    "conv": conv("4x4", CLASSES),
    "convgn": convgn("4x12", CLASSES),
    "resnet": ResNet(_Depth((1, 0, 0, 0), False), False, CLASSES),
    "resnet-bottleneck-gn": ResNet(_Depth((1, 0, 0, 0), True), True, CLASSES),
    "vit": vit("_p4_h8_m16_nh2_nl2", CLASSES),
    "transformer": transformer("_h8_m16_nh2_nl2", 16),
    "gpt": gpt("_h8_m16_nh2_nl2", 16),
}
"""A small member of each family."""


def text_task(model):
    """Arithmetic progressions of step 3."""
    tokens = (np.arange(12)[:, None] + 3 * np.arange(LENGTH + 1)) % 16
    splits = {split: Split({"tokens": tokens.astype(np.uint8)}) for split in SPLITS}
    return language_modelling("text", model, Dataset("text", splits, 16)), splits["train"].examples


def image_task(model):
    """Noise whose brightness is the class."""
    label = np.arange(12, dtype=np.int32) % CLASSES
    noise = np.random.default_rng(0).integers(64, size=(12, SIDE, SIDE, 3))
    image = (noise + 60 * label[:, None, None, None]).astype(np.uint8)
    splits = {split: Split({"image": image, "label": label}) for split in SPLITS}
    return classification("image", model, Dataset("image", splits, CLASSES, 1 / 255)), splits[
        "train"
    ].examples


def count(model, example):
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), example)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def vit_count(patch, hidden, mlp, layers, side, classes, channels=3):
    patches = (-(-side // patch)) ** 2
    block = 4 * hidden**2 + 2 * hidden * mlp + 9 * hidden + mlp
    embedding = (channels * patch**2 + 1) * hidden + hidden + (patches + 1) * hidden
    return embedding + layers * block + 2 * hidden + (hidden + 1) * classes


def lm_count(hidden, mlp, heads, layers, vocabulary):
    block = 128 * heads * hidden + 96 * heads + 2 * hidden * mlp + mlp + 6 * hidden
    return 2 * vocabulary * hidden + vocabulary + 2 * hidden + layers * block


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18_imagenet_64", 11_689_512),
        ("resnet50_imagenet_64", 25_557_032),
        ("resnet34_imagenet_224", 21_797_672),
        ("resnet50gn_imagenet_128", 25_557_032),
        ("deit_tiny_imagenet_224", 5_717_416),
        ("deit_small_imagenet_224", 22_050_664),
        ("image-mlp-fmst", 28 * 28 * 128 + 128 + 128 * 128 + 128 + 1290),
        ("mlp32_pow3_digits_8", 64 * 32 + 32 + 2 * (32 * 32 + 32) + 330),
    ],
)
def test_parameter_counts_are_the_published_ones(name, published):
    assert parameter_count(name) == published


def test_counts_follow_the_formulas_at_other_sizes():
    assert vit_count(16, 192, 768, 12, 224, 1000) == 5_717_416
    assert vit_count(16, 384, 1536, 12, 224, 1000) == 22_050_664
    assert parameter_count("deit_small_imagenet_64") == vit_count(16, 384, 1536, 12, 64, 1000) == 21_981_544
    assert parameter_count("tall16_imagenet_8") == vit_count(16, 128, 512, 10, 8, 1000)
    assert parameter_count("transformer192_lm") == lm_count(192, 768, 12, 12, 259)
    tokens = jnp.zeros((1, 16), jnp.int32)
    assert count(transformer("_h192_m768_nh12_nl12", 32_000), tokens) == lm_count(192, 768, 12, 12, 32_000)
    assert lm_count(192, 768, 12, 12, 32_000) == 19_435_136


@pytest.mark.parametrize("name", TINY)
def test_each_family_trains(name):
    task, batch = (text_task if name in ("transformer", "gpt") else image_task)(TINY[name])
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(key):
        params, state = task.init(key)

        def step(carry, _):
            params, state, opt_state = carry
            (loss, (state, _)), grads = jax.value_and_grad(task.loss, has_aux=True)(params, state, key, batch)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), state, opt_state), loss

        (params, state, _), losses = jax.lax.scan(step, (params, state, optimizer.init(params)), length=30)
        return losses, task.evaluate(params, state, jax.random.key(0), batch), state

    losses, metrics, state = train(jax.random.key(0))
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.9 * losses[0]
    assert metrics["loss"].shape == metrics["accuracy"].shape == (12,)
    assert np.all(np.isfinite(metrics["loss"]))
    assert bool(state) == (name == "resnet")
    assert all(np.all(np.isfinite(leaf)) and np.ptp(leaf) > 0 for leaf in jax.tree.leaves(state))


def test_layers_are_their_blocks_one_after_the_other():
    make = functools.partial(Block, 2, 4, 16, True, jax.nn.initializers.normal(0.5), parent=None)
    x = jax.random.normal(jax.random.key(1), (2, 5, 8))
    layers = Layers(make, 3)
    params = jax.jit(layers.init)(jax.random.key(0), x)["params"]
    assert list(params) == ["layer_0", "layer_1", "layer_2"]
    assert not np.allclose(params["layer_0"]["query"]["kernel"], params["layer_1"]["query"]["kernel"])
    expected, apply = x, jax.jit(make().apply)
    for name in params:
        expected = apply({"params": params[name]}, expected)
    np.testing.assert_allclose(jax.jit(layers.apply)({"params": params}, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["transformer", "gpt"])
def test_a_language_model_sees_the_past_only(family):
    model = TINY[family]
    tokens = jnp.arange(LENGTH)[None]
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), tokens)
    apply = jax.jit(functools.partial(model.apply, train=False))
    base, changed = apply(variables, tokens), apply(variables, tokens.at[0, 3].set(15))
    np.testing.assert_allclose(base[0, :3], changed[0, :3], rtol=1e-6)
    assert np.all(np.abs(base[0, 3:] - changed[0, 3:]).max(axis=1) > 1e-3)


def test_patches_keep_every_pixel_and_pad_with_zeros():
    image = jnp.arange(1.0, 1 + 5 * 5 * 2).reshape(1, 5, 5, 2)
    patches = cut_patches(image, 4)
    assert patches.shape == (1, 4, 32)
    np.testing.assert_array_equal(patches[0, 0].reshape(4, 4, 2), image[0, :4, :4])
    np.testing.assert_array_equal(patches[0, 1].reshape(4, 4, 2)[:, :1], image[0, :4, 4:])
    assert float(patches.sum()) == float(image.sum())
    assert cut_patches(jnp.ones((3, 8, 8, 1)), 16).shape == (3, 1, 256)


def scaled_mean() -> Aggregator:
    """A learned aggregator whose theta makes it FedAvg: step = theta * mean delta, theta = 1."""

    def update(theta, cohort, state, params):
        return jax.tree.map(lambda d: theta * d, weighted_mean(cohort.delta, cohort.weight)), state

    return Aggregator(lambda key: jnp.ones(()), lambda theta, params: (), update)


class Normed(nn.Module):
    """As small as a model with BatchNorm can be."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(8)(x.reshape(x.shape[0], -1))
        return nn.Dense(CLASSES)(nn.relu(nn.BatchNorm(not train, momentum=0.9)(x)))


@pytest.fixture(scope="module")
def rounds():
    """(task, batch, {aggregator: its servers before and after three rounds}) on a model with BatchNorm."""
    task, batch = image_task(Normed())
    clients = independently(local_training(task, optax.sgd(0.05)))
    batches = jax.tree.map(lambda leaf: leaf.reshape(2, 2, 3, *leaf.shape[1:]), batch)
    params, state = jax.jit(task.init)(jax.random.key(0))
    servers = {}
    for name in ("fedavg", "scaled-mean", "fedlopt"):
        aggregator = scaled_mean() if name == "scaled-mean" else get_aggregator(name)
        theta = aggregator.init_theta(jax.random.key(1))
        parts = assemble(task, clients, aggregator)
        weight, both = jnp.array([1.0, 3.0]), jnp.arange(2)
        step = jax.jit(
            lambda server, theta, parts=parts, weight=weight, both=both: federated_round(
                theta, parts, server, batches, weight, both, jax.random.key(2)
            )[0]
        )
        servers[name] = [init_server(theta, parts, params, state, 2)]
        for _ in range(3):
            servers[name].append(step(servers[name][-1], theta))
    return task, batch, servers


def test_running_statistics_are_trained_and_equal_for_an_aggregator_that_mimics_fedavg(rounds):
    _, _, servers = rounds
    before, after = servers["fedavg"][0].model_state, servers["fedavg"][3].model_state
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before, after)
    assert min(jax.tree.leaves(moved)) > 0
    for ours, theirs in zip(servers["fedavg"], servers["scaled-mean"], strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours.model_state, theirs.model_state)
        jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


def test_the_first_rounds_statistics_do_not_depend_on_the_aggregator(rounds):
    """They are the clients': a learned aggregator of any theta writes the parameters, not the statistics."""
    _, _, servers = rounds
    ours, theirs = servers["fedavg"][1], servers["fedlopt"][1]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, ours.model_state, theirs.model_state)
    assert any(
        not np.allclose(a, b)
        for a, b in zip(*map(jax.tree.leaves, (ours.params, theirs.params)), strict=True)
    )


def test_evaluation_uses_the_running_statistics(rounds):
    task, batch, servers = rounds
    chunks, mask = chunked(jax.tree.map(jnp.asarray, batch), 6)
    evaluate = jax.jit(functools.partial(evaluate_split, task))
    server = servers["fedavg"][3]
    trained = evaluate(server.params, server.model_state, chunks, mask)
    fresh = evaluate(server.params, servers["fedavg"][0].model_state, chunks, mask)
    assert abs(float(trained["loss"]) - float(fresh["loss"])) > 1e-3
    alone = task.evaluate(
        server.params, server.model_state, jax.random.key(0), jax.tree.map(lambda leaf: leaf[:1], batch)
    )
    together = task.evaluate(server.params, server.model_state, jax.random.key(0), batch)
    np.testing.assert_allclose(alone["loss"][0], together["loss"][0], rtol=1e-4)  # not the batch's statistics


@pytest.mark.parametrize(
    "model", [Normed(), pytest.param(resnet("18", CLASSES), marks=pytest.mark.slow)], ids=["tiny", "resnet18"]
)
def test_the_meta_tester_carries_running_statistics_and_evaluates_with_them(model):
    task, batch = image_task(model)
    fresh = jax.jit(task.init)(jax.random.key(0))[1]
    forgetful = task._replace(
        evaluate=lambda params, _, key, batch: task.evaluate(params, fresh, jax.random.key(0), batch)
    )
    train = to_federated(Split(batch), [np.arange(len(batch["label"]))])
    evaluation = {"test": chunked(jax.tree.map(jnp.asarray, batch), 12)}

    def curves(aggregator, task):
        parts = assemble(task, independently(local_training(task, optax.sgd(0.02))), aggregator)
        setting = Setting(RoundSizes(2, 2, 6), lambda rates: parts)
        shared = Shared(aggregator.init_theta(jax.random.key(0)), train, evaluation)
        return Program(setting, Budget(8, 8), job_mesh(1, 1)).run(shared, {}, np.zeros(1, int))

    fedavg, mimic = curves(get_aggregator("fedavg"), task), curves(scaled_mean(), task)
    jax.tree.map(np.testing.assert_array_equal, fedavg, mimic)
    without = curves(get_aggregator("fedavg"), forgetful)
    np.testing.assert_allclose(without.train_loss, fedavg.train_loss, rtol=1e-4)
    first, last = np.abs(fedavg.evaluated["test_loss"] - without.evaluated["test_loss"])[0]
    assert first < 1e-5
    assert last > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet18gn", "resnet50", "deit_tiny", "tall16"])
def test_full_models_have_finite_gradients(name):
    from learned_aggregation.tasks import make_task

    task, dataset = make_task(f"{name}_digits_8")
    batch = {key: leaf[:8] for key, leaf in dataset.splits["train"].examples.items()}
    params, state = jax.jit(task.init)(jax.random.key(0))
    (loss, _), grads = jax.jit(jax.value_and_grad(task.loss, has_aux=True))(
        params, state, jax.random.key(0), batch
    )
    assert math.isfinite(loss)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))


def test_a_network_with_group_norm_halves_the_image_and_knows_no_other_example():
    model, images = convgn("4x12", CLASSES), jax.random.normal(jax.random.key(0), (3, 7, 7, 2))
    assert count(model, images[:1]) == 9 * 2 * 4 + 2 * 4 + 9 * 4 * 12 + 2 * 12 + (2 * 2 * 12 + 1) * CLASSES
    variables = model.init(jax.random.key(1), images, train=False)
    together = model.apply(variables, images, train=True)
    alone = model.apply(variables, images[:1], train=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)
    bright = model.apply(
        variables, 3 * images, train=False
    )  # normalised away, layer by layer, but for the epsilon
    np.testing.assert_allclose(bright, together, rtol=1e-2, atol=1e-3)


def test_gpt_has_the_parameters_of_its_formula_and_knows_where_a_token_stands():
    vocabulary, length, h, m, layers = 16, LENGTH, 8, 16, 2
    tokens = jnp.full((1, length), 3)  # without positions, every prefix of these looks the same
    expected = (
        (2 * vocabulary + length) * h + vocabulary + 2 * h + layers * (4 * h * h + 2 * h * m + 9 * h + m)
    )
    assert count(TINY["gpt"], tokens) == expected
    variables = TINY["gpt"].init(jax.random.key(0), tokens, train=False)
    logits = TINY["gpt"].apply(variables, tokens, train=False)
    assert np.all(np.abs(logits[0, 1:] - logits[0, :1]).max(axis=1) > 1e-3)
    with pytest.raises(UserError, match=r"heads that divides the hidden size 8, got 3"):
        gpt("_h8_m16_nh3_nl2", 16)
    with pytest.raises(UserError, match=r"with your own numbers\.$"):
        gpt("_h8", 16)
