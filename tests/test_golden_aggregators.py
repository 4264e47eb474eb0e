"""The learned aggregators against the published reference (golden files i, ii, iii)."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation import ClientUpdate, get_aggregator
from learned_aggregation.aggregators.learned.accumulators import factored_dims, update_accumulators
from learned_aggregation.aggregators.learned.features import (
    adafac_features,
    delta_features,
    normalise,
    step_features,
)
from learned_aggregation.aggregators.learned.options import LearnedOptions
from learned_aggregation.aggregators.learned.rules import adafac_family, decays_of

CASES = {
    "i_fedlagg_adafac": "fedlagg-adafac",
    "ii_fedlopt_adafac": "fedlopt-adafac",
    "iii_fedlagg_mlp": "fedlagg",
    "iii_fedlopt_mlp": "fedlopt",
}
STEPS = range(1, 6)


def cohort(delta: dict) -> ClientUpdate:
    clients = jax.tree.leaves(delta)[0].shape[0]
    return ClientUpdate(delta, (), jnp.zeros(clients), jnp.ones(clients))


@pytest.mark.parametrize("file", CASES)
def test_initial_theta_has_the_reference_shapes(file):
    expected = golden.theta(golden.load(file), "theta_init")
    theta = get_aggregator(CASES[file]).init_theta(jax.random.key(0))
    assert jax.tree.map(jnp.shape, theta) == jax.tree.map(jnp.shape, expected)


@pytest.mark.parametrize("file", CASES)
def test_initial_theta_has_the_reference_distribution(file):
    """Truncated normal at two standard deviations of scale 1/sqrt(fan_in), the untruncated one."""
    expected = golden.theta(golden.load(file), "theta_init")["nn"]
    theta = get_aggregator(CASES[file]).init_theta(jax.random.key(0))["nn"]
    for name, weight in theta.items():
        if name.startswith("b"):
            assert not np.any(weight)
            continue
        scale = 1.0 / np.sqrt(weight.shape[0])
        for values in (weight, expected[name]):
            assert np.max(np.abs(values)) <= 2.0 * scale
            if values.size > 500:
                assert np.std(values) == pytest.approx(0.8796 * scale, rel=0.1)


@pytest.mark.parametrize("file", CASES)
def test_five_updates_match_the_reference(file):
    arrays = golden.load(file)
    theta = jax.tree.map(jnp.asarray, golden.theta(arrays))
    aggregator = get_aggregator(CASES[file])
    params = jax.tree.map(jnp.asarray, golden.tree(arrays, "step0/params"))
    state = aggregator.init(theta, params)
    update = jax.jit(aggregator.update)
    for t in STEPS:
        step, state = update(theta, cohort(golden.tree(arrays, f"delta{t}")), state, params)
        before = golden.tree(arrays, f"step{t - 1}/params")
        after = golden.tree(arrays, f"step{t}/params")
        for name, moved in step.items():
            # Relative to the step: the parameters hardly move, so comparing them would prove little. The
            # reference's step is a difference of float32 parameters, hence the rounding of theirs.
            expected = np.float64(after[name]) - np.float64(before[name])
            rounding = 1.2e-7 * np.max(np.abs(after[name]))
            np.testing.assert_allclose(
                moved, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max() + rounding
            )
        params = jax.tree.map(jnp.asarray, after)


@pytest.mark.parametrize("file", ["i_fedlagg_adafac", "ii_fedlopt_adafac"])
def test_accumulators_and_features_match_the_reference(file):
    arrays = golden.load(file)
    theta = golden.theta(arrays)
    params = golden.tree(arrays, "step0/params")
    state = adafac_family("plain", "all", LearnedOptions(num_grads=8, hidden_size=32)).init(theta, params)
    decays = decays_of(theta)
    inputs = "all" if CASES[file] == "fedlagg-adafac" else "mean"
    for kind, values in zip(("momentum", "rms", "adafactor"), decays, strict=True):
        np.testing.assert_allclose(values, arrays[f"decay/{kind}"], rtol=1e-6)
    accumulators = dict(zip(sorted(params), state.accumulators, strict=True))
    for t in STEPS:
        np.testing.assert_allclose(
            step_features(jnp.int32(t - 1)), arrays["tanh_embedding"][t - 1], atol=1e-6
        )
        for name in accumulators:
            shape = params[name].shape or (1,)
            delta = arrays[f"delta{t}/{name}"].reshape(8, *shape)
            param = arrays[f"step{t - 1}/params/{name}"].reshape(shape)
            new, factored = update_accumulators(accumulators[name], jnp.mean(delta, axis=0), decays)
            raw = adafac_features(
                delta_features(inputs, jnp.mean(delta, axis=0), delta), param, new, factored
            )
            close(raw, arrays[f"step{t}/feat_raw/{name}"])
            close(normalise(raw), arrays[f"step{t}/feat_norm/{name}"])
            close(new.momentum, arrays[f"step{t}/mom/{name}"])
            close(new.rms, arrays[f"step{t}/rms/{name}"])
            if factored_dims(shape):
                close(new.row, arrays[f"step{t}/v_row/{name}"])
                close(new.col, arrays[f"step{t}/v_col/{name}"])
            else:
                close(new.diag, arrays[f"step{t}/v_diag/{name}"])
            accumulators[name] = new


def close(ours, reference):
    """Ours has its decays or features first, the reference last; scalars are [1] here and [] there."""
    ours = np.moveaxis(np.asarray(ours), 0, -1).reshape(reference.shape)
    for feature in range(ours.shape[-1]):
        scale = np.abs(reference[..., feature]).max()
        np.testing.assert_allclose(ours[..., feature], reference[..., feature], rtol=1e-5, atol=1e-5 * scale)
