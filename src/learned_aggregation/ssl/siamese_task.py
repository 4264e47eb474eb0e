"""The objective `siammae`: two frames of a clip, the second rebuilt from the first and a few of its patches."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.masks import Mask, cut_patches, draw_mask
from learned_aggregation.ssl.siamese import SiameseSizes, init_siamese, memory_of, reconstruct
from learned_aggregation.tasks.flax_task import image_scaling
from learned_aggregation.types import Batch, Dataset, Key, Metric, Metrics, Params, Task

METRICS = (
    Metric("loss", unit="squared standard deviations"),
    Metric("loss_of_another_clip", unit="squared standard deviations"),
    Metric("loss_without_first_frame", unit="squared standard deviations"),
)


class SiameseOptions(NamedTuple):
    """How pairs are drawn and compared.

    shortest_gap, longest_gap: in frames; a gap is uniform among those between that a clip has.
    mask_ratio: the share of the second frame's patches that the model does not see; at least one is seen.
    repeats: second frames for each first one of a local step, each with another gap and mask.
    smallest_crop: share of the frame's area; the square that is cut out, the same in both frames, is uniform from it to
      the whole.
    flip: whether half of the pairs are mirrored.
    epsilon: added to the variance that a patch's pixels are divided by, in units of the model's inputs squared.
    """

    shortest_gap: int = 4
    longest_gap: int = 48
    mask_ratio: float = 0.95
    repeats: int = 2
    smallest_crop: float = 0.5
    flip: bool = True
    epsilon: float = 1e-6


class Pairs(NamedTuple):
    """first: [B, h, w, c]. second: [R, B, h, w, c], of the R repeats. gap: int [R, B]."""

    first: Float[Array, "B h w c"]
    second: Float[Array, "R B h w c"]
    gap: Int[Array, "R B"]


def kept_patches(patches: int, hidden: float) -> int:
    """max(1, floor((1 - hidden) N)).

    Example:
      >>> kept_patches(196, 0.95), kept_patches(16, 0.95)
      (9, 1)
    """
    # Rounded first: 1 - .95 is more than .05 by a rounding error, or less.
    return max(1, int(round((1 - hidden) * patches, 6)))


def hiding_mask(key: Key, batch: int, patches: int, hidden: float) -> Mask:
    """`kept_patches` visible ones for each example, uniform over all such sets."""
    return draw_mask(key, batch, patches, 1 - kept_patches(patches, hidden) / patches)


def draw_pairs(key: Key, video: Array, options: SiameseOptions, repeats: int) -> Pairs:
    """Frames of each clip, as stored: the first uniform among those that have a frame at its longest gap after it.

    Args:
      video: [B, T, h, w, c].
    """
    batch, frames = video.shape[:2]
    low, high = options.shortest_gap, min(options.longest_gap, frames - 1)
    keys = jax.random.split(key)
    gap = jax.random.randint(keys[0], (repeats, batch), low, high + 1)
    start = jnp.floor(jax.random.uniform(keys[1], (batch,)) * (frames - jnp.max(gap, axis=0))).astype(int)
    clips = jnp.arange(batch)
    return Pairs(video[clips, start], video[clips, start + gap], gap)


def crop_alike(key: Key, frames: Float[Array, "B h w c"], options: SiameseOptions) -> Float[Array, "B h w c"]:
    """A square cut out of each example and made as large as before, and half of them mirrored.

    Frames that belong together stand one behind the other in the channels, so that they are cut alike.
    """
    batch, height, width, channels = frames.shape
    area, place, mirror = (
        jax.random.uniform(k, shape)
        for k, shape in zip(jax.random.split(key, 3), ((batch,), (batch, 2), (batch,)), strict=True)
    )
    low = options.smallest_crop
    scale = (low + (1 - low) * area) ** -0.5
    size = jnp.array([height, width])
    moved = -place * (scale[:, None] - 1) * size

    def one(image: Array, scale: Array, moved: Array) -> Array:
        return jax.image.scale_and_translate(
            image, (height, width, channels), (0, 1), jnp.stack([scale, scale]), moved, "linear"
        )

    cut = jax.vmap(one)(frames, scale, moved)
    return jnp.where((mirror < 0.5)[:, None, None, None], cut[:, :, ::-1], cut) if options.flip else cut


def augmented_pairs(key: Key, pairs: Pairs, options: SiameseOptions) -> Pairs:
    """Crop and flip, the same for a first frame and all of its second ones."""
    together = jnp.concatenate([pairs.first, *pairs.second], axis=-1)
    parts = jnp.split(crop_alike(key, together, options), 1 + len(pairs.second), axis=-1)
    return pairs._replace(first=parts[0], second=jnp.stack(parts[1:]))


def targets(images: Float[Array, "B h w c"], patch: int, epsilon: float) -> Float[Array, "B N p"]:
    """The pixels of each patch less their mean, over the root of their variance + epsilon."""
    patches = cut_patches(images, patch)
    mean, variance = (of(patches, axis=-1, keepdims=True) for of in (jnp.mean, jnp.var))
    return (patches - mean) / jnp.sqrt(variance + epsilon)


def masked_loss(
    params: Params,
    memory: Float[Array, "B N d"],
    second: Float[Array, "B h w c"],
    mask: Mask,
    sizes: SiameseSizes,
    epsilon: float,
) -> Float[Array, "B"]:
    """The mean squared error over the pixels of the hidden patches of each example."""
    error = reconstruct(params, memory, second, mask, sizes) - targets(second, sizes.patch, epsilon)
    by_patch = jnp.mean(error**2, axis=-1)
    return jnp.sum(by_patch * mask.hidden, axis=-1) / jnp.sum(mask.hidden, axis=-1)


def siamese_task(name: str, sizes: SiameseSizes, dataset: Dataset, options: SiameseOptions) -> Task:
    """A Task on batches {"video": [B, T, h, w, c]}.

    `loss` draws pairs, crops, flips and masks from its key and is the mean masked loss; `evaluate` takes whole frames
    and one pair of each clip, and says besides what the loss is where the first frame is another clip's (the next one's
    in the batch), and where it is empty: what is learned is in the differences.

    Raises:
      UserError: frames that the patch does not divide, clips that are no longer than the shortest gap; by `evaluate`,
        a batch of one clip.

    References:
      Gupta et al., "Siamese Masked Autoencoders", NeurIPS 2023, arXiv:2305.14344.
    """
    _, frames, height, width, channels = dataset.splits["train"].examples["video"].shape
    _check(name, sizes, options, frames, height, width)
    patches = (height // sizes.patch) * (width // sizes.patch)
    scale, shift = image_scaling(dataset)

    def inputs(video: Array) -> Array:
        is_float = jnp.issubdtype(video.dtype, jnp.floating)
        return video if is_float else video.astype(jnp.float32) * scale - shift

    def scaled(pairs: Pairs) -> Pairs:
        return pairs._replace(first=inputs(pairs.first), second=inputs(pairs.second))

    def init(key: Key):
        return init_siamese(key, sizes, channels), ()

    def loss(params: Params, model_state: Any, key: Key, batch: Batch):
        video = batch["video"]
        keys = jax.random.split(key, 3)
        pairs = scaled(draw_pairs(keys[0], video, options, options.repeats))
        pairs = augmented_pairs(keys[1], pairs, options)
        memory = memory_of(params, pairs.first, sizes)
        repeats, count = pairs.gap.shape
        second = pairs.second.reshape(-1, *pairs.second.shape[2:])
        mask = hiding_mask(keys[2], repeats * count, patches, options.mask_ratio)
        losses = masked_loss(params, jnp.tile(memory, (repeats, 1, 1)), second, mask, sizes, options.epsilon)
        return jnp.mean(losses), (model_state, {})

    def evaluate(params: Params, model_state: Any, key: Key, batch: Batch) -> Metrics:
        keys = jax.random.split(key)
        pairs = scaled(draw_pairs(keys[0], batch["video"], options, 1))
        mask = hiding_mask(keys[1], len(pairs.first), patches, options.mask_ratio)
        return control_losses(params, pairs.first, pairs.second[0], mask, sizes, options.epsilon)

    return Task(name, init, loss, evaluate, None, METRICS)


def control_losses(
    params: Params,
    first: Float[Array, "B h w c"],
    second: Float[Array, "B h w c"],
    mask: Mask,
    sizes: SiameseSizes,
    epsilon: float,
) -> Metrics:
    """METRICS of each pair: with its first frame, with the next pair's, with zeros.

    Raises:
      UserError: one pair, which has no other's first frame.
    """
    if len(first) < 2:
        raise UserError(
            f"loss_of_another_clip: expected a batch of at least 2 clips, got {len(first)}. "
            "Raise eval_chunk, or evaluate on more clips."
        )

    def of(first: Array) -> Array:
        return masked_loss(params, memory_of(params, first, sizes), second, mask, sizes, epsilon)

    losses = jax.vmap(of)(jnp.stack([first, jnp.roll(first, 1, axis=0), jnp.zeros_like(first)]))
    return {metric.name: values for metric, values in zip(METRICS, losses, strict=True)}


def _check(
    name: str, sizes: SiameseSizes, options: SiameseOptions, frames: int, height: int, width: int
) -> None:
    if height % sizes.patch or width % sizes.patch:
        raise UserError(
            f"{name}: expected frames that patches of {sizes.patch} pixels divide, got {height} x {width}. "
            "Change the size at the end of the task's name, or p."
        )
    for what, wide, heads in (
        ("nh", sizes.hidden, sizes.heads),
        ("dnh", sizes.decoder_hidden, sizes.decoder_heads),
    ):
        if wide % heads:
            raise UserError(
                f"{name}: expected a number of heads {what} that divides the width {wide}, got {heads}. Change one."
            )
    if options.shortest_gap > frames - 1:
        raise UserError(
            f"{name}: expected a shortest gap of at most {frames - 1} frames, since the longest clip has {frames}, got "
            f"{options.shortest_gap}. Lower shortest_gap, or take longer clips."
        )


def siamese_options(values: Mapping[str, Any]) -> SiameseOptions:
    """The options of a config, checked.

    Raises:
      UserError: a value out of its range.
    """
    options = SiameseOptions(**values)
    good = {
        "shortest_gap": options.shortest_gap >= 1,
        "longest_gap": options.longest_gap >= options.shortest_gap,
        "mask_ratio": 0 < options.mask_ratio < 1,
        "repeats": options.repeats >= 1,
        "smallest_crop": 0 < options.smallest_crop <= 1,
        "epsilon": options.epsilon > 0,
    }
    for name, fits in good.items():
        if not fits:
            raise UserError(
                f"objective_options.{name}: expected {_RANGES[name]}, got {getattr(options, name)!r}. Change it."
            )
    return options


_RANGES = {
    "shortest_gap": "at least 1 frame",
    "longest_gap": "at least shortest_gap",
    "mask_ratio": "a share between 0 and 1",
    "repeats": "at least 1",
    "smallest_crop": "a share above 0, 1 at most",
    "epsilon": "a number above 0",
}
