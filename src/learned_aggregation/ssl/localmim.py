"""LocalMIM: hidden patches are reconstructed from several depths of the encoder, each at a scale of its own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.blocks import norm
from learned_aggregation.ssl.encoder import (
    Encoder,
    embed,
    encoder_of,
    features,
    init_encoder,
    keep_visible,
    run_blocks,
)
from learned_aggregation.ssl.masks import Mask, draw_mask, visible_count
from learned_aggregation.ssl.pictures import Shown, drawn_as, reconstruction_pictures
from learned_aggregation.ssl.stages import (
    WEIGHTS,
    Stage,
    cell_side,
    decode,
    grid_of,
    hidden_share,
    init_decoder,
    stage_weights,
    stages_of,
)
from learned_aggregation.ssl.targets import TARGETS
from learned_aggregation.tasks.flax_task import image_inputs, image_scaling
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Batch, Dataset, Key, Metric, Metrics, ModelState, Params, Prefix, Task

CAP = 3.0
"""Times the loss of predicting zeros, where an untrained decoder starts."""
CURRICULUM = "curriculum"
STORED = "prefix_outputs"
"""The field of a batch with what `stored_outputs` made of its images."""


class Options(NamedTuple):
    """Options of the objective `localmim`.

    target: of TARGETS, or one for each stage, "hog,hog,pixels,pixels".
    mask_ratio: share of the patches that is hidden.
    all_stages: every block is a stage.
    stage_weights: "equal", "early" (4, 3, 2, 1), "late" (1/4, 1/3, 1/2, 1), or "curriculum", from early to late.
    curriculum_steps: local steps over which the curriculum moves.
    decoder_width, decoder_heads: of each stage's decoder.
    mask_after: blocks that see the whole image, before the mask; for a prefix that is frozen (feature masking).
    """

    target: str = "hog"
    mask_ratio: float = 0.75
    all_stages: bool = False
    stage_weights: str = "equal"
    curriculum_steps: int = 0
    decoder_width: int = 64
    decoder_heads: int = 4
    mask_after: int = 0


class LocalMIM(NamedTuple):
    """An encoder with its stages, targets (one name for each) and options."""

    name: str
    sizes: Encoder
    stages: tuple[Stage, ...]
    targets: tuple[str, ...]
    options: Options

    def cells(self, images: Float[Array, "B h w c"]) -> list[Float[Array, "B n d"]]:
        """What each stage is to predict."""
        return [
            TARGETS[target](images, cell_side(self.name, self.sizes.patch, stage.scale))
            for target, stage in zip(self.targets, self.stages, strict=True)
        ]

    def weights(self, model_state: ModelState) -> Float[Array, "stages"]:
        """Of the stages' losses, now."""
        kind, count = self.options.stage_weights, len(self.stages)
        if kind != CURRICULUM:
            return jnp.asarray(stage_weights(kind, count), jnp.float32)
        early, late = (jnp.asarray(stage_weights(kind, count), jnp.float32) for kind in ("early", "late"))
        done = jnp.clip(model_state["step"] / self.options.curriculum_steps, 0.0, 1.0)
        return early + done * (late - early)


def localmim(name: str, model: Any, dataset: Dataset, **options: Any) -> Task:
    """A Task on batches {"image": [B, h, w, c], ...}; labels are not read.

    Of an example loss = sum_s w_s l_s, l_s = the mean over the hidden cells of stage s (at scale 1/2 weighted by the
    share that is hidden) of the mean squared error of the cell's target; stage_1, stage_2, ... are the l_s and
    reconstruction their mean. Capped at three times the loss of predicting zeros.

    Args:
      model: a VisionTransformer; its sizes are read, its head is not there.
      options: see `Options`.
    Raises:
      UserError: options that do not fit the model or the images.
    References:
      Wang et al., "Masked Image Modeling with Local Multi-Scale Reconstruction", CVPR 2023, arXiv:2303.05251.
    """
    images = dataset.splits["train"].examples["image"]
    mim = make_localmim(name, model, images.shape[1:], Options(**options))
    inputs, (scale, shift) = image_inputs(dataset), image_scaling(dataset)

    def init(key: Key) -> tuple[Params, ModelState]:
        curriculum = mim.options.stage_weights == CURRICULUM
        return init_params(mim, key), {"step": jnp.zeros(())} if curriculum else ()

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        found = measure(mim, params, mim.weights(model_state), key, inputs(batch), batch.get(STORED))
        means = {metric: jnp.mean(values) for metric, values in found.items()}
        after = {"step": model_state["step"] + 1} if model_state else ()
        return means.pop("loss"), (after, means)

    def evaluate(params: Params, model_state: ModelState, key: Key, batch: Batch) -> Metrics:
        return measure(mim, params, mim.weights(model_state), key, inputs(batch))

    def of_images(params: Params, model_state: ModelState, batch: Batch) -> Array:
        return features(params, mim.sizes, inputs(batch))

    def pictures(params: Params, key: Key, batch: Batch) -> np.ndarray:
        return draw_reconstructions(mim, params, key, inputs(batch), shown)

    def fields(params: Params, batch: Batch) -> Batch:
        return {STORED: stored_outputs(mim, params, inputs(batch))}

    stage_metrics = (Metric(f"stage_{i + 1}") for i in range(len(mim.stages)))
    metrics = (Metric("loss"), Metric("reconstruction"), *stage_metrics)
    sample = np.asarray(images[:64])
    shown = drawn_as(sample, scale, shift)
    cap = _cap(mim, inputs({"image": jnp.asarray(sample)}))
    # Not without `mask_after`: the embedding is cheaper than reading what it makes.
    prefix = Prefix(mim.options.mask_after + 1, fields) if mim.options.mask_after else None
    return Task(name, init, loss, evaluate, cap, metrics, of_images, pictures, prefix)


def make_localmim(
    name: str, model: Any, image_shape: tuple[int, int, int], options: Options | None = None
) -> LocalMIM:
    """The stages of a model on images of one size; no data is read.

    Raises:
      UserError: see `localmim`.
    """
    options = options or Options()
    sizes = encoder_of(name, model, image_shape)
    stages = stages_of(sizes.layers, options.all_stages)
    _check(options, sizes, len(stages))
    for stage in stages:
        cell_side(name, sizes.patch, stage.scale)
        grid_of(name, sizes, stage.scale)
    targets = tuple(options.target.split(","))
    for target in targets:
        TARGETS.check(target)
    return LocalMIM(name, sizes, stages, targets * len(stages) if len(targets) == 1 else targets, options)


def init_params(mim: LocalMIM, key: Key) -> Params:
    """The encoder's parameters, as a vision transformer's, and "decoders"."""
    sizes = mim.sizes
    encoder_key, *keys = jax.random.split(key, len(mim.stages) + 1)
    image = jax.ShapeDtypeStruct(
        (1, sizes.rows * sizes.patch, sizes.columns * sizes.patch, sizes.channels), jnp.float32
    )
    outputs = [cells.shape[-1] for cells in jax.eval_shape(mim.cells, image)]
    decoders = {
        f"stage_{i + 1}": init_decoder(
            k, sizes, stage, mim.options.decoder_width, outputs[i], stage.tap == sizes.layers - 1
        )
        for i, (k, stage) in enumerate(zip(keys, mim.stages, strict=True))
    }
    return {**init_encoder(encoder_key, sizes), "decoders": decoders}


def measure(
    mim: LocalMIM,
    params: Params,
    weights: Float[Array, "stages"],
    key: Key,
    images: Float[Array, "B h w c"],
    stored: Float[Array, "B taps 1+N D"] | None = None,
) -> Metrics:
    """The metrics of each example, [B].

    Args:
      stored: `stored_outputs` of the images, which are the targets' alone then; the same key draws the same mask.
    """
    mask, predictions = reconstruct(mim, params, key, images, stored)
    losses = jnp.stack(
        [
            _masked_mean(jnp.mean((guess - cells) ** 2, axis=-1), hidden_share(mask, mim.sizes, stage.scale))
            for guess, cells, stage in zip(predictions, mim.cells(images), mim.stages, strict=True)
        ]
    )
    stages = {f"stage_{i + 1}": values for i, values in enumerate(losses)}
    return {"loss": weights @ losses, "reconstruction": jnp.mean(losses, axis=0), **stages}


def reconstruct(
    mim: LocalMIM,
    params: Params,
    key: Key,
    images: Float[Array, "B h w c"],
    stored: Float[Array, "B taps 1+N D"] | None = None,
) -> tuple[Mask, list[Float[Array, "B n d"]]]:
    """The mask that `key` draws, and each stage's predictions for all of its cells."""
    mask = draw_mask(key, len(images), mim.sizes.patches, mim.options.mask_ratio)
    whole = stored_outputs(mim, params, images) if stored is None else stored
    return mask, predict(mim, params, mask, block_outputs(mim, params, mask, whole))


def kept_blocks(mim: LocalMIM) -> list[int]:
    """The blocks before the mask whose outputs are used later: the stages', and the last; -1 is the embedding."""
    after = mim.options.mask_after
    return sorted({stage.tap for stage in mim.stages if stage.tap < after} | {after - 1})


def stored_outputs(
    mim: LocalMIM, params: Params, images: Float[Array, "B h w c"]
) -> Float[Array, "B taps 1+N D"]:
    """What the `kept_blocks` make of whole images."""
    tokens = embed(params, mim.sizes, images)
    outputs = [*run_blocks(params, mim.sizes, tokens, 0, mim.options.mask_after), tokens]
    return jnp.stack([outputs[block] for block in kept_blocks(mim)], axis=1)


def block_outputs(
    mim: LocalMIM, params: Params, mask: Mask, whole: Float[Array, "B taps 1+N D"]
) -> dict[int, Float[Array, "B 1+V D"]]:
    """The blocks' outputs at the visible patches, from `stored_outputs`: of the kept ones, and of all after them."""
    after = mim.options.mask_after
    seen = {block: keep_visible(whole[:, i], mask) for i, block in enumerate(kept_blocks(mim))}
    return seen | dict(
        enumerate(run_blocks(params, mim.sizes, seen[after - 1], after, mim.sizes.layers), after)
    )


def predict(
    mim: LocalMIM, params: Params, mask: Mask, outputs: dict[int, Float[Array, "B 1+V D"]]
) -> list[Float[Array, "B n d"]]:
    """Each stage's predictions from the blocks' outputs."""
    decoders = [params["decoders"][f"stage_{i + 1}"] for i in range(len(mim.stages))]
    tokens = [
        norm(decoder.get("norm", params["norm"]), outputs[stage.tap][:, 1:])
        for decoder, stage in zip(decoders, mim.stages, strict=True)
    ]
    scales = [stage.scale for stage in mim.stages]
    return decode(decoders, mim.sizes, scales, mim.options.decoder_heads, tokens, mask)


def draw_reconstructions(
    mim: LocalMIM, params: Params, key: Key, images: Float[Array, "n h w c"], shown: Shown
) -> np.ndarray:
    """`reconstruction_pictures` of the stage whose cells are the patches, or else of the last stage."""
    scales = [stage.scale for stage in mim.stages]
    place = scales.index(1.0) if 1.0 in scales else len(scales) - 1
    side = cell_side(mim.name, mim.sizes.patch, scales[place])
    mask, predictions = jax.jit(lambda p, x: reconstruct(mim, p, key, x))(params, images)
    return reconstruction_pictures(
        images,
        mask.hidden,
        mim.targets[place],
        predictions[place],
        mim.cells(images)[place],
        mim.sizes.patch,
        side,
        shown,
    )


def _masked_mean(errors: Float[Array, "B n"], weight: Float[Array, "B n"]) -> Float[Array, "B"]:
    return jnp.sum(errors * weight, axis=1) / jnp.sum(weight, axis=1)


def _cap(mim: LocalMIM, images: Float[Array, "B h w c"]) -> float:
    zeros = np.array([float(jnp.mean(cells**2)) for cells in mim.cells(images)])
    kind = mim.options.stage_weights
    return CAP * float(zeros @ stage_weights("early" if kind == CURRICULUM else kind, len(zeros)))


def _check(options: Options, sizes: Encoder, stages: int) -> None:
    where = "objective_options"
    visible_count(sizes.patches, options.mask_ratio)
    kinds = (*WEIGHTS, CURRICULUM)
    if options.stage_weights not in kinds:
        raise UserError(
            f"{where}.stage_weights: expected one of {', '.join(kinds)}, got {options.stage_weights!r}. Choose one."
        )
    if options.stage_weights == CURRICULUM and options.curriculum_steps < 1:
        raise UserError(
            f"{where}.curriculum_steps: expected the local steps of the curriculum, got {options.curriculum_steps!r}. "
            "Give num_inner_steps x num_local_steps."
        )
    if options.target.count(",") not in (0, stages - 1):
        raise UserError(
            f"{where}.target: expected one target, or one for each of {stages} stages, got {options.target!r}. "
            "Divide them by commas."
        )
    if (
        options.decoder_width % 4
        or options.decoder_width % options.decoder_heads
        or options.decoder_width < 4
    ):
        raise UserError(
            f"{where}.decoder_width: expected a multiple of 4 and of the {options.decoder_heads} heads, "
            f"got {options.decoder_width!r}. Change one of them."
        )
    if not 0 <= options.mask_after < sizes.layers:
        raise UserError(
            f"{where}.mask_after: expected fewer blocks than the encoder's {sizes.layers}, got {options.mask_after!r}. "
            "Lower it."
        )


OBJECTIVE = Objective(("image",), outputs=lambda about: 1, make=localmim, options=Options._field_defaults)
