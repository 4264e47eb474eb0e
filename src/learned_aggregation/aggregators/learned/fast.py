"""The learned aggregators' update, with the algebra and the memory layout that make it fast.

It computes what `rules` computes from the same theta, tensor by tensor. Four exact identities save work:

- the step features are equal for every parameter: their part of the first layer is a bias;
- a feature's normalisation is one number per tensor: it scales a row of the first layer's weights;
- the row and column statistics of a matrix vary along one dimension: they enter the first layer as the sum of
  a term per row and a term per column, and their mean squares are those of the vectors;
- the features that a tensor of rank < 2 has twice share one row, whose weights are added.

What is left are the dense rows: features with one value per parameter, as a matrix [F, N] with the parameters
last. A tensor of more than BLOCK parameters is walked in blocks that stay in the cache, twice: once for the
mean squares, once for the network. Source of the mathematics: see `features` and `accumulators`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from learned_aggregation.aggregators.learned.accumulators import (
    Accumulators,
    Decays,
    ema,
    factored_dims,
    safe_rsqrt,
    update_vectors,
)
from learned_aggregation.aggregators.learned.base import Output
from learned_aggregation.aggregators.learned.fast_blocks import (
    Block,
    View,
    cut,
    outer_product,
    outer_sum,
    view_of,
    view_without,
    walk,
)
from learned_aggregation.aggregators.learned.features import STEP_SCALES, delta_features, step_features
from learned_aggregation.aggregators.learned.options import LearnedOptions
from learned_aggregation.aggregators.learned.rules import (
    LearnedState,
    adafac_family,
    base_steps,
    check_cohort,
    decays_of,
    leaf_inputs,
    plain_family,
    steps_to_tree,
    sums_of,
)
from learned_aggregation.kernels import pallas_step
from learned_aggregation.kernels.step import fits, kernel_step
from learned_aggregation.types import Aggregator, ClientUpdate, Params, Theta

BLOCK, ACCELERATOR_BLOCK = 4096, 1 << 16
"""Parameters walked at a time: about a megabyte of features and hidden units, which a CPU's cache holds; an accelerator
needs more of them at once to be busy, and each step of a loop costs it launches, but every problem and arm takes as
much memory as its block: 25 megabytes."""


class Network(NamedTuple):
    """The network as one tensor sees it.

    dense: the dense rows' weights, with their normalisation [F, hidden]; bias: with the step features' part
    [hidden]; along_p [hidden, A, p, B, 1, C], along_q [hidden, A, 1, B, q, C]: what the statistics of rows and
    columns add, None for rank < 2; weights: of the layers after the first.
    """

    dense: Array
    bias: Array
    along_p: Array | None
    along_q: Array | None
    weights: dict[str, Array]


class Tensor(NamedTuple):
    """What the dense rows of one tensor of N parameters are made of. Flat but for the factors.

    deltas [D, N]: the delta inputs; param, mean [1, N]; momentum [Dm, N]; rms [1, N]; factor_p
    [Da, A, p, B, 1, C], factor_q [Da, A, 1, B, q, C]: Adafactor's two factors, or, for rank < 2, diag [Da, N].
    All after param are None in the plain family.
    """

    deltas: Array
    param: Array
    mean: Array | None = None
    momentum: Array | None = None
    rms: Array | None = None
    diag: Array | None = None
    factor_p: Array | None = None
    factor_q: Array | None = None


def stored_rows(tensor: Tensor) -> list[Array]:
    """The dense rows that are arrays already."""
    rows = [tensor.deltas, tensor.param, tensor.momentum, tensor.rms, tensor.diag]
    return [x for x in rows if x is not None]


def derived_rows(tensor: Tensor) -> list[Array]:
    """The dense rows that are computed when they are needed."""
    if tensor.momentum is None or tensor.rms is None or tensor.mean is None:
        return []
    inverse = lax.rsqrt(tensor.rms + 1e-6)
    of_rms = [tensor.momentum * inverse, inverse]
    if tensor.factor_p is not None and tensor.factor_q is not None:
        factor = outer_product(tensor.factor_p, tensor.factor_q)
        return [*of_rms, tensor.mean * factor, tensor.momentum * factor]
    assert tensor.diag is not None
    return [
        *of_rms,
        tensor.mean * safe_rsqrt(tensor.diag + 1e-9),
        tensor.momentum * (tensor.diag + 1e-6) ** -0.5,
        lax.rsqrt(tensor.diag + 1e-8),
    ]


def at_block(tensor: Tensor, block: Block) -> Tensor:
    """The block's part of a tensor."""

    def part(name: str, x: Array | None) -> Any:
        if x is None:
            return None
        if name in ("factor_p", "factor_q"):
            return cut(x, block)
        return lax.dynamic_slice_in_dim(x, block.offset, block.size, 1)

    return Tensor(*(part(name, x) for name, x in tensor._asdict().items()))


def mean_squares(tensor: Tensor, view: View, limit: int | None) -> Float[Array, "F"]:
    """Of every dense row over the whole tensor."""

    def body(total, block):
        rows = jnp.concatenate(derived_rows(at_block(tensor, block)))
        return total + jnp.sum(rows * rows, axis=1)

    sums = [jnp.sum(x * x, axis=1) for x in stored_rows(tensor)]
    derived = jax.eval_shape(derived_rows, tensor)
    if derived:
        sums.append(walk(view, limit, body, jnp.zeros(sum(len(x) for x in derived))))
    return jnp.concatenate(sums) / tensor.param.size


def network_steps(
    net: Network, tensor: Tensor, view: View, output: Output, limit: int | None
) -> Float[Array, "N"]:
    """-scale * direction * exp(exponent * magnitude) for every parameter of a tensor."""

    def body(steps, block):
        part = at_block(tensor, block)
        rows = jnp.concatenate(stored_rows(part) + derived_rows(part))
        hidden = net.dense.T @ rows + net.bias[:, None]
        if net.along_p is not None and net.along_q is not None:
            hidden = hidden + outer_sum(cut(net.along_p, block), cut(net.along_q, block))
        hidden = jax.nn.relu(hidden)
        hidden = jax.nn.relu(net.weights["w1"].T @ hidden + net.weights["b1"][:, None])
        direction, magnitude = net.weights["w2"].T @ hidden + net.weights["b2"][:, None]
        step = -output.scale * direction * jnp.exp(output.exponent * magnitude)
        return lax.dynamic_update_slice(steps, step, (block.offset,))

    return walk(view, limit, body, jnp.zeros(tensor.param.shape[1]))


def side(weights: Float[Array, "6 hidden"], statistic: Float[Array, "3 ..."]) -> Float[Array, "hidden ..."]:
    """What a statistic of rows or columns and its inverse root, normalised, add to the first layer."""
    features = jnp.concatenate([statistic, lax.rsqrt(statistic + 1e-8)])
    scale = lax.rsqrt(1e-5 + jnp.mean(features * features, axis=tuple(range(1, features.ndim))))
    return jnp.tensordot(weights * scale[:, None], features, axes=(0, 0))


def tensor_step(
    weights: dict[str, Array],
    tensor: Tensor,
    dense: Float[Array, "F hidden"],
    step: Float[Array, "11"],
    sides: tuple[Array | None, Array | None],
    shape: tuple[int, ...],
    output: Output,
    limit: int | None,
) -> Float[Array, "..."]:
    """The step of one tensor, once its dense rows' weights and its sides are known."""
    view = view_of(shape)
    bias = weights["b0"] + step @ weights["w0"][-len(STEP_SCALES) :]
    if limit is not None and fits(tensor, view, bias):
        return kernel_step(tensor, dense, bias, sides, weights, output, view).reshape(shape)
    scale = lax.rsqrt(1e-5 + mean_squares(tensor, view, limit))
    net = Network(dense * scale[:, None], bias, *sides, weights)
    if limit is not None and pallas_step.fits(net, tensor, view):
        return pallas_step.network_steps(net, tensor, view, output).reshape(shape)
    return network_steps(net, tensor, view, output, limit).reshape(shape)


def adafac_tensor(
    weights: dict[str, Array],
    decays: Decays,
    step: Float[Array, "11"],
    old: Accumulators,
    param: Array,
    mean: Array,
    delta_inputs: Float[Array, "D ..."],
    output: Output,
    limit: int | None,
) -> tuple[Array, Accumulators]:
    """One tensor's step and accumulators (`flattened`) in the -adafac family."""
    shape, d, g = param.shape, delta_inputs.shape[0], mean.reshape(-1)
    momentum = ema(decays.momentum, old.momentum, g)
    rms = ema(jnp.clip(decays.rms, 0.0, 1.0), old.rms, g * g)
    row, col, diag, row_factor, col_factor = update_vectors(old, mean * mean + 1e-30, decays)
    tensor = Tensor(delta_inputs.reshape(d, -1), param.reshape(1, -1), g[None], momentum, rms)

    # The published order of the inputs: see features.adafac_features.
    places = [d + 5, d + 12, d + 15, d + 18, d + 21, d + 24, d + 27]
    stored, derived, w_row, w_col, w_inverse_row, w_inverse_col, by_factor, _ = jnp.split(
        weights["w0"], places
    )
    dims = factored_dims(shape)
    sides: tuple[Array | None, Array | None] = (None, None)
    if dims is None or row_factor is None or col_factor is None:
        tensor = tensor._replace(diag=diag)
        dense = jnp.concatenate([stored, w_row + w_col, derived, by_factor, w_inverse_row + w_inverse_col])
    else:
        d1, d0 = dims
        dense = jnp.concatenate([stored, derived, by_factor])
        without_d0, without_d1 = view_without(shape, d0), view_without(shape, d1)
        of_row = side(jnp.concatenate([w_row, w_inverse_row]), row.reshape(-1, *without_d0))
        of_col = side(jnp.concatenate([w_col, w_inverse_col]), col.reshape(-1, *without_d1))
        row_factor = row_factor.reshape(-1, *without_d0)
        col_factor = col_factor.reshape(-1, *without_d1)
        row_is_along_p = d1 < d0
        sides = (of_row, of_col) if row_is_along_p else (of_col, of_row)
        along_p, along_q = (row_factor, col_factor) if row_is_along_p else (col_factor, row_factor)
        tensor = tensor._replace(factor_p=along_p, factor_q=along_q)
    new = Accumulators(momentum, rms, row, col, diag)
    return tensor_step(weights, tensor, dense, step, sides, shape, output, limit), new


def flattened(old: Accumulators) -> Accumulators:
    """With momentum [Dm, N] and rms [Dr, N]: reshaping inside a loop over rounds would copy them every round."""
    n = math.prod(old.rms.shape[1:])
    return old._replace(
        momentum=old.momentum.reshape(len(old.momentum), n), rms=old.rms.reshape(len(old.rms), n)
    )


def in_blocks(update: Callable[..., Any]) -> Callable[..., Any]:
    """update(the backend's block, *args); its derivatives, of both modes, are those of update(None, *args).

    Reverse mode through a loop of slices would add up a gradient of full size for each block.
    """

    @jax.custom_jvp
    def walked(*args):
        return update(BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK, *args)

    @walked.defjvp
    def derivative(args, tangents):
        return jax.jvp(partial(update, None), args, tangents)

    return walked


def fast_adafac(name: str, inputs: str, options: LearnedOptions) -> Aggregator:
    """`rules.adafac_family`, fast; the same theta, the same state but that momentum and rms are flat."""
    oracle = adafac_family(name, inputs, options)

    @in_blocks
    def steps_and_state(limit, rates, theta, delta, weight, agg_state, params):
        base_rule = options.base_rule(name, rates)
        decays, step = decays_of(theta), step_features(agg_state.round)
        leaves = leaf_inputs(delta, weight, params)
        from_base, outputs, velocity = base_steps(
            base_rule, agg_state.velocity, [mean for _, mean, _ in leaves]
        )
        accumulators, steps = [], []
        for old, (param, mean, deltas), b, output in zip(
            agg_state.accumulators, leaves, from_base, outputs, strict=True
        ):
            new, moved = old, param
            if param.size:
                delta_inputs = delta_features(inputs, mean, deltas)
                moved, new = adafac_tensor(
                    theta["nn"], decays, step, old, param, mean, delta_inputs, output, limit
                )
            accumulators.append(new)
            steps.append(b + moved)
        state = LearnedState(tuple(accumulators), agg_state.round + 1, velocity)
        return steps_to_tree(params, steps), state

    def init(theta: Theta, params: Params) -> LearnedState:
        state = oracle.init(theta, params)
        return state._replace(accumulators=tuple(map(flattened, state.accumulators)))

    def update(theta: Theta, client_update: ClientUpdate, agg_state: LearnedState, params: Params):
        check_cohort(name, inputs, options.num_grads, client_update)
        return steps_and_state(
            options.rates, theta, client_update.delta, client_update.weight, agg_state, params
        )

    return oracle._replace(init=init, update=update, sums=sums_of(inputs, update))


def fast_plain(name: str, inputs: str, options: LearnedOptions) -> Aggregator:
    """`rules.plain_family`, fast; the same theta and state."""
    oracle = plain_family(name, inputs, options)

    @in_blocks
    def steps_and_state(limit, rates, theta, delta, weight, agg_state, params):
        base_rule = options.base_rule(name, rates)
        step, steps = step_features(agg_state.round), []
        leaves = leaf_inputs(delta, weight, params)
        from_base, outputs, velocity = base_steps(
            base_rule, agg_state.velocity, [mean for _, mean, _ in leaves]
        )
        for (param, mean, deltas), b, output in zip(leaves, from_base, outputs, strict=True):
            delta_inputs = delta_features(inputs, mean, deltas)
            d = delta_inputs.shape[0]
            tensor = Tensor(delta_inputs.reshape(d, -1), param.reshape(1, -1))
            dense = theta["nn"]["w0"][: d + 1]
            moved = param
            if param.size:
                sides = (None, None)
                moved = tensor_step(theta["nn"], tensor, dense, step, sides, param.shape, output, limit)
            steps.append(b + moved)
        return steps_to_tree(params, steps), LearnedState((), agg_state.round + 1, velocity)

    def update(theta: Theta, client_update: ClientUpdate, agg_state: LearnedState, params: Params):
        check_cohort(name, inputs, options.num_grads, client_update)
        return steps_and_state(
            options.rates, theta, client_update.delta, client_update.weight, agg_state, params
        )

    return oracle._replace(update=update, sums=sums_of(inputs, update))
