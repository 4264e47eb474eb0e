"""Encoders that `benchmarks.siammae` judges: trained centrally on drawn clips, each kept in runs/siammae/models/."""

import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checkout import ROOT
from learned_aggregation.atomic import write_atomic
from learned_aggregation.data import load_dataset
from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.data.videos.photoclips import FRAMES, light_of
from learned_aggregation.data.videos.scenes import Clip, draw_clips
from learned_aggregation.ssl.central import Recipe, Step, make_step, train
from learned_aggregation.ssl.siamese import SiameseSizes, init_siamese, siammae
from learned_aggregation.ssl.siamese_task import SiameseOptions, siamese_task
from learned_aggregation.types import Dataset, Params, Task

RUNS = ROOT / "runs" / "siammae"
SIDE = 64
"""Of the frames that features are compared on, and of the main variant's."""
GAPS = (1, 12)
"""In frames of drawn clips, which have 13."""
FAR = (4, 12)
SEEDS = (0, 1, 2)
CLIPS = 64
"""Held-out clips: the first ones of the data set's test split."""
OPTIONS = SiameseOptions(*GAPS, epsilon=0.16)
"""The variance added is .01 of the square of a pixel's range: flat patches are noise, which nothing predicts."""


class Variant(NamedTuple):
    """sizes: as in a task's name. data: of photoclips, photoclipslit. side: of frames. recipe: of the training."""

    sizes: str
    data: str
    side: int
    recipe: Recipe
    options: SiameseOptions = OPTIONS

    @property
    def model(self) -> SiameseSizes:
        return siammae(self.sizes, 3)


def _variant(sizes: str, data: str, side: int, steps: int, batch: int, rate: float) -> Variant:
    recipe = Recipe(steps, steps // 20, batch, learning_rate=rate, min_rate=rate / 100)
    return Variant(sizes, data, side, recipe)


def _far(variant: Variant, hidden: float = OPTIONS.mask_ratio) -> Variant:
    """Trained on the longer gaps alone, over which things have moved, with this share of the patches hidden."""
    gaps = {"shortest_gap": FAR[0], "longest_gap": FAR[1]}
    return variant._replace(options=OPTIONS._replace(**gaps, mask_ratio=hidden))


_P4, _P8 = (f"_p{patch}_h96_m384_nh3_nl3_dh64_dnh4_dnl2" for patch in (4, 8))
_DEEP = "_p4_h64_m256_nh2_nl2_dh64_dnh2_dnl3"
"""A decoder of three blocks, with more of a head's width, over a small encoder."""
MAIN = "p8 of 64"
SMALL = "p4 of 64, far"
"""The one with patches of 4; a random encoder of its sizes stands beside it."""
VARIANTS = {
    MAIN: _variant(_P8, "photoclips", SIDE, 2000, 16, 1.5e-3),
    "p8 of 64, 800 steps": _variant(_P8, "photoclips", SIDE, 800, 16, 1.5e-3),
    "p8 of 64, light that changes": _variant(_P8, "photoclipslit", SIDE, 2000, 16, 1.5e-3),
    "p8 of 64, light that changes, far": _far(_variant(_P8, "photoclipslit", SIDE, 8000, 16, 1.5e-3)),
    SMALL: _far(_variant(_DEEP, "photoclips", SIDE, 500, 8, 1.5e-3)),
    "p4 of 64, far, three quarters hidden": _far(_variant(_DEEP, "photoclips", SIDE, 1200, 8, 1.5e-3), 0.75),
    "p4": _variant(_P4, "photoclipslit", 48, 1500, 8, 1e-3),
    "p8": _variant(_P8, "photoclipslit", 48, 1500, 16, 1e-3),
}
"""The first is the one that has three seeds; the others are what was tried besides."""


@functools.cache
def clips(data: str, side: int) -> Dataset:
    return load_dataset(data, side)


def task_of(variant: Variant) -> Task:
    name = f"siammae{variant.sizes}_{variant.data}_{variant.side}"
    return siamese_task(name, variant.model, clips(variant.data, variant.side), variant.options)


@functools.cache
def _step(name: str) -> Step:
    """Compiled once for all seeds."""
    return make_step(task_of(VARIANTS[name]), VARIANTS[name].recipe)


def trained(name: str, seed: int) -> Params:
    """The parameters of a variant, trained where they are not there yet; killed, it goes on where it was saved."""
    variant = VARIANTS[name]
    split = clips(variant.data, variant.side).splits["train"]
    data = to_federated(split, [np.arange(len(split.examples["video"]))])
    path = model_path(name, seed)
    return train(task_of(variant), data, variant.recipe, seed, path, 250, step=_step(name)).theta


def model_path(name: str, seed: int) -> Path:
    return RUNS / "models" / f"{slug(name)}_seed{seed}"


def is_trained(name: str, seed: int) -> bool:
    """Whether the last step's checkpoint is there."""
    latest = model_path(name, seed) / "latest"
    return (
        latest.is_file()
        and latest.read_text(encoding="utf-8").strip() == f"global_step{VARIANTS[name].recipe.steps}"
    )


def random_params(sizes: SiameseSizes, seed: int) -> Params:
    """An encoder that was never trained."""
    return init_siamese(jax.random.key(1000 + seed), sizes, 3)


def kept(path: Path, make: Callable[..., Any], *args: Any) -> Any:
    """The JSON at `path`; `make(*args)`, and kept, where it is not there yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(make(*args)) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def summary(values: Sequence[float]) -> dict[str, float]:
    """mean and standard deviation over seeds."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": spread, "seeds": len(values)}


def slug(text: str) -> str:
    """A file's name from a variant's or a feature's."""
    return re.sub(r"[^a-z0-9.]+", "_", text.lower())


@functools.cache
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
