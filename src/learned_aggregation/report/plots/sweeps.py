"""A sweep's metric over its parameters: a line, a heat map or points."""

from functools import partial

import numpy as np

from learned_aggregation.report.files import numbers
from learned_aggregation.report.formats import heading, metric_heading
from learned_aggregation.report.plots.axes import label_cells, log_if_wide
from learned_aggregation.report.plots.plot import INK, PALETTE, Plot
from learned_aggregation.report.sweeps import Point, Sweep, axis_values, best_points, is_grid, varying

WINNER = "#d0103a"
MAX_FACETS = 6


def sweep_plots(sweep: Sweep) -> list[Plot]:
    """One parameter: a line. More: heat maps of the two with the most values, in facets over the others.

    Where those would be more than MAX_FACETS, one map of the best over the others; coloured points for a
    sweep that is no grid.
    """
    axes = varying(sweep)
    if not axes:
        return []
    caption = "Outlined: the winner. " * any(p.winner for p in sweep.points)
    if any(p.result.diverged for p in sweep.points):
        caption += "Hatched: a seed diverged. "
    points_caption = caption.replace("Hatched", "Crosses").replace("Outlined", "Ringed")
    if len(axes) == 1:
        bars = "Bars: 95 % interval over seeds. " * any(p.result.count > 1 for p in sweep.points)
        title = f"{heading(sweep.metric)} by {sweep.parameters[axes[0]]}"
        return [Plot("sweep", title, points_caption + bars, partial(draw_sweep_line, sweep=sweep, x=axes[0]))]
    y, x, *others = axes
    pair = f"{sweep.parameters[y]} and {sweep.parameters[x]}"
    title = f"{heading(sweep.metric)} by {pair}"
    if not is_grid(sweep):
        return [Plot("sweep", title, points_caption, partial(draw_sweep_points, sweep=sweep, x=x, y=y))]
    rows, columns = (len(axis_values(sweep.points, i)) for i in (y, x))
    size = (float(np.clip(1.9 + 0.52 * columns, 3.4, 9)), float(np.clip(1.0 + 0.26 * rows, 2.2, 9)))
    draw = partial(draw_heat_map, sweep=sweep, x=x, y=y)
    facets: dict[tuple[str, ...], list[Point]] = {}
    for point in sorted(
        sweep.points, key=lambda p: [axis_values(sweep.points, i).index(p.values[i]) for i in others]
    ):
        facets.setdefault(tuple(point.values[i] for i in others), []).append(point)
    if len(facets) > MAX_FACETS:
        caption += f"Each cell: the best over {', '.join(sweep.parameters[i] for i in others)}."
        facets = {(): sweep.points}
    return [
        Plot(f"sweep_{i}" if i else "sweep", " · ".join([title, *held(sweep, others, values)]), caption,
             partial(draw, points=points), (), size)
        for i, (values, points) in enumerate(facets.items())
    ]  # fmt: skip


def held(sweep: Sweep, positions: list[int], values: tuple[str, ...]) -> list[str]:
    """`name = value` of the parameters a facet holds fixed."""
    return [f"{sweep.parameters[i]} = {value}" for i, value in zip(positions, values, strict=False)]


def metric_scale(sweep: Sweep):
    """A colour map and norm: the best value brightest, the worst tenth sharing the darkest colour."""
    import matplotlib
    from matplotlib.colors import LogNorm, Normalize

    values = np.array([p.result.mean for p in sweep.points if np.isfinite(p.result.mean)])
    values = values if len(values) else np.array([1.0])
    low, high = (
        (values.min(), np.quantile(values, 0.9))
        if sweep.sign > 0
        else (np.quantile(values, 0.1), values.max())
    )
    high = high if high > low else low + max(abs(low), 1e-9) * 1e-3
    log = sweep.measure.suits_log and low > 0 and high > 10 * low
    norm = LogNorm(low, high) if log else Normalize(low, high)
    return matplotlib.colormaps["viridis_r" if sweep.sign > 0 else "viridis"].resampled(48), norm


def draw_heat_map(ax, sweep: Sweep, x: int, y: int, points: list[Point]) -> None:
    """The metric's mean over seeds on the grid of two parameters; empty where not run."""
    from matplotlib.patches import Rectangle

    columns, rows = axis_values(sweep.points, x), axis_values(sweep.points, y)
    best = best_points(points, sweep.sign, y, x)
    grid = np.array([[best[r, c].result.mean if (r, c) in best else np.nan for c in columns] for r in rows])
    color_map, norm = metric_scale(sweep)
    image = ax.imshow(grid, cmap=color_map, norm=norm, aspect="auto", origin="lower", interpolation="none")
    label_cells(ax, columns, rows, sweep.parameters[x], sweep.parameters[y])
    for (row, column), point in best.items():
        i, j = rows.index(row), columns.index(column)
        if point.result.diverged:
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", linewidth=0))
        elif len(columns) <= 14 and len(rows) <= 30:
            text, scale = short_metric(sweep, point.result.mean), 7.5 if len(columns) <= 12 else 6
            luminance = np.dot(color_map(norm(point.result.mean))[:3], (0.3, 0.59, 0.11))
            color = "#0b0b0b" if luminance > 0.5 else "#fefefe"
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=scale)
    for (row, column), point in best.items():
        if point.winner:
            corner = (columns.index(column) - 0.5, rows.index(row) - 0.5)
            ax.add_patch(
                Rectangle(corner, 1, 1, fill=False, edgecolor="#fefefe", linewidth=4.5, clip_on=False)
            )
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=WINNER, linewidth=2.5, clip_on=False))
    color_bar(ax, image, sweep)


def short_metric(sweep: Sweep, value: float) -> str:
    """Three significant digits, a fraction with the unit "%" in per cent."""
    return f"{100 * value:.1f}" if sweep.measure.unit == "%" else f"{value:.3g}"


def color_bar(ax, image, sweep: Sweep) -> None:
    """The scale of the metric beside the axes."""
    bar = ax.figure.colorbar(image, ax=ax, pad=0.03, aspect=22, extend="max" if sweep.sign > 0 else "min")
    bar.set_label(metric_heading(sweep.metric, sweep.measure))
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0)
    low, high = image.norm.vmin, image.norm.vmax
    log = type(image.norm).__name__ == "LogNorm"
    ticks = np.geomspace(low, high, 4) if log else np.linspace(low, high, 4)
    bar.set_ticks(ticks, labels=[short_metric(sweep, tick) for tick in ticks])


def positions(points: list[Point], position: int) -> tuple[np.ndarray, list[str] | None]:
    """Where each point lies along a parameter's axis; names of the places where its values are no numbers."""
    values, present = numbers([point.values[position] for point in points])
    if present.all():
        return values, None
    names = axis_values(points, position)
    return np.array([names.index(point.values[position]) for point in points], float), names


def place_axis(ax, which: str, where: np.ndarray, names: list[str] | None) -> None:
    """A named axis, or a numeric one that is logarithmic where the values span a factor of 20."""
    if names is not None:
        ax.set(**{f"{which}ticks": range(len(names)), f"{which}ticklabels": [name[:24] for name in names]})
    else:
        log_if_wide(ax, which, where, ratio=20)


def draw_sweep_line(ax, sweep: Sweep, x: int) -> None:
    """The metric against one parameter, with its 95 % interval."""
    points = [point for point in sweep.points if point.result.count]
    where, names = positions(points, x)
    mean, error = (
        sweep.measure.scale * np.array([getattr(p.result, key) for p in points], float)
        for key in ("mean", "error")
    )
    order = np.argsort(where)
    ok = order[np.isfinite(mean[order])]
    line = "-" if names is None else ""
    ax.errorbar(
        where[ok],
        mean[ok],
        np.nan_to_num(error[ok]),
        color=PALETTE[0],
        marker="o",
        linestyle=line,
        markersize=4,
    )
    worst = sweep.sign * np.max(sweep.sign * mean[ok]) if len(ok) else 0.0
    mark_points(ax, where, np.where(np.isfinite(mean), mean, worst), points)
    place_axis(ax, "x", where, names)
    if sweep.measure.suits_log:
        log_if_wide(ax, "y", mean, ratio=4)
    ax.set_xlabel(sweep.parameters[x])
    ax.set_ylabel(metric_heading(sweep.metric, sweep.measure))
    ax.grid(True)


def draw_sweep_points(ax, sweep: Sweep, x: int, y: int) -> None:
    """The points of a sweep that is no grid, coloured by the metric."""
    points = [point for point in sweep.points if point.result.count]
    (across, x_names), (up, y_names) = positions(points, x), positions(points, y)
    mean = np.array([point.result.mean for point in points])
    ok = np.isfinite(mean)
    color_map, norm = metric_scale(sweep)
    image = ax.scatter(
        across[ok], up[ok], c=mean[ok], cmap=color_map, norm=norm, s=38, linewidths=0.8, edgecolors=INK
    )
    mark_points(ax, across, up, points)
    place_axis(ax, "x", across, x_names)
    place_axis(ax, "y", up, y_names)
    ax.set_xlabel(sweep.parameters[x])
    ax.set_ylabel(sweep.parameters[y])
    ax.grid(True)
    color_bar(ax, image, sweep)


def mark_points(ax, x: np.ndarray, y: np.ndarray, points: list[Point]) -> None:
    """A ring around the winner, a cross where a seed diverged."""
    for i, point in enumerate(points):
        if point.winner:
            ax.plot(
                x[i],
                y[i],
                "o",
                markersize=12,
                markerfacecolor="none",
                markeredgecolor=WINNER,
                markeredgewidth=2,
            )
        if point.result.diverged:
            ax.plot(x[i], y[i], "x", markersize=7, color=INK)
