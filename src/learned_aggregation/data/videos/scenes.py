"""Drawn clips: textured objects that move, turn, grow and hide each other over a moving crop of a photograph."""

from typing import NamedTuple

import numpy as np

from learned_aggregation.data.videos.motion import FAMILIES, LAYERS, Motion, centres, draw_motion, to_layer
from learned_aggregation.data.videos.textures import Texture

HARMONICS = 4
"""Of the outline r(angle) = r0 (1 + sum_k a_k cos(k angle + phase_k))."""


class Clip(NamedTuple):
    """video: uint8 [T, size, size, 3]. masks: uint8 [T, size, size], 0 or the object's number. motion: see Motion."""

    video: np.ndarray
    masks: np.ndarray
    motion: Motion


def draw_clip(
    rng: np.random.Generator, family: str, split: str, size: int, frames: int, light: float = 0.0
) -> Clip:
    """One clip.

    Args:
      family: of FAMILIES. split: of textures.COLUMNS. size: side in pixels. frames: T, evenly in time.
      light: standard deviation of a smooth field (4 x 4 points) of log brightness, another one for each frame. Without
        it a frame only flickers as a whole: its channels' gains by up to 30 %, offsets of up to 0.12, noise of 0.04.

    Example:
      >>> clip = draw_clip(np.random.default_rng(0), "crossing", "test", 32, 5)
      >>> clip.video.shape, clip.masks.shape, int(clip.masks.max()) >= 2
      ((5, 32, 32, 3), (5, 32, 32), True)
    """
    motion = draw_motion(rng, family, np.linspace(0, 1, frames))
    grid = centres(size)
    picture, masks = np.empty((frames, size, size, 3)), np.zeros((frames, size, size), np.uint8)
    for layer in range(LAYERS):
        texture = Texture(rng, split, rng.uniform(48, 64) if layer == 0 else rng.uniform(64, 112))
        outline = _outline(rng)
        if not motion[layer, 0, 3]:
            continue
        points = to_layer(motion[layer][:, None, None], grid)
        covered = np.ones(points.shape[:-1], bool) if layer == 0 else _inside(points, *outline)
        picture[covered] = texture(points[covered])
        masks[covered] = layer
    return Clip(_flicker(rng, picture, light), masks, motion)


def draw_clips(
    seed: int, split: str, count: int, size: int, frames: int, light: float = 0.0
) -> tuple[list[Clip], np.ndarray]:
    """`count` clips, the families in turn; a clip depends on the seed, the split and its number alone.

    Returns:
      The clips and the family of each, int32 [count].
    """
    names, splits = list(FAMILIES), ("train", "inner_valid", "outer_valid", "test")
    families = np.arange(count, dtype=np.int32) % len(names)
    clips = [
        draw_clip(
            np.random.default_rng((seed, splits.index(split), number)),
            names[family],
            split,
            size,
            frames,
            light,
        )
        for number, family in enumerate(families)
    ]
    return clips, families


def _outline(rng: np.random.Generator) -> tuple[float, np.ndarray, np.ndarray]:
    """(mean radius, amplitudes, phases)."""
    order = np.arange(1, HARMONICS + 1)
    return (
        rng.uniform(0.14, 0.22),
        rng.uniform(0, 0.35, HARMONICS) / order,
        rng.uniform(0, 2 * np.pi, HARMONICS),
    )


def _inside(points: np.ndarray, radius: float, amplitude: np.ndarray, phase: np.ndarray) -> np.ndarray:
    distance = np.hypot(points[..., 0], points[..., 1])
    inside = distance < 1.9 * radius
    near = points[inside]
    angle = np.arctan2(near[..., 1], near[..., 0])[..., None] * np.arange(1, HARMONICS + 1)
    edge = radius * (1 + (amplitude * np.cos(angle + phase)).sum(-1))
    inside[inside] = distance[inside] < edge
    return inside


def _flicker(rng: np.random.Generator, picture: np.ndarray, light: float) -> np.ndarray:
    frames, size = picture.shape[:2]
    gain = rng.uniform(0.7, 1.3, (frames, 1, 1, 3))
    offset = rng.uniform(-0.12, 0.12, (frames, 1, 1, 3))
    seen = picture * gain + offset
    if light:
        seen = seen * np.exp(_smooth(light * rng.standard_normal((frames, 4, 4)), size))[..., None]
    seen = seen + 0.04 * rng.standard_normal(seen.shape)
    return (255 * np.clip(seen, 0, 1) + 0.5).astype(np.uint8)


def _smooth(field: np.ndarray, size: int) -> np.ndarray:
    """Points [T, 4, 4] with what lies linearly between them: [T, size, size]."""
    place = np.linspace(0, 3, size)
    hat = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(4)))
    return np.einsum("yi,tij,xj->tyx", hat, field, hat)
