"""The example scripts, as a user runs them."""

import re
import runpy
from pathlib import Path

import pytest
from helpers import fresh_pretrained

from learned_aggregation import load_aggregator
from learned_aggregation.pretrained.names import pretrained_names

EXAMPLES = Path(__file__).parent.parent / "examples"


def accuracy_of(monkeypatch, capsys, name: str, *arguments: str) -> float:
    """What examples/drop_in.py prints."""
    monkeypatch.setattr("sys.argv", ["drop_in.py", *arguments])
    runpy.run_path(str(EXAMPLES / "drop_in.py"))
    told = re.fullmatch(rf"{name}: test accuracy (\d\.\d{{3}}) after 50 rounds\n", capsys.readouterr().out)
    assert told
    return float(told[1])


@pytest.mark.parametrize("by_path", [False, True])
def test_the_drop_in_trains_on_digits(by_path, monkeypatch, tmp_path, capsys):
    """An untrained aggregator, which is its base rule and a little, by its default name and by path."""
    directory = fresh_pretrained(monkeypatch, tmp_path, "lagg-set")
    arguments = [str(directory)] if by_path else []
    assert accuracy_of(monkeypatch, capsys, "lagg-set", *arguments) > 0.8


@pytest.mark.parametrize("name", pretrained_names())
def test_the_repositorys_own_train_on_digits(name, monkeypatch, capsys):
    if load_aggregator(name).clients in (None, 8):
        assert accuracy_of(monkeypatch, capsys, name, name) > 0.85


def test_split_learning_in_two_stages(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["split_learning.py", "3"])
    runpy.run_path(str(EXAMPLES / "split_learning.py"))
    told = re.search(r"error (\S+) to (\S+)\ntest accuracy (\S+) after 3 rounds", capsys.readouterr().out)
    assert told
    assert float(told[2]) < float(told[1])
    assert 0 <= float(told[3]) <= 1
