"""The speed and the memory of what ships."""

from collections.abc import Callable
from typing import Any

from benchmarks import local_training
from benchmarks.claims import Claim, Verdict

TITLE = "Speed and memory of what ships"
NATIVE_NS, AVX2_NS, SHARE_OF_PEAK = 45.0, 70.0, 0.8
MOST_TEMPORARY_MB = 60.0
A_CLIENT_NS = 0.25
"""Of the statistics over a delta: two to three times what its reading alone takes."""
MORE_MEMORY = 1.2
"""The largest ratio of a server's memory with 64 clients over that with 2."""
BEFORE = "cd2672f"
"""The last commit before this work."""
SLOWER = 1.03
"""The largest ratio of seconds now over before that counts as not slower."""
FASTER = 1.5
LEAST_GFLOPS, WIDE = 40.0, 128
"""What a core must reach from this width on."""


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*set_rule(), *one_client_at_a_time(), *clients(), *steps()]


def set_rule() -> list[Claim]:
    """Line 1: the set rule's update on one core."""
    here = "1. fedlagg-set on one core, K 8"
    bounds = {
        "": f"at most {NATIVE_NS:.0f} ns per parameter with AVX-512",
        "/avx2": f"at most {AVX2_NS:.0f} ns per parameter with AVX2",
    }
    timed = [
        Claim(
            f"set-{size}{kind.replace('/', '-')}",
            f"{here}, {size} parameters: {bound}, or {100 * SHARE_OF_PEAK:.0f} % of the core's peak",
            ("-m", "benchmarks.run", "--here", f"aggregator_set/{size}{kind}", "--repeats", "7"),
            _set_rule,
        )
        for kind, bound in bounds.items()
        for size in ("100k", "1m", "10m")
    ]
    by_clients = [
        Claim(
            f"set-{size}-clients",
            f"1. fedlagg-set, {size} parameters: a client more costs at most {A_CLIENT_NS} ns per parameter, no memory",
            ("-m", "benchmarks.aggregator_set", size),
            _more_clients,
        )
        for size in ("100k", "1m")
    ]
    return [*timed, *by_clients]


def _set_rule(found: Any) -> Verdict:
    [row] = found
    most = AVX2_NS if row["instructions"] == "avx2" else NATIVE_NS
    reached = row["ns_per_param"] <= most or row["share_of_peak"] >= SHARE_OF_PEAK
    met = reached and row["temp_mb"] <= MOST_TEMPORARY_MB
    figure = f"{row['ns_per_param']:.1f} ns, {row['temp_mb']:.1f} MB of temporaries"
    pages = "with" if row["huge_pages"] else "without"
    beside = f"{row['speedup_over_xla']:.2f} times XLA's program, " if "speedup_over_xla" in row else ""
    spread = (
        f"{row['gflops']:.0f} of {row['peak_gflops']:.0f} GFLOP/s ({100 * row['share_of_peak']:.0f} %), "
        f"{beside}{pages} huge pages, {row['processor']}, load {row['load']:.1f}"
    )
    return Verdict(figure, spread, met)


def _more_clients(found: Any) -> Verdict:
    few, many = found["k8"], found["k64"]
    clients = many["clients"] - few["clients"]
    growth, reading = ((many[name] - few[name]) / clients for name in ("ns_per_param", "reading_ns"))
    met = growth <= A_CLIENT_NS and many["temp_mb"] <= few["temp_mb"] + 1.0
    figure = f"{growth:.3f} ns, {many['temp_mb'] - few['temp_mb']:.1f} MB"
    spread = (
        f"K {few['clients']}: {few['ns_per_param']:.1f} ns; K {many['clients']}: {many['ns_per_param']:.1f} ns; "
        f"reading alone {reading:.3f} ns a client, load {many['load']:.1f}"
    )
    return Verdict(figure, spread, met)


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


def steps() -> list[Claim]:
    """Line 4: meta-training and sweeps beside the commit before, in turn."""
    return [
        *(
            _paired(name, f"4. {name}: at most {SLOWER:.2f} times the seconds of {BEFORE}", _not_slower)
            for name in ("a", "b", "c", "sweep/44")
        ),
        _paired(
            "lagg_set",
            f"4. an outer step of lagg-set's mixture: {FASTER} times faster than at {BEFORE}",
            _faster,
        ),
    ]


def _paired(name: str, asked: str, judge: Callable[[Any], Verdict]) -> Claim:
    key = name.replace("/", "-")
    partial = f"runs/claims/speed/{key}.partial"
    return Claim(
        key, asked, ("-m", "benchmarks.paired", name, "--against", BEFORE, "--partial", partial), judge
    )


def _not_slower(found: Any) -> Verdict:
    ratios = found["timed"]
    met = bool(ratios) and all(one["median"] <= SLOWER for one in ratios.values())
    return Verdict(", ".join(f"{one['median']:.3f}" for one in ratios.values()), _pairs(ratios), met)


def _faster(found: Any) -> Verdict:
    ratios = found["timed"]
    [step] = (one for label, one in ratios.items() if "compilation" not in label)
    return Verdict(f"{1 / step['median']:.2f} times", _pairs(ratios), 1 / step["median"] >= FASTER)


def _pairs(ratios: dict[str, Any]) -> str:
    return "; ".join(
        f"{label}: now / before {one['median']:.3f}, {len(one['ratios'])} pairs, "
        f"quartiles {one['q1']:.3f} to {one['q3']:.3f}"
        for label, one in ratios.items()
    )
