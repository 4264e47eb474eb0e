"""The learned aggregator alone: nanoseconds a parameter, against its plain version and optax.adam."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import interleaved, row
from learned_aggregation import ClientUpdate, get_aggregator
from learned_aggregation.learned.rules import adafac_family

WIDTHS = {
    "100k": (784, 128, 128, 10),
    "1m": (784, 768, 512, 10),
    "10m": (784, 2800, 2700, 10),
}
"""MLPs of 118,282, 1,001,738 and 9,787,710 parameters."""
CLIENTS = 8
HIDDEN = 32


def mlp_params(widths: tuple[int, ...]) -> dict[str, jax.Array]:
    key = jax.random.key(0)
    return {
        f"{kind}{i}": 0.1 * jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (a, b) in enumerate(itertools.pairwise(widths))
        for kind, shape in (("bias", (b,)), ("kernel", (a, b)))
    }


class Updates:
    """A jitted update that donates its state and is called again and again on the same deltas."""

    def __init__(self, update: Callable[..., Any], state: Any, *arguments: Any):
        self.state, self.arguments = jax.tree.map(jnp.copy, state), arguments
        self.compiled = jax.jit(update, donate_argnums=0).lower(self.state, *arguments).compile()

    def __call__(self) -> None:
        step, self.state = self.compiled(self.state, *self.arguments)
        jax.block_until_ready(step)

    def temporary_bytes(self) -> int:
        return self.compiled.memory_analysis().temp_size_in_bytes


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """One row, `aggregator/{size}`: one update of fedlagg-adafac at K = 8, hidden 32, one device.

    With ns_per_param, temp_mb, and those of the plain version and of optax.adam.
    """
    params = mlp_params(WIDTHS[name.removeprefix("aggregator/")])
    count = sum(leaf.size for leaf in params.values())
    delta = jax.tree.map(lambda w: 0.01 * jax.random.normal(jax.random.key(1), (CLIENTS, *w.shape)), params)
    sizes = {"num_grads": CLIENTS, "hidden_size": HIDDEN}
    fast, plain = get_aggregator("fedlagg-adafac", **sizes), adafac_family("plain", "all", **sizes)
    theta = fast.init_theta(jax.random.key(0))
    adam = optax.adam(1e-3)

    def learned(aggregator):
        def update(state, theta, delta, params):
            cohort = ClientUpdate(delta, (), jnp.zeros(CLIENTS), jnp.ones(CLIENTS))
            return aggregator.update(theta, cohort, state, params)

        return Updates(update, aggregator.init(theta, params), theta, delta, params)

    calls = {
        "fast": learned(fast),
        "plain": learned(plain),
        "adam": Updates(
            lambda state, gradient: adam.update(gradient, state),
            adam.init(params),
            jax.tree.map(lambda d: d[0], delta),
        ),
    }
    seconds = interleaved(calls, repeats)
    per_parameter = {rule: float(np.median(times)) / count * 1e9 for rule, times in seconds.items()}
    return [
        row(
            name,
            seconds["fast"],
            devices=1,
            parameters=count,
            ns_per_param=per_parameter["fast"],
            plain_ns_per_param=per_parameter["plain"],
            adam_ns_per_param=per_parameter["adam"],
            temp_mb=calls["fast"].temporary_bytes() / 1e6,
            plain_temp_mb=calls["plain"].temporary_bytes() / 1e6,
        )
    ]
