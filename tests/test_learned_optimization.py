"""The adapters to learned_optimization against the released package; `make test-learned-optimization` runs them."""

# ruff: noqa: E402  (the package cannot be imported before its JAX is restored, nor where it is not installed)
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSICAL, cohort, random_tree, small_tree

from learned_aggregation import DropIn, get_aggregator
from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.errors import UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.problems.inner_problem import RoundSizes, inner_problem

pytestmark = pytest.mark.extras
pytest.importorskip("learned_optimization")

import old_jax

old_jax.restore()

from learned_optimization import eval_training
from learned_optimization.learned_optimizers import test_utils
from learned_optimization.outer_trainers import full_es
from learned_optimization.outer_trainers import test_utils as outer_test_utils
from learned_optimization.tasks import base as tasks_base
from learned_optimization.tasks import quadratics
from learned_optimization.tasks.datasets import base as datasets_base
from learned_optimization.tasks.fixed import image_mlp

from learned_aggregation.integrations.learned_optimization import from_task, to_learned_optimizer

CLIENTS = 4


def options_of(name: str) -> dict:
    return {"num_grads": CLIENTS, "hidden_size": 4} | CLASSICAL.get(name, {})


def fresh(name: str) -> DropIn:
    theta = get_aggregator(name, **options_of(name)).init_theta(jax.random.key(1))
    return DropIn(name, theta, options=options_of(name))


def digits_task(batch_size: int = 16):
    """learned_optimization's own MLP task on scikit-learn's digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)

    def batches(seed: int):
        draw = np.random.default_rng(seed)
        while True:
            rows = draw.integers(len(labels), size=batch_size)
            yield {"image": (images[rows] / 16).astype(np.float32), "label": labels[rows].astype(np.int32)}

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), next(batches(0)))
    splits = [datasets_base.ThreadSafeIterator(batches(seed)) for seed in range(4)]
    datasets = datasets_base.Datasets(*splits, extra_info={"num_classes": 10}, abstract_batch=shapes)
    return image_mlp._MLPImageTask(datasets, [8])


class CountingTask(tasks_base.Task):
    """A model state with an integer in it, and no data."""

    def init_with_state(self, key):
        return jax.random.normal(key, (3,)), {"steps": jnp.asarray(0), "mean": jnp.zeros(3)}

    def loss_with_state_and_aux(self, params, state, key, data):
        assert state["steps"].dtype == jnp.int32
        state = {"steps": state["steps"] + 1, "mean": 0.5 * (state["mean"] + params)}
        return jnp.sum(params**2), state, {}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_optimizer_equals_the_core(name):
    """Pseudo-gradients of K clients, stacked; three steps with the model state handed on."""
    agg = fresh(name)
    lopt = to_learned_optimizer(agg, stacked=True)
    opt = lopt.opt_fn(agg.theta)
    core, state = small_tree(), agg.rule.init(agg.theta, small_tree())
    opt_state = opt.init(core, model_state=jnp.float32(0))
    update, core_update = jax.jit(opt.update), jax.jit(agg.rule.update)
    for seed in range(3):
        g = random_tree(jax.random.key(seed), core, (CLIENTS,), 0.1)
        step, state = core_update(agg.theta, cohort(jax.tree.map(jnp.negative, g)), state, core)
        core = jax.tree.map(jnp.add, core, step)
        opt_state = update(opt_state, g, loss=0.0, model_state=jnp.float32(seed))
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-6), opt.get_params(opt_state), core
        )
    assert opt.get_state(opt_state) == 2
    assert opt_state.iteration == 3


@pytest.mark.parametrize("name", ["fedavg", "fedlopt-adafac"])
def test_the_packages_own_smoke_test(name):
    """float32 and float16 parameters, with and without model state, shapes and dtypes kept."""
    test_utils.smoketest_learned_optimizer(to_learned_optimizer(fresh(name), learning_rate=0.1))


def test_a_gradient_stands_for_a_local_step():
    """FedAvg at rate r is SGD at rate r."""
    opt = to_learned_optimizer(DropIn("fedavg"), learning_rate=0.25).opt_fn()
    params, g = small_tree(), random_tree(jax.random.key(0), small_tree())
    after = opt.get_params(opt.update(opt.init(params), g))
    jax.tree.map(lambda a, p, x: np.testing.assert_allclose(a, p - 0.25 * x, atol=1e-6), after, params, g)


def test_fixed_k_needs_stacked_gradients():
    opt = to_learned_optimizer(fresh("fedlagg")).opt_fn()
    with pytest.raises(
        UserError, match=r"fedlagg: expected the deltas of 4 clients, .* got their mean alone"
    ):
        opt.update(opt.init(small_tree()), small_tree())


def test_the_packages_training_loop():
    """eval_training.single_task_training_curves on its own image MLP."""
    opt = to_learned_optimizer(
        DropIn("fedavgm", options={"beta": 0.5, "learning_rate": 1.0}), learning_rate=0.3
    )
    curves = eval_training.single_task_training_curves(
        digits_task(),
        opt.opt_fn(),
        num_steps=60,
        key=jax.random.PRNGKey(0),
        eval_every=60,
        eval_batches=2,
        last_eval_batches=4,
    )
    assert curves["eval/test/loss"][-1] < 0.7 * curves["eval/test/loss"][0]


def test_the_packages_outer_trainer_takes_it():
    """A meta-gradient of our theta by its full_es."""
    trainer = full_es.FullES(
        quadratics.FixedDimQuadraticFamily(10),
        to_learned_optimizer(fresh("fedlopt"), learning_rate=0.1),
        num_tasks=2,
        unroll_length=4,
        steps_per_jit=2,
    )
    outer_test_utils.trainer_smoketest(trainer)


def fedavg_rounds(task, data, rounds: int, sizes: RoundSizes, rate: float = 0.1):
    """(first and last states, meta-losses) of an inner problem with local SGD."""
    rule = fresh("fedavg")
    clients = independently(local_training(task, LOCAL_OPTIMIZERS["sgd"](rate)))
    problem = inner_problem(assemble(task, clients, rule.rule), sizes, "outer_valid")
    first = state = problem.reset(rule.theta, data, jax.random.key(0))
    advance, losses = jax.jit(problem.advance), []
    for i in range(rounds):
        state, loss = advance(rule.theta, state, data, jax.random.key(i))
        losses.append(float(loss))
    return first, state, losses


def test_a_task_is_an_inner_problem_that_trains():
    task, data = from_task(digits_task(), num_batches=64, num_clients=4)
    assert data["train"].rows.shape == (4, 16)
    assert data["train"].examples["0"].shape == (64, 16, 64)
    first, _, losses = fedavg_rounds(task, data, 20, RoundSizes(4, 2, 1), rate=0.5)
    assert losses[-1] < 0.7 * losses[0]
    assert set(first.params) == {"mlp/~/linear_0", "mlp/~/linear_1"}


def test_its_normalizer_bounds_the_meta_loss():
    task, data = from_task(digits_task(), num_batches=4)
    _, _, losses = fedavg_rounds(task, data, 3, RoundSizes(2, 1, 1), rate=1e6)
    assert losses[-1] == pytest.approx(1.5 * np.log(10))


def test_its_loss_and_gradient_are_the_packages():
    theirs = digits_task()
    task, data = from_task(theirs, num_batches=3)
    params, state = task.init(jax.random.key(1))
    batch = {name: leaf[1:2] for name, leaf in data["train"].examples.items()}
    raw = {"image": batch["0"][0], "label": batch["1"][0]}
    key = jax.random.key(2)
    (loss, _), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, state, key, batch)
    expected = jax.value_and_grad(theirs.loss)(params, jax.random.PRNGKey(0), raw)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-6), (loss, gradient), expected)
    np.testing.assert_allclose(
        task.evaluate(params, state, jax.random.key(0), batch)["loss"], [expected[0]], atol=1e-6
    )
    assert task.loss_cap == pytest.approx(1.5 * np.log(10))


def test_a_task_without_data_and_one_of_bare_arrays():
    for theirs in (quadratics.QuadraticTask(), quadratics.BatchQuadraticTask()):
        task, data = from_task(theirs, num_batches=4)
        _, _, losses = fedavg_rounds(task, data, 10, RoundSizes(2, 1, 1))
        assert losses[-1] < 0.5 * losses[0]


def test_counters_in_the_model_state_stay_whole():
    task, data = from_task(CountingTask(), num_batches=4)
    _, last, _ = fedavg_rounds(task, data, 3, RoundSizes(2, 2, 1))
    assert last.model_state["steps"] == 6


def test_the_guides_program_runs():
    guide = (Path(__file__).parent.parent / "docs/integrations.md").read_text()
    program = re.search(r"```python\n([^`]*?to_learned_optimizer.*?)```", guide, re.DOTALL)
    assert program
    exec(
        compile(program[1], "integrations.md", "exec"),
        {"agg": fresh("fedlagg"), "their_task": quadratics.QuadraticTask()},
    )


def test_more_clients_than_batches_are_refused():
    with pytest.raises(UserError, match="num_clients from 1 to num_batches, 4, got 5"):
        from_task(quadratics.QuadraticTask(), num_batches=4, num_clients=5)
