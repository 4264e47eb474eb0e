"""The outer step of meta-training: seconds, rounds/s, share of the matrix-product peak, compile time, memory."""

import math
import tempfile
import time
from typing import Any

from benchmarks.timing import interleaved, matrix_peak, paired_ratio, row

WORKLOADS = {
    "a": {"task": "mlp128x128_glyphs_28", "num_local_steps": 4, "local_batch_size": 128},
    "b": {"task": "mlp32_digits_8", "num_local_steps": 4, "local_batch_size": 32},
    "c": {"task": "mlp32_digits_8", "num_local_steps": 16, "local_batch_size": 32},
    "b_h64": {"task": "mlp32_digits_8", "num_local_steps": 64, "local_batch_size": 32},
}
REFERENCE_S = {"a": 115.0, "b": 1.66, "c": 2.71}
"""The published reference's seconds a step on one core of a 2-core machine (jax 0.4.13)."""


def flops(config: Any, task: Any) -> float:
    """Of the matrix products of one step: local training (6 a weight and example, 4 in the first layer, whose inputs
    need no gradient) and the aggregator's network for every parameter, with the inputs that the fast path keeps."""
    import jax

    params = jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))[0])
    matrices = [p.size for p in params if p.ndim > 1]
    total = sum(p.size for p in params)
    rounds = 2 * config.num_tasks * config.truncation_length
    examples = config.num_grads * config.num_local_steps * config.local_batch_size
    inputs, hidden = 15 + config.num_grads, config.hidden_size
    network = 2 * (inputs * hidden + hidden * hidden + 2 * hidden)
    return rounds * ((6.0 * sum(matrices) - 2.0 * matrices[0]) * examples + network * total)


def measure(name: str, settings: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """One row for one device and one for two, interleaved where both fit; jax must not have started yet."""
    from learned_aggregation.devices.parallel import use_compilation_cache, use_devices

    use_devices(None)
    with (
        tempfile.TemporaryDirectory() as cache
    ):  # an empty one, so that what is compiled is cold the first time
        use_compilation_cache(cache)
        return _measure(name, settings, repeats)


def _measure(name: str, settings: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    import jax

    from learned_aggregation import build
    from learned_aggregation.config.resolve import Config

    task = build.load_task(Config(**settings), settings["task"]).task
    counts = [n for n in (1, 2) if n <= len(jax.devices()) and _fits(Config(**settings), n)]
    runs, facts = {}, {}
    for devices in counts:
        config = Config(**settings, num_devices=devices)
        start = time.perf_counter()
        training = build.meta_training(config)
        jax.block_until_ready(training.state)
        set_up = time.perf_counter() - start
        compiled, compile_s, compile_cached_s = _compile_twice(training)
        facts[devices] = {
            "compile_s": compile_s,
            "compile_cached_s": compile_cached_s,
            "set_up_s": set_up,
            "temporaries_mb": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        }
        runs[str(devices)] = Stepper(compiled, training)
    peak = matrix_peak()
    seconds = interleaved(runs, repeats)
    work = flops(Config(**settings), task)
    rows = []
    for devices in counts:
        own = seconds[str(devices)]
        rounds = runs[str(devices)].rounds
        found = row(f"outer_step/{name}", own, devices=devices, **facts[devices])
        found["rounds_per_s"] = rounds / found["median_s"]
        found["share_of_peak"] = work / found["median_s"] / (devices * peak)
        found["peak_gflops"] = peak / 1e9
        if name in REFERENCE_S:
            found["reference_s"] = REFERENCE_S[name]
        if devices > 1:
            found["speed_up_over_1_device"] = paired_ratio(seconds["1"], own)
        rows.append(found)
    return rows


def _fits(config: Any, devices: int) -> bool:
    """Whether so many devices divide the problems, or what is left of them the clients."""
    return config.num_grads % (devices // math.gcd(config.num_tasks, devices)) == 0


def _compile_twice(training: Any) -> tuple[Any, float, float]:
    """The compiled outer step, seconds for it without the persistent cache and with it, tracing included."""
    import jax

    seconds, compiled = [], None
    for _ in range(2):
        jax.clear_caches()
        start = time.perf_counter()
        compiled = training.outer_step.lower(training.state, training.datas).compile()
        seconds.append(time.perf_counter() - start)
    return compiled, *seconds


class Stepper:
    """Calls the compiled step on its own last state."""

    def __init__(self, compiled: Any, training: Any):
        self._compiled, self._state, self._datas = compiled, training.state, training.datas
        self.rounds = training.rounds_per_step

    def __call__(self) -> None:
        import jax

        self._state, metrics = self._compiled(self._state, self._datas)
        jax.block_until_ready((self._state, metrics))
