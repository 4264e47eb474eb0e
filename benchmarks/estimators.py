"""Bias, variance and time of the meta-gradient estimators at a fixed theta, against backpropagation.

python -m benchmarks.estimators                       both problems: a table, and benchmarks/out/estimators.json
python -m benchmarks.estimators quadratic --problems 64   one of them, with more inner problems

Every inner problem runs one episode that is not counted and one that is; all episodes have one length. Units are
those of the exact meta-gradient e, the mean over problems of backpropagation through whole episodes:

- bias: <mean estimate, e> / |e|^2 - 1, with its standard error over inner problems;
- variance: E|g - E g|^2 / |e|^2 of one estimate;
- at equal rounds: the variance left when as many independent estimates are averaged as cost one episode;
- times seconds: the variance times the seconds that an estimate takes: what is left after a second of averaging.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.meta_training.estimators import ESTIMATORS
from learned_aggregation.meta_training.unroll import EpisodeSchedule, unroll
from learned_aggregation.types import GradientEstimator, InnerProblem

OUT = Path(__file__).parent / "out" / "estimators.json"
STD = 0.01


class Workload(NamedTuple):
    """rounds: of every episode; window: L; problems: how many inner problems are averaged over."""

    problem: InnerProblem
    theta: Any
    data: Any
    rounds: int
    window: int
    problems: int


def quadratic(problems: int) -> Workload:
    """A noisy quadratic in 12 dimensions, K 8, H 4, 1000 rounds, L 50; theta: 12 server rates and a momentum."""
    clients, steps, local_rate = 8, 4, 0.1
    curvature = jnp.geomspace(0.01, 1.0, 12)

    def reset(theta, data, key):
        return jax.random.normal(key, curvature.shape), jnp.zeros_like(curvature)

    def advance(theta, state, data, key):
        w, velocity = state
        noise = jax.random.normal(key, (steps, clients, *curvature.shape))

        def local_step(local, noise):
            return local - local_rate * curvature * (local + noise), None

        local, _ = jax.lax.scan(local_step, jnp.broadcast_to(w, noise.shape[1:]), noise)
        velocity = jax.nn.sigmoid(theta["momentum"]) * velocity + jnp.mean(local - w, axis=0)
        w = w + jnp.exp(theta["rate"]) * velocity
        return (w, velocity), 0.5 * jnp.sum(curvature * w * w)

    theta = {"rate": jnp.full(curvature.shape, -0.5), "momentum": jnp.float32(0.0)}
    return Workload(InnerProblem(reset, advance), theta, (), 1000, 50, problems)


def digits(problems: int) -> Workload:
    """MLP 64-8-10 on digits trained by LAgg-A (width 8, over Nesterov), K 4, H 4, B 16, 100 rounds, L 10."""
    from learned_aggregation import build
    from learned_aggregation.config.resolve import Config
    from learned_aggregation.problems.inner_problem import inner_problem

    config = Config(
        task="mlp8_digits_8",
        base="nesterov",
        hidden_size=8,
        num_grads=4,
        local_batch_size=16,
        num_inner_steps=100,
    )
    loaded, rates = build.load_task(config, "mlp8_digits_8"), build.rates_of(config)
    parts = build.make_parts(config, loaded)(rates)
    problem = inner_problem(parts, build.round_sizes(config), None)
    data = {"train": build.train_data(config, loaded)}
    return Workload(problem, parts.aggregator.init_theta(jax.random.key(0)), data, 100, 10, problems)


WORKLOADS: dict[str, tuple[Callable[[int], Workload], int]] = {
    "quadratic": (quadratic, 128),
    "digits": (digits, 48),
}
"""name -> (problems -> Workload, how many problems by default)."""


def norm2(tree: Any) -> Any:
    return sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree))


def dot(a: Any, b: Any) -> Any:
    return sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def mean_over(tree: Any, axes: Any = 0) -> Any:
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=axes), tree)


def exact_gradient(work: Workload) -> Any:
    """The mean over problems of backpropagation through whole episodes."""
    short = work.problem._replace(advance=jax.checkpoint(work.problem.advance))

    def episode(theta, data, key):
        reset_key, unroll_key = jax.random.split(key)
        start = work.problem.reset(theta, data, reset_key)
        return jnp.mean(unroll(short, theta, start, data, unroll_key, work.rounds)[1])

    keys = jax.random.split(jax.random.key(1), work.problems)
    gradient = jax.jit(
        lambda theta, data: jax.lax.map(lambda k: jax.grad(episode)(theta, data, k), keys, batch_size=8)
    )
    return mean_over(gradient(work.theta, work.data))


def measure(name: str, work: Workload, exact: Any) -> dict[str, Any]:
    """The row of one estimator on one workload."""
    schedule = EpisodeSchedule(work.rounds, work.rounds, work.window)
    estimator = ESTIMATORS[name](work.problem, schedule, STD)
    windows = work.rounds // work.window
    per_episode = 1 if name == "full_es" else windows
    step = jax.jit(lambda theta, state, data, keys: _estimates(estimator, theta, state, data, keys, exact))
    keys = jax.random.split(jax.random.key(2), work.problems)
    state = jax.jit(jax.vmap(estimator.init, in_axes=(None, None, 0)))(work.theta, work.data, keys)
    found, seconds = [], []
    for i in range(2 * per_episode + 1):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(3), i), work.problems)
        start = time.perf_counter()
        state, statistics = jax.block_until_ready(step(work.theta, state, work.data, keys))
        if i > per_episode:
            found.append(statistics)
            seconds.append((time.perf_counter() - start) / work.problems)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *(f["mean"] for f in found))
    # A problem's estimates depend on each other; problems don't.
    along = np.mean([f["along"] for f in found], axis=0)
    size = float(norm2(exact))
    variance = (float(np.mean([f["norm2"] for f in found])) - float(norm2(mean))) / size
    took = float(np.median(seconds))
    return {
        "estimator": name,
        "bias": float(np.mean(along)) - 1.0,
        "bias_error": float(np.std(along, ddof=1) / np.sqrt(work.problems)),
        "cosine": float(dot(mean, exact) / jnp.sqrt(norm2(mean) * size)),
        "variance": variance,
        "variance_equal_rounds": variance / (windows if per_episode == windows else 1),
        "seconds": took,
        "variance_times_seconds": variance * took,
    }


def _estimates(estimator: GradientEstimator, theta: Any, state: Any, data: Any, keys: Any, exact: Any):
    """One estimate of every problem: (states, what is kept of the gradients)."""
    gradient, state, _ = jax.vmap(estimator.estimate, in_axes=(None, 0, None, 0))(theta, state, data, keys)
    along = jax.vmap(lambda g: dot(g, exact) / norm2(exact))(gradient)
    return state, {
        "mean": mean_over(gradient),
        "along": along,
        "norm2": jnp.mean(jax.vmap(norm2)(gradient)),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| estimator | bias along the gradient | variance | at equal rounds | ms an estimate | variance x seconds |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['estimator']} | {r['bias']:+.3f} +- {r['bias_error']:.3f} | {r['variance']:.3g} | "
            f"{r['variance_equal_rounds']:.3g} | {1e3 * r['seconds']:.2f} | {r['variance_times_seconds']:.2g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all when none is given")
    parser.add_argument("--problems", type=int, help="inner problems that are averaged over")
    args = parser.parse_args()
    results = {}
    for name in args.workloads or WORKLOADS:
        if name not in WORKLOADS:
            parser.error(f"workloads: expected some of {', '.join(WORKLOADS)}, got {name!r}.")
        make, problems = WORKLOADS[name]
        work = make(args.problems or problems)
        exact = exact_gradient(work)
        size = sum(leaf.size for leaf in jax.tree.leaves(exact))
        print(
            f"\n{name}: {work.rounds} rounds, L {work.window}, {size} meta-parameters, {work.problems} problems"
        )
        results[name] = [measure(estimator, work, exact) for estimator in sorted(ESTIMATORS)]
        print(table(results[name]), flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
