"""The loss of an MLP on images, with the facts that a kernel needs to train it in the loss's place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.types import Batch, Key, ModelState, Params


class PerceptronLoss(NamedTuple):
    """A task's `loss` that is the mean softmax cross-entropy of an MLP with ReLU on images.

    A wrapper around the loss (muP, task augmentation) is another function and has none of these facts.

    loss: what is called.
    layers: the names of the layers in params, in order; each is {"kernel": [in, out], "bias": [out]}.
    scale, shift: integer images become inputs as `image * scale - shift`, both numbers or one for each channel.
    """

    loss: Callable
    layers: tuple[str, ...]
    scale: np.ndarray
    shift: np.ndarray

    def __call__(self, params: Params, model_state: ModelState, key: Key, batch: Batch) -> Any:
        return self.loss(params, model_state, key, batch)
