"""What siamese masked autoencoders learn: `python -m benchmarks.siammae NAME`, as JSON for `make claims CLAIM=siammae`.

loss        masked losses on held-out clips with the right first frame, another clip's and none, by gap
attention   where the decoder looks, the true motion being known (benchmarks/siammae_attention.py)
table       J, F and J&F of every feature through the same probe (benchmarks/siammae_table.py)
federated   a family of motions for each of 8 clients, and central training (benchmarks/siammae_federated.py)
davis       a DAVIS folder of 20 drawn sequences through reader, probe and report

Models come from `nice python -m benchmarks.siammae_train`; what is finished is kept in runs/siammae/.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks import siammae_attention, siammae_davis, siammae_federated, siammae_table
from benchmarks.siammae_models import (
    GAPS,
    MAIN,
    OPTIONS,
    RUNS,
    SEEDS,
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
from learned_aggregation.data.videos.photoclips import FRAMES
from learned_aggregation.ssl.siamese_task import control_losses, hiding_mask
from learned_aggregation.types import Params


def losses_by_gap(name: str, seed: int) -> dict[str, list[float]]:
    """Means over clips, pairs of frames in the middle of each: for each gap the three losses of `control_losses`."""
    theta, variant = trained(name, seed), VARIANTS[name]
    sizes = variant.model
    video = videos(held_out("test", variant.data, variant.side))
    patches = (variant.side // sizes.patch) ** 2

    @jax.jit
    def program(params: Params, key: jax.Array, first: jax.Array, second: jax.Array):
        mask = hiding_mask(key, len(first), patches, variant.options.mask_ratio)
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


PARTS = {
    "loss": loss,
    "attention": siammae_attention.attention,
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
