"""The setting `siammae`: its keys and their checks."""

from typing import Any

from learned_aggregation.config.kinds import (
    Kind,
    choice,
    names,
    non_negative,
    optional,
    options,
    path,
    positive,
    refuse,
    switch,
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
    checked = options(where, value, SIAMMAE, SiammaeOptions()._asdict(), EXAMPLE)
    if not checked:
        return {}
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
