"""How the layers of a drawn clip move: one family of motions for each client, and where a pixel came from."""

from collections.abc import Callable

import numpy as np

LAYERS = 4
"""The background and up to three objects; a layer that is not there has scale 0."""

Motion = np.ndarray
"""float64 [LAYERS, T, 4]: x, y (of the layer's origin, the frame being [0, 1]^2), angle in radians, scale. A point q of
a layer is seen at (x, y) + scale R(angle) q."""

_Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], Motion]


def _between(rng: np.random.Generator, low: float, high: float, count: int = 1) -> np.ndarray:
    """Uniform in [low, high], of either sign: [count, 1]."""
    return rng.uniform(low, high, (count, 1)) * rng.choice([-1.0, 1.0], (count, 1))


def _path(rng: np.random.Generator, length: float, objects: int) -> np.ndarray:
    """A way across the middle of the frame for each object: [objects, 2]."""
    angle = rng.uniform(0, 2 * np.pi, objects)
    return length * np.stack([np.cos(angle), np.sin(angle)], -1)


def _translate(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    way = _path(rng, rng.uniform(0.3, 0.6), len(still))
    return still + np.concatenate([way[:, None] * (time[:, None] - 0.5), 0 * still[..., 2:]], -1)


def _rotate(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    moved = _translate(rng, still, 0.3 * time)
    moved[..., 2] += _between(rng, 0.8, 2.5, len(still)) * time
    return moved


def _zoom(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    moved = _translate(rng, still, 0.4 * time)
    moved[..., 3] *= np.exp(_between(rng, 0.4, 0.8, len(still)) * (time - 0.5))
    return moved


def _oscillate(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    way, turns = _path(rng, 0.2, len(still)), rng.uniform(0.7, 1.5, (len(still), 1))
    phase = rng.uniform(0, 2 * np.pi, (len(still), 1))
    moved = still.copy()
    moved[..., :2] += way[:, None] * np.sin(2 * np.pi * turns * time + phase)[..., None]
    return moved


def _camera(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    moved = _translate(rng, still, 0.3 * time)
    moved[..., :2] += _path(rng, 0.45, 1)[:, None] * (time[:, None] - 0.5)
    return moved


def _crossing(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    moved, way = still.copy(), _path(rng, 0.6, 1)
    side = np.where(np.arange(len(still)) % 2, -1.0, 1.0)[:, None, None]
    middle = 0.5 + 0.3 * (still[..., :2] - 0.5)
    moved[..., :2] = middle + side * way[:, None] * (time[:, None] - 0.5)
    return moved


def _tumble(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    moved = _rotate(rng, _zoom(rng, still, time), time)
    moved[..., 2] += 0.3 * np.sin(2 * np.pi * time)
    return moved


def _bounce(rng: np.random.Generator, still: Motion, time: np.ndarray) -> Motion:
    moved = still.copy()
    way = still[..., :2] - 0.2 + _path(rng, 1.0, len(still))[:, None] * time[:, None]
    moved[..., :2] = 0.2 + 0.6 - np.abs(way % 1.2 - 0.6)
    return moved


FAMILIES: dict[str, _Draw] = {
    "translate": _translate,
    "rotate": _rotate,
    "zoom": _zoom,
    "oscillate": _oscillate,
    "camera": _camera,
    "crossing": _crossing,
    "tumble": _tumble,
    "bounce": _bounce,
}
"""Family -> how objects move from where they would stand still; the position of a family is its client's id."""


def draw_motion(rng: np.random.Generator, family: str, time: np.ndarray) -> Motion:
    """A background that drifts and one to three objects (two or three that cross).

    Args:
      time: of each frame, in [0, 1]: float [T].
    """
    objects = int(rng.integers(2 if family == "crossing" else 1, LAYERS))
    still = np.zeros((objects, len(time), 4))
    still[..., :2] = rng.uniform(0.28, 0.72, (objects, 1, 2))
    still[..., 2] = rng.uniform(0, 2 * np.pi, (objects, 1))
    still[..., 3] = 1
    motion = np.zeros((LAYERS, len(time), 4))
    motion[0, :, 3] = 1
    drift = 0.45 if family == "camera" else 0.12
    motion[0, :, :2] = 0.5 + _path(rng, drift, 1) * (time[:, None] - 0.5)
    motion[1 : objects + 1] = FAMILIES[family](rng, still, time)
    return motion


def to_layer(place: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points of the frame [..., 2] in a layer's coordinates, `place` being (x, y, angle, scale) [..., 4]."""
    return _turned((points - place[..., :2]) / np.maximum(place[..., 3:], 1e-9), -place[..., 2])


def to_frame(place: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The inverse of `to_layer`."""
    return place[..., :2] + place[..., 3:] * _turned(points, place[..., 2])


def _turned(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def centres(size: int) -> np.ndarray:
    """The middles of the pixels, or patches, of a frame: [size, size, (x, y)]."""
    line = (np.arange(size) + 0.5) / size
    return np.stack(np.meshgrid(line, line), -1)


def source(motion: Motion, masks: np.ndarray, after: int, before: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of frame `after` was in frame `before`.

    Args:
      masks: the layer that is seen at each pixel, [T, size, size].
    Returns:
      Points [size, size, (x, y)] of the frame [0, 1]^2, and whether they are seen there: inside the frame, not hidden.

    Example:
      >>> motion = draw_motion(np.random.default_rng(0), "rotate", np.linspace(0, 1, 3))
      >>> points, seen = source(motion, np.zeros((3, 8, 8), int), 1, 1)
      >>> bool(np.allclose(points, centres(8))), bool(seen.all())
      (True, True)
    """
    size = masks.shape[-1]
    layer = masks[after]
    points = to_frame(motion[layer, before], to_layer(motion[layer, after], centres(size)))
    pixel = np.floor(points * size).astype(int)
    inside = ((pixel >= 0) & (pixel < size)).all(-1)
    x, y = np.moveaxis(np.clip(pixel, 0, size - 1), -1, 0)
    return points, inside & (masks[before][y, x] == layer)
