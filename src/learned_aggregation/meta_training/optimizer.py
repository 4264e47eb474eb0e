"""The meta-optimizer: AdamW with warm-up and cosine decay on theta."""

from typing import NamedTuple

import optax


class Schedule(NamedTuple):
    """Linear warm-up from init_value to peak_value, then cosine decay to end_value.

    decay_steps includes the warm-up; `clip` bounds the meta-gradient's global norm (None: no bound).
    """

    init_value: float
    peak_value: float
    end_value: float
    warmup_steps: int
    decay_steps: int
    exponent: float = 1.0
    clip: float | None = None


def learning_rate_schedule(schedule: Schedule) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(
        schedule.init_value,
        schedule.peak_value,
        schedule.warmup_steps,
        schedule.decay_steps,
        schedule.end_value,
        schedule.exponent,
    )


def meta_optimizer(schedule: Schedule) -> optax.GradientTransformation:
    """AdamW (optax defaults: b1 .9, b2 .999, eps 1e-8, weight decay 1e-4) after an optional global-norm clip.

    Source: Joseph et al., 2025, arXiv:2312.02204; Loshchilov & Hutter, 2019, arXiv:1711.05101.
    """
    adamw = optax.adamw(learning_rate_schedule(schedule))
    return adamw if schedule.clip is None else optax.chain(optax.clip_by_global_norm(schedule.clip), adamw)
