"""Local SGD on an MLP as one call of a kernel; for every other task, and where no kernel is, as XLA's program."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_aggregation.federated.local_training import LocalTraining, local_training
from learned_aggregation.kernels import MLP_TARGET, available
from learned_aggregation.tasks.perceptron import PerceptronLoss
from learned_aggregation.types import Batch, Key, ModelState, Params, Task


def sgd_training(task: Task, rate: float | Array, remat: bool = False) -> LocalTraining:
    """`local_training` with SGD of one rate for all tensors: W_k <- W_k - rate * grad.

    With the kernel where it fits, equal up to rounding and several times faster. A derivative through the training
    (truncated backpropagation) is that of XLA's program.

    Args:
      remat: see `local_training`.
    """

    def plain(rate: float | Array) -> LocalTraining:
        return local_training(task, optax.sgd(rate), remat=remat)

    def rebuild(task: Task, scale: Params | None = None) -> LocalTraining:
        return sgd_training(task, rate, remat) if scale is None else plain(rate).rebuild(task, scale)

    known = task.loss
    if not isinstance(known, PerceptronLoss):
        return plain(rate)._replace(rebuild=rebuild)

    @jax.custom_jvp
    def run(rate, params: Params, model_state: ModelState, key: Key, batches: Batch):
        if not (_fits(params, batches) and available()):
            delta, model_state, _, loss = plain(rate).run(params, model_state, (), key, batches)
            return delta, model_state, loss
        delta, loss = _kernel(known, rate, params, batches)
        return delta, model_state, loss

    @run.defjvp
    def _(primals, tangents):
        def through(rate, params, model_state, key, batches):
            delta, model_state, _, loss = plain(rate).run(params, model_state, (), key, batches)
            return delta, model_state, loss

        return jax.jvp(through, primals, tangents)

    def run_as_local_training(params, model_state, client_state, key, batches):
        delta, model_state, loss = run(rate, params, model_state, key, batches)
        return delta, model_state, client_state, loss

    return LocalTraining(plain(rate).init, run_as_local_training, task, rebuild)


def _fits(params: Params, batches: Batch) -> bool:
    in_float32 = all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    return in_float32 and batches["image"].dtype in (jnp.uint8, jnp.float32)


def _kernel(
    known: PerceptronLoss, rate: float | Array, params: Any, batches: Batch
) -> tuple[Params, Float[Array, ""]]:
    """(delta, mean loss over the steps) of one client; vmapped, leading dimensions of size 1 are shared."""
    image = batches["image"]  # [H, B, h, w, c]
    whole = image.dtype == jnp.uint8
    scale, shift = (
        jnp.broadcast_to(jnp.asarray(value if whole else neutral, jnp.float32), image.shape[2:]).reshape(-1)
        for value, neutral in ((known.scale, 1.0), (known.shift, 0.0))
    )
    flat = [params[layer][part] for layer in known.layers for part in ("kernel", "bias")]
    outputs = [jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in (jnp.zeros(()), *flat)]
    call = jax.ffi.ffi_call(MLP_TARGET, outputs, vmap_method="expand_dims")
    loss, *deltas = call(
        image.reshape(*image.shape[:2], -1),
        batches["label"].astype(jnp.int32),
        jnp.asarray(rate, jnp.float32),
        scale,
        shift,
        *flat,
    )
    pairs = zip(known.layers, deltas[::2], deltas[1::2], strict=True)
    return {layer: {"kernel": kernel, "bias": bias} for layer, kernel, bias in pairs}, loss
