"""From outside: a user's afternoon, bad inputs met, runs resumed otherwise, generated configs and command lines."""

from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.claims import Claim, Verdict

TITLE = "From outside, and without faults"
CASES = ROOT.parent / "shared" / "cases"
GENERATED = 500


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*afternoon(), *cases(), *resumed(), *generated()]


def afternoon() -> list[Claim]:
    """Line 1: a user with nothing but `pip install .` and the README."""
    asked = (
        "1. A user's afternoon: pip install . into an empty environment and the README, outside the checkout: data "
        "with a client column, model, loss and rule of one's own; meta-train, compare, plot; the same by a config"
    )
    return [Claim("afternoon", asked, ("-m", "benchmarks.afternoon"), _afternoon)]


def _afternoon(found: Any) -> Verdict:
    """Met if every command ends well without a traceback, and leaves its files and a row for each method."""
    commands, table = found["commands"], found["table"]
    well = all(step["status"] == 0 for step in commands.values()) and not found["traceback"]
    whole = (
        list(table) == ["FedAvg", "clipped", "lagg-set", "mine"]
        and not found["missing"]
        and found["runs"] == 3
    )
    minutes = sum(step["seconds"] for step in commands.values()) / 60
    losses = ", ".join(f"{name} {row['loss']:.3f}" for name, row in table.items())
    failed = [name for name, step in commands.items() if step["status"]]
    figure = f"{len(commands) - len(failed)} of {len(commands)} commands, {minutes:.0f} minutes; test loss {losses}"
    return Verdict(figure, "the transcript: docs/claims/afternoon.txt", well and whole)


def _suite(*arguments: str) -> tuple[str, ...]:
    return ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q", *arguments)


def cases() -> list[Claim]:
    """Line 2: each case, by its script and by the tests of its kind."""
    tests = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_cases_*.py"))
    return [
        Claim(
            "cases",
            "2. each case of shared/cases: ends in its time, with a result or one line",
            ("-m", "benchmarks.cases"),
            _cases,
            needs=lambda: "" if Path(CASES).is_dir() else "shared/cases",
        ),
        Claim("cases-tests", "2. the tests of every kind of fault pass", _suite(*tests), _passed, fresh=True),
    ]


def _cases(found: Any) -> Verdict:
    failed = [name for name, one in found.items() if not one["passes"]]
    return Verdict(f"{len(found) - len(failed)} of {len(found)}", ", ".join(failed), not failed)


def resumed() -> list[Claim]:
    """Line 3: a run that is resumed otherwise, and two of one name."""
    return [
        Claim(
            "resumed",
            "3. resumed with another seed or batch size: says what differs, records both",
            _suite("tests/test_cases_runs.py", "-k", "resumed or checkpoint"),
            _passed,
            fresh=True,
        ),
        Claim(
            "held",
            "3. two of one name: the second is told who holds it",
            _suite("tests/test_cases_locks.py"),
            _passed,
        ),
    ]


def generated() -> list[Claim]:
    """Line 4: generated configs and command lines."""
    return [
        Claim(
            "generated",
            f"4. {GENERATED} generated configs and command lines: a run or one line, none over its time",
            _suite("-m", "slow", "tests/test_cases_generated.py"),
            _passed,
            fresh=True,
        )
    ]


def _passed(found: Any) -> Verdict:
    bad = found["failures"] + found["errors"]
    passed = found["tests"] - bad - found["skipped"]
    met = found["status"] == 0 and bad == 0 and passed > 0
    return Verdict(f"{passed} of {found['tests']} tests pass", f"{found['seconds']:.0f} s", met)
