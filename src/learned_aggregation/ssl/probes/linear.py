"""Linear probes: ridge regression to the labels on standardised features, in closed form."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.probes import Probed, balanced
from learned_aggregation.types import Key

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the squared weights, per example, tried on outer_valid."""


def linear50(probed: Probed, key: Key) -> Float[Array, ""]:
    """With 50 labels, as many of each class as there can be.

    Raises:
      UserError: fewer examples, while it is traced; so do `linear200` and `pixels50`.
    """
    return _probe(probed, probed.features, 50, key)


def linear200(probed: Probed, key: Key) -> Float[Array, ""]:
    """With 200 labels, as many of each class as there can be."""
    return _probe(probed, probed.features, 200, key)


def linear(probed: Probed, key: Key) -> Float[Array, ""]:
    """With all labels."""
    return _probe(probed, probed.features, None, key)


def pixels50(probed: Probed, key: Key) -> Float[Array, ""]:
    """The control without a model: 50 labels on the raw pixels."""
    data = probed.data
    flat = tuple(
        part.batch["image"].reshape(len(part.labels), -1).astype(jnp.float32)
        for part in (data.train, data.valid, data.test)
    )
    return _probe(probed, flat, 50, key)


def ridge(
    train: Float[Array, "n D"],
    labels: Int[Array, "n"],
    others: tuple[Float[Array, "m D"], ...],
    num_classes: int,
    penalty: float,
) -> list[Float[Array, "m C"]]:
    """Scores of `others` by W = (X'X + n p I)^-1 X'(Y - mean Y), X standardised by the training rows.

    Where there are fewer rows than features the equal form X'(XX' + n p I)^-1 is solved.
    """
    mean, deviation = jnp.mean(train, axis=0), jnp.std(train, axis=0)
    count, width = train.shape
    # A feature that is constant over the training rows says nothing; it must not become huge elsewhere.
    scale = jnp.where(deviation > 1e-6 * (1 + jnp.abs(mean)), 1 / jnp.maximum(deviation, 1e-12), 0.0)
    x = (train - mean) * scale
    y = jax.nn.one_hot(labels, num_classes)
    centre = jnp.mean(y, axis=0)
    if count < width:
        weights = x.T @ _solve(x @ x.T, count * penalty, y - centre)
    else:
        weights = _solve(x.T @ x, count * penalty, x.T @ (y - centre))
    return [(other - mean) * scale @ weights + centre for other in others]


def _solve(matrix: Float[Array, "m m"], diagonal: float, right: Float[Array, "m C"]) -> Array:
    whole = matrix + diagonal * jnp.eye(len(matrix))
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(whole), right)


def _probe(probed: Probed, features: tuple[Array, ...], count: int | None, key: Key) -> Float[Array, ""]:
    train, valid, test = features
    data, labels = probed.data, probed.data.train.labels
    if count is not None:
        if count > len(labels):
            raise UserError(
                f"probes: expected at least {count} training examples with labels for a probe on {count} labels, got "
                f"{len(labels)}. Raise probe_examples, or leave that probe out."
            )
        rows = balanced(labels, count, key)
        train, labels = train[rows], labels[rows]
    found = []
    for penalty in PENALTIES:
        scores = ridge(train, labels, (valid, test), probed.sizes.num_classes, penalty)
        found.append(
            [accuracy(s, part.labels) for s, part in zip(scores, (data.valid, data.test), strict=True)]
        )
    on_valid, on_test = jnp.array(found).T
    return on_test[jnp.argmax(on_valid)]


def accuracy(scores: Float[Array, "m C"], labels: Int[Array, "m"]) -> Float[Array, ""]:
    """The share of examples whose largest score is their label's."""
    return jnp.mean((jnp.argmax(scores, axis=-1) == labels).astype(jnp.float32))
