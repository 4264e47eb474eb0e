"""From outside, and without faults."""

from typing import Any

from benchmarks.claims import Claim, Verdict

TITLE = "From outside"


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*afternoon()]


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
