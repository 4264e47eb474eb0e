"""A task's metrics by rounds and by what was sent."""

from functools import partial

import numpy as np

from learned_aggregation.report.formats import column_heading, format_bytes, heading
from learned_aggregation.report.plots.axes import log_if_wide, plain_ticks, short
from learned_aggregation.report.plots.plot import PALETTE, Plot, matplotlib_dashes, slug, style_of
from learned_aggregation.report.statistics import Curve, interval95, thin, unique


def curve_plots(items: list[Curve], task: str) -> list[Plot]:
    """Each metric of one task against rounds and, where recorded, against bytes."""
    labels = tuple(unique(item.optimizer for item in items))
    members = [item for item in items if item.task == task]
    plots = []
    for metric in unique(item.metric for item in members):
        own = [item for item in members if item.metric == metric]
        band = (
            "Bands: 95 % interval over seeds." if any(len(item.values) > 1 for item in own) else "One seed."
        )
        if any(item.values.shape[1] > 200 for item in own):
            band += " Neighbouring rounds are averaged, 200 points a curve."
        for axis in ("rounds", "bytes"):
            if axis == "rounds" or any(item.bytes is not None for item in own):
                draw = partial(draw_curves, items=own, labels=labels, axis=axis)
                title = f"{heading(metric)} by {axis}"
                plots.append(Plot(slug(task, metric, "by", axis), title, band, draw, labels, task=task))
    return plots


def draw_curves(ax, items: list[Curve], labels: tuple[str, ...], axis: str) -> None:
    """Mean over seeds with its 95 % band. A curve ends where a seed diverges."""
    ends = []
    for item in items:
        across = item.rounds if axis == "rounds" else item.bytes
        if across is None:
            continue
        scale = 100 if item.metric.endswith("_accuracy") else 1
        x, values = thin(np.asarray(across, float)), scale * thin(item.values)
        values = np.where(np.isfinite(values), values, np.nan)
        mean, half = values.mean(axis=0), np.nan_to_num(interval95(values))
        color, dashes = style_of(labels.index(item.optimizer))
        ax.plot(x, mean, color=PALETTE[color], linewidth=1.6, linestyle=matplotlib_dashes(dashes),
                marker="o" if len(x) <= 12 else "", markersize=3)  # fmt: skip
        finite = mean[np.isfinite(mean)]
        low = mean - half
        if len(finite) and finite.min() > 0:
            low = np.maximum(low, 0.5 * finite.min())  # a log axis has no room for the rest
        if len(values) > 1:
            ax.fill_between(x, low, mean + half, color=PALETTE[color], alpha=0.18, linewidth=0)
        ends += [mean]
    ax.set_ylabel(column_heading(items[0].metric))
    ax.set_xlabel("Rounds" if axis == "rounds" else "Bytes sent, up and down")
    if not items[0].metric.endswith("_accuracy"):
        log_if_wide(ax, "y", np.concatenate(ends), ratio=4)
    plain_ticks(ax.xaxis, format_bytes if axis == "bytes" else short)
    ax.grid(True)
