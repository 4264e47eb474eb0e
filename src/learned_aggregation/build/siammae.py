"""A siammae run from its config: the recipe, the features of its table, and the sequences that it is probed on."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.build.data import TaskData
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.data.videos.davis import Davis, Sequence
from learned_aggregation.data.videos.photoclips import light_of
from learned_aggregation.data.videos.scenes import draw_clips
from learned_aggregation.errors import UserError
from learned_aggregation.ssl.central import Recipe
from learned_aggregation.ssl.features import Feature, raw_patches, siamese_features
from learned_aggregation.ssl.masks import cut_patches, join_patches
from learned_aggregation.ssl.propagation import Propagation
from learned_aggregation.ssl.siamese import SiameseSizes, init_siamese, memory_of, reconstruct, siammae
from learned_aggregation.ssl.siamese_options import SiammaeOptions
from learned_aggregation.ssl.siamese_task import SiameseOptions, hiding_mask
from learned_aggregation.tasks.names import parse_task_name
from learned_aggregation.types import Params

DRAWN_FRAMES = 16
_CLIPS_SEED = 7
"""Of the clips that are probed: others than the data set's."""


def siammae_options(config: Config) -> SiammaeOptions:
    return SiammaeOptions(**config.siammae)


def siamese_sizes(config: Config) -> SiameseSizes:
    """The model's, from the task's name.

    Raises:
      UserError: several tasks, or a task with another model.
    """
    [task] = config.tasks if len(config.tasks) == 1 else [""]
    parsed = parse_task_name(task, config.datasets) if task else None
    if parsed is None or parsed.family != "siammae":
        raise UserError(
            f"task: expected one task of the model siammae with run_type 'siammae', got {', '.join(config.tasks)}. "
            "For example siammae_p8_h96_m384_nh3_nl3_dh64_dnh4_dnl2_photoclips_48."
        )
    return siammae(parsed.arguments, 3)


def recipe_of(options: SiammaeOptions, clips: int) -> Recipe:
    """Epochs as steps: a step takes `batch` clips, an epoch as many steps as take all of them, rounded up."""
    each = -(-clips // options.batch)
    return Recipe(
        options.epochs * each,
        options.warmup_epochs * each,
        options.batch,
        options.accumulate,
        options.learning_rate,
        options.per_256,
        options.min_rate,
        decay=options.decay,
    )


def propagation_of(options: SiammaeOptions) -> Propagation:
    return Propagation(options.top_k, options.radius, options.temperature, options.queue, options.centred)


def chosen_features(
    options: SiammaeOptions, sizes: SiameseSizes, trained: Params | None, seed: int
) -> dict[str, Feature | None]:
    """name -> a row's feature; None copies. `trained` is left out where nothing was trained.

    Raises:
      UserError: a layer that the encoder does not have, a stride that does not divide the patch.
    """
    layer = sizes.layers if options.layer is None else options.layer
    if layer > sizes.layers:
        raise UserError(
            f"siammae.layer: expected a layer from 1 to {sizes.layers}, got {layer}. Lower it, or leave it out."
        )
    if options.stride is not None and sizes.patch % options.stride:
        raise UserError(
            f"siammae.stride: expected a stride that divides the patch of {sizes.patch}, got {options.stride}. "
            "Change it."
        )
    random = init_siamese(jax.random.key(1000 + seed), sizes, 3)
    rows: dict[str, Feature | None] = {
        "copying": None,
        "raw": raw_patches(sizes.patch),
        "random": siamese_features("random", random, sizes)[layer - 1],
    }
    if trained is not None:
        rows["trained"] = siamese_features("trained", trained, sizes)[layer - 1]
    return {name: rows[name] for name in options.features if name in rows}


def sequences(config: Config, options: SiammaeOptions) -> Iterator[Sequence]:
    """DAVIS's, each read when its turn comes, or drawn ones of held-out textures."""
    if options.davis is not None:
        davis = Davis(Path(options.davis), options.year, options.part)
        return (davis.read(name) for name in davis.names[: options.sequences])
    parsed = parse_task_name(config.tasks[0], config.datasets)
    light = light_of(parsed.dataset)
    clips, _ = draw_clips(_CLIPS_SEED, "test", options.sequences, parsed.size, DRAWN_FRAMES, light)
    return (
        Sequence(f"clip {number}", clip.video, clip.masks, int(clip.masks.max()) + 1)
        for number, clip in enumerate(clips)
    )


def model_inputs(frames: np.ndarray, side: int, patch: int) -> jax.Array:
    """Frames with their shorter side resized to `side`, both rounded to whole patches: float32 [T, h, w, 3]."""
    from PIL import Image

    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    rows, columns = (max(1, round(of * scale / patch)) * patch for of in (height, width))
    if (rows, columns) != (height, width):
        resized = (
            Image.fromarray(frame).resize((columns, rows), Image.Resampling.BILINEAR) for frame in frames
        )
        frames = np.stack([np.asarray(frame) for frame in resized])
    return jnp.asarray(frames, jnp.float32) * SCALE - SHIFT


def reconstructions(
    config: Config, loaded: TaskData, params: Params, sizes: SiameseSizes, count: int = 4
) -> np.ndarray:
    """Of test clips: f1, masked f2, prediction (with f2's means and deviations), f2: uint8 [count, 4, h, w, 3]."""
    options = SiameseOptions(**config.objective_options)
    stored = loaded.dataset.splits["test"].examples["video"]
    video = np.asarray(stored[np.arange(min(count, len(stored)))])
    gap = min(options.longest_gap, video.shape[1] - 1, max(options.shortest_gap, video.shape[1] // 2))
    first, second = (jnp.asarray(video[:, t], jnp.float32) * SCALE - SHIFT for t in (0, gap))
    rows, columns = (side // sizes.patch for side in first.shape[1:3])
    mask = hiding_mask(jax.random.key(0), len(first), rows * columns, options.mask_ratio)
    predicted = jax.jit(lambda p: reconstruct(p, memory_of(p, first, sizes), second, mask, sizes))(params)
    patches = cut_patches(second, sizes.patch)
    mean, variance = (of(patches, axis=-1, keepdims=True) for of in (jnp.mean, jnp.var))
    back = predicted * jnp.sqrt(variance + options.epsilon) + mean
    hidden = mask.hidden[..., None]
    shown = [jnp.where(hidden, 0.0, patches), jnp.where(hidden, back, patches)]
    images = [first, *(join_patches(one, rows, columns, sizes.patch) for one in shown), second]
    stacked = np.stack([np.asarray(image) for image in images], axis=1)
    return np.clip((stacked + SHIFT) / SCALE, 0, 255).astype(np.uint8)
