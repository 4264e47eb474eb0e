"""The losses that generators are trained by, and how training warms up and clips."""

import jax
import jax.numpy as jnp
import numpy as np
from embeddings import S, batches, made

from learned_aggregation.generators import vae
from learned_aggregation.generators.base import GeneratorState, Training, optimizer_of, train


def test_the_vae_s_loss_is_its_formula_and_no_gradient_passes_its_variance():
    """sum |x - y|^2 / 2v + warmth beta KL + .1 (1 - cosine), by NumPy; each term can be told from the others."""
    generator = made(augmented=False, beta=0.7)
    params = generator.init(jax.random.key(0))
    batch = {name: leaf[0, :5] for name, leaf in batches().items()}
    _, latent_key = jax.random.split(jax.random.key(1))
    x, c = np.asarray(batch["audio"]).reshape(5, -1), np.tile(batch["clip"], (1, S))
    mu, log_variance = map(np.asarray, generator.encode(params, jnp.asarray(x), jnp.asarray(c)))
    z = mu + np.exp(log_variance / 2) * np.asarray(jax.random.normal(latent_key, mu.shape))
    y = np.asarray(generator.decode(params, jnp.asarray(z), jnp.asarray(c)))
    variance = max(np.mean((x - y) ** 2), generator.noise**2)
    error = ((x - y) ** 2).sum(1) / (2 * variance)
    divergence = 0.5 * (mu**2 + np.exp(log_variance) - 1 - log_variance).sum(1)
    likeness = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    for warmth in (0.0, 0.5):
        wanted = np.mean(error + warmth * 0.7 * divergence + 0.1 * (1 - likeness))
        loss, _ = generator.loss(params, batch, jax.random.key(1), jnp.float32(warmth))
        np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    gradient = jax.grad(lambda made: jnp.sum(vae.summed_error(jnp.asarray(x), made, 0.1)))(jnp.asarray(y))
    np.testing.assert_allclose(gradient, (y - x) / variance, rtol=1e-4, atol=1e-6)


def test_each_half_of_the_gan_learns_by_its_own_loss():
    generator = made("gan")
    params = generator.init(jax.random.key(0))
    batch = {name: leaf[0, :5] for name, leaf in batches().items()}

    def of(params, loss):
        return generator.loss(params, batch, jax.random.key(1))[1][loss]

    for loss, other in (("discriminator", "generator"), ("loss", "discriminator")):
        gradient = jax.grad(of)(params, loss)
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient[other])), loss
        [own] = gradient.keys() - {other}
        assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient[own])), loss


class Warming:
    """A generator whose loss is the warmth that it is called with."""

    def step(self, params, optimizer, batch, key, warmth):
        return params, optimizer, {"loss": warmth}


def test_what_is_warmed_up_grows_epoch_by_epoch_over_all_rounds():
    state = GeneratorState((), (), jnp.int32(0))
    found = []
    for _ in range(4):
        state, warmth = train(Warming(), Training(2, 6.0), state, {"x": jnp.zeros((1, 1))}, jax.random.key(0))
        found.append(float(warmth))
    np.testing.assert_allclose(found, [1 / 6, 3 / 6, 5 / 6, 1.0], rtol=1e-6)


def test_large_gradients_are_clipped_before_adam_remembers_them():
    optimizer, params = optimizer_of(1e-3), {"w": jnp.zeros(4)}
    _, state = optimizer.update({"w": jnp.full(4, 1e6)}, optimizer.init(params), params)
    [moment] = [x for x in jax.tree.leaves(state) if jnp.ndim(x) and float(jnp.max(x)) > 0.1]
    np.testing.assert_allclose(jnp.linalg.norm(moment), 0.1 * 5.0, rtol=1e-5)
