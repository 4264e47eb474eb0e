"""`masked`: an aggregator that some of the parameters never reach."""

from typing import Any

import jax
import jax.numpy as jnp

from learned_aggregation.errors import UserError
from learned_aggregation.types import Aggregator, ClientUpdate, Params, Sums, Theta


def masked(aggregator: Aggregator, mask: Any) -> Aggregator:
    """The aggregator on the parameters that are not masked; the masked ones stay as they are, bit for bit.

    The rule is given a tree without the masked leaves: it keeps no state for them, computes nothing of them, and what
    it reads of a whole model (norms, counts) is read of the others. Their step is -0.0, which added to any number,
    0.0 and -0.0 included, gives this very number (but for numbers below 1.2e-38, of which XLA makes zeros).

    Args:
      mask: True where a parameter is masked (frozen, private, a server's half): a tree of bools like params, or a
        prefix of it, whose True masks all that is below. It is static. (optax.masked says True where its rule acts.)
    Returns:
      An Aggregator of the same theta.
    Raises:
      UserError: a mask that is no prefix of params, or holds something else than True and False.

    Example:
      >>> import jax.numpy as jnp
      >>> from learned_aggregation import ClientUpdate, get_aggregator, masked
      >>> rule = masked(get_aggregator("fedavg"), {"body": True, "head": False})
      >>> params = {"body": jnp.ones(2), "head": jnp.ones(2)}
      >>> deltas = {"body": jnp.ones((4, 2)), "head": jnp.ones((4, 2))}
      >>> update = ClientUpdate(deltas, (), jnp.zeros(4), jnp.ones(4))
      >>> step, _ = rule.update((), update, rule.init((), params), params)
      >>> step["body"].tolist(), step["head"].tolist()
      ([-0.0, -0.0], [1.0, 1.0])
    """

    def init(theta: Theta, params: Params) -> Any:
        return aggregator.init(theta, without(mask, params))

    def update(theta: Theta, client_update: ClientUpdate, agg_state: Any, params: Params):
        visible = client_update._replace(delta=without(mask, client_update.delta))
        step, agg_state = aggregator.update(theta, visible, agg_state, without(mask, params))
        return _filled(step, params), agg_state

    sums = None if aggregator.sums is None else _masked_sums(aggregator.sums, mask)
    return aggregator._replace(init=init, update=update, sums=sums)


def _masked_sums(sums: Sums, mask: Any) -> Sums:
    """The sums over what is not masked."""

    def start(params: Params) -> Any:
        return sums.start(without(mask, params))

    def add(partial: Any, delta: Params, weight: Any) -> Any:
        return sums.add(partial, without(mask, delta), weight)

    def finish(theta: Theta, partial: Any, agg_state: Any, params: Params):
        step, agg_state = sums.finish(theta, partial, agg_state, without(mask, params))
        return _filled(step, params), agg_state

    return Sums(start, add, finish)


def without(mask: Any, tree: Any) -> Any:
    """The tree with None, which JAX takes for no leaf at all, in the place of what is masked.

    Raises:
      UserError: see `masked`.
    """

    def one(hidden: Any, part: Any) -> Any:
        if not isinstance(hidden, bool):
            raise UserError(
                f"masked: expected True or False in the mask, got {hidden!r}. Build it of Python bools."
            )
        return jax.tree.map(lambda _: None, part) if hidden else part

    try:
        return jax.tree.map(one, mask, tree)
    except (ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"masked: expected a mask that is a prefix of the parameters, got {jax.tree.structure(mask)} for "
            f"{jax.tree.structure(tree)}. Give a bool for each parameter or for each group of them."
        ) from None


def _filled(step: Params, params: Params) -> Params:
    """`step` with -0.0 where it has None and params a leaf."""
    return jax.tree.map(
        lambda leaf, moved: jnp.full_like(leaf, -0.0) if moved is None else moved,
        params,
        step,
        is_leaf=lambda node: node is None,
    )
