"""The speed and the memory of what ships."""

from typing import Any

from benchmarks import local_training
from benchmarks.claims import Claim, Verdict

TITLE = "Speed and memory of what ships"
MORE_MEMORY = 1.2
"""The largest ratio of a server's memory with 64 clients over that with 2."""
LEAST_GFLOPS, WIDE = 40.0, 128
"""What a core must reach from this width on."""


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*one_client_at_a_time(), *clients()]


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


def clients() -> list[Claim]:
    """Line 3: local training of models that are no MLPs, beside PyTorch on the same work, on one core."""
    return [
        Claim(
            f"clients-{family}",
            f"3. local training, {family} of widths {', '.join(map(str, local_training.WIDTHS))}: ahead of PyTorch at "
            f"each, and at least {LEAST_GFLOPS:.0f} GFLOP/s from width {WIDE} on",
            ("-m", "benchmarks.run", "--here", f"local_training/{family}", "--repeats", "7"),
            _clients,
            local_training.missing,
        )
        for family in local_training.FAMILIES
    ]


def _clients(found: Any) -> Verdict:
    rows = {int(row["name"].split("/")[-1]): row for row in found}
    met = set(rows) == set(local_training.WIDTHS) and all(
        row["speed_up_over_torch"] > 1 and (width < WIDE or row["gflops"] >= LEAST_GFLOPS)
        for width, row in rows.items()
    )
    figure = (
        ", ".join(f"{row['speed_up_over_torch']:.2f}" for row in rows.values()) + " times PyTorch's speed"
    )
    spread = "; ".join(
        f"{width}: {row['gflops']:.0f} GFLOP/s, {100 * row['share_of_peak']:.0f} % of the peak "
        f"(PyTorch {row['torch_gflops']:.0f}), load {row['load']:.1f}"
        for width, row in rows.items()
    )
    return Verdict(figure, spread, met)
