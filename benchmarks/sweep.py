"""The 44-point SlowMo sweep of 500 rounds on digits: one program."""

import itertools
import time
from typing import Any

import numpy as np

from benchmarks.timing import interleaved, row

LOCAL = (1.0, 0.5, 0.3, 0.1)
SLOW = (1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00005, 0.00001)
ROUNDS = 500


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    from learned_aggregation.devices.parallel import use_devices

    use_devices(None)
    import jax

    from learned_aggregation import build
    from learned_aggregation.config.resolve import Config
    from learned_aggregation.devices.parallel import job_mesh, jobs_at_once
    from learned_aggregation.meta_testing.program import Budget, Program

    config = Config(
        run_type="benchmark",
        optimizer="fedavg-slowmo",
        task="mlp32_digits_8",
        local_batch_size=32,
        slowmo_learning_rate=0.1,
    )
    setting, shared = build.meta_test(
        config, build.load_task(config, "mlp32_digits_8"), (), ("outer_valid", "test")
    )
    points = np.array(list(itertools.product(LOCAL, SLOW)))
    rates = {
        "local_learning_rate": points[:, 0],
        "slowmo_learning_rate": points[:, 1],
        "beta": np.full(len(points), 0.9),
    }
    mesh = job_mesh(len(jax.devices()))
    program = Program(setting, Budget(ROUNDS, ROUNDS // 50, jobs_at_once(None)), mesh)
    seeds = np.zeros(len(points), int)
    start = time.perf_counter()
    program.run(shared, rates, seeds)
    first = time.perf_counter() - start
    seconds = interleaved({"sweep": lambda: program.run(shared, rates, seeds)}, repeats)["sweep"]
    found = row(name, seconds, devices=mesh.size, first_s=first)
    found["rounds_per_s"] = len(points) * ROUNDS / found["median_s"]
    return [found]
