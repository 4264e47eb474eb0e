"""The probe on sequences: J, F and J&F of every object, and DAVIS's statistics of them."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learned_aggregation.devices.parallel import compiler_options
from learned_aggregation.ssl.features import Feature, dense_features
from learned_aggregation.ssl.propagation import Propagation, propagated_masks
from learned_aggregation.ssl.segmentation import judged_frames, scores, statistics


class Scores(NamedTuple):
    """Of one object: j, f of every frame, [T]."""

    sequence: str
    object: int
    j: np.ndarray
    f: np.ndarray


def clip_scores(
    feature: Feature | None,
    frames: Float[Array, "N T h w c"],
    masks: Int[Array, "N T h w"],
    labels: int,
    stride: int,
    hows: Sequence[Propagation],
) -> tuple[Int[Array, "S N T h w"], Float[Array, "S N objects T"], Float[Array, "S N objects T"]]:
    """(predicted masks, J, F) of N clips of one size with each of S settings; features are computed once.

    One compiled program: the settings' top_k and queue must be alike, the rest of them is traced. Clips are worked
    through one after the other, in memory that does not grow with them.

    Args:
      feature: None copies the first frame's masks.
      labels: the most objects of a clip, and the background.
    """
    if feature is None:
        first = jnp.broadcast_to(masks[:, :1], masks.shape)
        j, f = jax.jit(jax.vmap(lambda truth, found: scores(truth, found, labels)))(masks, first)
        return first[None], j[None], f[None]
    traced = [jnp.array([getattr(how, name) for how in hows]) for name in ("radius", "temperature")]
    centred = jnp.array([how.centred for how in hows])

    def one(clip: tuple[Array, Array]):
        found = dense_features(feature, clip[0], stride)

        def with_setting(setting: tuple[Array, Array, Array]):
            radius, temperature, is_centred = setting
            mean = jnp.mean(found, axis=(1, 2), keepdims=True)
            how = hows[0]._replace(radius=radius, temperature=temperature, centred=False)
            predicted = propagated_masks(found - jnp.where(is_centred, mean, 0.0), clip[1][0], labels, how)
            return predicted, *scores(clip[1], predicted, labels)

        return jax.lax.map(with_setting, (*traced, centred))

    program = jax.jit(
        lambda frames, masks: jax.lax.map(one, (frames, masks)), compiler_options=compiler_options()
    )
    predicted, j, f = program(frames, masks)
    return predicted.swapaxes(0, 1), j.swapaxes(0, 1), f.swapaxes(0, 1)


@functools.partial(jax.jit, static_argnames=("feature", "labels", "stride", "how"))
def _one_sequence(
    frames: Array, masks: Array, feature: Feature | None, labels: int, stride: int, how: Propagation
) -> tuple[Array, Array, Array]:
    if feature is None:
        predicted = jnp.broadcast_to(masks[:1], masks.shape)
    else:
        predicted = propagated_masks(dense_features(feature, frames, stride), masks[0], labels, how)
    return predicted, *scores(masks, predicted, labels)


def sequence_scores(
    feature: Feature | None,
    frames: Float[Array, "T h w c"],
    masks: Int[Array, "T H W"],
    labels: int,
    stride: int,
    how: Propagation,
) -> tuple[Int[Array, "T H W"], Float[Array, "objects T"], Float[Array, "objects T"]]:
    """(predicted masks, J, F) of one sequence, whose masks may be larger than the frames that features are of.

    Sequences of one size and length share a compiled program.
    """
    return _one_sequence(frames, masks, feature, labels, stride, how)


def judged(masks: np.ndarray, j: np.ndarray, f: np.ndarray, names: Iterable[str]) -> list[Scores]:
    """The objects of N clips that are there in the first frame, in the frames that count.

    Args:
      masks: [N, T, h, w]. j, f: [N, objects, T].
    """
    counted = judged_frames(masks.shape[1])
    return [
        Scores(name, number + 1, j[clip, number, counted], f[clip, number, counted])
        for clip, name in enumerate(names)
        for number in range(j.shape[1])
        if (masks[clip, 0] == number + 1).any()
    ]


def table_row(found: Sequence[Scores]) -> dict[str, float]:
    """J&F, and DAVIS's mean, recall and decay of J and of F: means over all objects of all sequences."""
    row: dict[str, float] = {}
    for name in ("j", "f"):
        each = [statistics(getattr(one, name)) for one in found]
        for part in ("mean", "recall", "decay"):
            row[f"{name}_{part}"] = float(np.mean([getattr(one, part) for one in each]))
    return {"jf_mean": (row["j_mean"] + row["f_mean"]) / 2, **row}
