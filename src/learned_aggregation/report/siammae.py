"""report.html of a siammae run: the table, the loss, clips with predicted masks beside the truth, reconstructions."""

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.report.pictures import picture_grid, picture_html, picture_png
from learned_aggregation.report.style import style_sheet

COLOURS = np.array([[0, 0, 0], [230, 60, 50], [40, 130, 230], [240, 190, 40], [90, 190, 90], [170, 90, 200]])
SHOWN_FRAMES = 6


class Shown(NamedTuple):
    """A sequence: frames uint8 [T, h, w, 3], and masks uint8 [T, h, w] by what they are (truth, trained, ...)."""

    name: str
    frames: np.ndarray
    masks: Mapping[str, np.ndarray]


def write_siammae_report(
    path: Path,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    losses: np.ndarray,
    shown: Sequence[Shown],
    rebuilt: np.ndarray | None,
) -> Path:
    """Writes `path`.

    Args:
      rows: of the table, the same columns in each.
      losses: of every training step; empty where nothing was trained.
      rebuilt: uint8 [n, 4, h, w, 3]: f1, masked f2, prediction, f2.
    """
    body = [f"<h1>{escape(title)}</h1>", "<h2>Label propagation</h2>", _table(rows)]
    if len(losses):
        body += ["<h2>Training loss</h2>", picture_html(_curve(losses), "The training loss by steps")]
    if rebuilt is not None:
        body += ["<h2>Reconstructions</h2>", "<p>f1, masked f2, prediction, f2.</p>"]
        body.append(picture_html(picture_png(picture_grid(rebuilt)), "Reconstructions of hidden patches"))
    body.append("<h2>Propagated masks</h2>")
    for one in shown:
        body += [f"<h3>{escape(one.name)}</h3>", f"<p>{escape(', '.join(one.masks))}, from above.</p>"]
        body.append(picture_html(picture_png(_strips(one)), f"{one.name}: masks over frames"))
    page = (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style_sheet()}img{{max-width:100%}}</style></head>\n"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
    write_atomic(path, page)
    return path


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(rows[0])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [
        "<tr>"
        + "".join(f"<td>{escape(f'{v:.3f}' if isinstance(v, float) else str(v))}</td>" for v in row.values())
        + "</tr>"
        for row in rows
    ]
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _strips(one: Shown) -> np.ndarray:
    """A row of frames for each kind of masks, the masks laid over them."""
    steps = np.unique(np.linspace(0, len(one.frames) - 1, SHOWN_FRAMES).astype(int))
    return np.concatenate([_strip(one.frames[steps], masks[steps]) for masks in one.masks.values()])


def _strip(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    colour = COLOURS[np.where(masks > 0, 1 + (masks.astype(int) - 1) % (len(COLOURS) - 1), 0)]
    seen = np.where(masks[..., None] > 0, 0.45 * frames + 0.55 * colour, frames)
    return np.concatenate(list(seen.astype(np.uint8)), axis=1)


def _curve(losses: np.ndarray) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    ax = figure.add_subplot()
    width = max(1, len(losses) // 200)
    means = losses[: len(losses) // width * width].reshape(-1, width).mean(1)
    ax.plot(width * (1 + np.arange(len(means))), means)
    ax.set_xlabel("Step")
    ax.set_ylabel("Loss")
    ax.grid(True, alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
