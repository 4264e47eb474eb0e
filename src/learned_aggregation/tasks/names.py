"""Task names: `{model}_{dataset}_{size}`, parsed; no JAX here, so that configs can be checked quickly.

The size is the side of the images in pixels, for text the number of tokens in a sequence, for a table its number of
features. A model's name is its family and its sizes: `mlp128x64`, `mlp128_pow6` (six layers of 128), `conv32x64x64`,
`convgn16x32`, `resnet18`, `resnet18gn`, `vit_p16_h128_m512_nh4_nl10` (patch, hidden, mlp, heads, layers),
`transformer_h64_m256_nh4_nl2`, `gpt_h64_m256_nh2_nl2`; PRESETS are short names for some.
"""

import re
from typing import NamedTuple

from learned_aggregation.data import DATASETS, KINDS, TABLES, check_dataset_name, has_size, kind_of, sizes_of
from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, nearest

_MODELS = "learned_aggregation.tasks.models"

MODELS = Registry(
    "model",
    {
        family: f"{_MODELS}.{family}:{family}"
        for family in ("mlp", "conv", "convgn", "resnet", "vit", "transformer", "gpt")
    },
)
"""Family name -> (the rest of the model's name, the number of outputs) -> flax module."""

READS = {"mlp": ("image", "table"), "transformer": ("text",), "gpt": ("text",)}
"""What each family reads; those that are not here read images."""

WIDTH_MODELS = ("mlp", "conv")
"""Families whose arguments are the layers' widths."""

PRESETS = {
    "conv": "conv32x64x64",
    "small_conv": "conv16x32",
    "deit_tiny": "vit_p16_h192_m768_nh3_nl12",
    "deit_small": "vit_p16_h384_m1536_nh6_nl12",
    "tall16": "vit_p16_h128_m512_nh4_nl10",
    "wide16": "vit_p16_h384_m1536_nh6_nl6",
    "transformer32": "transformer_h32_m128_nh4_nl2",
    "transformer192": "transformer_h192_m768_nh12_nl12",
}
"""Short names of models. DeiT: Touvron et al., 2021, arXiv:2012.12877; tall16 and wide16: the "skinny deep" and
"wide shallow" ViTs of google/learned_optimization, tasks/fixed/vit.py."""

MODEL_NAMES = tuple(dict.fromkeys((*MODELS, *PRESETS)))

ALIASES = {
    "image-mlp-fmst": "mlp128x128_fmnist_28",
    "image-mlp-fmst64x64": "mlp64x64_fmnist_28",
    "image-mlp-fmst32x32": "mlp32x32_fmnist_28",
    "small-image-mlp-fmst": "mlp32_fmnist_8",
    "conv-fmst": "conv32x64x64_fmnist_28",
    "conv-c10": "conv32x64x64_c10_32",
    "small-conv-c10": "conv16x32_c10_8",
    "image-mlp-c10-128x128": "mlp128x128_c10_32",
    "transformer32_lm": "transformer32_lm1b_8",
    "transformer192_lm": "transformer192_lm1b_16",
}
"""Names of published experiments for single tasks."""

_MLPS = ("mlp128x128", "mlp64x64", "mlp32x32")

MIXES = {
    "fmnist-conv-mlp-mix": ("conv16x32_fmnist_28", "mlp64x64_fmnist_28", "mlp128x128_fmnist_28"),
    "fmnist-mlp-mix": tuple(f"{mlp}_fmnist_32" for mlp in _MLPS),
    "dataset-mlp-mix": ("mlp128x128_imagenet_32", "mlp128x128_c10_32", "mlp128x128_fmnist_28"),
    "cifar-fmnist-all": tuple(f"{mlp}_{data}_32" for data in ("fmnist", "c10") for mlp in _MLPS),
    "cifar-fmnist-128x128": ("mlp128x128_fmnist_32", "mlp128x128_c10_32"),
}
"""Names of published experiments for several tasks at once."""

EXAMPLE = "mlp128x128_glyphs_28"
TEXT_EXAMPLE = "transformer32_pytext_8"


class TaskName(NamedTuple):
    """family + arguments make the model ("mlp" + "128x128"), e.g. of mlp128x128_fmnist_28."""

    family: str
    arguments: str
    dataset: str
    size: int


def expand_task(name: str) -> tuple[str, ...]:
    """The tasks of a mix; any other name alone."""
    return MIXES.get(name, (name,))


def parse_task_name(name: str) -> TaskName:
    """The parts of a task's name; aliases and presets are resolved first.

    Raises:
      UserError: naming the part (model, data set, size) that was not understood and what there is.
    """
    parts = ALIASES.get(name, name).rsplit("_", 2)
    if len(parts) != 3:
        raise UserError(
            f"task: expected model_dataset_size such as {EXAMPLE}, or one of {', '.join((*ALIASES, *MIXES))}, "
            f"got {name!r}.{nearest(name, (*ALIASES, *MIXES))} Models: {', '.join(MODEL_NAMES)}; "
            f"data sets: {', '.join(DATASETS)}."
        )
    model, dataset, size = parts
    try:
        family, arguments = _parse_model(model)
        check_dataset_name(dataset)
        _check_fit(family, model, dataset)
        _check_size(dataset, size)
    except UserError as error:
        raise UserError(f"task {name!r}: {error}") from None
    return TaskName(family, arguments, dataset, int(size))


def _parse_model(model: str) -> tuple[str, str]:
    """(family, the rest) of a model's name."""
    full = PRESETS.get(model, model)
    family = re.match(r"[a-z]*", full).group()  # pyright: ignore[reportOptionalMemberAccess]
    if family not in MODELS:
        raise UserError(
            f"model: expected one of {', '.join(MODEL_NAMES)}, got {model!r}.{nearest(model, MODEL_NAMES)}"
        )
    return family, full[len(family) :]


def _check_fit(family: str, model: str, dataset: str) -> None:
    reads = KINDS[kind_of(dataset)]
    fitting = [name for name in MODELS if reads in READS.get(name, ("image",))]
    if family not in fitting:
        raise UserError(
            f"model: expected one that reads {reads} for the data set {dataset} ({', '.join(fitting)}), "
            f"got {model!r}. For example {_example(dataset)}."
        )


def _check_size(dataset: str, size: str) -> None:
    if not size.isdecimal() or len(size) > 5 or not has_size(dataset, int(size)) or int(size) >= 2**16:
        raise UserError(
            f"size: expected {sizes_of(dataset)} at the end, got {size!r}. For example {_example(dataset)}."
        )


def _example(dataset: str) -> str:
    if dataset in TABLES:
        return f"mlp32_{dataset}_{TABLES[dataset]}"
    return TEXT_EXAMPLE if kind_of(dataset) == "text" else EXAMPLE


def parse_widths(model: str, arguments: str) -> tuple[int, ...]:
    """ "128x64" -> (128, 64) and "128_pow3" -> (128, 128, 128). Raises a UserError for anything else."""
    width, power, depth = arguments.partition("_pow")
    widths = width.split("x") * (int(depth) if depth.isdecimal() and len(depth) < 4 else 0 if power else 1)
    if not widths or not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise UserError(
            f"model {model + arguments!r}: expected {model} followed by widths joined by x, such as "
            f"{model}64x32, or by a width and a depth, such as {model}64_pow3, got {arguments!r}. "
            "Write the widths as whole numbers of at least 1."
        )
    return tuple(int(width) for width in widths)


def width_probes(name: str, width: int) -> tuple[str, str]:
    """The names of the task with all layers `width` wide and with all twice that: what depends on the width differs.

    Raises:
      UserError: a model whose name is not a list of widths.
    """
    parsed = parse_task_name(name)
    if parsed.family not in WIDTH_MODELS:
        raise UserError(
            f"parametrization: expected a task whose model is named by its widths ({', '.join(WIDTH_MODELS)}) with "
            f"'mup', got {name!r}. Use parametrization='standard', or a task such as {EXAMPLE}."
        )
    depth = len(parse_widths(parsed.family, parsed.arguments))
    models = (parsed.family + "x".join([str(w)] * depth) for w in (width, 2 * width))
    base, wider = (f"{model}_{parsed.dataset}_{parsed.size}" for model in models)
    return base, wider


def parse_sizes(model: str, arguments: str, such_as: str) -> tuple[int, ...]:
    """The numbers of "_p16_h128_nl10", whose letters must be those of `such_as`, in its order.

    Raises:
      UserError: other letters, a number below 1.
    """
    pattern = re.sub(r"\d+", r"(\\d+)", such_as)
    match = re.fullmatch(pattern, arguments)
    sizes = tuple(int(group) for group in match.groups()) if match else ()
    if not sizes or min(sizes) < 1:
        presets = ", ".join(_presets(model))
        raise UserError(
            f"model {model + arguments!r}: expected {model} followed by sizes such as {such_as}, got {arguments!r}. "
            f"Write {model}{such_as} with your own numbers"
            + (f", or take one of {presets}." if presets else ".")
        )
    return sizes


def _presets(family: str) -> list[str]:
    return [preset for preset, full in PRESETS.items() if full.startswith(family)]
