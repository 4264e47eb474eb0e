"""Column names, numbers and estimates as text."""

import re

import numpy as np

from learned_aggregation.json_text import parse_json
from learned_aggregation.report.measures import Measure
from learned_aggregation.report.statistics import Estimate


def heading(name: str) -> str:
    """A column name in words: rounds_to_25 -> "Rounds to 25 %"."""
    target = re.fullmatch(r"(rounds_to|speedup)_(\d+)", name)
    if target:
        return f"{'Rounds to' if target[1] == 'rounds_to' else 'Speed-up at'} {target[2]} %"
    words = name.replace("_", " ").replace("speedup", "speed-up")
    return words[:1].upper() + words[1:]


def metric_heading(name: str, measure: Measure | None) -> str:
    """A metric's heading with its unit; without one where its tasks measure it differently (None)."""
    return heading(name) + (f" ({measure.unit})" if measure and measure.unit else "")


def goal(name: str) -> int:
    """-1 where lower is better (rounds, bytes, bits, gradients), 1 where higher is, 0 where neither.

    Of the columns that hold no metric; a metric's `Measure` says its own direction.
    """
    if name.startswith("speedup"):
        return 1
    return -1 if re.match(r"(rounds_to|bytes|bits|client_gradient)", name) else 0


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
    return _with_prefix(value, "B")


def format_bits(value: float) -> str:
    """A count of bits in decimal units: 1.25 Mbit."""
    return _with_prefix(value, "bit")


def _with_prefix(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return format_number(value)
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def format_estimate(value: Estimate, measure: Measure, with_unit: bool = False) -> str:
    """`mean ± spread`, a fraction with the unit "%" in per cent; or how many seeds diverged.

    Args:
      with_unit: ends with the unit, where the heading does not say it.
    """
    if value.diverged:
        return f"diverged ({value.diverged} of {value.count})"
    if not value.count:
        return "–"
    percent = measure.unit == "%"
    mean, error = measure.scale * value.mean, measure.scale * value.error
    places = 2 if percent else decimals(mean, 4)
    tiny = not percent and mean != 0 and not 1e-4 <= abs(mean) < 1e6
    text = [
        f"{number:.3e}" if tiny else f"{number:.{places}f}" for number in (mean, error) if np.isfinite(number)
    ]
    estimate = " ± ".join(text)
    return f"{estimate} {measure.unit}" if with_unit and measure.unit else estimate


def decimals(value: float, digits: int) -> int:
    """Decimal places for `digits` significant digits of `value`, at most 4 from 0.01 on, else 6."""
    if not value:
        return digits - 1
    return int(np.clip(digits - 1 - np.floor(np.log10(abs(value))), 0, 4 if abs(value) >= 0.01 else 6))


def format_settings(text: str) -> str:
    """A JSON object as `name = value, ...`; any other text as it is."""
    try:
        settings = parse_json(text, finite=False)
    except ValueError:
        return text
    return ", ".join(f"{k} = {v}" for k, v in settings.items()) if isinstance(settings, dict) else text
