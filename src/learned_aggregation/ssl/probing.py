"""The probe on sequences: J, F and J&F of every object, and DAVIS's statistics of them."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

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

    The settings' top_k and queue must be alike, the rest of them is traced, and so are an encoder's parameters: models
    of one size share the compiled programs. Clips are worked through one after the other.

    Args:
      feature: None copies the first frame's masks.
      labels: the most objects of a clip, and the background.
    """
    if feature is None:
        first = jnp.broadcast_to(masks[:, :1], masks.shape)
        j, f = jax.jit(jax.vmap(lambda truth, found: scores(truth, found, labels)))(masks, first)
        return first[None], j[None], f[None]
    settings = tuple(
        jnp.array([getattr(how, name) for how in hows]) for name in ("radius", "temperature", "centred")
    )
    by_clip = []
    for clip, truth in zip(frames, masks, strict=True):
        found = dense_features(feature, clip, stride)
        by_clip.append(_with_settings(found, truth, settings, labels, hows[0].top_k, hows[0].queue))
    predicted, j, f = (jnp.stack(parts, axis=1) for parts in zip(*by_clip, strict=True))
    return predicted, j, f


@functools.partial(jax.jit, static_argnames=("labels", "top_k", "queue"))
def _with_settings(
    found: Array, truth: Array, settings: tuple[Array, Array, Array], labels: int, top_k: int, queue: int
) -> tuple[Array, Array, Array]:
    """(predicted masks, J, F) of one clip, one row for each setting."""
    mean = jnp.mean(found, axis=(1, 2), keepdims=True)

    def one(setting: tuple[Array, Array, Array]):
        radius, temperature, centred = setting
        how = Propagation(top_k, queue=queue, centred=False)._replace(radius=radius, temperature=temperature)
        predicted = propagated_masks(found - jnp.where(centred, mean, 0.0), truth[0], labels, how)
        return predicted, *scores(truth, predicted, labels)

    return jax.lax.map(one, settings)


@functools.partial(jax.jit, static_argnames=("labels", "how"))
def _one_sequence(found: Array, masks: Array, labels: int, how: Propagation) -> tuple[Array, Array, Array]:
    predicted = propagated_masks(found, masks[0], labels, how)
    return predicted, *scores(masks, predicted, labels)


@functools.partial(jax.jit, static_argnames="labels")
def _copied(masks: Array, labels: int) -> tuple[Array, Array, Array]:
    predicted = jnp.broadcast_to(masks[:1], masks.shape)
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

    Sequences of one size and length share the compiled programs, and so do models of one size.
    """
    if feature is None:
        return _copied(masks, labels)
    found = dense_features(feature, frames, stride)
    return _one_sequence(found, masks, labels, how)


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
