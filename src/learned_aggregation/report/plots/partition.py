"""How the examples of each class are divided over clients."""

from functools import partial

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.formats import format_number
from learned_aggregation.report.plots.axes import label_cells
from learned_aggregation.report.plots.plot import Plot

NONE = "#eceff2"
"""A colour of its own for none: the darkest of the map would vanish on a dark page."""


def partition_plots(table: Csv) -> list[Plot]:
    """How many examples of each class every client holds."""
    names = [name for name in table.columns if name.startswith("class_")]
    if not names or not len(table):
        return []
    counts = np.nan_to_num(np.array([numbers(table.columns[name])[0] for name in names]))
    sizes = counts.sum(axis=0)
    classes = (counts > 0).sum(axis=0)
    caption = (
        f"{counts.shape[1]} clients, {format_number(sizes.sum())} examples; examples per client: "
        f"{sizes.min():.0f} to {sizes.max():.0f}, median {np.median(sizes):.0f}; classes per client: "
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
