"""Without flwr, the import tells what to install."""

import importlib
import sys

import pytest


def test_the_import_tells_what_to_install(monkeypatch):
    name = "learned_aggregation.integrations.flower"
    for module in [each for each in sys.modules if each.startswith(name)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(ImportError, match=r"flower: expected flwr .*Install learned-aggregation\[flower\]"):
        importlib.import_module(name)
