"""The names that modules had before they were sorted into wings."""

import importlib
import subprocess
import sys

import pytest

import learned_aggregation
from learned_aggregation.moved import FUNCTIONS, MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_module_itself(old):
    new = importlib.import_module(f"learned_aggregation.{MOVED[old]}")
    assert importlib.import_module(f"learned_aggregation.{old}") is new
    assert (getattr(learned_aggregation, old) is new) is (old not in FUNCTIONS)
    assert new.__spec__.name == f"learned_aggregation.{MOVED[old]}"  # as pickling and reloading see it


def test_an_old_name_imported_first():
    script = (
        "from learned_aggregation.theta_file import load_theta\n"
        "import learned_aggregation.pretrained.theta_file as new\n"
        "assert new.load_theta is load_theta and new.__name__.endswith('pretrained.theta_file')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_is_there_and_completed():
    assert dir(learned_aggregation) == sorted(learned_aggregation.__all__)
    assert all(getattr(learned_aggregation, name) is not None for name in dir(learned_aggregation))
