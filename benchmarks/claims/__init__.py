"""What was asked, measured: one file for each claim, run by `make claims CLAIM=name`.

A claim's file has TITLE, a line for people, and `claims() -> list[Claim]`: one Claim for each line that has a figure.
A new claim is one new file. The figures in docs/claims/ are written from the measurements by run.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """What a measurement says, as texts, and whether that is what was asked."""

    figure: str
    spread: str
    met: bool


def _nothing() -> str:
    return ""


class Claim(NamedTuple):
    """One line with a figure.

    key: the name of its file in runs/claims/NAME/, unique within a claim: lower-case letters, digits, "-" and "_".
    command: after `python`, run in the repository with PYTHONPATH=src:tests. Its last line is JSON; what it prints
      before that is shown. One that takes long goes on where it was killed.
    judge: that JSON -> Verdict. It is also asked for a measurement that was kept, so that a bound that changes counts
      at once. It may raise whatever JSON of another form makes it raise: that is then measured anew.
    needs: what is missing here ("a GPU"); "" where it can be measured.
    fresh: measured anew when the package has changed. Leave it False for what takes hours: the figure is then shown
      with the commit that it was measured at.
    optional: not measured here, it does not count as not met.
    """

    key: str
    asked: str
    command: tuple[str, ...]
    judge: Callable[[Any], Verdict]
    needs: Callable[[], str] = _nothing
    fresh: bool = False
    optional: bool = False


class Row(NamedTuple):
    """A line of the table. met: None where it was not measured. measured: with what, when and where."""

    asked: str
    command: str
    figure: str
    spread: str
    met: bool | None
    optional: bool = False
    measured: str = ""

    @property
    def counts_as_met(self) -> bool:
        """Not measured counts as not met, but for an optional line."""
        return self.optional if self.met is None else self.met
