"""One outer step: estimate the meta-gradient on every inner problem, update theta. One jitted function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from learned_aggregation.devices.parallel import compiler_options, everywhere, map_jobs, over_jobs, put
from learned_aggregation.types import GradientEstimator, Key, MetaState, Metrics, Theta

OuterStep = Callable[[MetaState, Sequence[Any]], tuple[MetaState, Metrics]]
EstimatorsAt = Callable[[jax.Array | int], Mapping[str, GradientEstimator]]


def init_meta_state(
    theta: Theta,
    estimators_at: EstimatorsAt,
    datas: Sequence[Any],
    optimizer: optax.GradientTransformation,
    num_tasks: int,
    mesh: Mesh,
    key: Key,
) -> MetaState:
    """The state before the first outer step: `num_tasks` fresh copies of each inner problem."""
    estimators = list(estimators_at(0).values())
    run_key, *task_keys = jax.random.split(key, 1 + len(estimators))
    states = []
    for estimator, data, task_key in zip(estimators, datas, task_keys, strict=True):
        start = map_jobs(lambda shared, k, e=estimator: e.init(shared[0], shared[1], k), mesh)
        start = jax.jit(start, compiler_options=compiler_options())
        states.append(start((theta, data), jax.random.split(task_key, num_tasks)))
    state = MetaState(theta, optimizer.init(theta), tuple(states), run_key, jnp.int32(0))
    return place(state, mesh)


def place(state: MetaState, mesh: Mesh) -> MetaState:
    """Puts a state on the mesh: inner problems divided over the devices, the rest on each of them."""
    problems = put(state.estimator_states, over_jobs(mesh))
    rest = put(state._replace(estimator_states=()), everywhere(mesh))
    return rest._replace(estimator_states=problems)


def abstract(state: MetaState) -> MetaState:
    """Shapes and dtypes without placement: what a checkpoint of any number of devices is read into."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)


def make_outer_step(
    estimators_at: EstimatorsAt,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    mesh: Mesh,
    tasks_per_chunk: int | None = None,
    problem_clip: float | None = None,
    problem_reject: float | None = None,
) -> OuterStep:
    """The jitted, state-donating outer step.

    theta <- theta + optimizer(mean over problems of clip(mean over its T copies of the estimated meta-gradient)).
    Keys come from (state.key, state.step, problem, copy), so a resumed run draws what the undisturbed one would have.

    Args:
      estimators_at: the outer step, traced -> each problem's estimator by its label; each is mapped over its T
        copies.
      learning_rate: only to report it.
      tasks_per_chunk: copies computed at once on a device (bounds the memory).
      problem_clip: a bound on the global norm of each problem's gradient; None: no bound.
      problem_reject: the norm from which on a problem's gradient counts as zero; None: none does. An exploded gradient
        that is only clipped weighs as much as one that means something.
    Returns:
      (state, one data argument for each problem) -> (state, metrics: scalars on the device).
    """

    def outer_step(state: MetaState, datas: Sequence[Any]) -> tuple[MetaState, Metrics]:
        step_key = jax.random.fold_in(state.key, state.step)
        estimators = estimators_at(state.step)
        gradients, states, losses = [], [], []
        for i, (estimator, data) in enumerate(zip(estimators.values(), datas, strict=True)):
            estimate = map_jobs(
                lambda shared, one, e=estimator: e.estimate(shared[0], one[0], shared[1], one[1]),
                mesh,
                tasks_per_chunk,
            )
            problems = state.estimator_states[i]
            num_tasks = jax.tree.leaves(problems)[0].shape[0]
            keys = jax.random.split(jax.random.fold_in(step_key, i), num_tasks)
            gradient, problems, metrics = estimate((state.theta, data), (problems, keys))
            gradients.append(jax.tree.map(lambda g: jnp.mean(g, axis=0), gradient))
            states.append(problems)
            losses.append(jnp.mean(metrics["meta_loss"]))
        norms = [optax.tree.norm(gradient) for gradient in gradients]
        bounds = (problem_clip, problem_reject)
        gradients = [_bounded(g, norm, *bounds) for g, norm in zip(gradients, norms, strict=True)]
        gradient = jax.tree.map(lambda *g: sum(g) / len(g), *gradients)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        metrics = {
            "meta_loss": sum(losses) / len(losses),
            "grad_norm": optax.tree.norm(gradient),
            # Losses are normalised, so that only this tells a theta that is not finite.
            "theta_norm": optax.tree.norm(theta),
            "learning_rate": learning_rate(state.step),
        }
        if len(estimators) > 1:
            metrics |= {f"meta_loss/{label}": loss for label, loss in zip(estimators, losses, strict=True)}
            metrics |= {f"grad_norm/{label}": norm for label, norm in zip(estimators, norms, strict=True)}
        return MetaState(
            theta, opt_state, tuple(states), state.key, state.step + 1, state.validation
        ), metrics

    # As `place` puts them: on one device XLA would call them otherwise, and the second call compile again.
    whole: Any = everywhere(mesh)
    divided = over_jobs(mesh)
    shardings = MetaState(whole, whole, divided, whole, whole, whole), whole
    options = compiler_options()
    return jax.jit(outer_step, donate_argnums=0, out_shardings=shardings, compiler_options=options)


def _bounded(gradient: Theta, norm: jax.Array, clip: float | None, reject: float | None) -> Theta:
    """gradient * min(1, clip / norm), or zero from `reject` on."""
    factor = 1.0 if clip is None else jnp.where(norm > clip, clip / norm, 1.0)
    if reject is None:
        return gradient if clip is None else jax.tree.map(lambda g: g * factor, gradient)
    return jax.tree.map(lambda g: jnp.where(norm < reject, g * factor, 0.0), gradient)
