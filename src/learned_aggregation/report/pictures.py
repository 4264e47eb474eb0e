"""Pictures inside a page: arrays of pixels as PNG, and PNG as an element of HTML."""

import base64
import io
from html import escape

import numpy as np

SMALLEST, LARGEST = 720, 1440
"""Pixels across: narrower pictures are enlarged by whole times, wider ones shrunk."""

GAP = 2
"""Pixels between pictures of a grid."""


def picture_html(png: bytes, text: str) -> str:
    """An image that carries its pixels with it; `text` is said where it cannot be seen."""
    return f"<p><img alt='{escape(text, quote=True)}' src='data:image/png;base64,{base64.b64encode(png).decode()}'></p>"


def picture_png(image: np.ndarray) -> bytes:
    """A PNG of pixels uint8 [h, w, 3]."""
    from PIL import Image

    picture, buffer = Image.fromarray(image), io.BytesIO()
    times = max(1, SMALLEST // picture.width)
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    if picture.width > LARGEST:
        picture.thumbnail((LARGEST, 10_000))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def picture_grid(images: np.ndarray) -> np.ndarray:
    """Rows of images as one, white lines of GAP pixels between them: [rows, columns, h, w, 3] -> [H, W, 3].

    Example:
      >>> picture_grid(np.zeros((2, 4, 8, 6, 3), np.uint8)).shape
      (18, 30, 3)
    """
    apart = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate([np.concatenate(list(row), axis=1) for row in apart])[:-GAP, :-GAP]
