"""Fine-tuning: a trained encoder, the mean over its patches, a linear head; and AdamW with its habits."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.federated.clients.adamw_matrices import adamw_matrices
from learned_aggregation.problems.freezeout import NEVER, FreezeOut, layer_indices
from learned_aggregation.ssl.encoder import encoder_of, features, init_encoder
from learned_aggregation.ssl.vit_files import read_encoder
from learned_aggregation.tasks.flax_task import CLASS_METRICS, cross_entropy, image_inputs, loss_cap
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Batch, Dataset, Key, Metrics, ModelState, Params, Task

LAYER_DECAY = 0.75
CLIP = 1.0


def finetuning(name: str, model: nn.Module, dataset: Dataset, *, encoder: str = "") -> Task:
    """Classification by a vision transformer without its class token: logits = head(mean over patches of norm(last)).

    Args:
      encoder: a safetensors file of an encoder that every seed starts from (see `vit_files`); "" is from scratch.
    Raises:
      UserError: a model that is no vision transformer, a file of another one.
    """
    shape = dataset.splits["train"].examples["image"].shape[1:]
    sizes, inputs = encoder_of(name, model, shape), image_inputs(dataset)
    template = jax.eval_shape(lambda key: init_encoder(key, sizes), jax.random.key(0))
    loaded = read_encoder(Path(encoder), template, sizes) if encoder else None

    def init(key: Key) -> tuple[Params, ModelState]:
        params = init_encoder(key, sizes) if loaded is None else jax.tree.map(jnp.asarray, loaded)
        head = {
            "kernel": jnp.zeros((sizes.hidden, dataset.num_classes)),
            "bias": jnp.zeros(dataset.num_classes),
        }
        return {**params, "head": head}, ()

    def of_images(params: Params, model_state: ModelState, batch: Batch) -> Array:
        return features(params, sizes, inputs(batch))

    def measure(params: Params, batch: Batch) -> Metrics:
        logits = of_images(params, (), batch) @ params["head"]["kernel"] + params["head"]["bias"]
        return cross_entropy(logits, batch["label"])

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        found = {metric: jnp.mean(values) for metric, values in measure(params, batch).items()}
        return found.pop("loss"), (model_state, found)

    def evaluate(params: Params, model_state: ModelState, key: Key, batch: Batch) -> Metrics:
        return measure(params, batch)

    return Task(name, init, loss, evaluate, loss_cap(dataset.num_classes), CLASS_METRICS, of_images)


OBJECTIVE = Objective(("image",), lambda about: about.num_classes, finetuning, {"encoder": ""})


def finetuning_adamw(learning_rate: float) -> optax.GradientTransformation:
    """`adamw-finetuning`: `adamw-matrices`, gradients clipped to a global norm of 1, and rates by layer.

    A vision transformer's layer i (0 is the embedding, L + 1 the head and the last norm) has
    learning_rate * .75^(L + 1 - i).
    """

    def update(updates: Params, state: Any, params: Params | None = None):
        def one(rate: float, leaf: Any) -> Any:  # None where a parameter is frozen
            return None if leaf is None else rate * leaf

        return jax.tree.map(one, layer_rates(updates), updates), state

    by_layer = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    return optax.chain(optax.clip_by_global_norm(CLIP), adamw_matrices(learning_rate), by_layer)


def layer_rates(params: Params, decay: float = LAYER_DECAY) -> Any:
    """decay^(L + 1 - i) for each tensor of layer i, 1 for what belongs to none.

    Raises:
      UserError: parameters of another model than a vision transformer's.
    """
    indices, layers = layer_indices(params, FreezeOut())
    return jax.tree.map(lambda i: 1.0 if i == NEVER else decay ** (layers + 1 - i), indices)
