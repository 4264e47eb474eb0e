"""Where the decoder of a siamese masked autoencoder looks in the first frame, the true motion being known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.siammae_models import (
    MAIN,
    RUNS,
    SEEDS,
    SIDE,
    VARIANTS,
    held_out,
    is_trained,
    kept,
    seeds_of,
    slug,
    summary,
    trained,
    videos,
)
from learned_aggregation.data.videos.motion import centres, source
from learned_aggregation.ssl.siamese import attention_weights, decoder_tokens, memory_of
from learned_aggregation.ssl.siamese_task import hiding_mask
from learned_aggregation.types import Params

PAIRS = ((0, 4), (2, 10), (1, 12), (6, 8))
"""(first, second) frames of a clip."""
REACH = 16
"""Pixels that block matching looks to each side."""
WINDOWS = (1, 3, 5, 9, 31)
STIFFNESS = (0.0, 0.003, 0.01)
UNLIKE = 2.0
"""The mean squared difference of two standardised pixels that have nothing in common: that of a place outside."""

Peaks = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(key, first, second frames) -> the place looked at, int [L, H, B, N], and which patches count, bool [B, N]."""


def decoder_peaks(name: str, params: Params) -> Peaks:
    """Of each head of each decoder block and, last, of the block's mean head; hidden patches count."""
    variant = VARIANTS[name]
    sizes = variant.model

    @jax.jit
    def peaks(params: Params, key: jax.Array, first: jax.Array, second: jax.Array):
        mask = hiding_mask(key, len(first), (SIDE // sizes.patch) ** 2, variant.options.mask_ratio)
        tokens = decoder_tokens(params, second, mask, sizes)
        weights = attention_weights(params, tokens, memory_of(params, first, sizes), sizes)
        weights = jnp.concatenate([weights, weights.mean(2, keepdims=True)], axis=2)
        return jnp.moveaxis(jnp.argmax(weights, axis=-1), 1, 2), mask.hidden

    return lambda key, first, second: peaks(params, key, first, second)


def matching_peaks(patch: int, hidden: float) -> Peaks:
    """No model: the shift at which the visible pixels around a patch are most alike, by exhaustive search.

    Frames are standardised in each channel. Its "heads" are the settings: windows of WINDOWS patches, and the squared
    shift in patches times each of STIFFNESS added to the mean squared difference. Hidden patches count.
    """
    line = range(-REACH, REACH + 1)
    shifts = np.array([(x, y) for y in line for x in line])
    grid = SIDE // patch
    places = np.stack(np.meshgrid(np.arange(grid), np.arange(grid)), -1).reshape(-1, 2)

    def standard(frame: jax.Array) -> jax.Array:
        return (frame - frame.mean((1, 2), keepdims=True)) / frame.std((1, 2), keepdims=True)

    def around(of: jax.Array, window: int) -> jax.Array:
        return jax.lax.reduce_window(of, 0.0, jax.lax.add, (1, window, window), (1, 1, 1), "SAME")

    @jax.jit
    def peaks(key: jax.Array, first: jax.Array, second: jax.Array):
        mask = hiding_mask(key, len(first), grid**2, hidden)
        shown = 1.0 - mask.hidden.reshape(-1, grid, grid)
        after = standard(second)
        room = ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0))
        before = jnp.pad(standard(first), room, constant_values=jnp.nan)

        def costs(shift: jax.Array) -> jax.Array:
            """[WINDOWS, B, N]: the mean squared difference of what is visible in each window."""
            start = (0, REACH + shift[1], REACH + shift[0], 0)
            apart = jnp.mean((after - jax.lax.dynamic_slice(before, start, after.shape)) ** 2, axis=-1)
            apart = jnp.nan_to_num(apart, nan=UNLIKE)
            by_patch = apart.reshape(-1, grid, patch, grid, patch).mean((2, 4)) * shown
            means = [around(by_patch, window) / jnp.maximum(around(shown, window), 1) for window in WINDOWS]
            return jnp.stack(means).reshape(len(WINDOWS), len(first), -1)

        found = jax.lax.map(costs, jnp.asarray(shifts))
        length = jnp.sum(jnp.asarray(shifts / patch) ** 2, axis=-1)[:, None, None, None]
        best = jnp.concatenate([jnp.argmin(found + stiff * length, axis=0) for stiff in STIFFNESS])
        at = jnp.clip(jnp.round(places + jnp.asarray(shifts)[best] / patch), 0, grid - 1).astype(int)
        return (at[..., 1] * grid + at[..., 0])[None], mask.hidden

    return peaks


def looks(peaks: Peaks, patch: int, data: str, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of patches that count, moved by more than half a patch and are seen in the first frame.

    Returns:
      Whether the place looked at is within one patch of the true source, [L, H, n]; whether it is within one patch of
      the same place in the first frame, of the same shape; and whether the same place is within one patch of the true
      source, [n].
    """
    clips, grid = held_out(split, data, SIDE), SIDE // patch
    video, places = videos(clips), centres(grid).reshape(-1, 2)
    middle = slice(patch // 2, None, patch)
    hits, stays, still = [], [], []
    for before, after in PAIRS:
        where, counts = map(np.asarray, peaks(jax.random.key(before), video[:, before], video[:, after]))
        for number, clip in enumerate(clips):
            points, seen = source(clip.motion, clip.masks, after, before)
            points, seen = points[middle, middle].reshape(-1, 2), seen[middle, middle].ravel()
            moved = grid * np.abs(points - places).max(-1)
            counted = seen & counts[number] & (moved > 0.5)
            looked = places[where[:, :, number]]
            for apart, of in ((hits, points), (stays, places)):
                apart.append((grid * np.abs(looked - of).max(-1))[..., counted] <= 1)
            still.append(moved[counted] <= 1)
    return np.concatenate(hits, -1), np.concatenate(stays, -1), np.concatenate(still)


def judged(peaks: Peaks, patch: int, data: str) -> dict[str, float]:
    """The block and head that look best on outer_valid, on the test clips; and what copying in place would hit."""
    valid = looks(peaks, patch, data, "outer_valid")[0].mean(-1)
    chosen = np.unravel_index(np.argmax(valid), valid.shape)
    hits, stays, still = looks(peaks, patch, data, "test")
    return {
        "block": int(chosen[0]) + 1,
        "head": int(chosen[1]) + 1,
        "source": float(hits[chosen].mean()),
        "same_place": float(still.mean()),
        "far_source": float(hits[chosen][~still].mean()),
        "far_place": float(stays[chosen][~still].mean()),
        "chance": float(9 / (SIDE // patch) ** 2),
        "patches": len(still),
    }


def attention_of(name: str, seed: int) -> dict[str, float]:
    """`judged`, of a trained variant."""
    variant = VARIANTS[name]
    return judged(decoder_peaks(name, trained(name, seed)), variant.model.patch, variant.data)


def matching_of(patch: int, hidden: float, data: str) -> dict[str, float]:
    """`judged`, of block matching."""
    return judged(matching_peaks(patch, hidden), patch, data)


def attention() -> dict[str, Any]:
    """How often the decoder looks at the true source, over seeds: of the main variant, and of each of its frames' size
    that was tried besides."""
    others = [
        name
        for name, variant in VARIANTS.items()
        if name != MAIN and variant.side == SIDE and any(is_trained(name, seed) for seed in SEEDS)
    ]
    return {**_looks(MAIN), "tried": {name: _looks(name) for name in others}}


def _looks(name: str) -> dict[str, Any]:
    runs = [
        kept(RUNS / "attention" / f"{slug(name)}_seed{seed}.json", attention_of, name, seed)
        for seed in seeds_of(name)
    ]
    figures = {
        figure: summary([run[figure] for run in runs])
        for figure in ("source", "same_place", "far_source", "far_place")
    }
    variant = VARIANTS[name]
    hidden = variant.options.mask_ratio
    asked = (variant.model.patch, hidden, variant.data)
    matching = kept(RUNS / "attention" / f"matching_{slug(str(asked))}.json", matching_of, *asked)
    return {
        **figures,
        "times": summary([run["source"] / run["same_place"] for run in runs]),
        "matching": matching["source"] / matching["same_place"],
        "hidden": hidden,
        "chance": runs[0]["chance"],
        "patches": runs[0]["patches"],
    }
