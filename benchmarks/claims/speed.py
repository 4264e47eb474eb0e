"""The speed and the memory of what ships."""

from typing import Any

from benchmarks.claims import Claim, Verdict

TITLE = "Speed and memory of what ships"
MORE_MEMORY = 1.2
"""The largest ratio of a server's memory with 64 clients over that with 2."""


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*one_client_at_a_time()]


def one_client_at_a_time() -> list[Claim]:
    """Line 2: a server's memory does not grow with the number of clients."""
    return [
        Claim(
            "server-memory",
            f"2. 100 M parameters, one client at a time: peak memory at K 64 at most {MORE_MEMORY} times that at K 2",
            ("-m", "benchmarks.server", "--clients", "2", "64", "--parameters", "100m"),
            _server_memory,
        )
    ]


def _server_memory(found: Any) -> Verdict:
    rounds = {one["clients"]: one for one in found["rounds"]}
    few, many = rounds[2], rounds[64]
    ratio = many["peak_mb"] / few["peak_mb"]
    figure = f"{ratio:.3f}"
    spread = "; ".join(
        f"K {clients}: {one['peak_mb']:.0f} MB, {one['peak_mb'] / one['model_mb']:.1f} models, "
        f"{one['add_s'] / clients:.2f} s to make and add a client, {one['finish_s']:.1f} s to finish"
        for clients, one in rounds.items()
    )
    met = ratio <= MORE_MEMORY and few["parameters"] == many["parameters"] == 100_000_000
    return Verdict(figure, spread, met)
