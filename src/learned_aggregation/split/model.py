"""A block model cut in two at a layer: what the client computes, what the server computes, and their parameters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from learned_aggregation.data import DataOptions, is_packaged
from learned_aggregation.errors import UserError
from learned_aggregation.split.models import SPLIT_MODELS
from learned_aggregation.tasks import make_model
from learned_aggregation.tasks.names import parse_task_name
from learned_aggregation.types import Batch, Dataset, Key, Metric, Metrics, Params


class Cut(NamedTuple):
    """What lies at the cut.

    tokens: n of an example, the class token not counted. width: d, the numbers of a token.
    grid: (rows, columns) of an image's patches; None for text, whose tokens must not see later ones.
    class_token: whether the activations begin with one.
    """

    tokens: int
    width: int
    grid: tuple[int, int] | None
    class_token: bool


class Halves(NamedTuple):
    """A model of one family in two halves, which a file of split/models/ makes.

    layers: blocks of the whole model. client_names: the client's parameters besides its blocks.
    client: (client's params, batch) -> activations [B, t, d], t = n, or n + 1 with a class token.
    server: (server's params, activations) -> logits.
    labels: batch -> what the logits are compared with, [B, ...]. measure: (logits, labels) -> metrics, leaves [B].
    example: inputs of the whole model, of the right shape and dtype, [1, ...]. metrics, cap: of the Task.
    """

    cut: Cut
    layers: int
    client_names: tuple[str, ...]
    client: Callable[[Params, Batch], Float[Array, "B t d"]]
    server: Callable[[Params, Float[Array, "B t d"]], Array]
    labels: Callable[[Batch], Array]
    measure: Callable[[Array, Array], Metrics]
    example: Array
    metrics: tuple[Metric, ...]
    cap: float | None


class SplitModel(NamedTuple):
    """A model cut at `split_layer`: server(client(params)) is the whole model.

    name: of the task. init: key -> the whole model's params.
    part: the whole model's params -> (the client's, the server's); join: the inverse.
    spec: shapes and dtypes of a batch of one example.
    """

    name: str
    split_layer: int
    halves: Halves
    init: Callable[[Key], Params]
    part: Callable[[Params], tuple[Params, Params]]
    join: Callable[[Params, Params], Params]
    spec: Batch


def split_model(name: str, dataset: Dataset, split_layer: int, remat: bool = False) -> SplitModel:
    """The model of the task `name` in two halves: the client keeps its inputs and its first blocks.

    Args:
      name: of a task whose model consists of blocks (vit, transformer).
      dataset: the task's; only shapes and dtypes are read.
      split_layer: blocks of the client's half, 1 to layers - 1.
      remat: see `tasks.make_model`.
    Raises:
      UserError: a model without blocks, a split layer outside the model.
    Example:
      >>> from learned_aggregation.data import load_dataset
      >>> model = split_model("vit_p4_h8_m16_nh2_nl3_digits_8", load_dataset("digits", 8), split_layer=1)
      >>> client, server = model.part(model.init(jax.random.key(0)))
      >>> sorted(client["layers"]), sorted(server["layers"])
      (['layer_0'], ['layer_1', 'layer_2'])
      >>> batch = {n: leaf[:2] for n, leaf in load_dataset("digits", 8).splits["test"].examples.items()}
      >>> model.halves.client(client, batch).shape
      (2, 5, 8)
    """
    brought = {} if is_packaged(dataset.name) else {dataset.name: {}}
    family = parse_task_name(name, brought).family
    if family not in SPLIT_MODELS:
        raise UserError(
            f"task: expected a model in blocks to cut ({', '.join(SPLIT_MODELS)}), got {name!r}. "
            "Use one such as vit_p7_h32_m64_nh4_nl4_glyphs_28."
        )
    module, _ = make_model(name, DataOptions(datasets=brought), remat, dataset=dataset if brought else None)
    layers = module.layers  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(split_layer, bool) or not isinstance(split_layer, int) or not 0 < split_layer < layers:
        raise UserError(
            f"split_layer: expected a whole number from 1 to {layers - 1} ({name} has {layers} layers), "
            f"got {split_layer!r}. Leave at least one block to the client and one to the server."
        )
    halves = SPLIT_MODELS[family](module, dataset, split_layer)
    lower = tuple(f"layer_{i}" for i in range(split_layer))

    def part(params: Params) -> tuple[Params, Params]:
        client = {name: params[name] for name in halves.client_names}
        server = {k: v for k, v in params.items() if k not in (*halves.client_names, "layers")}
        blocks = params["layers"]
        client["layers"] = {name: blocks[name] for name in lower}
        server["layers"] = {name: block for name, block in blocks.items() if name not in lower}
        return client, server

    def join(client: Params, server: Params) -> Params:
        return {**client, **server, "layers": {**client["layers"], **server["layers"]}}

    spec = {
        name: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), np.dtype(leaf.dtype))
        for name, leaf in dataset.splits["train"].examples.items()
    }
    return SplitModel(name, split_layer, halves, _init(module, halves), part, join, spec)  # pyright: ignore[reportArgumentType]


def _init(module: nn.Module, halves: Halves) -> Callable[[Key], Params]:
    """As the task's own, so that a key stands for the same initial model."""
    return lambda key: dict(module.init(key, halves.example, train=False))["params"]
