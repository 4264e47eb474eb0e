"""Meta-training by outer step."""

from functools import partial

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.formats import heading
from learned_aggregation.report.plots.axes import log_if_wide, plain_ticks, short
from learned_aggregation.report.plots.plot import PALETTE, Plot, slug
from learned_aggregation.report.statistics import smooth, thin


def meta_plots(table: Csv) -> list[Plot]:
    """The meta-loss and the gradient norm by outer step; of a step written twice the last counts."""
    steps, has_step = numbers(table.column("step"))
    plots = []
    for name in ("meta_loss", "grad_norm"):
        values, present = numbers(table.column(name))
        rows = np.flatnonzero(present & has_step & np.isfinite(steps))
        points = dict(zip(steps[rows].tolist(), values[rows].tolist(), strict=True))
        if np.isfinite(list(points.values())).any():
            x = np.array(sorted(points))
            window = max(1, len(x) // 25)
            caption = (
                f"Faint: every logged step. Line: running mean over {window} of them." if window > 1 else ""
            )
            draw = partial(draw_meta, x=x, y=np.array([points[step] for step in x]), window=window, name=name)
            plots.append(Plot(slug("meta", name), heading(name), caption, draw))
    return plots


def draw_meta(ax, x: np.ndarray, y: np.ndarray, window: int, name: str) -> None:
    """A noisy series with its running mean."""
    y = np.where(np.isfinite(y), y, np.nan)
    smoothed = smooth(y, window)
    if window > 1:
        ax.plot(thin(x, 1000), thin(y, 1000), color=PALETTE[0], linewidth=0.7, alpha=0.35)
    ax.plot(
        thin(x, 400), thin(smoothed, 400), color=PALETTE[0], linewidth=1.8, marker="o" if len(x) < 3 else ""
    )
    ax.set_xlabel("Outer step")
    ax.set_ylabel(heading(name))
    log_if_wide(ax, "y", smoothed, ratio=4)
    plain_ticks(ax.xaxis, short)
    ax.grid(True)
