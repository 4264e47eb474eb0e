"""The probe's table: every feature with the SAME treatment, which is chosen for each on validation clips.

Treatment: the layer first, then radius, temperature, centred per frame or not. The frames are those of drawn clips
whose textures, and whose clips, no model was trained on; "lit": their light changes from place to place, so that
pixels fail.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.siammae_models import (
    MAIN,
    RUNS,
    SEEDS,
    SIDE,
    SMALL,
    VARIANTS,
    clips,
    is_trained,
    kept,
    random_params,
    slug,
    summary,
    trained,
)
from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.data.videos.photoclips import LIGHT
from learned_aggregation.data.videos.scenes import draw_clips
from learned_aggregation.ssl.central import Recipe, train
from learned_aggregation.ssl.features import (
    Encode,
    Feature,
    normalised_patches,
    raw_patches,
    siamese_features,
    vit_features,
)
from learned_aggregation.ssl.probing import clip_scores, judged, table_row
from learned_aggregation.ssl.propagation import Propagation, patch_labels, pixel_masks
from learned_aggregation.ssl.segmentation import scores
from learned_aggregation.tasks import make_task
from learned_aggregation.tasks.models.vit import vit
from learned_aggregation.tasks.objectives import OBJECTIVES
from learned_aggregation.types import Dataset, Params, Split

FRAMES, STRIDE, LABELS = 12, 4, 4
SETTINGS = [
    Propagation(radius=radius, temperature=temperature, centred=centred)
    for radius in (2.0, 4.0)
    for temperature in (0.05, 0.2)
    for centred in (False, True)
]
"""Chosen from on the validation clips; the radius is in places of the grid, which are STRIDE pixels apart."""
USUAL = Propagation(radius=4.0, temperature=0.05, centred=True)
"""With which the layer is chosen: every layer with every setting would be eight times the work."""
COUNTS = {"outer_valid": 8, "test": 24}
LIGHTS = {"lit": LIGHT, "plain": 0.0}
_SEED = 7
"""Of the clips that are propagated through: others than those of the data sets."""
VIT = "vit_p8_h96_m384_nh3_nl3"


@functools.cache
def _clips(split: str, light: str) -> tuple[jax.Array, np.ndarray]:
    """(inputs [N, T, h, w, 3], masks [N, T, h, w])."""
    drawn, _ = draw_clips(_SEED, split, COUNTS[split], SIDE, FRAMES, LIGHTS[light])
    video = np.stack([clip.video for clip in drawn])
    return jnp.asarray(video, jnp.float32) * SCALE - SHIFT, np.stack([clip.masks for clip in drawn])


def _rows(masks: np.ndarray, j: Any, f: Any) -> list[dict[str, float]]:
    """A row for each setting."""
    names = [str(number) for number in range(len(masks))]
    return [
        table_row(judged(masks, np.asarray(js), np.asarray(fs), names)) for js, fs in zip(j, f, strict=True)
    ]


def _judged(
    feature: Feature | None, settings: Sequence[Propagation], split: str, light: str
) -> list[dict[str, float]]:
    """A row for each setting."""
    video, masks = _clips(split, light)
    _, j, f = clip_scores(feature, video, jnp.asarray(masks), LABELS, STRIDE, settings)
    return _rows(masks, j, f)


def _oracle(light: str) -> dict[str, float]:
    """The true masks on the grid, made large again: what no feature can be above."""
    _, masks = _clips("test", light)
    grid = SIDE // STRIDE

    def one(truth: jax.Array):
        soft = jax.vmap(lambda mask: patch_labels(mask, LABELS, grid, grid))(truth)
        return scores(truth, pixel_masks(soft, SIDE, SIDE), LABELS)

    j, f = jax.jit(jax.vmap(one))(jnp.asarray(masks))
    return _rows(masks, [j], [f])[0]


def _measure(features: Sequence[Feature | None], light: str) -> dict[str, Any]:
    """The layer, then the setting, that are best on the validation clips, on the test clips."""

    def valid(feature: Feature | None, settings: Sequence[Propagation]) -> list[float]:
        return [row["jf_mean"] for row in _judged(feature, settings, "outer_valid", light)]

    by_layer = [valid(one, [USUAL])[0] for one in features] if len(features) > 1 else [0.0]
    feature = features[int(np.argmax(by_layer))]
    by_setting = valid(feature, SETTINGS)
    setting = SETTINGS[int(np.argmax(by_setting))]
    chosen = "" if feature is None else feature.name.split(", ")[-1]
    how = {name: getattr(setting, name) for name in ("radius", "temperature", "centred")}
    row = _judged(feature, [setting], "test", light)[0]
    return {"valid": max(by_setting), "chosen": chosen, **how, **row}


Make = Callable[[], Sequence[Feature | None]]


def _measured(make: Make, light: str) -> dict[str, Any]:
    return _measure(make(), light)


def _copying() -> list[Feature | None]:
    return [None]


def _raw(patch: int) -> list[Feature]:
    return [raw_patches(patch)]


def _normalised(patch: int) -> list[Feature]:
    return [normalised_patches(patch)]


def _random(name: str, seed: int) -> list[Feature]:
    """An encoder of a variant's sizes that was never trained."""
    sizes = VARIANTS[name].model
    return siamese_features("", random_params(sizes, seed), sizes)


def _trained(name: str, seed: int) -> list[Feature]:
    return siamese_features("", trained(name, seed), VARIANTS[name].model)


def _vit(params: Params, inputs: Callable[[jax.Array], jax.Array]) -> list[Feature]:
    """Of a vision transformer that was trained on other inputs than SCALE and SHIFT make."""
    return [one._replace(encode=_after(inputs, one.encode)) for one in vit_features("", params, 8, 3)]


@functools.cache
def _after(inputs: Callable[[jax.Array], jax.Array], encode: Encode) -> Encode:
    return lambda params, images: encode(params, inputs(images))


def _from_zero_to_one(images: jax.Array) -> jax.Array:
    return (images + SHIFT) / SCALE / 255


def _supervised() -> list[Feature]:
    """Trained on labels: drawn characters, in the place of what a supervised encoder of photographs would be."""
    task, dataset = make_task(f"{VIT}_glyphsrgb_{SIDE}")
    split = dataset.splits["train"]
    data = to_federated(split, [np.arange(len(split.examples["label"]))])
    recipe = Recipe(600, 30, 16, learning_rate=1e-3)
    return _vit(train(task, data, recipe, 0, RUNS / "models" / "supervised").theta, _from_zero_to_one)


def _masked_images() -> list[Feature]:
    """LocalMIM on single frames of the same clips."""
    video = clips(VARIANTS[MAIN].data, SIDE).splits
    splits = {
        name: Split(
            {"image": split.examples["video"].reshape(-1, SIDE, SIDE, 3), "label": np.zeros(1, np.int32)}
        )
        for name, split in video.items()
    }
    frames = splits["train"].examples["image"]
    dataset = Dataset("frames", splits, 0, 1 / 255)
    task = OBJECTIVES["localmim"].make("localmim", vit(VIT.removeprefix("vit"), 1), dataset, target="pixels")
    data = to_federated(Split({"image": frames}), [np.arange(len(frames))])
    recipe = Recipe(600, 30, 16, learning_rate=1e-3)
    return _vit(train(task, data, recipe, 0, RUNS / "models" / "localmim").theta, _from_zero_to_one)


def entries() -> list[tuple[str, str, Make]]:
    """(row, file, features) of everything that there is to measure; runs of one row are its seeds."""
    listed: list[tuple[str, str, Make]] = [("copying", "copying", _copying)]
    for patch in (4, 8):
        for what, make in (("raw", _raw), ("normalised", _normalised)):
            name = f"{what} patches of {patch}"
            listed.append((name, name, partial(make, patch)))
    for seed in SEEDS:
        listed.append(("random", f"random seed {seed}", partial(_random, MAIN, seed)))
        listed.append((f"random, {SMALL}", f"random, {SMALL} seed {seed}", partial(_random, SMALL, seed)))
        if is_trained(MAIN, seed):
            listed.append(("trained", f"trained seed {seed}", partial(_trained, MAIN, seed)))
    tried = [name for name, variant in VARIANTS.items() if name != MAIN and variant.side == SIDE]
    for name in tried:
        for seed in SEEDS if name == SMALL else SEEDS[:1]:
            if is_trained(name, seed):
                file = f"trained, {name}" + (f" seed {seed}" if seed else "")
                listed.append((f"trained, {name}", file, partial(_trained, name, seed)))
    listed.append(("supervised on characters", "supervised", _supervised))
    if "localmim" in OBJECTIVES:
        listed.append(("LocalMIM on frames", "localmim", _masked_images))
    return listed


def table() -> dict[str, Any]:
    """light -> name -> the seeds' mean and spread of J&F, J, F, and what was chosen."""
    found: dict[str, Any] = {}
    for light in LIGHTS:
        rows: dict[str, list[dict[str, Any]]] = {}
        for name, file, make in entries():
            path = RUNS / "table" / light / f"{slug(file)}.json"
            rows.setdefault(name, []).append(kept(path, _measured, make, light))
        rows["oracle"] = [kept(RUNS / "table" / light / "oracle.json", _oracle, light)]
        found[light] = {name: _summed(runs) for name, runs in rows.items()}
    return found


def _summed(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    measures = {name: summary([run[name] for run in runs]) for name in ("jf_mean", "j_mean", "f_mean")}
    chosen = "; ".join(
        f"{run['chosen']} r {run['radius']:g} t {run['temperature']:g}{' centred' if run['centred'] else ''}".strip()
        for run in runs
        if "chosen" in run
    )
    return {**measures, "chosen": chosen}
