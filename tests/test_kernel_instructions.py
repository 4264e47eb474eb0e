"""The CPU kernels compiled for processors with fewer instructions than this one: what their users run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")

PROGRAM = """
import sys
import pytest
from benchmarks import peak
from learned_aggregation.kernels import compiled

peak.take_instructions(sys.argv[1])
assert f"-march={sys.argv[1]}" in compiled.FLAGS
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "agrees or convolution", *sys.argv[2:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("march", ["x86-64-v3", "x86-64"])
def test_all_kernels_agree_with_their_oracles(march):
    """AVX2 with 16 registers of 8; SSE with vectors of 4."""
    files = [f"tests/test_{what}.py" for what in ("kernel", "mlp_kernel", "set_kernel", "convolution")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, march, *files], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout
