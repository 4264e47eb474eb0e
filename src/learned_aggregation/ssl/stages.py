"""The stages of LocalMIM: after which block, at what scale, with what weight, and a decoder for each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.blocks import block, dense, init_block, init_dense, init_norm, norm
from learned_aggregation.ssl.encoder import Encoder
from learned_aggregation.ssl.masks import Mask, cut_patches, join_patches, restore_order
from learned_aggregation.ssl.positions import grid_positions
from learned_aggregation.types import Key, Params

SCALES = (4.0, 2.0, 1.0, 0.5)
"""Of the patch grid, from the first stage to the last."""
WEIGHTS = {"equal": (1, 1, 1, 1), "early": (4, 3, 2, 1), "late": (1 / 4, 1 / 3, 1 / 2, 1)}
"""Of the stages' losses, from the first stage to the last."""


class Stage(NamedTuple):
    """tap: the block (from 0) whose output is decoded. scale: cells of the target along a side of a patch."""

    tap: int
    scale: float


def stages_of(layers: int, all_stages: bool) -> tuple[Stage, ...]:
    """Taps 1, 3, L-3 and L-1 at scales 4, 2, 1, 1/2; or every block, the scales in quarters of the depth.

    Example:
      >>> [stage.tap for stage in stages_of(12, False)]
      [1, 3, 9, 11]
    """
    if all_stages:
        return tuple(Stage(i, SCALES[4 * i // layers]) for i in range(layers))
    taps = sorted(min(max(tap, 0), layers - 1) for tap in (1, 3, layers - 3, layers - 1))
    return tuple(Stage(tap, scale) for tap, scale in zip(taps, SCALES, strict=True))


def stage_weights(kind: str, count: int) -> np.ndarray:
    """[count]: WEIGHTS, interpolated where there are not four stages."""
    return np.interp(np.linspace(0, 3, count), np.arange(4), WEIGHTS[kind])


def cell_side(name: str, patch: int, scale: float) -> int:
    """Pixels along a side of a cell: patch / scale.

    Raises:
      UserError: a patch that has no whole number of them.
    """
    if patch % scale:
        raise UserError(
            f"task {name!r}: expected a patch that 4 divides, whose stages have cells of 1/4 of it, got {patch}. "
            "Choose p4, p8 or p16."
        )
    return int(patch / scale)


def grid_of(name: str, sizes: Encoder, scale: float) -> tuple[int, int]:
    """Rows and columns of a stage's cells.

    Raises:
      UserError: an odd grid, which has no half.
    """
    if scale < 1 and (sizes.rows % 2 or sizes.columns % 2):
        raise UserError(
            f"task {name!r}: expected an even number of patches along the sides, whose last stage joins them two by "
            f"two, got {sizes.rows} x {sizes.columns}. Choose another p or another size."
        )
    return int(sizes.rows * scale), int(sizes.columns * scale)


def init_decoder(
    key: Key, sizes: Encoder, stage: Stage, width: int, outputs: int, norm_of_encoder: bool
) -> Params:
    """The parameters of `decode`; of the last block's stage the norm is the encoder's."""
    keys = jax.random.split(key, 6)
    ups = {0.5: 0, 1.0: 0, 2.0: 1, 4.0: 2}[stage.scale]
    return {
        **({} if norm_of_encoder else {"norm": init_norm(sizes.hidden)}),
        "embed": init_dense(keys[0], sizes.hidden, width),
        "token": 0.02 * jax.random.normal(keys[1], (width,)),
        "block": init_block(keys[2], width, 4 * width),
        "norm_out": init_norm(width),
        **{f"up_{i}": init_dense(keys[3 + i], width, 4 * width) for i in range(ups)},
        # Near zero, so that an untrained model's loss is that of predicting zeros, which the cap is three times of.
        "predict": {
            "kernel": 0.02 * jax.random.normal(keys[5], (width, outputs)),
            "bias": jnp.zeros(outputs),
        },
    }


def decode(
    decoders: list[Params],
    sizes: Encoder,
    scales: list[float],
    heads: int,
    tokens: list[Float[Array, "B V D"]],
    mask: Mask,
) -> list[Float[Array, "B n d"]]:
    """Each stage's predictions for every cell: mask tokens put in, one block, the grid rescaled, a dense layer.

    Finer grids come from one or two transposed convolutions of 2 x 2 with stride 2 (a GELU before each), the coarser
    one from the mean of 2 x 2 patches.

    Args:
      tokens: of each stage, the normalised output of its block at the visible patches.
    """
    inputs = [
        restore_order(dense(params["embed"], seen), params["token"], mask)
        for params, seen in zip(decoders, tokens, strict=True)
    ]
    whole = jnp.stack(inputs) + grid_positions(sizes.rows, sizes.columns, inputs[0].shape[-1])
    shared = [{name: params[name] for name in ("block", "norm_out")} for params in decoders]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *shared)

    def one(_: None, stage: tuple[Params, Array]) -> tuple[None, Array]:
        params, x = stage
        return None, norm(params["norm_out"], block(params["block"], x, heads))

    # One after the other: the decoders' blocks are compiled once.
    _, found = jax.lax.scan(one, None, (stacked, whole))
    return [
        _rescaled(params, sizes, scale, x) for params, scale, x in zip(decoders, scales, found, strict=True)
    ]


def _rescaled(params: Params, sizes: Encoder, scale: float, x: Float[Array, "B N d"]) -> Array:
    rows, columns = sizes.rows, sizes.columns
    for name in ("up_0", "up_1"):
        if name in params:
            image = join_patches(dense(params[name], jax.nn.gelu(x)), rows, columns, 2)
            rows, columns = 2 * rows, 2 * columns
            x = image.reshape(len(image), rows * columns, -1)
    if scale < 1:
        x = halved(x, rows, columns)
    return dense(params["predict"], x)


def halved(x: Float[Array, "B n d"], rows: int, columns: int) -> Float[Array, "B n/4 d"]:
    """The mean of 2 x 2 patches."""
    image = x.reshape(len(x), rows, columns, -1)
    blocks = cut_patches(image, 2)
    return jnp.mean(blocks.reshape(*blocks.shape[:2], 4, -1), axis=2)


def hidden_share(mask: Mask, sizes: Encoder, scale: float) -> Float[Array, "B n"]:
    """How much of each cell is hidden: 0 or 1, but at scale 1/2 the share of its four patches."""
    hidden = mask.hidden.astype(jnp.float32)[..., None]
    if scale < 1:
        return halved(hidden, sizes.rows, sizes.columns)[..., 0]
    times = int(scale)
    image = hidden.reshape(-1, sizes.rows, sizes.columns)
    return jnp.repeat(jnp.repeat(image, times, axis=1), times, axis=2).reshape(len(hidden), -1)
