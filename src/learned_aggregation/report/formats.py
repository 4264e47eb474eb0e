"""Column names, numbers and estimates as text."""

import json
import re

import numpy as np

from learned_aggregation.report.statistics import Estimate


def heading(name: str) -> str:
    """A column name in words: rounds_to_25 -> "Rounds to 25 %"."""
    target = re.fullmatch(r"(rounds_to|speedup)_(\d+)", name)
    if target:
        return f"{'Rounds to' if target[1] == 'rounds_to' else 'Speed-up at'} {target[2]} %"
    words = name.replace("_per_", " a ").replace("_", " ")
    words = words.replace("speedup", "speed-up")
    return words[:1].upper() + words[1:]


def column_heading(name: str) -> str:
    """A heading with its unit."""
    return heading(name) + (" (%)" if name.endswith("_accuracy") else "")


def goal(name: str) -> int:
    """-1 where lower is better (losses, rounds, bytes, gradients), 1 where higher is, 0 where neither."""
    if name.endswith("_accuracy") or name.startswith("speedup"):
        return 1
    return -1 if name.endswith("_loss") or re.match(r"(rounds_to|bytes|client_gradient)", name) else 0


def format_number(value: float, digits: int = 4) -> str:
    """A number to `digits` significant digits, whole numbers in full with thin groups of three."""
    if not np.isfinite(value):
        return "diverged" if np.isnan(value) else "∞" if value > 0 else "-∞"
    if value == round(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u2009")
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{decimals(value, digits)}f}"


def format_bytes(value: float) -> str:
    """A count of bytes in decimal units: 1.25 MB."""
    if not np.isfinite(value):
        return format_number(value)
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def format_estimate(metric: str, value: Estimate) -> str:
    """`mean ± spread`, an accuracy in per cent (its heading says so); or how many seeds diverged."""
    if value.diverged:
        return f"diverged ({value.diverged} of {value.count})"
    if not value.count:
        return "–"
    percent = metric.endswith("_accuracy")
    mean, error = (100 * value.mean, 100 * value.error) if percent else (value.mean, value.error)
    places = 2 if percent else decimals(mean, 4)
    tiny = not percent and mean != 0 and not 1e-4 <= abs(mean) < 1e6
    text = [
        f"{number:.3e}" if tiny else f"{number:.{places}f}" for number in (mean, error) if np.isfinite(number)
    ]
    return " ± ".join(text)


def decimals(value: float, digits: int) -> int:
    """Decimal places for `digits` significant digits of `value`, at most 4 from 0.01 on, else 6."""
    if not value:
        return digits - 1
    return int(np.clip(digits - 1 - np.floor(np.log10(abs(value))), 0, 4 if abs(value) >= 0.01 else 6))


def format_settings(text: str) -> str:
    """A JSON object as `name = value, ...`; any other text as it is."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError:
        return text
    return ", ".join(f"{k} = {v}" for k, v in settings.items()) if isinstance(settings, dict) else text
