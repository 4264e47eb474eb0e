"""Local SGD on an MLP as one call of a kernel; for every other task, and where no kernel is, as XLA's program."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_aggregation.federated.local_training import LocalTraining, local_training
from learned_aggregation.kernels import MLP_BACK_TARGET, MLP_TARGET, available
from learned_aggregation.tasks.perceptron import PerceptronLoss
from learned_aggregation.types import Batch, Key, ModelState, Params, Task


def sgd_training(task: Task, rate: float | Array, remat: bool = False) -> LocalTraining:
    """`local_training` with SGD of one rate for all tensors: W_k <- W_k - rate * grad.

    With the kernel where it fits, equal up to rounding and several times faster. So is the reverse pass through the
    training (truncated backpropagation), once and not in turn, of images as they are stored; derivatives through
    training on images that are inputs already, and on those wherever there is no kernel, are those of XLA's program.

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
    def any_images(rate, params: Params, model_state: ModelState, key: Key, batches: Batch):
        delta, loss = _kernel(known, rate, params, batches)
        return delta, model_state, loss

    @any_images.defjvp
    def _(primals, tangents):
        return jax.jvp(by_program, primals, tangents)

    def by_program(rate, params, model_state, key, batches):
        delta, model_state, _, loss = plain(rate).run(params, model_state, (), key, batches)
        return delta, model_state, loss

    def run(rate, params: Params, model_state: ModelState, key: Key, batches: Batch):
        if not (_fits(params, batches) and available()):
            return by_program(rate, params, model_state, key, batches)
        if batches["image"].dtype != jnp.uint8:
            return any_images(rate, params, model_state, key, batches)
        found: Any = _reversible(known, jnp.asarray(rate, jnp.float32), params, batches)
        delta, loss = found
        return delta, model_state, loss

    def run_as_local_training(params, model_state, client_state, key, batches):
        delta, model_state, loss = run(rate, params, model_state, key, batches)
        return delta, model_state, client_state, loss

    return LocalTraining(plain(rate).init, run_as_local_training, task, rebuild)


def _fits(params: Params, batches: Batch) -> bool:
    in_float32 = all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    return in_float32 and batches["image"].dtype in (jnp.uint8, jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reversible(known: PerceptronLoss, rate: Array, params: Params, batches: Batch):
    """`_kernel` of integer images, with its reverse pass as a kernel too."""
    return _kernel(known, rate, params, batches)


def _keep(known: PerceptronLoss, rate: Array, params: Params, batches: Batch):
    return _kernel(known, rate, params, batches), (rate, params, batches)


def _reverse(known: PerceptronLoss, kept: tuple[Array, Params, Batch], of_results: tuple[Params, Array]):
    """From the gradients with respect to delta and loss, those with respect to rate and params."""
    (rate, params, batches), (of_delta, of_loss) = kept, of_results
    outputs = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in (rate, *_flat(known, params))]
    call = jax.ffi.ffi_call(MLP_BACK_TARGET, outputs, vmap_method="expand_dims")
    operands = (*_operands(known, rate, batches), of_loss, *_flat(known, params), *_flat(known, of_delta))
    of_rate, *found = call(*operands)
    return of_rate, _named(known, found), None


_reversible.defvjp(_keep, _reverse)


def _kernel(
    known: PerceptronLoss, rate: float | Array, params: Params, batches: Batch
) -> tuple[Params, Float[Array, ""]]:
    """(delta, mean loss over the steps) of one client; vmapped, leading dimensions of size 1 are shared."""
    flat = _flat(known, params)
    outputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((), *(leaf.shape for leaf in flat))]
    call = jax.ffi.ffi_call(MLP_TARGET, outputs, vmap_method="expand_dims")
    loss, *deltas = call(*_operands(known, rate, batches), *flat)
    return _named(known, deltas), loss


def _operands(known: PerceptronLoss, rate: float | Array, batches: Batch) -> tuple[Array, ...]:
    """Images [H, B, inputs], labels, rate, scale and shift."""
    image = batches["image"]  # [H, B, h, w, c]
    whole = image.dtype == jnp.uint8
    scale, shift = (
        jnp.broadcast_to(jnp.asarray(value if whole else neutral, jnp.float32), image.shape[2:]).reshape(-1)
        for value, neutral in ((known.scale, 1.0), (known.shift, 0.0))
    )
    labels, rate = batches["label"].astype(jnp.int32), jnp.asarray(rate, jnp.float32)
    return image.reshape(*image.shape[:2], -1), labels, rate, scale, shift


def _flat(known: PerceptronLoss, params: Any) -> list[Array]:
    """Kernel and bias of each layer in turn."""
    return [params[layer][part] for layer in known.layers for part in ("kernel", "bias")]


def _named(known: PerceptronLoss, flat: list[Array]) -> Params:
    pairs = zip(known.layers, flat[::2], flat[1::2], strict=True)
    return {layer: {"kernel": kernel, "bias": bias} for layer, kernel, bias in pairs}
