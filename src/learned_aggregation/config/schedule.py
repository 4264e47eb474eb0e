"""The keys of `schedule`, the meta-learning rate's warm-up and decay: their checks and defaults."""

from typing import Any

from learned_aggregation.config.kinds import (
    Kind,
    mapping,
    non_negative,
    optional,
    positive,
    refuse,
    unknown,
    whole,
)
from learned_aggregation.config.replaced import REPLACED

SCHEDULE: dict[str, Kind] = {
    "init_value": non_negative(3e-10),
    "peak_value": positive(3e-3),
    "end_value": non_negative(1e-3),
    "warmup_steps": whole(0, such_as=100),
    "decay_steps": whole(1, such_as=4900),
    "exponent": positive(1.0),
    "clip": optional(positive(1.0)),
}
"""The keys of `schedule`."""

DEFAULT_SCHEDULE = {
    "init_value": 3e-10,
    "peak_value": 3e-3,
    "end_value": 1e-3,
    "warmup_steps": 100,
    "decay_steps": 4900,
    "exponent": 1.0,
    "clip": None,
}


def check_schedule(where: str, value: Any) -> dict[str, Any]:
    """The whole schedule: the keys in `value`, checked, and the defaults of the others.

    Raises:
      UserError: an unknown key, a value out of its range, decay_steps not above warmup_steps.
    """
    changes = mapping(where, value, "dict(peak_value=3e-3, decay_steps=4900)")
    for key in changes:
        if key not in SCHEDULE:
            unknown(where, key, SCHEDULE, REPLACED.get(key, ""))
    schedule = {
        key: SCHEDULE[key].check(f"{where}.{key}", changes.get(key, default))
        for key, default in DEFAULT_SCHEDULE.items()
    }
    if schedule["decay_steps"] <= schedule["warmup_steps"]:
        refuse(
            f"{where}.decay_steps",
            f"more than the {schedule['warmup_steps']} warmup_steps, which it includes",
            schedule["decay_steps"],
            "Raise decay_steps or lower warmup_steps.",
        )
    return schedule
