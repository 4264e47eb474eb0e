"""`generator_type = "gan"`: a conditional generative adversarial network behind the same interface."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.generators.base import by_gradient, optimizer_of
from learned_aggregation.generators.layers import cosine, flat_condition, run_stack, stack
from learned_aggregation.types import Batch, Key, Metrics, Params

MOMENTS = 30.0
"""What the distance of the moments counts in G's loss: means over thousands of numbers, beside a sum of two terms."""


class ConditionedGANGenerator(NamedTuple):
    """G: [z; c] -> h -> h -> x; D: [x; c] -> h -> h -> a logit; LeakyReLU(0.2).

    Both take one step at once, D on softplus(-D(x)) + softplus(D(G)), G on softplus(-D(G)) + .1 (1 - cosine) +
    30 beta the distance of the batch's mean and spread from the real one's, which keeps G from one sample per class.
    Real and made inputs of D carry the same noise.

    Args: as of ConditionedVAEGenerator; beta is of the distance of the moments.
    References:
      Mirza & Osindero, "Conditional Generative Adversarial Nets", 2014, arXiv:1411.1784; Salimans et al., "Improved
      Techniques for Training GANs", NeurIPS 2016, arXiv:1606.03498 (feature matching).
    """

    input_dim: int = 512
    hidden_dim: int = 1024
    latent_dim: int = 256
    visual_dim: int = 768
    sequence_length: int = 4
    learning_rate: float = 1e-3
    noise: float = 0.1
    augmented: bool = True
    beta: float = 1.0

    def init(self, key: Key) -> Params:
        one, two = jax.random.split(key)
        x, c = self.sequence_length * self.input_dim, self.sequence_length * self.visual_dim
        hidden = self.hidden_dim
        return {
            "generator": stack(one, (self.latent_dim + c, hidden, hidden, x)),
            "discriminator": stack(two, (x + c, hidden, hidden, 1)),
        }

    def start(self, params: Params) -> Any:
        return optimizer_of(self.learning_rate).init(params)

    def loss(self, params: Params, batch: Batch, key: Key) -> tuple[Float[Array, ""], Metrics]:
        """D's and G's losses in a sum; each one's gradient stops at the other's parameters."""
        audio = batch["audio"]
        x = audio.reshape(audio.shape[0], -1)
        c = flat_condition(batch["clip"], self.sequence_length, self.visual_dim)
        latent_key, real_key, made_key = jax.random.split(key, 3)
        z = jax.random.normal(latent_key, (len(x), self.latent_dim))
        made = run_stack(params["generator"], jnp.concatenate([z, c], -1))
        noise = self.noise if self.augmented else 0.0
        fixed = jax.lax.stop_gradient(params["discriminator"])

        def judged(critic: Params, x: Array, key: Key) -> Array:
            noisy = x + noise * jax.random.normal(key, x.shape)
            return run_stack(critic, jnp.concatenate([noisy, c], -1))

        critic = params["discriminator"]
        real = judged(critic, x, real_key)
        fake = judged(critic, jax.lax.stop_gradient(made), made_key)
        discriminator = jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))
        fooled = jnp.mean(jax.nn.softplus(-judged(fixed, made, made_key)))
        moments = _moments_apart(x, made, batch["label"])
        likeness = jnp.mean(cosine(x, made))
        generator = fooled + MOMENTS * self.beta * moments + 0.1 * (1 - likeness)
        return discriminator + generator, {"loss": generator, "discriminator": discriminator}

    def step(self, params: Params, optimizer: Any, batch: Batch, key: Key, warmth: Float[Array, ""]):
        return by_gradient(lambda p: self.loss(p, batch, key), self.learning_rate, params, optimizer)

    def sample(self, params: Params, label: Int[Array, "n"], clip: Float[Array, "n ..."], key: Key):
        c = flat_condition(clip, self.sequence_length, self.visual_dim)
        z = jax.random.normal(key, (len(c), self.latent_dim))
        made = run_stack(params["generator"], jnp.concatenate([z, c], -1))
        return made.reshape(-1, self.sequence_length, self.input_dim)

    def kl(self, params: Params, batch: Batch) -> Float[Array, ""] | None:
        return None


def _moments_apart(x: Array, made: Array, label: Array) -> Float[Array, ""]:
    """Mean squared distances of mean and spread, both within the classes of the batch and over its numbers."""
    same = (label[:, None] == label[None, :]).astype(x.dtype)
    share = same / same.sum(axis=1, keepdims=True)

    def moments(v: Array) -> tuple[Array, Array]:
        mean = share @ v
        return mean, jnp.sqrt(jnp.maximum(share @ v**2 - mean**2, 0.0) + 1e-4)

    (mean, spread), (other, other_spread) = moments(x), moments(made)
    return jnp.mean((mean - other) ** 2) + jnp.mean((spread - other_spread) ** 2)
