"""The setting `feda2v`: its keys and their checks."""

from collections.abc import Iterable, Mapping
from typing import Any

from learned_aggregation.config.kinds import (
    Kind,
    choice,
    file_name,
    non_negative,
    optional,
    options,
    path,
    positive,
    refuse,
    switch,
    whole,
)
from learned_aggregation.generators.options import DIVISIONS, STORES, FedA2VOptions

EXAMPLE = "dict(generator_training_mode=True, store='digits')"


def generator_types() -> Iterable[str]:
    from learned_aggregation.generators import GENERATORS

    return GENERATORS


FEDA2V: dict[str, Kind] = {
    "use_generator": switch(),
    "generator_type": choice(generator_types),
    "generator_training_mode": switch(),
    "use_pretrained_generators": switch(),
    "generator_checkpoint_dir": path("checkpoints/generators"),
    "generator_training_epochs": whole(1, 10),
    "generator_augmentation": switch(),
    "generator_augmentation_noise": positive(0.1),
    "generator_hidden_dim": whole(1, 1024),
    "generator_latent_dim": whole(1, 256),
    "generator_learning_rate": positive(1e-3),
    "generator_beta": non_negative(1.0),
    "diffusion_type": file_name("flux"),
    "synthetic_samples_per_class": whole(1, 10, 10_000_000),
    "global_model_train": switch(),
    "global_model_train_epochs": whole(1, 5),
    "global_model_train_learning_rate": positive(1e-3),
    "global_model_train_from_nodes_adapters": switch(),
    "optimize_memory_usage": switch(),
    "store": choice(lambda: STORES),
    "store_path": optional(path("embeddings.npz")),
    "client_classes": choice(lambda: DIVISIONS),
    "adapter_hidden_dim": whole(1, 256),
    "leaving_client": optional(whole(0, 0)),
    "leaves_after_round": whole(0, 2),
    "compare_without_samples": switch(),
}
"""The keys of `feda2v`."""


def check_feda2v(where: str, value: Any) -> dict[str, Any]:
    """All options: those in `value`, checked, and the defaults of the others; {} stays {}, which is no such run.

    Raises:
      UserError: an unknown key, a value out of its range, options that do not fit each other.
    """
    checked = options(where, value, FEDA2V, FedA2VOptions()._asdict(), EXAMPLE)
    if checked:
        _check_together(where, checked)
    return checked


def _check_together(where: str, found: Mapping[str, Any]) -> None:
    if found["store"] in ("esc50", "npz") and found["store_path"] is None:
        what = "the folder of ESC-50" if found["store"] == "esc50" else "the path of an .npz"
        refuse(f"{where}.store_path", f"{what} with store {found['store']!r}", None, "Give store_path.")
    if found["store"] in ("digits", "fsdd") and found["store_path"] is not None:
        remedy = "Leave it out, or set store to esc50 or npz."
        expected = f"None with store {found['store']!r}"
        refuse(f"{where}.store_path", expected, found["store_path"], remedy)
    for flag in ("generator_training_mode", "use_pretrained_generators"):
        if found[flag] and not found["use_generator"]:
            refuse(f"{where}.{flag}", "False without use_generator", True, "Set use_generator to true.")
