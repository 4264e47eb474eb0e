"""A whole PES estimate, the meta-optimizer and the episode lengths against the reference (vi, vii, viii)."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_aggregation import get_aggregator
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients.sgd import sgd
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.meta_training.estimators.pes import PESState, pes_window
from learned_aggregation.meta_training.optimizer import Schedule, learning_rate_schedule, meta_optimizer
from learned_aggregation.meta_training.unroll import Episode, is_over, log_uniform_length
from learned_aggregation.problems.inner_problem import normalise_loss
from learned_aggregation.tasks.models.mlp import mlp
from learned_aggregation.tasks.objectives.classification import classification
from learned_aggregation.types import Dataset, InnerProblem, Split


def digits_task():
    images = np.zeros((1, 8, 8, 1), np.uint8)
    return classification("digits", mlp("32", 10), Dataset("digits", {"train": Split({"image": images})}, 10))


@pytest.fixture(scope="module")
def windows():
    """The two windows of golden vii as our PES computes them: [(gradient, state, metrics), ...]."""
    arrays = golden.load("vii_pes_unroll_noreset")
    clients, local_steps, batch = (int(arrays[name]) for name in "KHB")
    task = digits_task()
    aggregator = get_aggregator("fedlagg-adafac", num_grads=clients)
    local = local_training(task, sgd(float(arrays["local_lr"])))
    parts, everyone = assemble(task, independently(local), aggregator), jnp.arange(clients)

    def advance(theta, state, data, key):
        server, t = state
        image = data["image"][t].astype(jnp.float32) / 16.0
        batches = {
            "image": image.reshape(clients, local_steps, batch, 8, 8, 1),
            "label": data["label"][t].reshape(clients, local_steps, batch),
        }
        server, loss = federated_round(theta, parts, server, batches, jnp.ones(clients), everyone, key)
        return (server, t + 1), normalise_loss(loss, task.loss_cap)

    theta = jax.tree.map(jnp.asarray, golden.theta(arrays))

    def start(problem, sign):
        params = jax.tree.map(lambda x: jnp.asarray(x[problem]), golden.mlp_params(arrays, f"{sign}0/params"))
        return init_server(theta, parts, params, {}, clients), jnp.int32(0)

    inner = InnerProblem(reset=lambda *_: None, advance=advance)
    states = []
    for problem in range(3):
        arms = jax.tree.map(lambda p, n: jnp.stack([p, n]), start(problem, "pos"), start(problem, "neg"))
        states.append(
            PESState(arms, jax.tree.map(jnp.zeros_like, theta), Episode(jnp.int32(0), jnp.int32(50)))
        )
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    @jax.jit
    def window(eps, state, data):
        def one(eps, state, data):
            return pes_window(inner, theta, eps, state, data, jax.random.key(0), 20, float(arrays["std"]))

        return jax.vmap(one)(eps, state, data)

    results = []
    for r in (1, 2):
        eps = golden.theta(arrays, f"tr{r}/vec_pos")
        data = {name: jnp.moveaxis(arrays[f"tr{r}/{name}"], 1, 0) for name in ("image", "label")}
        state = state._replace(arms=(state.arms[0], jnp.zeros_like(state.arms[1])))
        gradient, state, metrics = window(eps, state, data)
        results.append((gradient, state, metrics))
    return arrays, results


@pytest.mark.parametrize("r", [1, 2])
def test_pes_estimate_matches_the_reference(windows, r):
    arrays, results = windows
    gradient, state, metrics = results[r - 1]
    np.testing.assert_allclose(jnp.mean(metrics["meta_loss"]), arrays[f"tr{r}/out_mean_loss"], rtol=1e-6)
    accumulator = jax.tree.map(
        lambda xi: xi * arrays["std"] ** 2, state.accumulator
    )  # the reference sums eps
    assert_tree_close(accumulator, golden.theta(arrays, f"tr{r}/out_accumulator"), 1e-6)
    # The gradient is a difference of nearly equal losses over 2 std^2: their float32 rounding, about 1e-7, is
    # amplified by xi / (2 std^2), about 50 xi/std^2; hence a tolerance on the gradient's own scale.
    ours = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradient)
    assert_tree_close(ours, golden.theta(arrays, f"tr{r}/out_grad"), 1e-3)


@pytest.mark.parametrize("r", [1, 2])
@pytest.mark.parametrize(("arm", "sign"), [(0, "pos"), (1, "neg")])
def test_inner_parameters_after_a_window_match_the_reference(windows, r, arm, sign):
    arrays, results = windows
    params = jax.tree.map(lambda x: x[:, arm], results[r - 1][1].arms[0].params)
    assert_tree_close(params, golden.mlp_params(arrays, f"{sign}{r}/params"), 1e-5)


def assert_tree_close(ours, reference, tolerance):
    """Each leaf to `tolerance` of its own largest value."""
    paths, _ = jax.tree_util.tree_flatten_with_path(ours)
    others, _ = jax.tree_util.tree_flatten_with_path(reference)
    assert [path for path, _ in paths] == [path for path, _ in others]
    for (_, a), (_, b) in zip(paths, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


SMALL = Schedule(3e-10, 3e-3, 1e-3, warmup_steps=3, decay_steps=8)


def test_schedule_matches_the_reference():
    arrays = golden.load("viii_adamw_schedule")
    ours = [learning_rate_schedule(SMALL)(t) for t in range(13)]
    np.testing.assert_allclose(ours, arrays["lr_small"], rtol=1e-5)
    full = learning_rate_schedule(Schedule(3e-10, 3e-3, 1e-3, warmup_steps=100, decay_steps=4900))
    np.testing.assert_allclose([full(t) for t in arrays["lr_full_steps"]], arrays["lr_full"], rtol=1e-5)


@pytest.mark.parametrize("suffix", ["", "_clip"])
def test_meta_optimizer_matches_the_reference(suffix):
    arrays = golden.load("viii_adamw_schedule")
    params = jax.tree.map(jnp.asarray, golden.tree(arrays, f"step0{suffix}/params"))
    optimizer = meta_optimizer(SMALL)
    state = optimizer.init(params)
    for t in range(1, 13):
        updates, state = optimizer.update(golden.tree(arrays, f"grad{t}{suffix}"), state, params)
        params = optax.apply_updates(params, updates)
        for name, value in golden.tree(arrays, f"step{t}{suffix}/params").items():
            np.testing.assert_allclose(params[name], value, atol=2e-7)


def test_clip_bounds_the_norm_of_the_gradient_that_adamw_sees():
    """Adam's first step hides the gradient's scale, its first moment does not."""
    params = {"a": jnp.zeros(4)}
    gradient = {"a": jnp.array([3.0, 4.0, 0.0, 0.0])}
    optimizer = meta_optimizer(SMALL._replace(clip=1.0))
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    moment = next(
        s.mu["a"] for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu")
    )
    np.testing.assert_allclose(moment, 0.1 * gradient["a"] / 5.0, rtol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(100, 1000), (100, 200), (3, 8)])
def test_episode_lengths_match_the_reference(low, high):
    arrays = golden.load("vi_truncation_schedule")
    ours = log_uniform_length(arrays[f"len_{low}_{high}/u"], low, high)
    np.testing.assert_array_equal(ours, arrays[f"len_{low}_{high}/length"])
    prefix = f"next_{low}_{high}"
    over = is_over(Episode(arrays[f"{prefix}/step"], arrays[f"{prefix}/length_in"]))
    np.testing.assert_array_equal(over, arrays[f"{prefix}/is_done"])
    redrawn = log_uniform_length(arrays[f"{prefix}/u"], low, high)
    ours = np.where(over, redrawn, arrays[f"{prefix}/length_in"])
    np.testing.assert_array_equal(ours, arrays[f"{prefix}/length_out"])
