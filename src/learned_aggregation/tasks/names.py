"""Task names: `{model}_{dataset}_{size}`, parsed; no JAX here, so that configs can be checked quickly."""

import re
from typing import NamedTuple

from learned_aggregation.data import DATASETS, check_dataset_name
from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry

_MODELS = "learned_aggregation.tasks.models"

MODELS = Registry("model", {"mlp": f"{_MODELS}.mlp:mlp", "conv": f"{_MODELS}.conv:conv"})
"""Family name -> (the rest of the model's name, num_classes) -> flax module."""

ALIASES = {
    "image-mlp-fmst": "mlp128x128_fmnist_28",
    "small-image-mlp-fmst": "mlp32_fmnist_8",
    "conv-c10": "conv32x64x64_c10_32",
}

EXAMPLE = "mlp128x128_glyphs_28"


class TaskName(NamedTuple):
    """family + arguments make the model ("mlp" + "128x128"), e.g. of mlp128x128_fmnist_28."""

    family: str
    arguments: str
    dataset: str
    size: int


def parse_task_name(name: str) -> TaskName:
    """The parts of a task's name; aliases are resolved first.

    Raises:
      UserError: naming the part (model, data set, size) that was not understood and what there is.
    """
    parts = ALIASES.get(name, name).rsplit("_", 2)
    if len(parts) != 3:
        raise UserError(
            f"task: expected model_dataset_size such as {EXAMPLE} or one of {', '.join(ALIASES)}, got {name!r}. "
            f"Models: {', '.join(MODELS)}; data sets: {', '.join(DATASETS)}."
        )
    model, dataset, size = parts
    if not size.isdigit() or int(size) < 4:
        raise UserError(
            f"task {name!r}: expected an image size of at least 4 at the end, got {size!r}. For example {EXAMPLE}."
        )
    family = re.match(r"[a-z]*", model).group()  # pyright: ignore[reportOptionalMemberAccess]
    try:
        MODELS.check(family)
        check_dataset_name(dataset)
    except UserError as error:
        raise UserError(f"task {name!r}: {error}") from None
    return TaskName(family, model[len(family) :], dataset, int(size))


def parse_widths(model: str, arguments: str) -> tuple[int, ...]:
    """ "128x64" -> (128, 64). Raises a UserError when it is not widths joined by x."""
    widths = arguments.split("x")
    if not all(width.isdigit() and int(width) > 0 for width in widths):
        raise UserError(
            f"model {model + arguments!r}: expected {model} followed by widths joined by x, such as "
            f"{model}64x32, got {arguments!r}. Write the widths as whole numbers of at least 1."
        )
    return tuple(int(width) for width in widths)
