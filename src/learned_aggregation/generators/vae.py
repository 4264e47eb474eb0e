"""`generator_type = "vae"`: a conditional variational autoencoder of embeddings."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.generators.base import by_gradient, optimizer_of
from learned_aggregation.generators.layers import apply, cosine, dense, flat_condition, run_stack, stack
from learned_aggregation.types import Batch, Key, Metrics, Params

MEMORY = 0.98
"""What the moments of the latents keep of themselves at each step."""


class ConditionedVAEGenerator(NamedTuple):
    """Embeddings x [S, input_dim] under a condition c [S, visual_dim], both flattened.

    encoder [x; c] -> h -> h -> (mu, log variance); decoder [z; c] -> h -> h -> S input_dim; LeakyReLU(0.2).

    loss = |x - decode(z, c)|^2 / (2 v) + warmth beta KL(q(z | x + noise, c) || N(0, 1)) + .1 (1 - cosine)

    The squared error is SUMMED over the numbers of x, as the KL is summed over the latents: with its mean in that
    place the KL would outweigh it by as many times as x has numbers, and all samples of a class would be one. v is the
    variance of the noise that the decoder leaves: the batch's mean squared error, but not below noise^2.

    After so little training as a client does, the latents of its data are wider than N(0, 1), from which samples would
    come out too much alike: z is drawn from a normal with the moments of these latents, kept along ("latent").

    Args:
      noise: standard deviation of what is added to the encoder's input, in units of the data's root mean square.
      augmented: whether it is added.
    Example:
      >>> vae = ConditionedVAEGenerator(input_dim=3, hidden_dim=8, latent_dim=2, visual_dim=5)
      >>> params = vae.init(jax.random.key(0))
      >>> vae.sample(params, jnp.zeros(6, int), jnp.ones((6, 5)), jax.random.key(1)).shape
      (6, 4, 3)
    References:
      Sohn et al., "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015;
      Rybkin et al., "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021, arXiv:2006.13202 (v);
      Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, arXiv:1903.12436 (latents).
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
        """Named as a torch module of these layers would be."""
        keys = jax.random.split(key, 4)
        x, c = self.sequence_length * self.input_dim, self.sequence_length * self.visual_dim
        hidden = self.hidden_dim
        return {
            "encoder": stack(keys[0], (x + c, hidden, hidden)),
            "fc_mu": dense(keys[1], hidden, self.latent_dim),
            "fc_logvar": dense(keys[2], hidden, self.latent_dim),
            "decoder": stack(keys[3], (self.latent_dim + c, hidden, hidden, x)),
            "latent": {"mean": jnp.zeros(self.latent_dim), "moment": jnp.eye(self.latent_dim)},
        }

    def start(self, params: Params) -> Any:
        return optimizer_of(self.learning_rate).init(params)

    def encode(self, params: Params, x: Float[Array, "B X"], c: Float[Array, "B C"]):
        """(mu, log variance), both [B, latent_dim]."""
        hidden = run_stack(params["encoder"], jnp.concatenate([x, c], -1), last=True)
        return apply(params["fc_mu"], hidden), jnp.clip(apply(params["fc_logvar"], hidden), -10.0, 10.0)

    def decode(self, params: Params, z: Float[Array, "B Z"], c: Float[Array, "B C"]) -> Float[Array, "B X"]:
        return run_stack(params["decoder"], jnp.concatenate([z, c], -1))

    def loss(
        self, params: Params, batch: Batch, key: Key, warmth: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """(mean over the batch, its terms)."""
        x, c = self._flat(batch)
        noise_key, latent_key = jax.random.split(key)
        seen = x + self.noise * jax.random.normal(noise_key, x.shape) if self.augmented else x
        mu, log_variance = self.encode(params, seen, c)
        z = mu + jnp.exp(log_variance / 2) * jax.random.normal(latent_key, mu.shape)
        made = self.decode(params, z, c)
        error = summed_error(x, made, self.noise)
        divergence = kl_divergence(mu, log_variance)
        likeness = cosine(x, made)
        loss = jnp.mean(error + warmth * self.beta * divergence + 0.1 * (1 - likeness))
        return loss, {"loss": loss, "kl": jnp.mean(divergence), "cosine": jnp.mean(likeness), "z": z}

    def step(self, params: Params, optimizer: Any, batch: Batch, key: Key, warmth: Float[Array, ""]):
        latent = params["latent"]
        params, optimizer, metrics = by_gradient(
            lambda p: self.loss(p, batch, key, warmth), self.learning_rate, params, optimizer
        )
        z = metrics.pop("z")
        seen = {"mean": jnp.mean(z, axis=0), "moment": z.T @ z / len(z)}
        latent = jax.tree.map(lambda old, new: MEMORY * old + (1 - MEMORY) * new, latent, seen)
        return {**params, "latent": latent}, optimizer, metrics

    def sample(self, params: Params, label: Int[Array, "n"], clip: Float[Array, "n ..."], key: Key):
        c = flat_condition(clip, self.sequence_length, self.visual_dim)
        mean, moment = params["latent"]["mean"], params["latent"]["moment"]
        covariance = moment - jnp.outer(mean, mean) + 1e-3 * jnp.eye(self.latent_dim)
        normal = jax.random.normal(key, (len(c), self.latent_dim))
        made = self.decode(params, mean + normal @ jnp.linalg.cholesky(covariance).T, c)
        return made.reshape(-1, self.sequence_length, self.input_dim)

    def kl(self, params: Params, batch: Batch) -> Float[Array, ""] | None:
        return jnp.mean(kl_divergence(*self.encode(params, *self._flat(batch))))

    def _flat(self, batch: Batch) -> tuple[Float[Array, "B X"], Float[Array, "B C"]]:
        audio = batch["audio"]
        c = flat_condition(batch["clip"], self.sequence_length, self.visual_dim)
        return audio.reshape(audio.shape[0], -1), c


def summed_error(x: Float[Array, "B X"], made: Float[Array, "B X"], noise: float) -> Float[Array, "B"]:
    """|x - made|^2 / (2 v), summed over the numbers of an example, not their mean: see ConditionedVAEGenerator.

    No gradient passes through v, the mean squared error of the batch and at least noise^2.
    """
    squares = (x - made) ** 2
    left = jax.lax.stop_gradient(jnp.mean(squares))
    return jnp.sum(squares, -1) / (2 * jnp.maximum(left, noise**2))


def kl_divergence(mu: Float[Array, "B Z"], log_variance: Float[Array, "B Z"]) -> Float[Array, "B"]:
    """KL(N(mu, exp(log_variance)) || N(0, 1)) in nats, summed over the latents.

    Example:
      >>> kl_divergence(jnp.zeros((1, 4)), jnp.zeros((1, 4))).tolist()
      [0.0]
    """
    return 0.5 * jnp.sum(mu**2 + jnp.exp(log_variance) - 1 - log_variance, -1)
