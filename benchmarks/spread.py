"""The spread over clients that come one at a time: the error of each form of it, `python -m benchmarks.spread`.

All in float32 on K deltas of 4,000 parameters; the error is the largest relative one over the parameters against two
passes in float64 over the same deltas. Prints the table of docs/performance.md, one error for each number of clients.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.aggregators.learned import set_sums

PARAMETERS = 4000


class Case(NamedTuple):
    """Deltas [K, N] and weights [K]."""

    name: str
    deltas: np.ndarray
    weights: np.ndarray


def cases(clients: int, parameters: int = PARAMETERS) -> Iterator[Case]:
    """Unlike magnitudes: of mean and spread, of the weights, of the clients."""
    draw = np.random.default_rng(0)
    mean, noise = draw.normal(size=parameters), draw.normal(size=(clients, parameters))
    decades = 10.0 ** draw.uniform(-3, 3, clients)
    large_first = np.where(np.arange(clients) == 0, 1e6, 1.0)
    for ratio in (1.0, 1e3, 1e6):
        deltas = mean + noise * np.abs(mean) / ratio
        yield _case(f"mean / spread {ratio:g}, equal weights", deltas, np.ones(clients))
        yield _case(f"mean / spread {ratio:g}, weights over 6 decades", deltas, decades)
    deltas = mean + noise
    yield _case("a client 1e6 times as large comes first", deltas * large_first[:, None], np.ones(clients))
    yield _case("the same with 1e-6 of a weight", deltas * large_first[:, None], 1.0 / large_first)
    yield _case("deltas over 6 decades, weights over 6", deltas * decades[::-1, None], decades)


def _case(name: str, deltas: np.ndarray, weights: np.ndarray) -> Case:
    return Case(name, np.float32(1e-3 * deltas), np.float32(weights))


def two_passes(deltas: Any, weights: Any) -> Any:
    """What `update` computes, for which all deltas must be there."""
    share = weights / jnp.sum(weights)
    mean = share @ deltas
    return jnp.sqrt(share @ (deltas - mean) ** 2)


def sums_of_squares(deltas: Any, weights: Any) -> Any:
    """sqrt(sum w d^2 / sum w - mean^2)."""

    def add(sums, client):
        delta, weight = client
        total, first, second = sums
        return (total + weight, first + weight * delta, second + weight * delta * delta), None

    zeros = jnp.zeros(deltas.shape[1])
    (total, first, second), _ = jax.lax.scan(add, (jnp.float32(0), zeros, zeros), (deltas, weights))
    return jnp.sqrt(jnp.maximum(second / total - (first / total) ** 2, 0.0))


def about_the_first(deltas: Any, weights: Any) -> Any:
    """Sums of squares of what is left after subtracting the first client's delta, which is kept."""
    return sums_of_squares(deltas - deltas[0], weights)


def west(deltas: Any, weights: Any) -> Any:
    """mean <- mean + w / W (d - mean);  M <- M + w (d - old mean) (d - mean)."""

    def add(sums, client):
        delta, weight = client
        total, mean, squares = sums
        apart = delta - mean
        mean = mean + weight / (total + weight) * apart
        return (total + weight, mean, squares + weight * apart * (delta - mean)), None

    zeros = jnp.zeros(deltas.shape[1])
    (total, _, squares), _ = jax.lax.scan(add, (jnp.float32(0), zeros, zeros), (deltas, weights))
    return jnp.sqrt(squares / total)


def shipped(deltas: Any, weights: Any) -> Any:
    """The package's: running means of the shares, from the heavier side on."""

    def add(partial, client):
        delta, weight = client
        return set_sums.add(partial, delta, weight), None

    partial, _ = jax.lax.scan(add, set_sums.start(deltas[0]), (deltas, weights))
    return jnp.sqrt(partial.tensors[0].variance)


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "two passes": two_passes,
    "sums of squares": sums_of_squares,
    "about the first": about_the_first,
    "West": west,
    "shipped": shipped,
}


def error(form: Callable[[Any, Any], Any], case: Case) -> float:
    """The largest |spread / exact - 1| over the parameters whose spread is not 0."""
    deltas, weights = (np.asarray(x, np.float64) for x in (case.deltas, case.weights))
    share = weights / weights.sum()
    exact = np.sqrt(share @ (deltas - share @ deltas) ** 2)
    found = np.asarray(jax.jit(form)(case.deltas, case.weights), np.float64)
    return float(np.max(np.abs(found / exact - 1)[exact > 0]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[64, 512])
    numbers = parser.parse_args().clients
    print(f"| deltas | {' | '.join(FORMS)} |\n|---|{'---|' * len(FORMS)}")
    for same in zip(*(cases(clients) for clients in numbers), strict=True):
        errors = [", ".join(f"{error(form, case):.0e}" for case in same) for form in FORMS.values()]
        print(f"| {same[0].name} | {' | '.join(errors)} |", flush=True)


if __name__ == "__main__":
    main()
