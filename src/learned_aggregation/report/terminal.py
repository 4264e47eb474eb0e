"""What a run prints when it ends."""

from pathlib import Path

from learned_aggregation.report.files import Csv, read_csv, read_json
from learned_aggregation.report.measures import is_metric, read_measures
from learned_aggregation.report.statistics import by_task, curves, standard_error, unique
from learned_aggregation.report.tables import Table, comparison_table, is_spread, rounds_table


def print_rounds_table(run_dir: str | Path, console=None) -> None:
    """Prints the metrics by round for each task of a run, mean ± standard error over its seeds.

    Args:
      run_dir: a directory with rounds.csv; without one a line says so.
      console: a rich Console; standard output by default.
    """
    console = console or _console()
    table = read_csv(Path(run_dir) / "rounds.csv")
    items = curves(table, read_measures(read_json(Path(run_dir) / "run.json"))) if table else []
    if not items:
        console.print(f"No rounds to show: {run_dir} has no rounds.csv with a value in it.")
    for task, members in by_task(items).items():
        metrics = [
            name for name in unique(item.metric for item in members) if name.startswith(("train_", "test_"))
        ]
        metrics = metrics if len(metrics) > 1 else unique(item.metric for item in members)
        console.print(rich_table(rounds_table(members, task, metrics, standard_error, "standard error")))


SHOWN = ("entrant", "task", "rounds_to_100", "speedup_100", "tuned")
"""What of a comparison, besides final metrics, a terminal has room for; table.csv and the report have all of it."""


def print_comparison(run_dir: str | Path, console=None) -> None:
    """Prints the heart of table.csv, task by task: rounds to tuned FedAvg's last loss, speed-up, final metrics.

    Args:
      run_dir: a directory with table.csv.
      console: a rich Console; standard output by default.
    """
    found = read_csv(Path(run_dir) / "table.csv")
    if found is None:
        return
    values = [name for name in found.columns if name in SHOWN or is_final(name, found)]
    about = read_json(Path(run_dir) / "run.json")
    note, measures = str(about.get("table_note", "")), read_measures(about)
    tasks = found.column("task")
    for task in unique(tasks):
        rows = [row for row, named in enumerate(tasks) if named == task]
        wanted = {
            name: part
            for name, cells in found.columns.items()
            if name in values or (is_spread(name, found) and name.rpartition("_")[0] in values)
            if any(part := [cells[row] for row in rows])
        }
        table = comparison_table(Csv(wanted, found.skipped), note, measures)
        (console or _console()).print(rich_table(table))


def _console():
    """Standard output; a reader that is gone is the caller's to meet: rich's own way is to end the process."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output()


def is_final(name: str, table: Csv) -> bool:
    """Whether a column of table.csv is a metric's last value: neither an interval nor a mean over the run."""
    mean_of = name.removesuffix("_mean")
    return (
        is_metric(name) and not is_spread(name, table) and (mean_of == name or mean_of not in table.columns)
    )


def rich_table(table: Table):
    """A Table for the terminal, the best values bold."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title=Text(table.title),
        caption=Text(table.note),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(table.headings):
        text = table.rows and not table.rows[0][i].number
        grid.add_column(Text(name.replace(" (", "\n(")), justify="left" if text else "right", overflow="fold")
    for i, row in enumerate(table.rows):
        if i and i in table.sections:
            grid.add_section()
        grid.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    return grid
