"""How `benchmarks.cases` judges what a script prints."""

import pytest

from benchmarks.cases import passes

START = "Traceback (most recent call last):\n"
ERROR = "learned_aggregation.errors.UserError: a: expected b, got c.\n"
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
SHOWN = '  File "s.py", line 1, in <module>\n    print(run().stderr.splitlines()[-1][-160:])\n'


@pytest.mark.parametrize(
    ("printed", "passed"),
    [
        ("fine\n", True),
        (f"{START}  File x\n{ERROR}", True),
        (f"{START}  File x\nValueError: y\n", False),
        (f"{START}  File x\nValueError: y\n{CAUSE}{START}  File z\n{ERROR}", True),
        (f"{START}  File x\nValueError: y\n{CAUSE}{START}  File z\nTypeError: w\n", False),
        (f"{START}{SHOWN}          ~~~^^^\nIndexError: list index out of range\n", True),
        (f"{START}  File x\n    a[3]\n    ~^\nIndexError: list index out of range\n", False),
        (f"{START}  File x\n{ERROR}{START}  File x\nKeyError: y\n", False),
    ],
)
def test_a_script_passes_without_a_traceback_but_ours(printed, passed):
    assert bool(passes(printed)) == passed
