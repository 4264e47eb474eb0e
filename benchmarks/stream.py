"""Meta-training on a stream against the same data on the device: the loop's outer steps, interleaved in one process."""

from collections import deque
from statistics import median
from typing import Any

from benchmarks.timing import interleaved, paired_ratio, row

SHORT = {"num_tasks": 2, "truncation_length": 10, "num_local_steps": 4}
WORKLOADS = {
    "digits": {"task": "mlp32_digits_8", "local_batch_size": 32, "stream_window": 500, "stream_fresh": 250},
    "glyphs": {"task": "mlp128x128_glyphs_28", "local_batch_size": 128, **SHORT},
    "glyphs_augmented": {
        "task": "mlp128x128_glyphs_28",
        "local_batch_size": 128,
        "augment": ("crop", "flip"),
        **SHORT,
    },
}
"""digits is outer_step/b. Those of glyphs have short outer steps: 20 rounds of 4096 examples for 1024 that are read."""
STEPS = 3
"""Outer steps of a repetition. `read_s` tells how little a reader gains by being two windows ahead when it begins."""


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """Two rows, resident and streamed. `speed_over_resident` is paired; `read_s` is one window's, on one thread."""
    from learned_aggregation.devices.parallel import everywhere, job_mesh, use_devices

    use_devices(None)
    from contextlib import ExitStack

    from learned_aggregation import build
    from learned_aggregation.config.resolve import Config
    from learned_aggregation.data.streaming import windows_of_all

    settings = WORKLOADS[name.partition("/")[2]]
    kept = {key: value for key, value in settings.items() if key != "augment"}
    configs = {"resident": Config(**kept, stream=False), "streamed": Config(**settings, stream=True)}
    mesh = job_mesh(configs["resident"].num_tasks)
    runs = {}
    with ExitStack() as stack:
        for arm, config in configs.items():
            training = build.meta_training(config)
            windows = stack.enter_context(windows_of_all(training.datas, everywhere(mesh)))
            runs[arm] = _Loop(training, windows)
        seconds = interleaved(runs, repeats)
    facts = {"devices": mesh.size, "outer_steps": STEPS}
    rows = [row(f"{name}/{arm}", seconds[arm], **facts) for arm in configs]
    stream: Any = runs["streamed"].datas[0]["train"]
    rows[1]["read_s"] = median(interleaved({"": lambda: stream.new(1)}, 5)[""])
    rows[1]["speed_over_resident"] = paired_ratio(seconds["resident"], seconds["streamed"])
    return rows


class _Loop:
    """STEPS outer steps in flight as in meta_train, each on its next window."""

    def __init__(self, training: Any, windows: Any):
        self._step, self._state, self._windows = training.outer_step, training.state, windows
        self.datas = training.datas

    def __call__(self) -> None:
        import jax

        from learned_aggregation.meta_training.loop import LAG

        in_flight = deque()
        for _ in range(STEPS):
            window = next(self._windows)
            self._state, metrics = self._step(self._state, window)
            in_flight.append(metrics)
            if len(in_flight) > LAG:
                jax.block_until_ready(in_flight.popleft())
        jax.block_until_ready((self._state, in_flight))
