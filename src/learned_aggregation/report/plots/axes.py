"""Scales and tick labels that several plots share."""

from collections.abc import Callable

import numpy as np

from learned_aggregation.report.files import numbers


def short(value: float) -> str:
    """A tick label: %g, thousands as 10k."""
    if abs(value) >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def log_if_wide(ax, which: str, values: np.ndarray, ratio: float) -> None:
    """Makes the "x" or "y" axis a log axis with plain labels where positive values span more than `ratio`."""
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() >= ratio * values.min():
        log_axis(ax, which, values, short)


def log_axis(ax, which: str, values: np.ndarray, label: Callable[[float], str]) -> None:
    """Makes the "x" or "y" axis a log axis, its ticks as close as the positive `values` need them."""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    decades = np.log10(values.max() / values.min())
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_minor_locator(NullLocator())
    plain_ticks(axis, label)


def plain_ticks(axis, label: Callable[[float], str]) -> None:
    """Tick labels without offsets or powers of ten."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))


def label_cells(ax, columns: list[str], rows: list[str], x_name: str, y_name: str) -> None:
    """One tick for each row and column of a map, at most 20 across and 30 up, long values turned; no frame."""
    for set_ticks, names, limit in ((ax.set_xticks, columns, 20), (ax.set_yticks, rows, 30)):
        step = -(-len(names) // limit)
        set_ticks(range(0, len(names), step), [tick_name(name) for name in names[::step]])
    if sum(len(tick_name(name)) for name in columns) > 45 and len(columns) > 2:
        ax.tick_params(axis="x", rotation=60)
    ax.set_xlabel(x_name)
    ax.set_ylabel(y_name)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def tick_name(value: str) -> str:
    """A swept value as a tick label: numbers shortened, other text cut to 24 characters."""
    (number,), (present,) = numbers([value])
    return f"{number:.4g}" if present else value[:24]
