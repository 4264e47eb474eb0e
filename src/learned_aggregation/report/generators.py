"""What a run with generators shows besides its curves: their losses, samples beside real embeddings, their quality."""

from functools import partial

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.formats import format_number, heading
from learned_aggregation.report.plots.axes import plain_ticks, short
from learned_aggregation.report.plots.plot import PALETTE, Plot
from learned_aggregation.report.statistics import unique
from learned_aggregation.report.tables import Cell, Table

SHOWN_CLASSES = 8
"""In the plot of the components: as many as there are colours."""


def loss_plots(table: Csv) -> list[Plot]:
    """Each client's generator loss by round, the mean over seeds."""
    clients = unique(table.column("client"))
    if not clients:
        return []
    draw = partial(draw_losses, table=table, clients=clients)
    caption = "The mean of the last epoch of each round and over seeds, a line for each client."
    return [Plot("generator_loss", "Generator loss by rounds", caption, draw)]


def draw_losses(ax, table: Csv, clients: list[str]) -> None:
    (rounds, _), (losses, _) = numbers(table.column("round")), numbers(table.column("loss"))
    owner = np.array(table.column("client"))
    for index, client in enumerate(clients):
        of = (owner == client) & np.isfinite(rounds)
        x = np.unique(rounds[of])
        y = [float(np.mean(losses[of & (rounds == one)])) for one in x]
        color = PALETTE[index % len(PALETTE)]
        ax.plot(x, y, color=color, linewidth=1.2, marker="o", markersize=2.5)
        if len(x):
            ax.annotate(
                f"client {client}", (x[-1], y[-1]), xytext=(3, 0), textcoords="offset points", fontsize=7
            )
    ax.set_xlabel("Rounds")
    ax.set_ylabel("Generator loss (nats)")
    plain_ticks(ax.xaxis, short)
    ax.grid(True)


def component_plots(table: Csv) -> list[Plot]:
    """Samples and real embeddings by the first two components of the real ones."""
    classes = unique(table.column("class"))[:SHOWN_CLASSES]
    if not classes:
        return []
    draw = partial(draw_components, table=table, classes=classes)
    caption = (
        "The first two principal components of the real embeddings. Dots: real; crosses: samples. A colour for each "
        f"class: {', '.join(classes)}."
    )
    return [Plot("generator_samples", "Samples and data", caption, draw, size=(5.6, 4.2))]


def draw_components(ax, table: Csv, classes: list[str]) -> None:
    (x, _), (y, _) = numbers(table.column("x")), numbers(table.column("y"))
    kind, label = np.array(table.column("kind")), np.array(table.column("class"))
    for index, name in enumerate(classes):
        color = PALETTE[index % len(PALETTE)]
        for what, marker in (("real", "o"), ("sample", "x")):
            of = (label == name) & (kind == what) & np.isfinite(x) & np.isfinite(y)
            ax.scatter(x[of], y[of], s=9, marker=marker, color=color, linewidths=0.8, alpha=0.8)
            if what == "real" and of.any():
                ax.annotate(name, (x[of].mean(), y[of].mean()), fontsize=10, fontweight="bold")
    ax.set_xlabel("First component")
    ax.set_ylabel("Second component")
    ax.grid(True)


def quality_table(table: Csv) -> Table:
    """quality.csv, the means over seeds of each client and class."""
    cases, clients, classes = (table.column(name) for name in ("entrant", "client", "class"))
    values = [name for name in table.columns if name not in ("entrant", "seed", "client", "class")]
    rows, sections = [], {}
    keys = list(zip(cases, clients, classes, strict=True))
    shown = ""
    for key in unique(keys):
        if key[0] != shown:
            shown = key[0]
            sections[len(rows)] = shown
        cells = [Cell(key[1]), Cell(key[2], number=False)]
        members = [index for index, one in enumerate(keys) if one == key]
        for name in values:
            found = numbers([table.columns[name][index] for index in members])[0]
            known = found[np.isfinite(found)]
            cells.append(Cell(format_number(float(known.mean())) if len(known) else "–"))
        rows.append(cells)
    note = (
        "Means over seeds. Cosine: of the samples' mean to the data's; sample and real cosine: of one embedding to the "
        "data's mean. Spread: of the samples over the data's. Nearest: a sample's distance to the nearest training "
        "example, and a training example's to the next. KL in nats."
    )
    return Table("", ["Client", "Class", *map(heading, values)], rows, sections, note)
