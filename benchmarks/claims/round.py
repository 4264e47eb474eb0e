"""The round in parts: what it costs to add to it, and that nothing else has changed."""

from typing import Any

from additions import MOST_FILES, NAMES, missing

from benchmarks.checkout import BEFORE
from benchmarks.claims import Claim, Verdict
from benchmarks.compression import PROBLEMS
from benchmarks.hops import BEFORE as HOPS_BEFORE

TITLE = "A round of parts"
SLOWER = 1.03
"""The largest ratio of seconds, now over before."""
ROUNDING = 1e-5
"""The largest relative difference of results that are called unchanged."""
KILLS = 24
TEST_MINUTES = 12
WORKER_MB = 3072
TIMED = {"b": "b", "c": "c", "a": "a", "sweep-44": "sweep/44"}
"""The key of a line -> the benchmark."""


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*additions(), *unchanged(), *compression(), *structure(), *daily()]


def additions() -> list[Claim]:
    """Line 1: each addition, by counting."""
    return [
        Claim(
            key=f"add-{name.replace('_', '-')}",
            asked=f"1. {what}: at most {MOST_FILES} files of the package change besides its own",
            command=("-m", "additions", name),
            judge=_addition,
            needs=lambda name=name: missing(name),
            fresh=True,
        )
        for name, what in NAMES.items()
    ]


def _addition(found: Any) -> Verdict:
    changed, new = found["changed"], found["new"]
    figure = f"{len(changed)} file(s), {sum(changed.values())} line(s)"
    listed = ", ".join(sorted(changed)) or "none"
    return Verdict(figure, f"{listed}; new: {sum(new.values())} lines", len(changed) <= MOST_FILES)


def unchanged() -> list[Claim]:
    """Line 2: results, resuming and speed are those of before."""
    golden = [f"tests/test_golden_{what}.py" for what in ("aggregators", "pes", "round")]
    suite = ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q")
    return [
        Claim("golden", "2. the golden vectors agree", (*suite, *golden), _passed, fresh=True),
        Claim(
            "kills",
            f"2. {KILLS} kills at random moments end as the run never killed, bit for bit",
            (*suite, "-m", "slow", "tests/test_kill.py"),
            _passed,
        ),
        Claim(
            "unchanged",
            f"2. the same commands give the results of {BEFORE}",
            ("-m", "benchmarks.unchanged", "--against", BEFORE),
            _unchanged,
            fresh=True,
        ),
        *(_timed(key, name, f"2. {name}: at most 3 % slower than {BEFORE}") for key, name in TIMED.items()),
        Claim(
            "program-size",
            "2. the outer step's program is as large at H 4, 16 and 64",
            ("-m", "benchmarks.program_size"),
            _program_size,
            fresh=True,
        ),
    ]


def _passed(found: Any) -> Verdict:
    bad = found["failures"] + found["errors"]
    passed = found["tests"] - bad - found["skipped"]
    met = found["status"] == 0 and bad == found["skipped"] == 0 and passed > 0
    return Verdict(f"{passed} of {found['tests']} tests pass", f"{found['seconds']:.0f} s", met)


def _unchanged(found: Any) -> Verdict:
    names = ("theta", "metrics.csv", "rounds.csv")
    largest = max(found[name] for name in names)
    figure = "equal bit for bit" if largest == 0 else f"largest difference {largest:.1e}"
    spread = ", ".join(f"{name} {found[name]:.1e}" for name in names)
    return Verdict(figure, spread, largest <= ROUNDING)


def _timed(key: str, name: str, asked: str) -> Claim:
    partial = f"runs/claims/round/{key}.partial"
    command = ("-m", "benchmarks.paired", name, "--against", BEFORE, "--partial", partial)
    return Claim(key, asked, command, _not_slower)


def _not_slower(found: Any) -> Verdict:
    timed = found["timed"]
    figure = ", ".join(f"{one['median']:.3f}" for one in timed.values())
    spread = "; ".join(
        f"{label}: {len(one['ratios'])} pairs, quartiles {one['q1']:.3f} to {one['q3']:.3f}"
        for label, one in timed.items()
    )
    return Verdict(figure, spread, bool(timed) and all(one["median"] <= SLOWER for one in timed.values()))


def _program_size(found: Any) -> Verdict:
    figures = [f"{variant}: {', '.join(map(str, by_h.values()))} lines" for variant, by_h in found.items()]
    flat = all(len(set(by_h.values())) == 1 and len(by_h) > 1 for by_h in found.values())
    return Verdict("; ".join(figures), "", bool(found) and flat)


def compression() -> list[Claim]:
    """Line 3: what runs reach with compressed messages."""
    tests = [f"tests/test_{what}.py" for what in ("compressors", "compressors_exact", "error_feedback")]
    suite = ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q")
    oracles = Claim(
        "oracles", "3. the oracles of the compressors hold", (*suite, *tests), _passed, fresh=True
    )
    return [
        oracles,
        *(
            Claim(
                f"compression-{name.replace('_', '-')}",
                f"3. {title}: every method under every compression, 10 seeds, loss by rounds and by bits",
                ("-m", "benchmarks.compression", name),
                _compression,
            )
            for name, title in PROBLEMS.items()
        ),
    ]


def _compression(found: Any) -> Verdict:
    """Met if the evidence is whole; who wins is said, not asked."""
    whole = found["methods"] == found["asked"] and found["seeds"] == 10
    against = found["meta_trained"]
    figure = (
        f"{found['methods']} of {found['asked']} methods; lagg-set meta-trained under compression against the plain: "
        + "; ".join(
            f"{what} {', '.join(f'{n} {how}' for how, n in counts.items())}"
            for what, counts in against.items()
        )
    )
    return Verdict(figure, f"{found['seeds']} seeds; tables in docs/claims/compression.md", whole)


def structure() -> list[Claim]:
    """Line 4: the wings and the way to a gradient."""
    imports = ("-m", "benchmarks.imports", "--json", "--before", BEFORE)
    return [
        Claim("imports", "4. imports point downward only, without circles", imports, _imports, fresh=True),
        Claim(
            "hops",
            f"4. from the outer step to a client's gradient at most {HOPS_BEFORE} hops",
            (*imports, "--hops"),
            _hops,
            fresh=True,
        ),
    ]


def _imports(found: Any) -> Verdict:
    now, before = found["now"], found["before"]
    bad = ("arrows up", "circles of modules", "circles of wings", "wings without a place in the order")
    figure = f"{now['arrows up']} up, {now['circles of modules'] + now['circles of wings']} circles"
    shown = ("files", "wings", "arrows", "pairs of wings with an arrow")
    spread = ", ".join(f"{name} {before[name]} -> {now[name]}" for name in shown)
    return Verdict(figure, spread, all(now[name] == 0 for name in bad))


def _hops(found: Any) -> Verdict:
    now, before = found["now"]["hops"], found["before"]["hops"]
    return Verdict(str(now), f"{before} before", now <= min(HOPS_BEFORE, before))


def daily() -> list[Claim]:
    """Line 5: what a user and a contributor wait for."""
    return [
        _timed("help", "help", f"5. --help as fast as at {BEFORE} (at most 3 % slower)"),
        Claim(
            "make-test",
            f"5. make test in at most {TEST_MINUTES} minutes, at most {WORKER_MB} MB for each worker",
            ("-m", "benchmarks.suite", "make", "test"),
            _make_test,
        ),
    ]


def _make_test(found: Any) -> Verdict:
    workers = {name: peak["own"] for name, peak in found["peaks_mb"].items() if name != "main"}
    minutes, peak = found["seconds"] / 60, max(workers.values())
    figure = f"{minutes:.1f} minutes, {peak:.0f} MB, {_passed(found).figure}"
    spread = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in workers.items())
    met = _passed(found | {"skipped": 0}).met and minutes <= TEST_MINUTES and peak <= WORKER_MB
    return Verdict(figure, spread, met)
