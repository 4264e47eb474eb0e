"""The optional kernels: on a CPU, through jax.ffi, learned aggregators' updates, an MLP's local training and
convolutions; on a GPU the aggregators' networks, in Pallas (`pallas_step`, `pallas_set`).

`python -m learned_aggregation.kernels` (which `make venv` runs) compiles the CPU's into the user's cache directory;
without a kernel the same mathematics runs as XLA's own program: see `learned.fast`, `local_training`.
"""

import ctypes
import functools
from pathlib import Path

import jax

from learned_aggregation.kernels.compiled import library_path

TARGET = "learned_aggregation_adafac_step"
MLP_TARGET = "learned_aggregation_mlp_sgd"
MLP_BACK_TARGET = "learned_aggregation_mlp_sgd_back"
SET_STATISTICS_TARGET = "learned_aggregation_set_statistics"
SET_SQUARES_TARGET = "learned_aggregation_set_squares"
SET_STEP_TARGET = "learned_aggregation_set_step"
CONVOLUTION_TARGETS = tuple(
    f"learned_aggregation_convolution_{what}" for what in ("output", "images", "kernel")
)
SYMBOLS = {
    TARGET: "AdafacStep",
    MLP_TARGET: "MlpSgd",
    MLP_BACK_TARGET: "MlpSgdBack",
    SET_STATISTICS_TARGET: "SetStatistics",
    SET_SQUARES_TARGET: "SetSquares",
    SET_STEP_TARGET: "SetStep",
    **dict(zip(CONVOLUTION_TARGETS, ("Convolution", "ConvolutionImages", "ConvolutionKernel"), strict=True)),
}
"""What jax.ffi calls them -> their symbols in the library."""


@functools.cache
def available() -> bool:
    """Whether the kernels are there for this machine's CPU; registers them at the first call."""
    path = library_path()
    if jax.default_backend() != "cpu" or path is None or not path.is_file():
        return False
    return _register(path)


def _register(path: Path) -> bool:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:  # damaged, or of another system: the other way is always open
        return False
    for target, symbol in SYMBOLS.items():
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    return True
