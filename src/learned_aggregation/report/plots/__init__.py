"""The plots of a report: what each shows, drawn on one matplotlib axes, as themable SVG or as PNG."""

from learned_aggregation.report.plots.curves import curve_plots
from learned_aggregation.report.plots.meta import meta_plots
from learned_aggregation.report.plots.partition import partition_plots
from learned_aggregation.report.plots.plot import Plot, style_of
from learned_aggregation.report.plots.rendering import to_png, to_svg
from learned_aggregation.report.plots.sweeps import sweep_plots

__all__ = [
    "Plot",
    "curve_plots",
    "meta_plots",
    "partition_plots",
    "style_of",
    "sweep_plots",
    "to_png",
    "to_svg",
]
