"""How large the outer step's program is for few and for many local steps: `python -m benchmarks.program_size`.

Lines of the lowered program (StableHLO) of workload b at H 4, 16 and 64: with local SGD, which a kernel does where
there is one, and with local AdamW, which XLA's program does. Prints them, then JSON. Nothing is compiled or run.
"""

import json
import sys
from typing import Any

from benchmarks.outer_step import WORKLOADS

LOCAL_STEPS = (4, 16, 64)
VARIANTS: dict[str, dict[str, Any]] = {"sgd": {}, "adamw": {"local_optimizer": "adamw"}}


def lines_of(settings: dict[str, Any]) -> int:
    """Lines of the outer step's program on one device."""
    from learned_aggregation import build
    from learned_aggregation.config.resolve import Config

    training = build.meta_training(Config(**settings, num_devices=1))
    return len(training.outer_step.lower(training.state, training.datas).as_text().splitlines())


def measure(settings: dict[str, Any]) -> dict[str, dict[str, int]]:
    """variant -> H -> lines; the numbers of local steps are texts, as in JSON."""
    found: dict[str, dict[str, int]] = {}
    for variant, more in VARIANTS.items():
        for steps in LOCAL_STEPS:
            lines = lines_of(settings | more | {"num_local_steps": steps})
            found.setdefault(variant, {})[str(steps)] = lines
            print(f"{variant}, H {steps}: {lines} lines", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(WORKLOADS["b"])))
