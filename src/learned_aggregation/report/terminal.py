"""What a run prints when it ends."""

from pathlib import Path

from learned_aggregation.report.files import Csv, read_csv, read_json
from learned_aggregation.report.statistics import by_task, curves, standard_error, unique
from learned_aggregation.report.tables import Table, comparison_table, is_spread, rounds_table


def print_rounds_table(run_dir: str | Path, console=None) -> None:
    """Prints loss and accuracy by round for each task of a run, mean ± standard error over its seeds.

    Args:
      run_dir: a directory with rounds.csv; without one a line says so.
      console: a rich Console; standard output by default.
    """
    from rich.console import Console

    console = console or Console()
    table = read_csv(Path(run_dir) / "rounds.csv")
    items = curves(table) if table else []
    if not items:
        console.print(f"No rounds to show: {run_dir} has no rounds.csv with a value in it.")
    for task, members in by_task(items).items():
        metrics = [
            name for name in unique(item.metric for item in members) if name.startswith(("train_", "test_"))
        ]
        metrics = metrics if len(metrics) > 1 else unique(item.metric for item in members)
        console.print(rich_table(rounds_table(members, task, metrics, standard_error, "standard error")))


SHOWN = ("entrant", "rounds_to_100", "speedup_100", "test_loss", "test_accuracy", "tuned")
"""What of a comparison a terminal has room for; table.csv and the report have all of it."""


def print_comparison(run_dir: str | Path, console=None) -> None:
    """Prints the heart of table.csv: rounds to tuned FedAvg's last loss, speed-up, final loss and accuracy.

    Args:
      run_dir: a directory with table.csv.
      console: a rich Console; standard output by default.
    """
    from rich.console import Console

    found = read_csv(Path(run_dir) / "table.csv")
    if found is None:
        return
    wanted = {
        name: cells
        for name, cells in found.columns.items()
        if name in (*SHOWN, "task") or (is_spread(name, found) and name.rpartition("_")[0] in SHOWN)
    }
    note = str(read_json(Path(run_dir) / "run.json").get("table_note", ""))
    (console or Console()).print(rich_table(comparison_table(Csv(wanted, found.skipped), note)))


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
