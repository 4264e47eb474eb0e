"""Meta-training on a mixture of inner problems, with drawn rates and values that move with the outer steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_run import SIZES

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.devices.parallel import job_mesh
from learned_aggregation.errors import UserError
from learned_aggregation.meta_training.outer_step import init_meta_state, make_outer_step
from learned_aggregation.meta_training.unroll import is_over, log_uniform_length
from learned_aggregation.problems.variation import geometric, log_uniform, varied
from learned_aggregation.types import GradientEstimator, InnerProblem

MIXTURE = SIZES | {
    "optimizer": "fedlopt",  # serves any K
    "truncation_length": 2,
    "truncation_schedule_min_length": 2,
    "episode_growth_steps": 2,
    "perturbation_std_end": 0.001,
    "problems": [
        {"label": "a", "local_learning_rate_range": [0.1, 1.0]},
        {
            "label": "b",
            "num_grads": 3,
            "partition": "dirichlet",
            "num_inner_steps": 2,
            "truncation_length": 1,
        },
    ],
}


@pytest.fixture(scope="module")
def steps():
    """The estimators' states and the metrics of 8 outer steps of the mixture; the start first."""
    training = build.meta_training(Config(**MIXTURE))
    state = training.state
    seen = [(jax.tree.map(jnp.copy, state.estimator_states), {})]
    for _ in range(8):
        state, metrics = training.outer_step(state, training.datas)
        seen.append((jax.tree.map(jnp.copy, state.estimator_states), metrics))
    assert training.outer_step._cache_size() == 1  # nothing that moves with the steps is compiled in
    return seen


def test_every_problem_has_its_own_columns(steps):
    metrics = steps[-1][1]
    for name in ("meta_loss", "grad_norm"):
        assert {f"{name}/a", f"{name}/b"} <= set(metrics)
    np.testing.assert_allclose(metrics["meta_loss"], (metrics["meta_loss/a"] + metrics["meta_loss/b"]) / 2)


def test_an_episode_keeps_its_rate_and_the_next_one_draws_another(steps):
    rates = np.array(
        [states[0].arms.variation.rates["local_learning_rate"] for states, _ in steps]
    )  # [steps, T, 2]
    assert np.all((rates >= 0.1) & (rates < 1.0))
    np.testing.assert_array_equal(rates[..., 0], rates[..., 1])
    over = np.array([is_over(states[0].episode) for states, _ in steps])[:-1]
    assert over.any()
    assert not over.all()
    np.testing.assert_array_equal(np.any(rates[1:] != rates[:-1], axis=-1), over)


def test_episodes_start_short_and_grow(steps):
    lengths = np.array([states[0].episode.length for states, _ in steps])  # in windows of 2 rounds
    assert lengths[0].max() == 1
    assert 1 < lengths.max() <= 10


def test_a_problem_has_windows_of_its_own(steps):
    """Two rounds are one window of the first problem, the shortest episode, and two of the second."""
    lengths = np.array([[states[i].episode.length for states, _ in steps] for i in (0, 1)])
    assert lengths[0, 0].min() == 1
    assert set(lengths[1].flat) == {2}


def test_values_that_move_end_where_they_should():
    values = [float(geometric(0.01, 0.0001, 10, step)) for step in (0, 5, 10, 99)]
    np.testing.assert_allclose(values, [0.01, 0.001, 0.0001, 0.0001], rtol=1e-5)
    lengths = jax.jit(lambda longest: log_uniform_length(jnp.float32(0.999), 10, longest))(jnp.float32(40.0))
    assert 38 <= int(lengths) < 40


def test_a_variation_is_drawn_at_the_reset_only():
    problem = varied(
        lambda key: log_uniform(key, 2.0, 3.0),
        lambda rate: InnerProblem(lambda *_: jnp.float32(0.0), lambda theta, x, *_: (x + rate, rate)),
    )
    state = problem.reset((), (), jax.random.key(0))
    assert 2.0 <= float(state.variation) < 3.0
    again, loss = problem.advance((), state, (), jax.random.key(1))
    assert float(again.inner) == float(loss) == float(again.variation) == float(state.variation)


def _gradient_seen(clip, reject=None):
    """What the optimizer gets from two problems with gradients (3, 4) and (0, 0.5)."""

    def constant(*gradient):
        return GradientEstimator(
            lambda *_: jnp.zeros(()),
            lambda theta, state, *_: (jnp.array(gradient), state, {"meta_loss": jnp.float32(0.0)}),
        )

    def estimators_at(step):
        return {"a": constant(3.0, 4.0), "b": constant(0.0, 0.5)}

    mesh, optimizer = job_mesh(2, 1), optax.identity()
    theta, datas = jnp.zeros(2), ((), ())
    state = init_meta_state(theta, estimators_at, datas, optimizer, 2, mesh, jax.random.key(0))
    bounds = {"problem_clip": clip, "problem_reject": reject}
    outer_step = make_outer_step(estimators_at, optimizer, lambda step: step, mesh, **bounds)
    return np.asarray(outer_step(state, datas)[0].theta)


def test_problem_clip_bounds_each_problem_before_the_mean():
    np.testing.assert_allclose(_gradient_seen(None), [1.5, 2.25], rtol=1e-6)
    np.testing.assert_allclose(_gradient_seen(1.0), [0.3, 0.65], rtol=1e-6)


def test_problem_reject_leaves_out_what_exploded_and_keeps_the_rest_as_it_is():
    np.testing.assert_allclose(_gradient_seen(None, reject=5.1), [1.5, 2.25], rtol=1e-6)
    np.testing.assert_allclose(_gradient_seen(None, reject=4.9), [0.0, 0.25], rtol=1e-6)
    np.testing.assert_allclose(_gradient_seen(0.1, reject=4.9), [0.0, 0.05], rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            [{"label": "a", "hidden_size": 4}],
            "problems[0].hidden_size: expected a setting that may vary here",
        ),
        (
            [{"label": "a", "num_inner_steps": 1}],
            "problems[0].truncation_schedule_min_length: expected at most",
        ),
        ([{"task": "mlp4_digits_8"}], "problems[0]: expected label in every problem"),
        ([{"label": "a"}, {"label": "a"}], "problems: expected labels that differ"),
        ([{"label": "a", "task": "mlp4_digits_8,mlp8_digits_8"}], "problems[0].task: expected one task"),
        (
            [{"label": "a", "local_learning_rate_range": [1.0, 0.5]}],
            "problems[0].local_learning_rate_range: expected two numbers above 0, the lower first",
        ),
    ],
)
def test_a_problem_that_is_wrong_is_named(wrong, message):
    with pytest.raises(UserError) as error:
        Config(**SIZES, problems=wrong)
    assert str(error.value).startswith(message)


def test_a_rule_for_one_k_refuses_another():
    config = Config(**(MIXTURE | {"optimizer": "fedlagg"}))
    with pytest.raises(UserError, match=r"problems: expected num_grads=2 in 'b'.*got 3"):
        build.meta_training(config)


def test_large_problems_are_computed_one_after_the_other_on_a_cpu():
    def chunk(*tasks):
        configs = {task: Config(**SIZES | {"task": task, "num_grads": 8}) for task in tasks}
        return build.fastest_chunk({task: (own, build.load_task(own, task)) for task, own in configs.items()})

    assert chunk("mlp32_digits_8") is None
    assert chunk("mlp512_digits_8") == 1
    assert chunk("mlp32_digits_8", "mlp512_digits_8") == 1
