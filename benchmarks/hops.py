"""The functions of the package between the outer step and a client's gradient, of whichever checkout is imported.

    PYTHONPATH=src python -P benchmarks/hops.py

Traces one outer step of a tiny problem and keeps the calls that lead to the model inside a gradient. Counted are the
named functions of the package after `outer_step`, up to the one that takes the gradient. Not counted are lambdas,
which stand in another function's line, and the maps over devices and clients in parallel.py; both are printed.
Run by its path, so that it can look at a checkout that is older than it.
"""

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COUNTED = "named functions of the package, without lambdas and the maps of parallel.py"
# A model that no kernel trains in XLA's place: the task's own loss is differentiated.
SETTINGS = {
    "task": "conv_digits_8",
    "optimizer": "fedlagg",
    "hidden_size": 4,
    "num_grads": 2,
    "num_local_steps": 2,
    "local_batch_size": 4,
    "num_tasks": 2,
    "num_inner_steps": 20,
    "truncation_length": 5,
    "truncation_schedule_min_length": 5,
    "num_devices": 1,
}
BEFORE = 11
"""Hops of commit 92bf4a2, counted in the same way."""
GRADIENTS = ("value_and_grad_f", "vjp")
"""The functions of JAX, in its api.py, that differentiate in reverse."""


def hops(stack: Sequence[traceback.FrameSummary], package: Path) -> list[tuple[str, bool]]:
    """(file:function, is it counted) of the package's frames after `outer_step` and before the last gradient.

    Raises:
      ValueError: the stack has no outer step, or no gradient in it.
    """
    names = [frame.name for frame in stack]
    first = names.index("outer_step")
    takers = [
        i for i, frame in enumerate(stack) if frame.name in GRADIENTS and frame.filename.endswith("api.py")
    ]
    if not takers or takers[-1] < first:
        raise ValueError("no gradient")
    found = []
    for frame in stack[first + 1 : takers[-1]]:
        path = Path(frame.filename)
        if path.is_relative_to(package):
            counted = frame.name != "<lambda>" and path.name != "parallel.py"
            found.append((f"{path.relative_to(package)}:{frame.name}", counted))
    return found


def stacks_of_a_step() -> list[traceback.StackSummary]:
    """Where the model is called from while one outer step is traced."""
    import jax
    from flax import linen as nn

    from learned_aggregation import build, cli

    if not hasattr(cli, "read_command_line"):  # it is there in a later checkout
        import learned_aggregation.config as cli
    config = cli.read_command_line([f"--{name}={value}" for name, value in SETTINGS.items()]).config
    training = build.meta_training(config)
    stacks: list[traceback.StackSummary] = []
    apply = nn.Module.apply

    def recorded(*args, **kwargs):
        stacks.append(traceback.extract_stack())
        return apply(*args, **kwargs)

    nn.Module.apply = recorded
    try:
        jax.eval_shape(training.outer_step, training.state, training.datas)
    finally:
        nn.Module.apply = apply
    return stacks


def measure() -> dict[str, Any]:
    """hops: of the way with most of them. frames: its functions, each with whether it is counted."""
    import learned_aggregation

    package, found = Path(learned_aggregation.__file__).parent, []
    for stack in stacks_of_a_step():
        try:
            found.append(hops(stack, package))
        except ValueError:  # an evaluation
            continue
    if not found:
        raise SystemExit("hops: expected a gradient in the outer step, got none. Look at SETTINGS.")
    longest = max(found, key=lambda frames: sum(counted for _, counted in frames))
    count = sum(counted for _, counted in longest)
    return {"hops": count, "counted": COUNTED, "frames": longest}


if __name__ == "__main__":
    print(json.dumps(measure()))
