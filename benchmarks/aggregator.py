"""The learned aggregator alone: nanoseconds a parameter, against XLA's program where the CPU kernel runs, its plain
version, and optax.adam.
"""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from benchmarks.timing import interleaved, matrix_peak, paired_ratio, row
from learned_aggregation import ClientUpdate, get_aggregator, kernels
from learned_aggregation.aggregators.learned.options import LearnedOptions
from learned_aggregation.aggregators.learned.rules import adafac_family
from learned_aggregation.kernels import step as kernel_step

WIDTHS = {
    "100k": (784, 128, 128, 10),
    "1m": (784, 768, 512, 10),
    "10m": (784, 2800, 2700, 10),
}
"""MLPs of 118,282, 1,001,738 and 9,787,710 parameters."""
ROUNDS = {"100k": 20, "1m": 4, "10m": 2}
"""Updates in one timed call: a loop with the state as carry, as in training."""
SIZES = {"num_grads": 8, "hidden_size": 32}


def mlp_params(widths: tuple[int, ...]) -> dict[str, jax.Array]:
    key = jax.random.key(0)
    return {
        f"{kind}{i}": 0.1 * jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (a, b) in enumerate(itertools.pairwise(widths))
        for kind, shape in (("bias", (b,)), ("kernel", (a, b)))
    }


class Rounds:
    """A compiled loop of updates (inputs, state, params) -> (step, state); state and params are donated."""

    def __init__(self, update: Callable[..., Any], rounds: int, inputs: Any, state: Any, params: Any):
        def run(carry, inputs):
            def body(carry, index):
                state, params = carry
                # What depends on the inputs alone would otherwise be computed once, ahead of the loop.
                fresh, _ = jax.lax.optimization_barrier((inputs, index))
                step, state = update(fresh, state, params)
                return (state, jax.tree.map(jnp.add, params, step)), None

            return jax.lax.scan(body, carry, jnp.arange(rounds))[0]

        self.inputs, self.carry = inputs, jax.tree.map(jnp.copy, (state, params))
        self.compiled = jax.jit(run, donate_argnums=0).lower(self.carry, inputs).compile()

    def __call__(self) -> None:
        self.carry = jax.block_until_ready(self.compiled(self.carry, self.inputs))


def temporary_mb(update: Callable[..., Any], *arguments: Any) -> float:
    """Of one update outside a loop."""
    return jax.jit(update).lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 1e6


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """`aggregator/{100k, 1m, 10m}`: fedlagg-adafac at K = 8, hidden 32, on one device.

    Returns:
      the row, with ns_per_param, temp_mb, gflops (of the network, 2 (23 + 32 + 2) 32 a parameter), peak_gflops,
      plain_ns_per_param, plain_temp_mb, adam_ns_per_param, and where the CPU kernel is there xla_ns_per_param, without
      it, and speedup_over_xla, the median over pairs; medians.
    """
    size = name.split("/")[-1]
    params, rounds = mlp_params(WIDTHS[size]), ROUNDS[size]
    count = sum(leaf.size for leaf in params.values())
    delta = jax.tree.map(lambda w: 0.01 * jax.random.normal(jax.random.key(1), (8, *w.shape)), params)
    fast, plain = (
        get_aggregator("fedlagg-adafac", **SIZES),
        adafac_family("plain", "all", LearnedOptions(**SIZES)),
    )
    theta, adam = fast.init_theta(jax.random.key(0)), optax.adam(1e-3)

    def learned(aggregator):
        def update(inputs, state, params):
            theta, delta = inputs
            cohort = ClientUpdate(delta, (), jnp.zeros(8), jnp.ones(8))
            return aggregator.update(theta, cohort, state, params)

        return update, (theta, delta), aggregator.init(theta, params)

    contenders = {
        "fast": learned(fast),
        "plain": learned(plain),
        "adam": (adam.update, jax.tree.map(lambda d: d[0], delta), adam.init(params)),
    }
    if kernels.available():
        contenders["xla"] = learned(fast)
    timed = {}
    for kind, (update, inputs, state) in contenders.items():
        with _without_kernel() if kind == "xla" else contextlib.nullcontext():
            timed[kind] = Rounds(update, rounds, inputs, state, params)
    seconds = interleaved(timed, repeats)
    result = row(name, [s / rounds for s in seconds["fast"]], devices=1, parameters=count)
    for kind, (update, inputs, state) in contenders.items():
        prefix = "" if kind == "fast" else f"{kind}_"
        median = sorted(seconds[kind])[len(seconds[kind]) // 2] / rounds
        result[f"{prefix}ns_per_param"] = median / count * 1e9
        if kind != "xla":
            result[f"{prefix}temp_mb"] = temporary_mb(update, inputs, state, params)
    if "xla" in seconds:
        result["speedup_over_xla"] = paired_ratio(seconds["xla"], seconds["fast"])
    result["gflops"] = 2 * (23 + 32 + 2) * 32 / result["ns_per_param"]
    result["peak_gflops"] = matrix_peak() / 1e9
    return [result]


def _without_kernel():
    """What is traced inside takes XLA's program."""
    return mock.patch.object(kernel_step, "available", return_value=False)
