"""What every conditional generator is, and how one client trains it: passes over the batches that it holds."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_aggregation.types import Batch, Key, Metrics, Params


class Generator(Protocol):
    """A conditional generator of embeddings; pure functions of its parameters.

    A batch has audio [B, S, input_dim], clip [B, S, visual_dim] or [B, visual_dim], and label [B].
    """

    def init(self, key: Key) -> Params:
        """Its parameters at the start."""
        ...

    def start(self, params: Params) -> Any:
        """Its optimizer's state at the start."""
        ...

    def step(
        self, params: Params, optimizer: Any, batch: Batch, key: Key, warmth: Float[Array, ""]
    ) -> tuple[Params, Any, Metrics]:
        """One step of training. warmth: in [0, 1], what a term that is warmed up counts. The metrics have "loss"."""
        ...

    def sample(
        self, params: Params, label: Int[Array, "n"], clip: Float[Array, "n ..."], key: Key
    ) -> Float[Array, "n S input_dim"]:
        """New samples, one for each condition."""
        ...

    def kl(self, params: Params, batch: Batch) -> Float[Array, ""] | None:
        """Nats that the latents of the batch carry, the mean over examples; None without such latents."""
        ...


class Training(NamedTuple):
    """epochs: passes over a round's batches. warm_epochs: of the whole training, until warmth is 1."""

    epochs: int = 10
    warm_epochs: float = 5.0


class GeneratorState(NamedTuple):
    """All of one client's generator: what its file holds and the population keeps. epoch: those it has trained."""

    params: Params
    optimizer: Any
    epoch: Int[Array, ""]


def new_state(generator: Generator, key: Key) -> GeneratorState:
    """An untrained generator."""
    params = generator.init(key)
    return GeneratorState(params, generator.start(params), jnp.int32(0))


def train(
    generator: Generator, training: Training, state: GeneratorState, batches: Batch, key: Key
) -> tuple[GeneratorState, Float[Array, ""]]:
    """(state, mean loss of the last epoch) after passes over the batches, leaves [H, B, ...].

    Example:
      >>> from learned_aggregation.generators.vae import ConditionedVAEGenerator
      >>> vae = ConditionedVAEGenerator(input_dim=3, hidden_dim=8, latent_dim=2, visual_dim=5)
      >>> state = new_state(vae, jax.random.key(0))
      >>> one = {"audio": jnp.ones((2, 1, 4, 3)), "clip": jnp.ones((2, 1, 5)), "label": jnp.zeros((2, 1), int)}
      >>> int(train(vae, Training(epochs=3), state, one, jax.random.key(1))[0].epoch)
      3
    """
    steps = jax.tree.leaves(batches)[0].shape[0]

    def epoch(state: GeneratorState, key: Key):
        warmth = jnp.minimum(1.0, state.epoch / jnp.maximum(training.warm_epochs, 1e-6))

        def step(carry, inputs):
            (params, optimizer), (batch, key) = carry, inputs
            params, optimizer, metrics = generator.step(params, optimizer, batch, key, warmth)
            return (params, optimizer), metrics["loss"]

        start = (state.params, state.optimizer)
        (params, optimizer), losses = jax.lax.scan(step, start, (batches, jax.random.split(key, steps)))
        return GeneratorState(params, optimizer, state.epoch + 1), jnp.mean(losses)

    state, losses = jax.lax.scan(epoch, state, jax.random.split(key, training.epochs))
    return state, losses[-1]


def optimizer_of(learning_rate: float) -> optax.GradientTransformation:
    """AdamW, the gradient's global norm clipped at 5."""
    return optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(learning_rate))


def by_gradient(loss: Any, learning_rate: float, params: Params, state: Any) -> tuple[Params, Any, Metrics]:
    """A step of `optimizer_of` on `loss`: params -> (loss [], metrics)."""
    (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, state = optimizer_of(learning_rate).update(gradient, state, params)
    return optax.apply_updates(params, updates), state, metrics
