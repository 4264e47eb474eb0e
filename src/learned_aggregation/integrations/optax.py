"""An aggregator as an `optax.GradientTransformation`: the pseudo-gradient in, the step out."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.drop_in import DropIn
from learned_aggregation.types import AggState, Params


def to_optax(agg: DropIn) -> optax.GradientTransformationExtraArgs:
    """The aggregator in optax's form, alone or in `optax.chain`.

        opt = to_optax(load_aggregator("lopt-a-h4"))
        opt_state = opt.init(params)
        updates, opt_state = opt.update(pseudo_gradient, opt_state, params)
        params = optax.apply_updates(params, updates)

    The pseudo-gradient is server minus the mean of the clients, g = -mean(delta); for plain gradients, as of
    data-parallel training, scale them first by the rate of the one local step that they stand for:
    `optax.chain(optax.scale(0.5), to_optax(agg))`.

    An aggregator that reads more than the mean takes the deltas beside the pseudo-gradient:
    `opt.update(g, opt_state, params, deltas=deltas, weights=weights)`, with deltas and weights as in
    `DropIn.update`. The step is then made of the deltas alone, and g is not read. Without them a fixed-K aggregator
    raises an error, and one for any K, such as lagg-set, sees a single client.

    Args:
      agg: from `load_aggregator`, or a DropIn of any registered rule.
    Returns:
      A transformation whose state is the aggregator's and whose updates are the step to add, in the pseudo-gradient's
      dtypes.
    Raises:
      UserError: from update: no params, a fixed-K aggregator without deltas, whatever `DropIn.update` raises.
    """

    def update(
        updates: optax.Updates,
        state: AggState,
        params: Params | None = None,
        *,
        deltas: Params | None = None,
        weights: Any = None,
        **other_transformations: Any,
    ) -> tuple[optax.Updates, AggState]:
        if params is None:
            raise UserError(
                f"{agg.name}: expected the params beside the pseudo-gradient, got None. "
                "Call update(updates, state, params)."
            )
        if deltas is None:
            step, state = agg.step_from_mean(params, jax.tree.map(jnp.negative, updates), state)
        else:
            step, state = agg.step(params, deltas, weights, state)
        # As optax's own: wrappers such as apply_if_finite put the updates beside the gradients.
        return jax.tree.map(lambda s, g: jnp.asarray(s, jnp.result_type(g)), step, updates), state

    return optax.GradientTransformationExtraArgs(agg.init, update)
