"""Characters drawn with the fonts inside matplotlib and distorted at random.

A 24,000-image classification problem with nothing to download, and with natural clients: the fonts.
"""

import re
import string
from collections.abc import Mapping

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.cache import cache_dir, cached_arrays
from learned_aggregation.data.images import check_fits
from learned_aggregation.errors import UserError
from learned_aggregation.types import SPLITS, Dataset, Split

FORMAT = 1  # raise it whenever the images change: it is part of the cache file's name
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
"""Fonts that draw all of CHARACTERS; the position of a font is its client id."""
SIZES: dict[str, int] = dict(zip(SPLITS, (18_000, 2_000, 2_000, 2_000), strict=True))

_CHUNK = 2_000  # images drawn at a time: bounds the memory of the float intermediates


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """Randomly distorted characters, balanced over classes; `Split.clients` is the font of each image.

    image = background + (foreground - background) * glyph(A x + t) + noise, clipped to [0, 1], as uint8.
    A is a random rotation (to 22 degrees), shear (0.25) and scaling (0.75 to 1.2), t a shift (to 10% of the
    side); levels and noise differ from image to image; `rgb` tints both levels at random.

    Args:
      name: `glyphs` + number of classes (10 if left out, to 62: the first of 0-9A-Za-z) + `rgb` if wanted.
      size: side of the images in pixels.
      options: seed and cache_dir are used.
    Returns:
      A Dataset of 24,000 images (18,000/2,000/2,000/2,000), uint8 [N, size, size, 1 or 3]. The same for the
      same seed; kept in the cache directory.
    Raises:
      UserError: a class count outside 2..62, images that do not fit into memory.
    """
    classes, channels = _parse(name)
    check_fits(name, size, sum(SIZES.values()), channels)
    path = cache_dir(options.cache_dir) / (
        f"glyphs-v{FORMAT}-{classes}classes-{size}px-{channels}ch-seed{options.seed}.npz"
    )
    arrays = cached_arrays(path, lambda: generate(SIZES, classes, size, channels, options.seed))
    splits = {
        split: Split(
            {"image": arrays[f"{split}_image"], "label": arrays[f"{split}_label"]}, arrays[f"{split}_font"]
        )
        for split in SIZES
    }
    return Dataset(name, splits, classes, 1 / 255)


def describe(name: str, size: int, options: DataOptions) -> Description:
    classes, channels = _parse(name)
    return Description("image", (size, size, channels), classes, "embedded: characters in matplotlib's fonts")


def generate(
    sizes: Mapping[str, int], classes: int, size: int, channels: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws every split: `<split>_image` uint8, `<split>_label` int32, `<split>_font` int32.

    Args:
      sizes: the number of images of each split.
    """
    glyphs = draw_characters(CHARACTERS[:classes], 2 * size)
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    arrays = {}
    for (split, count), stream in zip(sizes.items(), streams, strict=True):
        rng = np.random.default_rng(stream)
        labels = rng.permutation(np.arange(count, dtype=np.int32) % classes)
        fonts = rng.integers(len(FONTS), size=count, dtype=np.int32)
        chunks = [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]
        images = [_distort(glyphs, fonts[chunk], labels[chunk], size, channels, rng) for chunk in chunks]
        arrays |= {
            f"{split}_image": np.concatenate(images),
            f"{split}_label": labels,
            f"{split}_font": fonts,
        }
    return arrays


def draw_characters(characters: str, size: int) -> np.ndarray:
    """Every character in every font, centred, H 60% of the side: float32 [fonts, characters, size, size]."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    directory = matplotlib.get_data_path() + "/fonts/ttf/"
    over = 2  # drawn larger and averaged down: smooth edges at any size
    side = over * size
    out = np.empty((len(FONTS), len(characters), size, size), np.float32)
    for row, name in zip(out, FONTS, strict=True):
        font = ImageFont.truetype(f"{directory}{name}.ttf", side)
        left, top, right, bottom = font.getbbox("H")
        font = ImageFont.truetype(f"{directory}{name}.ttf", round(0.6 * side * side / (bottom - top)))
        for cell, character in zip(row, characters, strict=True):
            left, top, right, bottom = font.getbbox(character)
            picture = Image.new("L", (side, side))
            corner = ((side - left - right) / 2, (side - top - bottom) / 2)
            ImageDraw.Draw(picture).text(corner, character, fill=255, font=font)
            cell[...] = np.asarray(picture).reshape(size, over, size, over).mean((1, 3)) / 255
    return out


def _parse(name: str) -> tuple[int, int]:
    """(number of classes, channels) of a data set name."""
    match = re.fullmatch(r"glyphs(\d*)(rgb)?", name)
    count, rgb = match.groups() if match else ("", None)
    classes = int(count or 10)
    if not 2 <= classes <= len(CHARACTERS):
        raise UserError(
            f"{name}: expected 2 to {len(CHARACTERS)} classes, got {classes}. Use glyphs62 for the most."
        )
    return classes, 3 if rgb else 1


def _distort(
    glyphs: np.ndarray,
    fonts: np.ndarray,
    labels: np.ndarray,
    size: int,
    channels: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """uint8 images [n, size, size, channels] of the given characters."""
    count = len(labels)
    x, y = _source_points(count, size, rng)
    shape = _bilinear(
        glyphs, fonts, labels, (x + 0.5) * glyphs.shape[-1] - 0.5, (y + 0.5) * glyphs.shape[-1] - 0.5
    )
    back = rng.uniform(0.0, 0.4, (count, 1, 1, 1))
    front = back + rng.uniform(0.3, 0.6, (count, 1, 1, 1))
    if channels == 3:
        back, front = (level * rng.uniform(0.5, 1.0, (count, 1, 1, 3)) for level in (back, front))
    back, front = back.astype(np.float32), front.astype(np.float32)
    noise = rng.standard_normal((count, size, size, channels), np.float32)
    noise *= rng.uniform(0.02, 0.12, (count, 1, 1, 1)).astype(np.float32)
    image = back + (front - back) * shape[..., None] + noise
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _source_points(count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of each image comes from, in sides from the centre: two [n, size, size]."""
    angle = rng.uniform(-np.pi / 8, np.pi / 8, count)
    shear = rng.uniform(-0.25, 0.25, count)
    scale_x, scale_y = rng.uniform(0.75, 1.2, (2, count))
    shift_x, shift_y = rng.uniform(-0.1, 0.1, (2, count, 1, 1))
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    shearing = np.zeros((count, 2, 2)) + np.eye(2)
    shearing[:, 0, 1] = shear
    inverse = np.linalg.inv(rotation @ shearing) / np.stack([scale_x, scale_y], -1)[:, :, None]
    axis = (np.arange(size) + 0.5) / size - 0.5
    x = (axis[None, None, :] - shift_x).astype(np.float32)
    y = (axis[None, :, None] - shift_y).astype(np.float32)
    a = inverse[:, :, :, None, None].astype(np.float32)
    return a[:, 0, 0] * x + a[:, 0, 1] * y, a[:, 1, 0] * x + a[:, 1, 1] * y


def _bilinear(
    glyphs: np.ndarray, fonts: np.ndarray, labels: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """glyphs[font, label] at the points (x, y), in pixels; 0 outside."""
    side = glyphs.shape[-1] + 2
    padded = np.pad(glyphs, ((0, 0), (0, 0), (1, 1), (1, 1))).reshape(-1)
    x, y = np.clip(x + 1, 0, side - 1.001), np.clip(y + 1, 0, side - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    dx, dy = x - left.astype(np.float32), y - top.astype(np.float32)
    first = ((fonts * glyphs.shape[1] + labels) * side * side)[:, None, None] + top * side + left
    upper = padded[first] * (1 - dx) + padded[first + 1] * dx
    lower = padded[first + side] * (1 - dx) + padded[first + side + 1] * dx
    return upper * (1 - dy) + lower * dy
