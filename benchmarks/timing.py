"""Interleaved timing of things that are compared: the machine's drift then hits all of them alike."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def interleaved(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run, `repeats` times in turn, after one call of each that is not counted.

    Args:
      runs: name -> a call that returns when its work is done.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def row(name: str, seconds: list[float], **more: Any) -> dict[str, Any]:
    """One entry of results.json."""
    return {
        "name": name,
        "median_s": float(np.median(seconds)),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "repeats": len(seconds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **more,
    }


def paired_ratio(slow: list[float], fast: list[float]) -> float:
    """The median over repetitions of slow / fast."""
    return float(np.median(np.array(slow) / np.array(fast)))


def matrix_peak() -> float:
    """FLOP/s of one float32 product of 1024 x 1024 matrices on ONE core: what it can do just now.

    In a process of its own that may use one core only: XLA's CPU backend shares a large product among the threads of
    all cores, however many devices there are.
    """
    code = "from benchmarks.timing import _matrix_peak; print(_matrix_peak())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _matrix_peak() -> float:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax
    import jax.numpy as jnp

    size = 1024
    x = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    seconds = interleaved({"peak": lambda: jax.block_until_ready(product(x))}, 15)["peak"]
    return 2 * size**3 / min(seconds)
