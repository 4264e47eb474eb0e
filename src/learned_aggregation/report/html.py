"""report.html: what a run found, in one file that needs nothing else."""

import html
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.report.files import Csv, numbers, read_csv, read_json, read_text
from learned_aggregation.report.formats import format_estimate, format_number, heading, metric_heading
from learned_aggregation.report.generators import component_plots, loss_plots, quality_table
from learned_aggregation.report.measures import read_measures
from learned_aggregation.report.pictures import picture_html
from learned_aggregation.report.plots import (
    Plot,
    curve_plots,
    meta_plots,
    partition_plots,
    style_of,
    sweep_plots,
    to_png,
    to_svg,
)
from learned_aggregation.report.plots.axes import tick_name
from learned_aggregation.report.split import clients_table, cut_plots
from learned_aggregation.report.statistics import Curve, by_task, curves, smooth, unique
from learned_aggregation.report.style import style_sheet
from learned_aggregation.report.sweeps import Sweep, read_sweep
from learned_aggregation.report.tables import Cell, Table, comparison_table, final_table, rounds_table

SHOWN_POINTS = 12
RETRY = "write the report again"


class Run(NamedTuple):
    """What a run directory holds; None or empty where a file is missing."""

    path: Path
    about: dict[str, Any]
    metrics: Csv | None
    rounds: Csv | None
    comparison: Csv | None
    partition: Csv | None
    clients: Csv | None
    generators: Csv | None
    quality: Csv | None
    samples: Csv | None
    sweep: Sweep | None
    config: str | None

    @property
    def tables(self) -> list[Csv]:
        """The CSV files that are there."""
        return [
            table
            for table in (
                *(self.metrics, self.rounds, self.comparison, self.partition, self.clients),
                *(self.generators, self.quality, self.samples),
            )
            if table
        ]


def write_report(run_dir: str | Path) -> Path:
    """Writes `report.html` and `figures/*.png` of a run directory, each atomically.

    Reads run.json, config.py, metrics.csv, rounds.csv, table.csv, sweep.csv, sweep.json, partition.csv, clients.csv,
    generators.csv, quality.csv, samples.csv, pictures/*.png; a section is shown for each that is there. Lines that a
    killed run left half-written are skipped, and counted on the page.

    Args:
      run_dir: a run's directory, finished or not.
    Returns:
      The path of report.html.
    Raises:
      UserError: run_dir is no directory.
      RunError: the report cannot be written.
    """
    path = Path(run_dir)
    if not os.path.isdir(path):
        raise UserError(
            f"report: expected a run's directory, got {str(run_dir)!r}. Give the --run_dir of a run."
        )
    run = read_run(path)
    sections, plots = all_sections(run)
    for plot in plots:
        write_atomic(path / "figures" / f"{plot.name}.png", to_png(plot), then=RETRY)
    write_atomic(path / "report.html", page(run, sections), then=RETRY)
    return path / "report.html"


def read_run(path: Path) -> Run:
    """Reads all files of a run directory."""
    names = ("metrics", "rounds", "table", "partition", "clients", "generators", "quality", "samples")
    metrics, rounds, table, *others = (read_csv(path / f"{name}.csv") for name in names)
    about, config = read_json(path / "run.json"), read_text(path / "config.py")
    partition, clients, generators, quality, samples = others
    return Run(
        path,
        about,
        metrics,
        rounds,
        table,
        partition,
        clients,
        generators,
        quality,
        samples,
        read_sweep(path),
        config,
    )


def all_sections(run: Run) -> tuple[list[str], list[Plot]]:
    """The sections of the page in order, empty ones left out, and every plot in them."""
    items = curves(run.rounds, read_measures(run.about)) if run.rounds else []
    tasks = {task: curve_plots(items, task) for task in by_task(items)}
    sweep = sweep_plots(run.sweep) if run.sweep else []
    partition = partition_plots(run.partition) if run.partition else []
    meta = meta_plots(run.metrics) if run.metrics else []
    cut = cut_plots(run.comparison, read_measures(run.about)) if run.comparison else []
    generators = loss_plots(run.generators) if run.generators else []
    generators += component_plots(run.samples) if run.samples else []
    quality = table_html(quality_table(run.quality)) if run.quality else ""
    sections = [
        summary_section(run, items),
        section("At the cut", figures(cut)),
        curves_section(items, tasks),
        section("Generators", figures(generators) + quality if generators or quality else ""),
        sweep_section(run.sweep, sweep),
        section("Reconstructions", pictures_html(run.path)),
        section("Partition", figures(partition)),
        section("Clients", table_html(clients_table(run.clients)) if run.clients else ""),
        meta_section(run.metrics, meta),
    ]
    plots = [plot for group in (*tasks.values(), sweep, partition, meta, cut, generators) for plot in group]
    return [text for text in sections if text], plots


# --- sections ---


def summary_section(run: Run, items: list[Curve]) -> str:
    """table.csv where there is one, else the last values of rounds.csv."""
    if run.comparison and len(run.comparison):
        note = str(run.about.get("table_note", ""))
        table = comparison_table(run.comparison, note, read_measures(run.about))
    elif items:
        table = final_table(items)
        table = table._replace(
            note=" ".join(filter(None, [str(run.about.get("table_note", "")), table.note]))
        )
    else:
        return ""
    note = (
        "<p class='soft'>Marked: the best mean of each column and task. Whether it is more than chance, the "
    )
    return section(table.title, table_html(table) + note + "intervals tell.</p>")


def curves_section(items: list[Curve], tasks: dict[str, list[Plot]]) -> str:
    """The curves of every task under one legend, and the same in numbers."""
    parts = []
    for task, plots in tasks.items():
        metrics = unique(item.metric for item in items if item.task == task)
        table = rounds_table(items, task, metrics)._replace(title="")
        heading = f"<h3>{escape(task)}</h3>" if task else ""
        parts += [heading, legend(plots[0].legend), figures(plots)]
        parts += ["<details><summary>In numbers, by round</summary>", table_html(table), "</details>"]
    return section("Metrics by round", "".join(parts))


def sweep_section(sweep: Sweep | None, plots: list[Plot]) -> str:
    """The heat maps, the winner in words, and the best points in numbers."""
    if sweep is None:
        return ""
    winner = next((point for point in sweep.points if point.winner), None)
    if winner:
        chosen = ", ".join(f"{k} = {v}" for k, v in zip(sweep.parameters, winner.values, strict=True))
        reached = format_estimate(winner.result, sweep.measure, with_unit=True)
        text = f"{chosen}: {heading(sweep.metric).lower()} {reached}"
        words = f"<p><b>Winner:</b> {escape(text)} ({plural(winner.result.count, 'seed')}).</p>"
    else:
        words = "<p>No winner is recorded: the sweep has not finished, or every point diverged.</p>"
    if sweep.on_edge:
        names = escape(", ".join(map(str, sweep.on_edge)))
        words += f"<p><b>On the edge of the grid:</b> {names}. A better value may lie outside; widen it.</p>"
    shown = sweep.points[:SHOWN_POINTS]
    rows = [
        [
            *(Cell(tick_name(value)) for value in point.values),
            Cell(format_estimate(point.result, sweep.measure), point.winner),
            Cell(str(point.result.count)),
        ]
        for point in shown
    ]
    goal = "lowest" if sweep.sign > 0 else "highest"
    diverged = sum(bool(point.result.diverged) for point in sweep.points)
    note = (
        f"The {len(shown)} points with the {goal} {heading(sweep.metric).lower()} of {len(sweep.points)}, "
        f"mean ± 95 % interval over seeds; {diverged} diverged."
    )
    table = Table(
        "", [*sweep.parameters, metric_heading(sweep.metric, sweep.measure), "Seeds"], rows, note=note
    )
    return section("Sweep", words + figures(plots) + table_html(table))


def meta_section(table: Csv | None, plots: list[Plot]) -> str:
    """The meta-loss curve and how the meta-training went, in a line."""
    if table is None or not plots:
        return ""
    (steps, _), (loss, present) = numbers(table.column("step")), numbers(table.column("meta_loss"))
    words = []
    if np.isfinite(loss).any():
        smoothed = smooth(loss[present], max(1, int(present.sum()) // 25))
        first, last = smoothed[np.isfinite(smoothed)][[0, -1]]
        words.append(f"meta-loss from {format_number(first)} to {format_number(last)} (running means)")
    if np.isfinite(steps).any():
        words.append(f"up to outer step {format_number(np.nanmax(steps))}")
    for name, unit in (("outer_steps_per_s", "outer steps/s"), ("rounds_per_s", "rounds/s")):
        rates = numbers(table.column(name))[0]
        if np.isfinite(rates).any():
            words.append(f"{format_number(np.median(rates[np.isfinite(rates)]), 3)} {unit} (median)")
    summary = f"<p>{escape('; '.join(words))}.</p>" if words else ""
    return section("Meta-training", summary + figures(plots))


def about_sections(run: Run) -> Iterable[str]:
    """Config, versions, and how to run it again."""
    if run.config:
        yield section("Config", f"<pre tabindex='0'>{escape(run.config.strip())}</pre>")
    rows = [
        [Cell(str(name), number=False), Cell(str(value), number=False)]
        for key in ("versions", "machine")
        for name, value in as_dict(run.about.get(key)).items()
    ]
    if rows:
        yield section("Versions and machine", table_html(Table("", ["What", "Which"], rows)))
    if run.about.get("command"):
        yield section("Run it again", f"<pre class='wrap'>{escape(run.about['command'])}</pre>")


def section(title: str, body: str) -> str:
    """A section with a heading; nothing where there is no body."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n" if body else ""


# --- pieces ---


def pictures_html(path: Path) -> str:
    """The run's pictures/*.png, in the order of their names, each under its name."""
    found = sorted((path / "pictures").glob("*.png"))
    note = (
        "<p class='soft'>A test image per row: the image, what the encoder sees of it, what it predicts, and the "
        "target of that. A histogram of gradients is drawn as edges.</p>"
    )
    shown = [f"<h3>{escape(one.stem)}</h3>{picture_html(one.read_bytes(), one.stem)}" for one in found]
    return note + "".join(shown) if shown else ""


def escape(text: Any) -> str:
    """Text safe inside an element or a quoted attribute."""
    return html.escape(str(text), quote=True)


def as_dict(value: Any) -> dict:
    """A JSON object; anything else under one name."""
    return value if isinstance(value, dict) else {"": value} if value else {}


def plural(count: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def table_html(table: Table) -> str:
    """A table in its own sideways scrolling box."""
    numeric = [all(row[i].number for row in table.rows) for i in range(len(table.headings))]
    head = "".join(
        f"<th{' class=n' * n}>{escape(name).replace('_', '_<wbr>')}</th>"
        for name, n in zip(table.headings, numeric, strict=True)
    )
    rows = []
    for i, row in enumerate(table.rows):
        cells = "".join(cell_html(cell, number) for cell, number in zip(row, numeric, strict=True))
        if table.sections.get(i):
            name = escape(table.sections[i])
            rows.append(f"<tr class=group><th colspan={len(table.headings)} scope=rowgroup>{name}</th></tr>")
        rows.append(f"<tr{' class=section' * (i in table.sections)}>{cells}</tr>")
    note = f"<p class='soft'>{escape(table.note)}</p>" if table.note else ""
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<div class='scroll' tabindex='0'><table>{body}</table></div>{note}"


def cell_html(cell: Cell, number: bool) -> str:
    """One cell; the best of its column is bold on a tint."""
    wanted = {"n": number, "t": not number, "best": cell.best, "long": len(cell.text) > 60}
    names = [name for name, holds in wanted.items() if holds]
    text = f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
    return f"<td class='{' '.join(names)}'>{text}</td>"


def figures(plots: list[Plot]) -> str:
    """Plots as inline SVG, two abreast where the page is wide enough."""
    return f"<div class='plots'>{''.join(map(figure, plots))}</div>" if plots else ""


def figure(plot: Plot) -> str:
    """One plot with its title and caption; a wide one scrolls rather than shrink below legibility."""
    width = round(72 * plot.size[0])
    drawing = to_svg(plot).replace("<svg ", f"<svg role='img' aria-label='{escape(plot.title)}' ", 1)
    caption = f"<figcaption><b>{escape(plot.title)}</b><span>{escape(plot.caption)}</span></figcaption>"
    kind, bounds = ("wide", f"min-width:{width}px;") if plot.size[0] > 5 else ("", "")
    limit = f"{bounds}max-width:{round(1.45 * width)}px"
    box = f"<div class='scroll'><div style='{limit}'>{drawing}</div></div>"
    return f"<figure class='{kind}'>{caption}{box}</figure>"


def legend(labels: tuple[str, ...]) -> str:
    """The key of a task's curves."""
    entries = []
    for index, label in enumerate(labels):
        color, dashes = style_of(index)
        line = f"stroke:var(--series-{color});stroke-width:2.5;stroke-dasharray:{dashes or 'none'}"
        key = f"<svg viewBox='0 0 28 8' aria-hidden='true'><path d='M0 4H28' style='{line}'/></svg>"
        entries.append(f"<li>{key}{escape(label)}</li>")
    return f"<ul class='legend'>{''.join(entries)}</ul>"


def page(run: Run, sections: list[str]) -> str:
    """The whole document."""
    title = str(run.about.get("name") or run.path.resolve().name)
    if not sections:
        sections = ["<p>Nothing to show yet: this run has written no metrics, rounds, sweep or table.</p>"]
    body = "".join([header(run, title), *sections, *about_sections(run)])
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style_sheet()}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def header(run: Run, title: str) -> str:
    """What ran, when, and what to know about it."""
    kind = str(run.about.get("run_type", "run"))
    started, finished = run.about.get("started"), run.about.get("finished")
    when = [f"started {moment(started)}" if started else ""]
    if started:
        when.append(f"finished {moment(finished)}" if finished else "not finished when this was written")
    when.append(duration(started, finished))
    notes = run.about.get("notes") or []
    notes = [str(note) for note in (notes if isinstance(notes, list) else [notes])]
    skipped = sum(table.skipped for table in run.tables)
    if skipped:
        lines = plural(skipped, "half-written line")
        notes.append(f"{lines} of the run's files left out.")
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    line = " · ".join(filter(None, [kind, *when]))
    listed = f"<ul class='notes'>{items}</ul>" if items else ""
    return f"<h1>{escape(title)}</h1><p class='soft'>{escape(line)}</p>{listed}"


def moment(written: Any) -> str:
    """A time as `2025-11-21 03:01 UTC`; text that is no time as it is."""
    time = parse_time(written)
    return f"{time:%Y-%m-%d %H:%M %Z}".strip() if time else str(written or "")


def duration(started: Any, finished: Any) -> str:
    """`took 3 min 20 s`, or nothing where the times do not say."""
    start, end = parse_time(started), parse_time(finished)
    if start is None or end is None or (start.tzinfo is None) != (end.tzinfo is None):
        return ""
    seconds = (end - start).total_seconds()
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    if hours:
        return f"took {hours} h {minutes} min"
    return f"took {minutes} min {seconds % 60:.0f} s" if minutes else f"took {seconds:.0f} s"


def parse_time(written: Any) -> datetime | None:
    """A time as run.json holds it, `2025-11-21 03:01:20 UTC`, or as ISO 8601 has it."""
    try:
        return datetime.fromisoformat(str(written).replace(" UTC", "+00:00"))
    except ValueError:
        return None
