"""`generator_type = "gaussian"`, the control: each class as a Gaussian around its mean, number by number."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.types import Batch, Key, Params


class ClassGaussian(NamedTuple):
    """mean + spread * N(0, 1) of each class, from running sums over the batches; the condition is not looked at.

    A class without an example is sampled as zeros.

    Example:
      >>> control = ClassGaussian(input_dim=1, sequence_length=1, num_classes=2)
      >>> batch = {"audio": jnp.array([[[1.0]], [[3.0]]]), "label": jnp.array([1, 1])}
      >>> params, *_ = control.step(control.init(None), (), batch, None, 1.0)
      >>> float(params["sum"][1, 0] / params["count"][1])
      2.0
    """

    input_dim: int = 512
    sequence_length: int = 4
    num_classes: int = 10

    def init(self, key: Key | None) -> Params:
        numbers = self.sequence_length * self.input_dim
        zeros = jnp.zeros((self.num_classes, numbers))
        return {"count": jnp.zeros(self.num_classes), "sum": zeros, "squares": zeros}

    def start(self, params: Params) -> Any:
        return ()

    def step(self, params: Params, optimizer: Any, batch: Batch, key: Key, warmth: Any):
        x = batch["audio"].reshape(len(batch["label"]), -1)
        chosen = jax.nn.one_hot(batch["label"], self.num_classes)
        after = {
            "count": params["count"] + chosen.sum(axis=0),
            "sum": params["sum"] + chosen.T @ x,
            "squares": params["squares"] + chosen.T @ x**2,
        }
        mean, _ = self._moments(after)
        return after, optimizer, {"loss": jnp.mean((x - mean[batch["label"]]) ** 2)}

    def sample(self, params: Params, label: Int[Array, "n"], clip: Any, key: Key) -> Float[Array, "n S D"]:
        mean, spread = (moment[label] for moment in self._moments(params))
        made = mean + spread * jax.random.normal(key, mean.shape)
        return made.reshape(-1, self.sequence_length, self.input_dim)

    def kl(self, params: Params, batch: Batch) -> Float[Array, ""] | None:
        return None

    def _moments(self, params: Params) -> tuple[Array, Array]:
        count = jnp.maximum(params["count"], 1.0)[:, None]
        mean = params["sum"] / count
        return mean, jnp.sqrt(jnp.maximum(params["squares"] / count - mean**2, 0.0))
