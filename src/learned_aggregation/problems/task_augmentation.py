"""Task augmentation: an episode's inner problem in other units, with other pixels and labels, still the same task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.problems.variation import log_uniform
from learned_aggregation.types import Batch, Key, ModelState, Params, Parts, Task

PERMUTED = ("inputs", "labels")
"""What may be permuted."""


class Augmentation(NamedTuple):
    """One episode's draw; None where nothing is changed.

    scales: a factor [] for each tensor of the params; pixels, labels: permutations of h * w and of C.
    """

    scales: Params | None
    pixels: Int[Array, "P"] | None
    labels: Int[Array, "C"] | None


def draw_augmentation(
    key: Key,
    params: Params,
    image_shape: Sequence[int],
    num_classes: int,
    scale_range: tuple[float, float] | None,
    permuted: Sequence[str],
) -> Augmentation:
    """Log-uniform scales, uniform permutations.

    Args:
      params: of the task, or their shapes; image_shape: (h, w, c), needed for inputs only.
      scale_range: None for no scales; permuted: of PERMUTED.
    """
    scale_key, pixel_key, label_key = jax.random.split(key, 3)
    scales = None
    if scale_range is not None:
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(scale_key, len(leaves))
        scales = jax.tree.unflatten(tree, [log_uniform(k, *scale_range) for k in keys])
    pixels = labels = None
    if "inputs" in permuted:
        pixels = jax.random.permutation(pixel_key, image_shape[0] * image_shape[1])
    if "labels" in permuted:
        labels = jax.random.permutation(label_key, num_classes)
    return Augmentation(scales, pixels, labels)


def augment(parts: Parts, drawn: Augmentation) -> Parts:
    """The same round on the augmented task."""
    task = augment_task(parts.task, drawn)
    return parts._replace(task=task, clients=parts.clients.rebuild(task, None))


def augment_task(task: Task, drawn: Augmentation) -> Task:
    """The task with params q = p / scale of each tensor, so that loss(q) = task.loss(scale * q), on permuted batches.

    At equal model the loss is the same; a gradient is `scale` times as large and an SGD step moves the model
    `scale`^2 times as far, so that tensors learn at unlike rates, as those of another architecture would. A
    permutation of the pixels or of the labels makes another data set of the same size and difficulty (for a
    convolutional net a harder one). One permutation serves all clients, all splits and the whole episode.

    References:
      Metz et al., "VeLO", 2022, arXiv:2211.09760 (task augmentation by reparametrised weights); Lv et
      al., "Learning gradient descent: better generalization and longer horizons", ICML 2017, arXiv:1703.03633
      (random scaling).
    """

    def init(key: Key) -> tuple[Params, ModelState]:
        params, model_state = task.init(key)
        return _with_scales(jnp.divide, params, drawn.scales), model_state

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        return task.loss(
            _with_scales(jnp.multiply, params, drawn.scales), model_state, key, _permuted(batch, drawn)
        )

    def evaluate(params: Params, model_state: ModelState, key: Key, batch: Batch):
        return task.evaluate(
            _with_scales(jnp.multiply, params, drawn.scales), model_state, key, _permuted(batch, drawn)
        )

    return task._replace(init=init, loss=loss, evaluate=evaluate)


def _with_scales(
    change: Callable[[Array, Float[Array, ""]], Array], params: Params, scales: Params | None
) -> Params:
    return params if scales is None else jax.tree.map(change, params, scales)


def _permuted(batch: Batch, drawn: Augmentation) -> Any:
    """A batch {"image": [B, h, w, c], "label": [B]}."""
    if drawn.pixels is not None:
        image = batch["image"]
        size, height, width, channels = image.shape
        flat = image.reshape(size, height * width, channels)[:, drawn.pixels]
        batch = {**batch, "image": flat.reshape(image.shape)}
    if drawn.labels is not None:
        batch = {**batch, "label": drawn.labels[batch["label"]]}
    return batch
