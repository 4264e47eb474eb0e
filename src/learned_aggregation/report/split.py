"""What a split run shows besides its curves: accuracy against bytes at the cut, and its clients."""

from functools import partial

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.formats import format_bytes, format_number, heading, metric_heading
from learned_aggregation.report.measures import Measure, Measures, is_metric
from learned_aggregation.report.plots.axes import log_axis
from learned_aggregation.report.plots.plot import PALETTE, Plot
from learned_aggregation.report.statistics import unique
from learned_aggregation.report.tables import Cell, Table, is_spread

CUT = "bytes_cut_per_round"


def cut_plots(table: Csv, measures: Measures) -> list[Plot]:
    """Every last test metric against the bytes at the cut of a round, a point for each case."""
    if CUT not in table.columns or len(table) < 2:
        return []
    plots = []
    for name in table.columns:
        if name.startswith("test_") and is_metric(name) and not is_spread(name, table):
            measure = measures.of(name, table.column("task")[0])
            draw = partial(draw_points, table=table, name=name, measure=measure)
            caption = "Activations and gradients of all clients in a round. Bars: 95 % interval over seeds."
            plots.append(
                Plot(f"cut_{name}", f"{heading(name)} by bytes at the cut", caption, draw, size=(5.6, 3.6))
            )
    return plots


def draw_points(ax, table: Csv, name: str, measure: Measure) -> None:
    """Labelled points with their intervals, bytes on a log axis."""
    (sent, _), (value, _) = numbers(table.column(CUT)), numbers(table.column(name))
    spread = np.nan_to_num(numbers(table.column(f"{name}_ci95"))[0])
    ax.errorbar(
        sent,
        measure.scale * value,
        measure.scale * spread,
        fmt="o",
        color=PALETTE[0],
        markersize=4,
        linewidth=1,
    )
    for x, y, label in zip(sent, measure.scale * value, table.column("entrant"), strict=True):
        if np.isfinite(y):
            ax.annotate(label, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7.5)
    ax.set_ylabel(metric_heading(name, measure))
    ax.set_xlabel("Bytes at the cut per round")
    positive = sent[np.isfinite(sent) & (sent > 0)]
    if len(positive):
        log_axis(ax, "x", positive, format_bytes)
    ax.grid(True)


def clients_table(table: Csv) -> Table:
    """clients.csv, the means over seeds of each client of each case."""
    cases, clients = table.column("entrant"), table.column("client")
    values = [n for n in table.columns if n not in ("entrant", "seed", "client", "autoencoder")]
    rows, sections = [], {}
    for case in unique(cases):
        sections[len(rows)] = case
        for client in unique(c for c, label in zip(clients, cases, strict=True) if label == case):
            members = [i for i in range(len(cases)) if (cases[i], clients[i]) == (case, client)]
            cells = [Cell(client)]
            for name in values:
                found = numbers([table.columns[name][i] for i in members])[0]
                known = found[np.isfinite(found)]
                cells.append(Cell(format_number(float(known.mean())) if len(known) else "–"))
            origins = unique(table.column("autoencoder")[i] for i in members)
            rows.append([*cells, Cell(", ".join(origins), number=False)])
    headings = ["Client", *map(heading, values), "Autoencoder"]
    note = (
        "Means over seeds. Own: on the client's training examples; reconstruction: mean squared errors of its "
        "autoencoder before stage 2, on its own examples and on those of the other clients."
    )
    return Table("", headings, rows, sections, note)
