"""What every test file has in common."""

import gc
from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_programs_of_other_files() -> Iterator[None]:
    """Compiled programs are dropped after each file: kept, they take a worker's memory to several GB."""
    yield
    jax.clear_caches()
    gc.collect()
