"""The example scripts, as a user runs them."""

import json
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


SCRIPTS = {
    "own_data": r"FedAvg: test loss \d.*\nlagg-set: test loss .* within 0.2: ",
    "own_aggregator": r"FedAvg, tuned .*\nmedian, tuned .*rule_options.rate.* test loss ",
    "own_client_work": r"FedProx: test accuracy 0\.\d{3} after 4 rounds",
    "meta_train": r"meta-loss \d.*\nFedAvg: test loss .*\nlearned: test loss ",
    "siammae": r"siammae: step 4 of 4, loss \d\..*\ncopying: J&F 0\..*\nraw .*\nrandom: .*\ntrained: J&F 0\.\d{3}\n$",
    "loop": r"lagg-set: test loss \d\.\d{3} after 4 rounds",
}
"""Script -> what it prints."""


def test_every_script_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        *SCRIPTS,
        "drop_in",
        "split_learning",
        "masked_modelling",
        "generators",
    }


SLOW = ("meta_train", "own_aggregator")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCRIPTS]
)
def test_a_script_is_short_and_runs(name, monkeypatch, tmp_path, capsys):
    """In an empty folder, with few rounds or steps."""
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [f"{name}.py", "4"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.match(SCRIPTS[name], capsys.readouterr().out)


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch, tmp_path, capsys):
    """Its cells in order, with few steps; what it shows of the pretrained aggregator is so."""
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "learned_aggregator.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]).replace("STEPS = 100", "STEPS = 4"), names)
    assert names["result"].table["entrant"].tolist() == ["FedAvg", "SlowMo", "ours", "pretrained"]
    assert "the learned aggregator is at" in capsys.readouterr().out
    losses = dict(zip(names["result"].table["entrant"], names["result"].table["test_loss"], strict=True))
    assert losses["pretrained"] < losses["FedAvg"]


def test_a_client_leaves_and_its_generator_stays(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["generators.py", "8"])
    runpy.run_path(str(EXAMPLES / "generators.py"))
    told = re.search(r"that left: (\S+) without samples, (\S+) with them", capsys.readouterr().out)
    assert told
    assert float(told[2]) > float(told[1]) + 0.3


def test_split_learning_in_two_stages(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["split_learning.py", "3"])
    runpy.run_path(str(EXAMPLES / "split_learning.py"))
    told = re.search(r"error (\S+) to (\S+)\ntest accuracy (\S+) after 3 rounds", capsys.readouterr().out)
    assert told
    assert float(told[2]) < float(told[1])
    assert 0 <= float(told[3]) <= 1


@pytest.mark.slow
def test_masked_modelling_whose_layers_freeze(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["masked_modelling.py", "6"])
    runpy.run_path(str(EXAMPLES / "masked_modelling.py"))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round")]
    bits = [int(re.search(r"(\d+) bits", line)[1]) for line in told]
    assert len(bits) == 3
    assert bits[0] > bits[1] > bits[2]
