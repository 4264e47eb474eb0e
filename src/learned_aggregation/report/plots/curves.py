"""A task's metrics by rounds, by what the cohort has sent, and by what one client has exchanged."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from learned_aggregation.report.formats import format_bits, format_bytes, heading, metric_heading
from learned_aggregation.report.plots.axes import log_axis, log_if_wide, plain_ticks, short
from learned_aggregation.report.plots.plot import PALETTE, Plot, matplotlib_dashes, slug, style_of
from learned_aggregation.report.statistics import Curve, interval95, per_round, thin, unique


class Across(NamedTuple):
    """What a curve is drawn over: an attribute of Curve. title: ends the plot's title. log: always on a log axis."""

    title: str
    label: str
    tick: Callable[[float], str]
    log: bool = False


ACROSS = {
    "rounds": Across("rounds", "Rounds", short),
    "bytes": Across("bytes", "Bytes sent, up and down", format_bytes),
    "bits": Across("bits per client", "Bits per client, up and down", format_bits, log=True),
}


def curve_plots(items: list[Curve], task: str) -> list[Plot]:
    """Each metric of one task against rounds, against bytes where recorded, against bits per client where they differ.

    Methods that exchange the same bits in a round would only show their curves by rounds once more.
    """
    labels = tuple(unique(item.optimizer for item in items))
    members = [item for item in items if item.task == task]
    axes = [axis for axis in ACROSS if axis != "bits" or traffic_differs(members)]
    plots = []
    for metric in unique(item.metric for item in members):
        shown = [item for item in members if item.metric == metric]
        several = any(len(item.values) > 1 for item in shown)
        band = "Bands: 95 % interval over seeds." if several else "One seed."
        if any(item.values.shape[1] > 200 for item in shown):
            band += " Neighbouring rounds are averaged, 200 points a curve."
        for axis in axes:
            if any(getattr(item, axis) is not None for item in shown):
                draw = partial(draw_curves, items=shown, labels=labels, axis=axis)
                title = f"{heading(metric)} by {ACROSS[axis].title}"
                plots.append(Plot(slug(task, metric, "by", axis), title, band, draw, labels, task=task))
    return plots


def traffic_differs(items: list[Curve]) -> bool:
    """Whether the methods of a task exchange different numbers of bits in a round."""
    methods: dict[str, list[Curve]] = {}
    for item in items:
        methods.setdefault(item.optimizer, []).append(item)
    found = [bits for curves in methods.values() if (bits := per_round(curves, "bits")) is not None]
    return bool(found) and not np.allclose(found, found[0], rtol=1e-9, atol=0)


def draw_curves(ax, items: list[Curve], labels: tuple[str, ...], axis: str) -> None:
    """Mean over seeds with its 95 % band. A curve ends where a seed diverges."""
    drawn, ends, across = ACROSS[axis], [], []
    measure = items[0].measure
    for item in items:
        where = getattr(item, axis)
        if where is None:
            continue
        shown = np.asarray(where, float) > 0 if drawn.log else np.full(len(where), True)
        x, values = thin(np.asarray(where, float)[shown]), measure.scale * thin(item.values[:, shown])
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
        ends, across = [*ends, mean], [*across, x]
    ax.set_ylabel(metric_heading(items[0].metric, measure))
    ax.set_xlabel(drawn.label)
    if measure.suits_log:
        log_if_wide(ax, "y", np.concatenate(ends), ratio=4)
    plain_ticks(ax.xaxis, drawn.tick)
    if drawn.log and len(positive := np.concatenate(across)):
        log_axis(ax, "x", positive, drawn.tick)
    ax.grid(True)
