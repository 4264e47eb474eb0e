"""An outer step of a shipped config's mixture of inner problems: seconds, compilation, memory; on all devices.

python -m benchmarks.run mixture/lagg_set
python -m benchmarks.paired lagg_set --against REV

The config is this checkout's, so that two revisions run the same mixture. Compilation has its row too, from an empty
cache; with JAX_COMPILATION_CACHE_DIR set, programs are kept there, and the row is what reading them takes.
"""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import interleaved, row

CONFIGS = {"lagg_set": Path("config", "meta_train", "lagg_set.py")}
"""name -> config, in the repository."""

NAMES = tuple(f"mixture/{name}" for name in CONFIGS)


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """The rows of `mixture/lagg_set`, and of its compilation; jax must not have started yet."""
    import jax

    from learned_aggregation.devices.parallel import use_compilation_cache, use_devices

    use_devices(None)
    with contextlib.ExitStack() as stack:
        if jax.config.jax_compilation_cache_dir is None:
            use_compilation_cache(stack.enter_context(tempfile.TemporaryDirectory()))
        return _measure(name, repeats)


def _measure(name: str, repeats: int) -> list[dict[str, Any]]:
    import jax

    from benchmarks.outer_step import Stepper
    from learned_aggregation import build
    from learned_aggregation.config.resolve import load_config

    path = Path(__file__).parent.parent / CONFIGS[name.removeprefix("mixture/")]
    training = build.meta_training(load_config(["--config", str(path)]))
    jax.block_until_ready(training.state)
    devices = len(jax.tree.leaves(training.state.theta)[0].devices())
    start = time.perf_counter()
    compiled = training.outer_step.lower(training.state, training.datas).compile()
    compile_s = time.perf_counter() - start
    stepper = Stepper(compiled, training)  # which takes the state's arrays
    seconds = interleaved({name: stepper}, repeats)[name]
    found = row(name, seconds, devices=devices)
    found["rounds_per_s"] = stepper.rounds / found["median_s"]
    found["temporaries_mb"] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return [found, row(f"{name}, compilation", [compile_s], devices=devices)]
