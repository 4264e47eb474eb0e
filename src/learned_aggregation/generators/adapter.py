"""The adapter that the clients train: from four vectors of a sound to the space of the visual conditions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.generators.layers import cosine, run_stack, stack
from learned_aggregation.types import Batch, Metric, Task

TEMPERATURE = 0.1
METRICS = (Metric("loss", unit="nats"), Metric("accuracy", higher_is_better=True, unit="%"))


def adapter_task(
    name: str, conditions: Float[Array, "Y V"], input_dim: int, sequence_length: int, hidden_dim: int
) -> Task:
    """x [S, input_dim] -> h -> V, trained to lie nearest to the condition of its class.

    loss = cross-entropy of softmax(cosine(adapter(x), conditions) / 0.1); the accuracy is of the nearest condition.

    Args:
      conditions: of each class, the same at server and clients.
    Example:
      >>> task = adapter_task("a", jnp.eye(3), 2, 4, 8)
      >>> params, _ = task.init(jax.random.key(0))
      >>> batch = {"audio": jnp.ones((5, 4, 2)), "label": jnp.zeros(5, int)}
      >>> task.evaluate(params, (), jax.random.key(1), batch)["accuracy"].shape
      (5,)
    """
    classes, outputs = conditions.shape

    def init(key):
        return stack(key, (sequence_length * input_dim, hidden_dim, outputs)), ()

    def logits(params, batch: Batch) -> Float[Array, "B Y"]:
        audio = batch["audio"]
        made = run_stack(params, audio.reshape(audio.shape[0], -1))
        return cosine(made[:, None], conditions[None]) / TEMPERATURE

    def measure(params, batch: Batch):
        scores = logits(params, batch)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(scores), batch["label"][:, None], -1)[:, 0]
        return {"loss": losses, "accuracy": (scores.argmax(-1) == batch["label"]).astype(jnp.float32)}

    def loss(params, model_state, key, batch: Batch):
        return jnp.mean(measure(params, batch)["loss"]), (model_state, {})

    def evaluate(params, model_state, key, batch: Batch):
        return measure(params, batch)

    cap = 1.5 * float(jnp.log(max(classes, 2)))
    return Task(name, init, loss, evaluate, cap, METRICS)
