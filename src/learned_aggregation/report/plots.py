"""The plots of a report: what each shows, drawn on one matplotlib axes, as themable SVG or as PNG.

Colours are written as the hexes of PALETTE and INK; `to_svg` turns them into CSS variables and
currentColor, so that the page's light and dark themes apply to the plots too.
"""

import io
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.statistics import Curve, interval95, smooth, thin
from learned_aggregation.report.sweeps import Point, Sweep, axis_values, best_points, is_grid, varying
from learned_aggregation.report.tables import column_heading, format_bytes, format_number, heading, unique

INK, GRID = "#1b1f24", "#8a929b"
PALETTE = ("#0061b5", "#c44f02", "#17966d", "#8f2069", "#8f6501", "#5a4fb0", "#3793bd", "#5d6166")
DARK_PALETTE = ("#4fa8f5", "#ff9151", "#63e6b0", "#df6db0", "#e8b740", "#a595f7", "#8fe0f7", "#bfc3c7")
DASHES = ("", "6 2", "1.5 1.5", "6 1.5 1.5 1.5")
WINNER, NONE = "#d0103a", "#eceff2"
PANEL = (4.6, 3.0)
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "report", "text.parse_math": False, "font.size": 9.5,
    "axes.labelsize": 9.5, "axes.titlesize": 10, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": GRID, "xtick.color": GRID, "ytick.color": GRID, "grid.color": GRID, "grid.alpha": 0.35,
    "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "hatch.linewidth": 0.8, "hatch.color": INK,
}  # fmt: skip
MAX_FACETS = 6


class Plot(NamedTuple):
    """One plot.

    name: its file name without suffix, unique in a report.
    draw: draws it on an empty axes.
    legend: labels of its curves; curve i has the colour and dashes of `style_of(i)`.
    size: width and height in inches.
    task: what the PNG's title says besides; the page says it in a heading.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Any], None]
    legend: tuple[str, ...] = ()
    size: tuple[float, float] = PANEL
    task: str = ""


def style_of(index: int) -> tuple[int, str]:
    """The palette index and the SVG dash pattern of a curve: four solid, four dashed, ..."""
    return index % len(PALETTE), DASHES[index // 4 % len(DASHES)]


def slug(*parts: str) -> str:
    """A file name without surprises."""
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(filter(None, parts))).strip("_").lower()


# --- curves by round ---


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


def matplotlib_dashes(dashes: str):
    """An SVG dash pattern as matplotlib's line style."""
    return (0, tuple(float(part) / 1.6 for part in dashes.split())) if dashes else "-"


def short(value: float) -> str:
    """A tick label: %g, thousands as 10k."""
    if abs(value) >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def log_if_wide(ax, which: str, values: np.ndarray, ratio: float) -> None:
    """Makes the "x" or "y" axis a log axis with plain labels where positive values span more than `ratio`."""
    from matplotlib.ticker import LogLocator, NullLocator

    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0 or values.max() < ratio * values.min():
        return
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    decades = np.log10(values.max() / values.min())
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_minor_locator(NullLocator())
    plain_ticks(axis, short)


def plain_ticks(axis, label: Callable[[float], str]) -> None:
    """Tick labels without offsets or powers of ten."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))


# --- meta-training ---


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


# --- sweeps ---


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
    norm = LogNorm(low, high) if low > 0 and high > 10 * low else Normalize(low, high)
    return matplotlib.colormaps["viridis_r" if sweep.sign > 0 else "viridis"].resampled(48), norm


def draw_heat_map(ax, sweep: Sweep, x: int, y: int, points: list[Point]) -> None:
    """The metric's mean over seeds on the grid of two parameters; empty where not run."""
    from matplotlib.patches import Rectangle

    columns, rows = axis_values(sweep.points, x), axis_values(sweep.points, y)
    cells = best_points(points, sweep.sign, y, x)
    grid = np.array([[cells[r, c].result.mean if (r, c) in cells else np.nan for c in columns] for r in rows])
    color_map, norm = metric_scale(sweep)
    image = ax.imshow(grid, cmap=color_map, norm=norm, aspect="auto", origin="lower", interpolation="none")
    label_cells(ax, columns, rows, sweep.parameters[x], sweep.parameters[y])
    for (row, column), point in cells.items():
        i, j = rows.index(row), columns.index(column)
        if point.result.diverged:
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", linewidth=0))
        elif len(columns) <= 14 and len(rows) <= 30:
            text, scale = short_metric(sweep, point.result.mean), 7.5 if len(columns) <= 12 else 6
            luminance = np.dot(color_map(norm(point.result.mean))[:3], (0.3, 0.59, 0.11))
            color = "#0b0b0b" if luminance > 0.5 else "#fefefe"
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=scale)
    for (row, column), point in cells.items():
        if point.winner:
            corner = (columns.index(column) - 0.5, rows.index(row) - 0.5)
            ax.add_patch(
                Rectangle(corner, 1, 1, fill=False, edgecolor="#fefefe", linewidth=4.5, clip_on=False)
            )
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=WINNER, linewidth=2.5, clip_on=False))
    color_bar(ax, image, sweep)


def short_metric(sweep: Sweep, value: float) -> str:
    """Three significant digits, an accuracy in per cent."""
    return f"{100 * value:.1f}" if sweep.metric.endswith("_accuracy") else f"{value:.3g}"


def label_cells(ax, columns: list[str], rows: list[str], x_name: str, y_name: str) -> None:
    """One tick a cell, thinned to 20 an axis, long values turned; no frame."""
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


def color_bar(ax, image, sweep: Sweep) -> None:
    """The scale of the metric beside the axes."""
    bar = ax.figure.colorbar(image, ax=ax, pad=0.03, aspect=22, extend="max" if sweep.sign > 0 else "min")
    bar.set_label(column_heading(sweep.metric))
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
    mean, error = (np.array([getattr(p.result, key) for p in points], float) for key in ("mean", "error"))
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
    mark_points(ax, where, np.where(np.isfinite(mean), mean, np.max(mean[ok], initial=0.0)), points)
    place_axis(ax, "x", where, names)
    log_if_wide(ax, "y", mean, ratio=4)
    ax.set_xlabel(sweep.parameters[x])
    ax.set_ylabel(column_heading(sweep.metric))
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


# --- partition ---


def partition_plots(table: Csv) -> list[Plot]:
    """How many examples of each class every client holds."""
    names = [name for name in table.columns if name.startswith("class_")]
    if not names or not len(table):
        return []
    counts = np.nan_to_num(np.array([numbers(table.columns[name])[0] for name in names]))
    sizes = counts.sum(axis=0)
    classes = (counts > 0).sum(axis=0)
    caption = (
        f"{counts.shape[1]} clients, {format_number(sizes.sum())} examples; examples a client: "
        f"{sizes.min():.0f} to {sizes.max():.0f}, median {np.median(sizes):.0f}; classes a client: "
        f"{classes.min()} to {classes.max()}. Grey: none of that class."
    )
    size = (
        float(np.clip(1.8 + 0.06 * counts.shape[1], 4.6, 9)),
        float(np.clip(1.3 + 0.17 * len(names), 2.6, 6)),
    )
    draw = partial(
        draw_partition, counts=counts, clients=table.column("client"), classes=[n[6:] for n in names]
    )
    return [Plot("partition", "Classes by clients", caption, draw, (), size)]


def draw_partition(ax, counts: np.ndarray, clients: list[str], classes: list[str]) -> None:
    """A heat map of example counts [classes, clients]."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    shown = np.where(counts > 0, counts, np.nan)
    # A colour of its own for none: the darkest of the map would vanish on a dark page.
    color_map = matplotlib.colormaps["viridis_r"].resampled(48).with_extremes(bad=NONE)
    image = ax.imshow(
        shown,
        cmap=color_map,
        vmin=0,
        vmax=max(counts.max(), 1),
        aspect="auto",
        origin="lower",
        interpolation="none",
    )
    label_cells(ax, clients, classes, "Client", "Class")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, aspect=25, ticks=MaxNLocator(4, integer=True))
    bar.set_label("Examples")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


# --- rendering ---


def to_svg(plot: Plot) -> str:
    """The plot as an `<svg>` element for a page that defines --series-0, ... and its text colour.

    Ids are prefixed with the plot's name, so that several plots can share a page.
    """
    text = render(plot, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>|\s*<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    for index, color in enumerate(PALETTE):
        text = text.replace(color, f"var(--series-{index})")
    text = text.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    text = re.sub(r'\bid="', f'id="{plot.name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{plot.name}-", text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\d\.\d\d)\d+", r"\1", path[0]), text)
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"',
        r"<svg \1",
        re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1),
    )


def to_png(plot: Plot) -> bytes:
    """The plot as a PNG on white, with its title and legend."""
    return render(plot, "png")


def render(plot: Plot, kind: str) -> bytes:
    """Draws the plot; only the PNG has its title and legend inside, the page writes them as text."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=plot.size, layout="constrained")
        ax = figure.add_subplot()
        plot.draw(ax)
        if kind == "png":
            ax.set_title(", ".join(filter(None, [plot.title, plot.task])))
            styles = [style_of(i) for i in range(len(plot.legend))]
            lines = [
                Line2D([], [], color=PALETTE[c], linestyle=matplotlib_dashes(d), linewidth=1.6)
                for c, d in styles
            ]
            if lines:
                figure.set_figheight(plot.size[1] + 0.2 * -(-len(lines) // 2))
                figure.legend(lines, plot.legend, loc="outside lower center", ncols=2, frameon=False)
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=150, transparent=kind == "svg", metadata=metadata)
    return buffer.getvalue()
