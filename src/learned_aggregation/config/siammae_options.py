"""The setting `siammae`: its keys and their checks."""

from typing import Any

from learned_aggregation.config.kinds import (
    Kind,
    choice,
    mapping,
    names,
    non_negative,
    optional,
    path,
    positive,
    refuse,
    switch,
    unknown,
    whole,
)
from learned_aggregation.ssl.siamese_options import FEATURES, SiammaeOptions

EXAMPLE = "dict(epochs=50, davis='DAVIS')"


def _check_feature(where: str, value: Any) -> str:
    return choice(lambda: FEATURES).check(where, value)


SIAMMAE: dict[str, Kind] = {
    "epochs": whole(0, 50),
    "warmup_epochs": whole(0, 2),
    "batch": whole(1, 16),
    "accumulate": whole(1, 1),
    "learning_rate": positive(1e-3),
    "per_256": switch(),
    "min_rate": non_negative(0.0),
    "decay": non_negative(0.05),
    "save_every": whole(1, 250),
    "davis": optional(path("DAVIS")),
    "year": choice(lambda: ("2016", "2017")),
    "part": choice(lambda: ("train", "val", "trainval")),
    "sequences": whole(1, 20),
    "side": optional(whole(8, 480)),
    "features": names(_check_feature, what="features", such_as="raw,trained"),
    "layer": optional(whole(1, 12)),
    "stride": optional(whole(1, 4)),
    "top_k": whole(1, 7),
    "radius": positive(6.0),
    "temperature": positive(0.05),
    "queue": whole(0, 5),
    "centred": switch(),
}
"""The keys of `siammae`."""


def check_siammae(where: str, value: Any) -> dict[str, Any]:
    """All options: those in `value`, checked, and the defaults of the others; {} stays {}, which is no such run.

    Raises:
      UserError: an unknown key, a value out of its range, options that do not fit each other.
    """
    changes = mapping(where, value, EXAMPLE)
    if not changes:
        return {}
    for key in changes:
        if key not in SIAMMAE:
            unknown(where, key, tuple(SIAMMAE))
    defaults = SiammaeOptions()._asdict()
    checked = {k: kind.check(f"{where}.{k}", changes.get(k, defaults[k])) for k, kind in SIAMMAE.items()}
    if checked["batch"] % checked["accumulate"]:
        refuse(
            f"{where}.accumulate",
            f"parts that divide the batch of {checked['batch']}",
            checked["accumulate"],
            "Change one.",
        )
    if checked["warmup_epochs"] > checked["epochs"]:
        refuse(f"{where}.warmup_epochs", "at most epochs", checked["warmup_epochs"], "Lower it.")
    return checked
