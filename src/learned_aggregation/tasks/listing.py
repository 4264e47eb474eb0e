"""The list of named tasks, with their sizes and where their data comes from."""

import math

import jax
import jax.numpy as jnp

from learned_aggregation.data import DATASETS, DataOptions
from learned_aggregation.tasks import make_model
from learned_aggregation.tasks.names import ALIASES, EXAMPLE, MIXES, MODEL_NAMES, TEXT_EXAMPLE, VIDEO_EXAMPLE
from learned_aggregation.tasks.objectives import OBJECTIVES, get_objective

_WIDTHS = ("32", "32x32", "64x64", "128x128", "128x128x128")
_LARGE = {  # image sizes of the models that are tested on ImageNet only
    "conv": (32,),
    "conv32x32": (64,),
    "mlp64x64": (64,),
    "mlp128x128": (64,),
    "mlp128x128x128": (64, 128),
    "mlp512x512x512": (32,),
    "mlp128_pow6": (32,),
    "mlp128_pow12": (32,),
    "resnet18": (32, 64, 128),
    "resnet50": (32, 64, 128),
    "vit_p16_h128_m512_nh4_nl10": (32,),
    "deit_tiny": (64,),
    "deit_small": (64,),
    "tall16": (8, 32, 64),
    "wide16": (8, 32, 64),
}
EMBEDDED = (
    "mlp32_digits_8",
    EXAMPLE,
    "conv_glyphsrgb_32",
    "convgn16x32_glyphs_28",
    "resnet18_glyphs62rgb_32",
    "resnet18gn_glyphs62rgb_32",
    "tall16_glyphs62rgb_32",
    "deit_tiny_glyphs62rgb_64",
    TEXT_EXAMPLE,
    "transformer192_pytext_16",
    "gpt_h64_m256_nh2_nl2_pytext_32",
    "mlp32_breast_30",
    "mlp32_diabetes_10",
    "mlp32_noisy_20",
    VIDEO_EXAMPLE,
)
"""Tasks that need no files, one at least for each family."""

NAMED = (
    *EMBEDDED,
    *(
        f"mlp{widths}_{data}_{size}"
        for data in ("fmnist", "c10", "imagenet")
        for widths in _WIDTHS
        for size in (8, 32)
    ),
    *(f"small_conv_{data}_8" for data in ("fmnist", "c10", "imagenet")),
    *(f"conv_{data}_32" for data in ("fmnist", "c10")),
    "mlp128x128x128_c100_32",
    *(f"{model}_imagenet_{size}" for model, sizes in _LARGE.items() for size in sizes),
)
"""The names that are listed, besides ALIASES and MIXES; any other combination works as well."""


def parameter_count(name: str, options: DataOptions | None = None) -> int:
    """The number of a task's parameters; loads no data and computes nothing."""
    model, about = make_model(name, options)
    example = jnp.zeros((1, *about.shape), jnp.int32 if about.kind == "text" else jnp.float32)
    variables = jax.eval_shape(lambda key: model.init(key, example, train=False), jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def list_tasks(options: DataOptions | None = None) -> str:
    """A table of the named tasks: parameters, where the data comes from, what an alias or a mix stands for.

    After it what other names are made of, and the objectives with the kinds of data that they read.
    """
    rows = [("task", "parameters", "data")]
    for name in (*NAMED, *ALIASES):
        alias = f"; is {ALIASES[name]}" if name in ALIASES else ""
        rows.append(
            (name, f"{parameter_count(name, options):,}", make_model(name, options)[1].source + alias)
        )
    rows += [(name, "", f"{len(mix)} tasks: {', '.join(mix)}") for name, mix in MIXES.items()]
    wide, narrow = (max(len(row[column]) for row in rows) for column in (0, 1))
    objectives = (f"{name} ({', '.join(get_objective(name).kinds)})" for name in OBJECTIVES)
    table = [f"{name:{wide}}  {count:>{narrow}}  {data}" for name, count, data in rows]
    return "\n".join(
        [
            *table,
            "",
            f"Any other {{model}}_{{dataset}}_{{size}} is a task as well. Models: {', '.join(MODEL_NAMES)}. "
            f"Data sets: {', '.join(DATASETS)}.",
            f"Objectives (--objective) and the kinds of data that they read: {', '.join(objectives)}.",
        ]
    )
