"""The setting `split`: its keys, their checks, and its cases."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from learned_aggregation.config.kinds import (
    Kind,
    choice,
    fraction,
    mapping,
    non_negative,
    number,
    optional,
    options,
    path,
    positive,
    refuse,
    switch,
    whole,
)
from learned_aggregation.config.part_options import check_compressor, check_server_compressor
from learned_aggregation.split.options import (
    AGGREGATED,
    CENTRAL,
    DISTRIBUTED,
    OWN,
    VAL_MODES,
    SplitOptions,
)

EXAMPLE = "dict(split_layer=2, bottleneck='mlp1', latent_dim=8)"


def bottlenecks() -> Iterable[str]:
    from learned_aggregation.split.bottlenecks import BOTTLENECKS

    return BOTTLENECKS


def _check_dataset(where: str, value: Any) -> str:
    """Whether there is such a set is a cross check: it may be one of the setting `datasets`."""
    if not isinstance(value, str) or not value:
        refuse(where, "the name of a data set", value, "Name one, such as 'digits'.")
    return value


def _compressor() -> Kind:
    return Kind(check_server_compressor, "NAME", literal=False)


DATASET = optional(Kind(_check_dataset, "NAME", literal=False))
SPLIT: dict[str, Kind] = {
    "split_layer": whole(1, 1),
    "bottleneck": choice(bottlenecks),
    "latent_dim": whole(1, 8),
    "class_token": choice(lambda: ("whole", "quantised", "through")),
    "latent_compressor": _compressor(),
    "gradient_compressor": _compressor(),
    "labels_at": choice(lambda: ("server", "client")),
    "server_learning_rate": optional(positive(0.1)),
    "base_path": optional(path("base.safetensors")),
    "base_steps": whole(0, 500),
    "base_dataset": DATASET,
    "base_learning_rate": positive(1e-3),
    "base_batch_size": whole(1, 64),
    "ae_pretrain": switch(),
    "ae_frozen": switch(),
    "ae_dataset": DATASET,
    "ae_proportion": number("a number above 0 and at most 1", lambda x: 0 < x <= 1, 1.0),
    "ae_training": choice(lambda: (CENTRAL, DISTRIBUTED)),
    "decoders": choice(lambda: (AGGREGATED, OWN)),
    "decoder_aggregator": choice(lambda: ("fedavg", "same")),
    "ae_epochs": whole(1, 20),
    "ae_batch_size": whole(1, 64),
    "ae_learning_rate": positive(1e-3),
    "ae_learning_rate_end": non_negative(1e-4),
    "val_mode": choice(lambda: VAL_MODES),
    "val_split": fraction(0.1),
    "patience": whole(1, 5),
    "ae_path": optional(path("checkpoints/ae/NAME")),
    "ae_dir": optional(path("checkpoints/ae")),
    "ae_force_retrain": switch(),
}
"""The keys of `split` besides `cases`."""

CheckSetting = Callable[[str, str, Any], Any]


def check_split(where: str, value: Any, check_setting: CheckSetting) -> dict[str, Any]:
    """All options: those in `value`, checked, and the defaults of the others; {} stays {}, which is no split run.

    Raises:
      UserError: an unknown key, a value out of its range, options that do not fit each other, cases without labels.
    """
    checked = options(where, value, SPLIT, SplitOptions()._asdict(), EXAMPLE, besides=("cases",))
    if not checked:
        return {}
    _check_together(where, checked)
    cases = _check_cases(f"{where}.cases", value.get("cases", ()), check_setting)
    for index, case in enumerate(cases):
        changes = {name: of_case for name, of_case in case.items() if name in SPLIT}
        _check_together(f"{where}.cases[{index}]", checked | changes)
    return {**checked, "cases": cases}


def _check_together(where: str, options: Mapping[str, Any]) -> None:
    if options["bottleneck"] == "conv" and options["class_token"] == "through":
        refuse(
            f"{where}.class_token",
            "'whole' or 'quantised' with the bottleneck conv, which needs a grid of patches",
            "through",
            "Change one of them.",
        )
    if options["ae_learning_rate_end"] > options["ae_learning_rate"]:
        refuse(
            f"{where}.ae_learning_rate_end",
            f"at most ae_learning_rate, {options['ae_learning_rate']:g}",
            options["ae_learning_rate_end"],
            "Lower it.",
        )
    for name in ("latent_compressor", "gradient_compressor"):
        if "error_feedback" in options[name]:
            refuse(f"{where}.{name}", "a compressor without memory", "error_feedback", "Leave it out.")
        if options[name]["type"] != "none" or len(options[name]) > 1:
            rest = {key: value for key, value in options[name].items() if key != "type"}
            check_compressor(f"{where}.{name}", options[name]["type"], rest)
    if options["ae_path"] is not None and options["ae_training"] == DISTRIBUTED:
        refuse(
            f"{where}.ae_path",
            "None with ae_training 'distributed', whose clients have one autoencoder each",
            options["ae_path"],
            "Leave it out: trained ones are found in ae_dir.",
        )


def _check_cases(where: str, value: Any, check_setting: CheckSetting) -> list[dict[str, Any]]:
    """A label, and options of `split` or settings of the rule and the inner problem; labels are different."""
    such_as = "[dict(label='z = 4', latent_dim=4)]"
    if not isinstance(value, (list, tuple)):
        refuse(where, "a list of dicts", value, f"Write it as {such_as}.")
    checked, labels = [], []
    for index, entry in enumerate(value):
        place = f"{where}[{index}]"
        case = mapping(place, entry, such_as)
        label = case.get("label")
        if not isinstance(label, str) or not label or not label.isprintable() or len(label) > 100:
            refuse(f"{place}.label", "a text of at most 100 characters", label, "Give the case a label.")
        if label in labels:
            refuse(f"{place}.label", "a label that no other case has", label, "Change one of them.")
        labels.append(label)
        found: dict[str, Any] = {"label": label}
        for name, given in case.items():
            if name in SPLIT:
                found[name] = SPLIT[name].check(f"{place}.{name}", given)
            elif name != "label":
                found[name] = check_setting(f"{place}.{name}", name, given)
        checked.append(found)
    return checked
