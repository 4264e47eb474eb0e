"""What this core can do at this moment, by instruction set: the peak that a kernel's figure is a share of."""

import ctypes
import functools
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from learned_aggregation import kernels
from learned_aggregation.kernels import compiled

AVX2 = "x86-64-v3"
"""GCC's name for processors with AVX2 and FMA and no AVX-512."""


def take_instructions(march: str) -> None:
    """The kernels of this process are compiled for these processors; call it before the first is used."""
    assert not kernels.available.cache_info().currsize, "the kernels of another instruction set are there"
    compiled.FLAGS = tuple(
        f"-march={march}" if flag.startswith("-march=") else flag for flag in compiled.FLAGS
    )
    compiled.build()


def one_core() -> None:
    """This process and its threads stay on one core; call it before JAX makes its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@functools.cache
def _library(flags: tuple[str, ...]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as directory:
        made = str(Path(directory, "peak.so"))
        source = str(Path(__file__).with_suffix(".cc"))
        command = [
            "g++",
            *flags,
            "-std=c++17",
            "-shared",
            "-fPIC",
            "-w",
            f"-I{compiled.HERE}",
            source,
            "-o",
            made,
        ]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(made)
    library.multiply_adds.restype = ctypes.c_double
    library.multiply_adds.argtypes = [ctypes.c_int64]
    library.read_floats.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    return library


def multiply_adds(times: int = 2_000_000) -> float:
    """FLOP/s of multiply-adds that stay in registers, of about 50 ms."""
    library = _library(compiled.FLAGS)
    start = time.perf_counter()
    done = library.multiply_adds(times)
    return done / (time.perf_counter() - start)


def read(array: np.ndarray) -> None:
    """Reads a contiguous array of floats, and nothing more."""
    _library(compiled.FLAGS).read_floats(array.ctypes.data, array.size)
