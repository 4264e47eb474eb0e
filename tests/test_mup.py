"""muP: which tensor gets which factor, and that activations move alike at every width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from helpers import cohort, random_tree

from learned_aggregation import build
from learned_aggregation.aggregators import get_aggregator
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.pretrained.theta_file import save_theta
from learned_aggregation.problems.mup import in_mup, infer_factors, mup_aggregator, shapes_of
from learned_aggregation.tasks.flax_task import flax_task
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.names import width_probes

WIDTHS, BASE, SIDE, CLASSES = (32, 256, 1024), 32, 4, 5
CLIENTS, STEPS, BATCH, ROUNDS = 2, 2, 8, 3
RULES = {"fedavg": {}, "fedlagg-adafac": {"num_grads": CLIENTS, "hidden_size": 8}}
RATE = 0.1


def measure(logits, batch):
    return {"loss": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])}


def mlp_task(width, depth=2):
    example = jnp.zeros((1, SIDE * SIDE))
    return flax_task("mlp", MLP((width,) * depth, CLASSES), example, lambda b: b["image"], measure)


def factors_at(width):
    return infer_factors(*(shapes_of(mlp_task(w)) for w in (width, BASE, 2 * BASE)))


def activations(params, image):
    """Before each layer's ReLU, and the logits."""
    found, x = [], image
    for i in range(3):
        x = x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        found.append(x)
        x = nn.relu(x)
    return found


def changes(width, rule, mup):
    """The root mean square change of every layer's activations after a few rounds."""
    clients = independently(local_training(mlp_task(width), optax.sgd(RATE)))
    parts = assemble(mlp_task(width), clients, get_aggregator(rule, **RULES[rule]))
    factors = factors_at(width)
    if mup:
        parts = in_mup(parts, factors, adaptive=False)
    data_key, label_key, init_key, theta_key = jax.random.split(jax.random.key(0), 4)
    batches = {
        "image": jax.random.normal(data_key, (CLIENTS, STEPS, BATCH, SIDE * SIDE)),
        "label": jax.random.randint(label_key, (CLIENTS, STEPS, BATCH), 0, CLASSES),
    }
    theta = parts.aggregator.init_theta(theta_key)
    # A published network steps by 0.001; larger, so that a few rounds show.
    theta = jax.tree.map(lambda leaf: 3.0 * leaf, theta)

    @jax.jit
    def run(init_key):
        params, model_state = parts.task.init(init_key)
        server = init_server(theta, parts, params, model_state, CLIENTS)

        def one(server, key):
            return federated_round(theta, parts, server, batches, jnp.ones(CLIENTS), jnp.arange(CLIENTS), key)

        end, _ = jax.lax.scan(one, server, jax.random.split(init_key, ROUNDS))
        forward = factors.forward if mup else jax.tree.map(lambda _: 1.0, factors.forward)
        used = [jax.tree.map(jnp.multiply, forward, p) for p in (params, end.params)]
        before, after = (activations(p, batches["image"][0, 0]) for p in used)
        return [jnp.mean((a - b) ** 2) for a, b in zip(after, before, strict=True)]

    seeds = jax.random.split(init_key, 2)
    return np.sqrt(np.mean(np.asarray(jax.lax.map(run, seeds)), axis=1))


@functools.cache
def slopes(rule, mup):
    """Of log change against log width, by layer."""
    found = np.array([changes(width, rule, mup) for width in WIDTHS])
    assert np.all(found > 0)
    return [float(np.polyfit(np.log2(WIDTHS), np.log2(layer), 1)[0]) for layer in found.T]


@pytest.mark.parametrize("rule", RULES)
def test_coordinate_check_activations_move_alike_at_every_width(rule):
    assert max(abs(slope) for slope in slopes(rule, True)) < 0.15, slopes(rule, True)


@pytest.mark.parametrize("rule", RULES)
def test_coordinate_check_fails_in_the_standard_parametrization(rule):
    assert max(abs(slope) for slope in slopes(rule, False)) > 0.4, slopes(rule, False)


def test_factors_of_input_hidden_and_output_tensors():
    factors = factors_at(4 * BASE)
    at = {
        name: [[getattr(factors, name)[f"Dense_{i}"][k] for k in ("kernel", "bias")] for i in range(3)]
        for name in factors._fields
    }
    assert at["init"] == [[1, 1], [1, 1], [2, 1]]
    assert at["forward"] == [[1, 1], [1, 1], [0.25, 1]]
    assert at["sgd"] == [[4, 4], [1, 4], [4, 1]]
    assert at["adam"] == [[1, 1], [0.25, 1], [1, 1]]
    assert set(jax.tree.leaves(factors_at(BASE))) == {1.0}


def test_a_linear_rule_is_left_as_it_is():
    """Its muP is in the clients' rates."""
    factors = factors_at(64)
    params = mlp_task(64).init(jax.random.key(0))[0]
    update = cohort(random_tree(jax.random.key(1), params, (CLIENTS,)))
    plain = get_aggregator("fedavgm", learning_rate=0.5, beta=0.9)
    scaled = mup_aggregator(plain, factors)
    results = [rule.update((), update, rule.init((), params), params)[0] for rule in (plain, scaled)]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_width_probes_of_a_name():
    assert width_probes("mlp128x64_digits_8", 32) == ("mlp32x32_digits_8", "mlp64x64_digits_8")
    assert width_probes("conv16x32_glyphs_28", 8) == ("conv8x8_glyphs_28", "conv16x16_glyphs_28")
    with pytest.raises(UserError, match="parametrization"):
        width_probes("resnet18_imagenet_32", 32)


def test_a_theta_of_the_other_parametrization_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    theta = get_aggregator("fedlopt", hidden_size=4).init_theta(jax.random.key(0))
    save_theta(path, theta, {"parametrization": "mup"})
    asked = {"run_type": "benchmark", "optimizer": "fedlopt", "hidden_size": 4, "test_checkpoint": str(path)}
    build.learned_theta(Config(**asked, parametrization="mup"))
    with pytest.raises(UserError, match="for parametrization=mup, the config asks for standard"):
        build.learned_theta(Config(**asked))
