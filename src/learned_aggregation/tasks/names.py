"""Task names: `{model}_{dataset}_{size}`, parsed; no JAX here, so that configs can be checked quickly.

The size is the side of the images in pixels, for text the number of tokens in a sequence, for a table its number of
features. A model's name is its family and its sizes: `mlp128x64`, `mlp128_pow6` (six layers of 128), `conv32x64x64`,
`convgn16x32`, `resnet18`, `resnet18gn`, `vit_p16_h128_m512_nh4_nl10` (patch, hidden, mlp, heads, layers),
`transformer_h64_m256_nh4_nl2`, `gpt_h64_m256_nh2_nl2`; PRESETS are short names for some.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from learned_aggregation.data import (
    DATASETS,
    KINDS,
    TABLES,
    check_dataset_name,
    has_size,
    is_packaged,
    kind_of,
    sizes_of,
)
from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, is_outside, nearest

_MODELS = "learned_aggregation.tasks.models"

MODELS = Registry(
    "model",
    {
        family: f"{_MODELS}.{family}:{family}"
        for family in ("mlp", "conv", "convgn", "resnet", "vit", "transformer", "gpt")
    }
    | {"siammae": "learned_aggregation.ssl.siamese:siammae"},
)
"""Family name -> (the rest of the model's name, the number of outputs) -> flax module; see `adapters.construct`."""

READS = {
    "mlp": ("image", "table"),
    "conv": ("image",),
    "convgn": ("image",),
    "resnet": ("image",),
    "vit": ("image",),
    "transformer": ("text",),
    "gpt": ("text",),
    "siammae": ("video",),
}
"""What each family of the package reads."""

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
VIDEO_EXAMPLE = "siammae_p8_h96_m384_nh3_nl3_dh64_dnh4_dnl2_photoclips_48"


class TaskName(NamedTuple):
    """family + arguments make the model ("mlp" + "128x128"), e.g. of mlp128x128_fmnist_28."""

    family: str
    arguments: str
    dataset: str
    size: int


def expand_task(name: str) -> tuple[str, ...]:
    """The tasks of a mix; any other name alone."""
    return MIXES.get(name, (name,))


def parse_task_name(name: str, datasets: Collection[str] = ()) -> TaskName:
    """The parts of a task's name; aliases and presets are resolved first.

    Names with underscores are understood: of all ways to divide a name that give a data set that there is, the one with
    the longest is taken.

    Args:
      datasets: the user's data sets, of the setting `datasets`.
    Raises:
      UserError: naming the part (model, data set, size) that was not understood and what there is.

    Example:
      >>> parse_task_name("mlp64x64_my_data_28", ["my_data"])
      TaskName(family='mlp', arguments='64x64', dataset='my_data', size=28)
    """
    parts = ALIASES.get(name, name).rsplit("_", 1)
    if len(parts) != 2 or "_" not in parts[0]:
        known = list(dict.fromkeys((*datasets, *DATASETS)))
        raise UserError(
            f"task: expected model_dataset_size such as {EXAMPLE}, or one of {', '.join((*ALIASES, *MIXES))}, "
            f"got {name!r}.{nearest(name, (*ALIASES, *MIXES))} Models: {', '.join(MODEL_NAMES)}; "
            f"data sets: {', '.join(known)}."
        )
    model, dataset = _divided(parts[0], datasets)
    size = parts[1]
    try:
        family, arguments = _parse_model(model)
        check_dataset_name(dataset, datasets)
        if is_packaged(dataset, datasets):
            check_reads(family, model, dataset, kind_of(dataset))
            _check_size(dataset, size)
        elif not size.isdecimal() or not 0 < len(size) <= 5 or not 0 < int(size) < 2**16:
            raise UserError(
                f"size: expected the side of the images, the tokens of a sequence or the number of features of "
                f"{dataset} at the end, got {size!r}. For example mlp32_{dataset}_28."
            )
    except UserError as error:
        raise UserError(f"task {name!r}: {error}") from None
    return TaskName(family, arguments, dataset, int(size))


def _divided(text: str, datasets: Collection[str]) -> tuple[str, str]:
    """(model, data set) of `model_dataset`; where nothing is known, what the last underscore divides."""
    cuts = [(text[: match.start()], text[match.end() :]) for match in re.finditer("_", text)]
    there = [cut for cut in cuts if _is_dataset(cut[1], datasets)]
    whole = [cut for cut in there if _is_model(cut[0])]
    return next(iter(whole + there), cuts[-1])


def _is_dataset(name: str, datasets: Collection[str]) -> bool:
    return name in DATASETS or is_packaged(name) or name in datasets or is_outside(name)


def _is_model(name: str) -> bool:
    full = PRESETS.get(name, name)
    return full in MODELS or is_outside(full) or (":" not in full and _family(full) is not None)


def _family(model: str) -> str | None:
    """The longest name of a family that the model's begins with, and no letter after it."""
    begun = [name for name in MODELS if model.startswith(name) and not model[len(name) :][:1].islower()]
    return max(begun, key=len, default=None)


def _parse_model(model: str) -> tuple[str, str]:
    """(family, the rest) of a model's name."""
    full = PRESETS.get(model, model)
    if full in MODELS:
        return full, ""
    if is_outside(full):
        return MODELS.check(full), ""
    if (family := _family(full)) is None:
        known = tuple(dict.fromkeys((*MODEL_NAMES, *MODELS)))
        raise UserError(f"model: expected one of {', '.join(known)}, got {model!r}.{nearest(model, known)}")
    return family, full[len(family) :]


def check_reads(family: str, model: str, dataset: str, kind: str) -> None:
    """Refuses a family of the package that does not read the kind of data; what others read they say themselves."""
    reads = KINDS[kind]
    if family in READS and reads not in READS[family]:
        fitting = [name for name in READS if reads in READS[name]]
        raise UserError(
            f"model: expected one that reads {reads} for the data set {dataset} ({', '.join(fitting)}), "
            f"got {model!r}. For example {_example(dataset, kind)}."
        )


def _check_size(dataset: str, size: str) -> None:
    if not size.isdecimal() or len(size) > 5 or not has_size(dataset, int(size)):
        raise UserError(
            f"size: expected {sizes_of(dataset)} at the end, got {size!r}. "
            f"For example {_example(dataset, kind_of(dataset))}."
        )


def _example(dataset: str, kind: str) -> str:
    if not is_packaged(dataset):
        return f"{'transformer32' if kind == 'text' else 'mlp32'}_{dataset}_SIZE"
    if dataset in TABLES:
        return f"mlp32_{dataset}_{TABLES[dataset]}"
    return {"text": TEXT_EXAMPLE, "video": VIDEO_EXAMPLE}.get(kind, EXAMPLE)


def parse_widths(model: str, arguments: str) -> tuple[int, ...]:
    """ "128x64" -> (128, 64) and "128_pow3" -> (128, 128, 128). Raises a UserError for anything else."""
    width, power, depth = arguments.partition("_pow")
    widths = width.split("x") * (int(depth) if depth.isdecimal() and len(depth) < 4 else 0 if power else 1)
    if not widths or not all(width.isdecimal() and len(width) < 8 and int(width) > 0 for width in widths):
        raise UserError(
            f"model {model + arguments!r}: expected {model} followed by widths joined by x, such as "
            f"{model}64x32, or by a width and a depth, such as {model}64_pow3, got {arguments!r}. "
            "Write the widths as whole numbers of at least 1 and below 10000000."
        )
    return tuple(int(width) for width in widths)


def width_probes(name: str, width: int, datasets: Collection[str] = ()) -> tuple[str, str]:
    """The names of the task with all layers `width` wide and with all twice that: what depends on the width differs.

    Raises:
      UserError: a model whose name is not a list of widths.
    """
    parsed = parse_task_name(name, datasets)
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
    fits = match and max(map(len, match.groups())) < 8
    sizes = tuple(int(group) for group in match.groups()) if match and fits else ()
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
