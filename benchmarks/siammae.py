"""What siamese masked autoencoders learn: `python -m benchmarks.siammae NAME`, as JSON for `make claims CLAIM=siammae`.

loss        masked losses on held-out clips with the right first frame, another clip's and none, by gap
attention   where the decoder looks, the true motion being known
table       J, F and J&F of every feature through the same probe (benchmarks/siammae_table.py)
federated   a family of motions for each of 8 clients, and central training (benchmarks/siammae_federated.py)
davis       a DAVIS folder of 20 drawn sequences through reader, probe and report

Models come from `nice python -m benchmarks.siammae_train`; what is finished is kept in runs/siammae/.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import siammae_davis, siammae_federated, siammae_table
from benchmarks.siammae_models import (
    GAPS,
    MAIN,
    OPTIONS,
    RUNS,
    SEEDS,
    SIDE,
    VARIANTS,
    is_trained,
    kept,
    slug,
    summary,
    trained,
)
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.data.videos.motion import centres, source
from learned_aggregation.data.videos.photoclips import FRAMES, light_of
from learned_aggregation.data.videos.scenes import Clip, draw_clips
from learned_aggregation.ssl.siamese import attention_weights, decoder_tokens, memory_of
from learned_aggregation.ssl.siamese_task import control_losses, hiding_mask
from learned_aggregation.types import Params

CLIPS = 64
"""Held-out clips: the first ones of the data set's test split."""


@cache
def held_out(split: str, data: str, side: int) -> list[Clip]:
    """Drawn anew with their motion: the same clips as the data set's."""
    return draw_clips(0, split, CLIPS, side, FRAMES, light_of(data))[0]


def seeds_of(name: str) -> list[int]:
    """The seeds of a variant that are trained.

    Raises:
      SystemExit: there is none.
    """
    found = [seed for seed in SEEDS if is_trained(name, seed)]
    if not found:
        raise SystemExit(
            f"siammae: expected {name} trained, got none. Run python -m benchmarks.siammae_train."
        )
    return found


def videos(clips: Sequence[Clip]) -> jax.Array:
    """Model inputs [N, T, h, w, 3]."""
    return jnp.asarray(np.stack([clip.video for clip in clips]), jnp.float32) * SCALE - SHIFT


def losses_by_gap(name: str, seed: int) -> dict[str, list[float]]:
    """Means over clips, pairs of frames in the middle of each: for each gap the three losses of `control_losses`."""
    theta, variant = trained(name, seed), VARIANTS[name]
    sizes = variant.model
    video = videos(held_out("test", variant.data, variant.side))
    patches = (variant.side // sizes.patch) ** 2

    @jax.jit
    def program(params: Params, key: jax.Array, first: jax.Array, second: jax.Array):
        mask = hiding_mask(key, len(first), patches, OPTIONS.mask_ratio)
        return control_losses(params, first, second, mask, sizes, OPTIONS.epsilon)

    of = partial(program, theta)
    found: dict[str, list[float]] = {}
    for gap in range(GAPS[0], GAPS[1] + 1):
        t = (FRAMES - 1 - gap) // 2
        for which, losses in of(jax.random.key(gap), video[:, t], video[:, t + gap]).items():
            found.setdefault(which, []).append(float(np.mean(losses)))
    return found


def loss() -> dict[str, Any]:
    """The three losses, and how much worse the wrong ones are, in per cent, in all and by gap: of the main variant, and
    of each that was tried besides."""
    main = _losses(MAIN)
    others = [name for name in VARIANTS if name != MAIN and any(is_trained(name, seed) for seed in SEEDS)]
    return {**main, "tried": {name: _losses(name) for name in others}}


def _losses(variant: str) -> dict[str, Any]:
    runs = [
        kept(RUNS / "loss" / f"{slug(variant)}_seed{seed}.json", losses_by_gap, variant, seed)
        for seed in seeds_of(variant)
    ]
    right, other, none = (
        np.array([run[name] for run in runs])
        for name in ("loss", "loss_of_another_clip", "loss_without_first_frame")
    )

    def worse(than: np.ndarray, gaps: slice) -> dict[str, float]:
        mean = [of[:, gaps].mean(1) for of in (than, right)]
        return summary(100 * (mean[0] / mean[1] - 1))

    groups = {"all": slice(0, None), "1-4": slice(0, 4), "5-8": slice(4, 8), "9-12": slice(8, 12)}
    return {
        "losses": {
            name: summary(of.mean(1)) for name, of in (("right", right), ("another", other), ("none", none))
        },
        "another": {group: worse(other, gaps) for group, gaps in groups.items()},
        "none": {group: worse(none, gaps) for group, gaps in groups.items()},
    }


def looks(params: Params, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of hidden patches that moved by more than half a patch and are seen in the first frame.

    Returns:
      Whether each head of each decoder block (and each block's mean head, the last one) looks within one patch of the
      true source, [L, heads + 1, n]; whether it looks within one patch of the same place in the first frame, of the
      same shape; and whether the same place is within one patch of the true source, [n].
    """
    sizes = VARIANTS[MAIN].model
    clips = held_out(split, VARIANTS[MAIN].data, SIDE)
    video, grid = videos(clips), SIDE // sizes.patch

    @jax.jit
    def peaks(params: Params, key: jax.Array, first: jax.Array, second: jax.Array):
        mask = hiding_mask(key, len(first), grid**2, OPTIONS.mask_ratio)
        memory = memory_of(params, first, sizes)
        weights = attention_weights(params, decoder_tokens(params, second, mask, sizes), memory, sizes)
        weights = jnp.concatenate([weights, weights.mean(2, keepdims=True)], axis=2)
        return jnp.argmax(weights, axis=-1), mask.hidden

    hits, stays, still = [], [], []
    middles = centres(grid)
    for before, after in ((0, 4), (2, 10), (1, 12), (6, 8)):
        where, hidden = peaks(params, jax.random.key(before), video[:, before], video[:, after])
        for number, clip in enumerate(clips):
            points, seen = source(clip.motion, clip.masks, after, before)
            middle = slice(sizes.patch // 2, None, sizes.patch)
            points, seen = points[middle, middle].reshape(-1, 2), seen[middle, middle].ravel()
            places = middles.reshape(-1, 2)
            moved = grid * np.abs(points - places).max(-1)
            counted = seen & np.asarray(hidden[number]) & (moved > 0.5)
            looked = places[np.asarray(where[:, number])]
            for apart, of in ((hits, points), (stays, places)):
                apart.append((grid * np.abs(looked - of).max(-1))[..., counted] <= 1)
            still.append(moved[counted] <= 1)
    return np.concatenate(hits, -1), np.concatenate(stays, -1), np.concatenate(still)


def attention_of(seed: int) -> dict[str, float]:
    """The block and head that look best on outer_valid, on the test clips; and what copying in place would hit."""
    params = trained(MAIN, seed)
    valid = looks(params, "outer_valid")[0].mean(-1)
    chosen = np.unravel_index(np.argmax(valid), valid.shape)
    hits, stays, still = looks(params, "test")
    return {
        "block": int(chosen[0]) + 1,
        "head": int(chosen[1]) + 1,
        "source": float(hits[chosen].mean()),
        "same_place": float(still.mean()),
        "far_source": float(hits[chosen][~still].mean()),
        "far_place": float(stays[chosen][~still].mean()),
        "chance": float(9 / (SIDE // VARIANTS[MAIN].model.patch) ** 2),
        "patches": len(still),
    }


def attention() -> dict[str, Any]:
    """How often the decoder looks at the true source, over seeds."""
    runs = [
        kept(RUNS / "attention" / f"{slug(MAIN)}_seed{seed}.json", attention_of, seed)
        for seed in seeds_of(MAIN)
    ]
    found = {
        name: summary([run[name] for run in runs])
        for name in ("source", "same_place", "far_source", "far_place")
    }
    times = summary([run["source"] / run["same_place"] for run in runs])
    return {**found, "times": times, "chance": runs[0]["chance"], "patches": runs[0]["patches"]}


PARTS = {
    "loss": loss,
    "attention": attention,
    "table": siammae_table.table,
    "federated": siammae_federated.federated,
    "davis": siammae_davis.davis,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=PARTS)
    print(json.dumps(PARTS[parser.parse_args(argv).name]()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
