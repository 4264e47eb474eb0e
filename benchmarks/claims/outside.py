"""From outside: bad inputs are met, runs that are resumed otherwise say so, generated configs run or say one line."""

from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.claims import Claim, Verdict

TITLE = "From outside, and without faults"
CASES = ROOT.parent / "shared" / "cases"
GENERATED = 500


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*cases(), *resumed(), *generated()]


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
