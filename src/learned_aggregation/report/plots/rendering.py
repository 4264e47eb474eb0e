"""Plots as SVG that takes its colours from the page, or as PNG."""

import io
import re

from learned_aggregation.report.plots.plot import GRID, INK, PALETTE, STYLE, Plot, matplotlib_dashes, style_of


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
