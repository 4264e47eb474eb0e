"""The optional CPU kernel of the learned aggregators, called through jax.ffi.

`python -m learned_aggregation.kernels` (which `make venv` runs) compiles it into the user's cache directory; without
it, and anywhere but on a CPU, the same mathematics runs as XLA's own program: see `learned.fast`.
"""

import ctypes
import functools
from pathlib import Path

import jax

from learned_aggregation.kernels.compiled import library_path

TARGET = "learned_aggregation_adafac_step"


@functools.cache
def available() -> bool:
    """Whether the kernel is there for this machine's CPU; registers it at the first call."""
    path = library_path()
    if jax.default_backend() != "cpu" or path is None or not path.is_file():
        return False
    return _register(path)


def _register(path: Path) -> bool:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:  # damaged, or of another system: the other way is always open
        return False
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(library.AdafacStep), platform="cpu")
    return True
