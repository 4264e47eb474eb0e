"""Tables, plots and the self-contained `report.html` of a run directory; reads run files only, never JAX."""

from learned_aggregation.report.html import write_report
from learned_aggregation.report.terminal import print_rounds_table

__all__ = ["print_rounds_table", "write_report"]
