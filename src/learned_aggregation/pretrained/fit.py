"""What must fit a drop-in's params: a theta, a state, deltas of all clients or of one. Each error is one line."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learned_aggregation.devices.numerics import plain_numerics
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import first_difference, named_leaves, shapes
from learned_aggregation.types import Aggregator, AggState, Params, Theta


class Like(NamedTuple):
    """The containers and shapes of params: static, compared with ==."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    def tree(self) -> Params:
        return self.structure.unflatten([jax.ShapeDtypeStruct(shape, jnp.float32) for shape in self.shapes])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Partial:
    """A round that is not over: what `DropIn.add` keeps of the clients that have come. A pytree.

    sums: the rule's. weight []: the sum of the weights. clients []: how many were added. like: of the params.
    """

    sums: Any
    weight: Array
    clients: Array
    like: Like = field(metadata={"static": True})


def like_of(params: Params) -> Like:
    leaves, structure = jax.tree.flatten(params)
    return Like(structure, tuple(np.shape(leaf) for leaf in leaves))


def float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def checked_params(name: str, params: Params) -> Params:
    leaves = named_leaves(params)
    if not leaves:
        raise UserError(f"{name}: expected params with arrays in them, got {params!r}. Pass a model.")
    for leaf_name, leaf in leaves.items():
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise UserError(
                f"{name}: expected floating-point params, got {dtype} in {_shown(leaf_name)}. "
                "Keep such leaves out of params; average them apart if clients change them."
            )
    return float32(params)


def check_delta(name: str, params: Params, delta: Params) -> None:
    """Of one client."""
    check_structure(name, "a delta", delta, params)
    named = named_leaves(delta)
    for leaf_name, leaf in named_leaves(params).items():
        got, dtype = np.shape(named[leaf_name]), jnp.result_type(named[leaf_name])
        if got != leaf.shape or not jnp.issubdtype(dtype, jnp.floating):
            raise UserError(
                f"{name}: expected a floating-point delta of shape {leaf.shape} in {_shown(leaf_name)}, got "
                f"{dtype} {got}. Pass one client's parameters minus the server's."
            )


def check_deltas(name: str, params: Params, deltas: Params, fixed: int | None) -> int:
    """The number of clients."""
    check_structure(name, "deltas", deltas, params)
    named = named_leaves(deltas)
    first = np.shape(next(iter(named.values())))
    clients = first[0] if first else 0
    for leaf_name, leaf in named_leaves(params).items():
        got, want = np.shape(named[leaf_name]), (clients, *np.shape(leaf))
        if got != want or clients < 1:
            raise UserError(
                f"{name}: expected deltas of shape {('K', *np.shape(leaf))} in {_shown(leaf_name)}, with "
                f"one K for all leaves, got {got}. Stack the clients' deltas along a new first axis."
            )
        if not jnp.issubdtype(jnp.result_type(named[leaf_name]), jnp.floating):
            raise UserError(
                f"{name}: expected floating-point deltas, got {jnp.result_type(named[leaf_name])} in "
                f"{_shown(leaf_name)}. Pass client minus server parameters."
            )
    if fixed not in (None, clients):
        raise UserError(
            f"{name}: expected the deltas of {fixed} clients, which it was made for, got {clients}. "
            "Use an aggregator that takes any number of clients, such as lagg-set."
        )
    return clients


def check_theta(name: str, rule: Aggregator, theta: Theta) -> None:
    expected = jax.eval_shape(rule.init_theta, jax.random.key(0))
    change = first_difference(shapes(theta), shapes(expected))
    if change is not None:
        leaf, got, want = change
        raise UserError(
            f"{name}: expected theta leaf {leaf} {want}, got {got}. "
            "Use a theta meta-trained for this rule and its options."
        )


def check_state(name: str, rule: Aggregator, theta: Theta, server: Params, state: AggState) -> None:
    with plain_numerics():
        expected = jax.eval_shape(rule.init, theta, server)
    check_structure(name, "a state of these params", state, expected)
    change = first_difference(shapes(state), shapes(expected))
    if change is not None:
        leaf, got, want = change
        raise UserError(
            f"{name}: expected a state of these params, {want} in {_shown(leaf)}, got {got}. "
            "Pass what init(params) or the last update returned."
        )


def check_structure(name: str, what: str, tree: Any, like: Any) -> None:
    if jax.tree.structure(tree) == jax.tree.structure(like):
        return
    got, want = (dict.fromkeys(named_leaves(found), "one") for found in (tree, like))
    change = first_difference(got, want)
    if change is None:
        detail = "another container"
    elif change[1] == "missing":
        detail = f"no leaf {_shown(change[0])}"
    else:
        detail = f"an extra leaf {_shown(change[0])}"
    raise UserError(
        f"{name}: expected {what} with the same tree, got {detail}. Build both from the same model."
    )


def _shown(leaf_name: str) -> str:
    return leaf_name or "the array"
