"""Names of the JAX of 2021 that the released learned_optimization 0.0.1 uses, for its own code in the tests."""

import types

import jax


def restore() -> None:
    """Adds the names that today's JAX no longer has; those that it has stay."""
    names = {
        "tree_map": jax.tree.map,
        "tree_multimap": jax.tree.map,
        "tree_leaves": jax.tree.leaves,
        "tree_structure": jax.tree.structure,
        "tree_flatten": jax.tree.flatten,
        "tree_unflatten": jax.tree.unflatten,
        "ShapedArray": jax.core.ShapedArray,
    }
    for name, value in names.items():
        if name not in jax.__dict__:
            setattr(jax, name, value)
    if not hasattr(jax.lib, "xla_client"):
        jax.lib.xla_client = types.SimpleNamespace(Device=jax.Device)
