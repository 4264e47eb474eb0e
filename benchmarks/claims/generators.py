"""Generators on clients: classes that outlive their client, samples with spread, counts, resuming, any aggregator."""

from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.claims import Claim, Verdict

TITLE = "Generators on clients"
GAINED = 20.0
"""Points of accuracy that samples must add on the classes that left."""
SEEDS = 5
STORES = {"digits": "embedded stand-in", "fsdd": "spoken digits"}
METHODS = ("FedAvg", "Nesterov", "lagg-set", "network off")


def _spoken() -> str:
    here = (ROOT.parent / "shared/data/fsdd.npz").is_file()
    kept = (ROOT / "runs/generators/fsdd").is_dir()
    return "" if here or kept else "the spoken digits, ../shared/data/fsdd.npz"


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    table = ("-m", "benchmarks.generators")
    suite = ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q")
    made = []
    for store, name in STORES.items():
        needs = _spoken if store == "fsdd" else lambda: ""
        at = ("--store", store)
        made += [
            Claim(
                f"leaving-{store}",
                f"1. {name}: a client leaves after round 2; on its classes run 2 with samples is at least {GAINED:g} "
                "points above the same run without, and not below the class-mean control, at 10 and 50 per class",
                (*table, "leaving", *at),
                _leaving,
                needs,
            ),
            Claim(
                f"quality-{store}",
                f"2. {name}: KL above 1 nat; spread .4 to 1.5 of the data's; cosine above .7; nearest neighbours",
                (*table, "quality", *at),
                _quality,
                needs,
            ),
            Claim(
                f"aggregators-{store}",
                f"5. {name}: the whole under FedAvg, tuned Nesterov, lagg-set and its network off",
                (*table, "aggregators", *at),
                _aggregators,
                needs,
            ),
        ]
    return [
        *made,
        Claim("gan", "a GAN behind the same interface: what its samples are and add", (*table, "gan"), _gan),
        Claim(
            "counts",
            "3. 150 samples over 15 classes of 3 clients that share none; 30 per class where 3 clients share it",
            (*table, "counts"),
            _counts,
        ),
        Claim(
            "kept",
            "4. samples are used: without them the weights differ; run 2 without run 1 warns; kills resume bit for bit",
            (*suite, "tests/test_generators_runs.py", "-m", "slow or not slow"),
            _passed,
            fresh=True,
        ),
        Claim(
            "memory", "6. 100,000 samples per class stay within a stated bound", (*table, "memory"), _memory
        ),
    ]


def _text(one: Any, digits: int = 1) -> str:
    return f"{one['mean']:.{digits}f} ± {one['std']:.{digits}f}"


def _leaving(found: Any) -> Verdict:
    parts, losses, met = [], [], True
    for number, one in found["samples"].items():
        gained, over = one["gained"], one["over_control"]
        standard_error = over["std"] / max(over["seeds"], 1) ** 0.5
        below = over["mean"] < -2 * standard_error
        parts.append(
            f"{number} per class: {_text(gained)} points above none, {_text(over)} above the control"
        )
        if over["mean"] < 0:
            losses.append(f"{number} per class{', beyond 2 standard errors' if below else ''}")
        met = met and gained["mean"] >= GAINED and gained["seeds"] >= SEEDS and not below
    won = f"; the control is ahead at {', '.join(losses)}" if losses else "; the control is ahead nowhere"
    spread = f"without: {_both(found['without'])}; " + "; ".join(
        f"{number}: VAE {_both(one['vae'])}, control {_both(one['control'])}"
        for number, one in found["samples"].items()
    )
    return Verdict("; ".join(parts) + won, spread, met)


def _both(one: Any) -> str:
    return f"{_text(one['left'])} % on the classes that left, {_text(one['all'])} % on all"


def _quality(found: Any) -> Verdict:
    met = (
        found["kl"]["least"] > 1
        and 0.4 <= found["spread"]["least"] <= found["spread"]["most"] <= 1.5
        and found["cosine"]["least"] > 0.7
        and found["kl"]["seeds"] >= SEEDS
    )
    figure = "; ".join(
        f"{name} {_text(found[name], 2)}" for name in ("kl", "spread", "cosine", "nearest", "real_nearest")
    )
    return Verdict(figure, _ranges(found), met)


def _ranges(found: Any) -> str:
    return "over clients, classes and seeds: " + "; ".join(
        f"{name} {one['least']:.2f} to {one['most']:.2f}" for name, one in found.items()
    )


def _aggregators(found: Any) -> Verdict:
    """Met if samples add as much under each rule; who wins is said, not asked."""
    figure = "; ".join(f"{method} {_text(found[method]['gained'])} points" for method in METHODS)
    spread = "; ".join(
        f"{method} ({found[method]['run']}): with {_both(found[method]['with'])}, without "
        f"{_both(found[method]['without'])}"
        for method in METHODS
    )
    gained = [found[method]["gained"] for method in METHODS]
    return Verdict(figure, spread, all(one["mean"] >= GAINED and one["seeds"] >= SEEDS for one in gained))


def _gan(found: Any) -> Verdict:
    gained = found["gained"]
    return Verdict(
        f"{_text(gained)} points on the classes that left",
        _ranges(found["quality"]),
        gained["mean"] >= GAINED,
    )


def _counts(found: Any) -> Verdict:
    disjoint, shared = found["disjoint"], found["shared"]
    met = disjoint == {"total": 150, "per_class": [10] * 15} and set(shared["per_class"]) == {30}
    figure = (
        f"{disjoint['total']} over {len(disjoint['per_class'])} classes; {shared['per_class'][0]} per class"
    )
    return Verdict(figure, f"shared: {shared['total']} over {len(shared['per_class'])} classes", met)


def _memory(found: Any) -> Verdict:
    figure = f"{found['files']:.0f} MB with optimize_memory_usage, bound {found['bound']} MB"
    return Verdict(figure, f"without it {found['arrays']:.0f} MB", found["files"] <= found["bound"])


def _passed(found: Any) -> Verdict:
    bad = found["failures"] + found["errors"] + found["skipped"]
    met = found["status"] == 0 and bad == 0 and found["tests"] > 0
    return Verdict(f"{found['tests'] - bad} of {found['tests']} tests pass", f"{found['seconds']:.0f} s", met)
