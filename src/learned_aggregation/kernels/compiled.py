"""Where the compiled kernels lie, and how they are compiled. The name carries all that they depend on."""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from learned_aggregation.data.cache import cache_dir
from learned_aggregation.errors import UserError

HERE = Path(__file__).parent
SOURCES = tuple(
    HERE / f"{name}.cc"
    for name in ("aggregator", "mlp_sgd", "mlp_sgd_back", "set_statistics", "set_step", "convolution")
)
READ = (*SOURCES, *sorted(HERE.glob("*.h")))
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=fast", "-fno-math-errno")


def library_path() -> Path | None:
    """The kernels for these sources, jaxlib, processor and interpreter; None where it cannot be told."""
    try:
        sources = [path.read_text(encoding="utf-8") for path in READ]
        parts = (*sources, version("jaxlib"), " ".join(FLAGS), platform.machine(), _processor())
    except OSError:
        return None
    return cache_dir() / "kernels" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.so"


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def build() -> Path:
    """Compiles the kernels, unless they are there already.

    Raises:
      UserError: no compiler, or it fails.
    """
    import jax

    path, compiler = library_path(), shutil.which(os.environ.get("CXX", "g++"))
    if path is None or compiler is None:
        raise UserError(
            "kernel: expected a C++ compiler, got none. Install g++, or go on without the kernel."
        )
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        shared = [
            "-std=c++17",
            "-fPIC",
            "-shared",
            f"-I{jax.ffi.include_dir()}",
            *map(str, SOURCES),
            "-o",
            str(made),
        ]
        result = subprocess.run(
            [compiler, *FLAGS, "-w", *shared], capture_output=True, text=True, check=False
        )
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["it said nothing"])[0]
            raise UserError(
                f"kernel: expected {compiler} to compile {HERE.name}/*.cc, got {reason!r}. Go on without the kernel, "
                "or set CXX to another compiler."
            )
        made.replace(path)
    return path
