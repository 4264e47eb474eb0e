"""`make claims`: what was measured is kept, what is missing is measured, and the exit status says what is met."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import checkout
from benchmarks.claims import Row, run
from benchmarks.claims import round as round_claim
from benchmarks.claims.run import Places, main

ROOT = Path(__file__).parent.parent
PROGRAM = """
import os, sys, time
from pathlib import Path
key, value, log = sys.argv[1:]
with open(log, "a") as file:
    file.write(key + chr(10))
print("measuring", key, flush=True)
while Path(log).with_name("wait_" + key).exists():
    Path(log).with_name("pid").write_text(str(os.getpid()))
    time.sleep(0.01)
print(value)
"""
FAKE = """
from benchmarks.claims import Claim, Verdict

TITLE = "A fake claim"
PROGRAM = {program!r}

def at_most(bound):
    return lambda found: Verdict(f"{{found['ratio']:.2f}}", "1 pair | no spread", found["ratio"] <= bound)

def line(key, value, bound, **more):
    command = ("-c", PROGRAM, key, value, {log!r})
    return Claim(key, f"{{key}}: at most {{bound}}", command, at_most(bound), **more)

def claims():
    return [{lines}]
"""
FAST = "line('fast', '{\"ratio\": 1.5}', 2.0)"
SMALL = "line('small', '{\"ratio\": 0.5}', 1.0, fresh=True)"


class Fake:
    """A claim in a directory of its own."""

    def __init__(self, directory: Path):
        self.places = Places(directory / "claims", directory / "runs", directory / "pages")
        self.places.claims.mkdir()
        self.log = directory / "log"
        self.write(FAST, SMALL)

    def write(self, *lines: str) -> None:
        """The claim's file with these lines."""
        text = FAKE.format(program=PROGRAM, log=str(self.log), lines=", ".join(lines))
        (self.places.claims / "fake.py").write_text(text)

    def run(self, *flags: str, name: str = "fake") -> int:
        return main([name, *flags], self.places)

    @property
    def measured(self) -> list[str]:
        """The keys, in the order in which their commands ran."""
        return self.log.read_text().split() if self.log.exists() else []

    def file(self, key: str) -> Path:
        return self.places.runs / "fake" / f"{key}.json"

    @property
    def page(self) -> str:
        return (self.places.pages / "fake.md").read_text()


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def test_all_is_measured_once_and_kept(fake, capsys):
    assert fake.run() == 0
    assert fake.measured == ["fast", "small"]
    kept = json.loads(fake.file("fast").read_text())
    assert kept["found"] == {"ratio": 1.5}
    assert kept["command"][0] == "-c"
    assert kept["commit"].split(",")[0] == checkout.commit_of("HEAD")[: len(kept["commit"].split(",")[0])]
    assert "cores" in kept["machine"]
    printed = capsys.readouterr()
    assert "measuring fast" in printed.err
    assert fake.run() == 0
    assert fake.measured == ["fast", "small"]
    assert capsys.readouterr().out == printed.out


def test_the_table(fake, capsys):
    fake.write(FAST, SMALL, "line('large', '{\"ratio\": 3}', 2.0)")
    assert fake.run() == 1
    table, summary = capsys.readouterr().out.split("\n\n")
    header, rule, *lines = table.splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]] == [
        "asked",
        "figure",
        "spread",
        "met",
        "command",
    ]
    assert set(rule) <= set("|- ")
    assert [[cell.strip() for cell in line.replace("\\|", "/").split("|")[1:5]] for line in lines] == [
        ["fast: at most 2.0", "1.50", "1 pair / no spread", "yes"],
        ["small: at most 1.0", "0.50", "1 pair / no spread", "yes"],
        ["large: at most 2.0", "3.00", "1 pair / no spread", "**no**"],
    ]
    assert len({len(line) for line in (header, rule, *lines)}) == 1
    assert summary.startswith("2 of 3 met.")
    assert fake.page.startswith("# A fake claim\n")
    assert table in fake.page
    assert fake.page.count("\n- ") == 3


@pytest.mark.parametrize(
    ("value", "figure"),
    [("no JSON", "failed: no JSON"), ("[]", "failed: another form of JSON"), ("{}", "failed: another form")],
)
def test_a_command_that_says_nothing_is_not_met_and_not_kept(fake, value, figure):
    fake.write(f"line('odd', {value!r}, 1.0)", SMALL)
    assert fake.run() == 1
    assert figure in fake.page
    assert not fake.file("odd").exists()
    assert fake.file("small").exists()


def test_a_command_that_fails_is_not_met_and_not_kept(fake):
    failing = "Claim('fails', 'a status', ('-c', 'print(1); raise SystemExit(3)'), at_most(1))"
    fake.write(failing, SMALL)
    assert fake.run() == 1
    assert "failed: exit status 3" in fake.page
    assert not fake.file("fails").exists()
    assert fake.measured == ["small"]


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("fakes", [], "claim: expected one of fake, got 'fakes'. Did you mean 'fake'?"),
        ("", [], "claim: expected one of fake, got ''."),
        ("run", [], "claim: expected one of fake, got 'run'."),
        (
            "fake",
            ["--again", "smal"],
            "again: expected keys among fast, small, got 'smal'. Did you mean 'small'?",
        ),
    ],
)
def test_an_unknown_name_is_one_line(fake, capsys, name, flags, message):
    assert fake.run(*flags, name=name) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert fake.measured == []


@pytest.mark.parametrize("lines", [(FAST, FAST), (FAST.replace("'fast'", "'../fast'"),)])
def test_keys_are_names_of_files_one_for_each_line(fake, capsys, lines):
    fake.write(*lines)
    assert fake.run() == 2
    assert "expected keys of lower-case letters" in capsys.readouterr().err


def changed(**fields):
    """A file with some fields replaced."""
    return lambda text: json.dumps(json.loads(text) | fields)


def without(field):
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != field})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:40],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: "\x00\ufffd",
        without("found"),
        without("commit"),
        changed(format=2),
        changed(claim="other"),
        changed(command=["-c", "print(1)"]),
        changed(found={"speed": 1.0}),
        changed(found=None),
        changed(found={"ratio": "1.0"}),
        changed(commit=1),
        changed(seconds="fast"),
    ],
)
def test_a_damaged_or_foreign_file_is_measured_anew(fake, capsys, damage):
    fake.run()
    fake.file("fast").write_text(damage(fake.file("fast").read_text()))
    assert fake.run() == 0
    assert fake.measured == ["fast", "small", "fast"]
    assert "fast.json: expected" in capsys.readouterr().err
    assert json.loads(fake.file("fast").read_text())["found"] == {"ratio": 1.5}


def test_a_bound_that_changes_counts_at_once(fake):
    assert fake.run() == 0
    fake.write(FAST.replace("2.0", "1.4"), SMALL)
    assert fake.run() == 1
    assert fake.measured == ["fast", "small"]


def test_again_measures_one_line_anew(fake):
    fake.run()
    assert fake.run("--again", "small") == 0
    assert fake.measured == ["fast", "small", "small"]
    fake.run("--again", "all")
    assert fake.measured[3:] == ["fast", "small"]


def test_a_figure_of_another_commit_says_so_or_is_renewed(fake):
    """`small` is fresh, `fast` is not."""
    fake.run()
    for key in ("fast", "small"):
        path = fake.file(key)
        path.write_text(changed(source="another", commit="1234abc")(path.read_text()))
    assert fake.run() == 0
    assert fake.measured == ["fast", "small", "small"]
    assert "| 1.50 (of commit 1234abc) |" in fake.page
    assert "| 0.50 " in fake.page


@pytest.mark.parametrize(("optional", "status"), [(False, 1), (True, 0)])
def test_what_cannot_be_measured_here_is_not_met_unless_it_is_optional(fake, optional, status):
    fake.write(FAST, f"line('gpu', '{{}}', 1, needs=lambda: 'a GPU', optional={optional})")
    assert fake.run() == status
    assert fake.measured == ["fast"]
    assert "not measured here: needs a GPU" in fake.page
    assert f"not measured{' (optional)' if optional else ''} |" in fake.page


def test_a_measured_line_counts_also_where_it_is_optional():
    assert [Row("", "", "", "", met, optional=True).counts_as_met for met in (True, False, None)] == [
        True,
        False,
        True,
    ]


def in_own_process(fake):
    places = ", ".join(f"Path({str(place)!r})" for place in fake.places)
    program = (
        "import signal, sys\nfrom pathlib import Path\nfrom benchmarks.claims.run import *\n"
        f"signal.signal(signal.SIGTERM, terminated)\nsys.exit(main(['fake'], Places({places})))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, text=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_between_two_lines_it_goes_on_with_what_is_missing(fake, how):
    waits, pid = fake.log.with_name("wait_small"), fake.log.with_name("pid")
    waits.touch()
    process = in_own_process(fake)
    while not (number := pid.read_text() if pid.exists() else ""):  # it is written again and again
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait() == (143 if how == signal.SIGTERM else -9)
    if how == signal.SIGTERM:
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)
    waits.unlink()
    assert fake.file("fast").exists()
    assert not fake.file("small").exists()
    assert not fake.places.pages.exists()
    assert fake.run() == 0
    assert fake.measured == ["fast", "small", "small"]


def test_every_line_of_the_claims_has_a_command_that_is_there():
    places = Places()
    for name in run.names(places):
        module = run.load(name, places)
        claims = module.claims()
        run.check_keys(name, claims)
        for claim in claims:
            assert claim.command[0] == "-m"
            assert importlib.util.find_spec(claim.command[1]), claim.key


def judged(key, found):
    [claim] = [claim for claim in round_claim.claims() if claim.key == key]
    return claim.judge(found).met


def timed(*medians):
    ratios = {"ratios": [1.0, 1.1], "q1": 1.0, "q3": 1.1}
    return {"timed": {f"{n} device(s)": ratios | {"median": m} for n, m in enumerate(medians)}}


PASSED = {"status": 0, "tests": 5, "failures": 0, "errors": 0, "skipped": 0, "seconds": 90.0}
SMALL_PEAKS = {"peaks_mb": {"main": {"own": 1e5}, "gw0": {"own": 900.0}}}
FINE = dict.fromkeys(("arrows up", "circles of modules", "circles of wings", "files", "wings", "arrows"), 0)
FINE |= {"pairs of wings with an arrow": 9, "wings without a place in the order": 0}


@pytest.mark.parametrize(
    ("key", "met", "not_met"),
    [
        (
            "add-rule",
            {"changed": {"a": 1, "b": 4}, "new": {}},
            {"changed": dict.fromkeys("abc", 1), "new": {}},
        ),
        ("golden", PASSED, PASSED | {"failures": 1}),
        ("golden", PASSED, PASSED | {"skipped": 1}),
        ("kills", PASSED, PASSED | {"tests": 0}),
        ("kills", PASSED, PASSED | {"status": 1}),
        ("b", timed(1.03, 0.99), timed(1.0, 1.031)),
        ("b", timed(0.9), timed()),
        ("help", timed(1.03), timed(float("nan"))),
        ("program-size", {"sgd": {"4": 9, "64": 9}}, {"sgd": {"4": 9, "64": 9}, "adamw": {"4": 9, "64": 10}}),
        (
            "imports",
            {"now": FINE, "before": FINE},
            {"now": FINE | {"arrows up": 1}, "before": FINE},
        ),
        (
            "hops",
            {"now": {"hops": 11}, "before": {"hops": 11}},
            {"now": {"hops": 12}, "before": {"hops": 12}},
        ),
        ("make-test", PASSED | SMALL_PEAKS | {"skipped": 2}, PASSED | SMALL_PEAKS | {"seconds": 6000.0}),
        ("make-test", PASSED | SMALL_PEAKS, PASSED | {"peaks_mb": {"gw0": {"own": 1e5}}}),
        (
            "unchanged",
            {"theta": 1e-6, "metrics.csv": 0, "rounds.csv": 0},
            {"theta": 1e-4, "metrics.csv": 0, "rounds.csv": 0},
        ),
    ],
)
def test_the_bounds_of_the_round(key, met, not_met):
    assert judged(key, met)
    assert not judged(key, not_met)
