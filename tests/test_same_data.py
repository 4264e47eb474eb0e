"""A run that goes on does so with the data that it began with; kept curves are of the data they were computed on."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.cli import main
from learned_aggregation.data.digest import data_digest
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import benchmark
from learned_aggregation.runs.same_data import FILE, check_same_data
from learned_aggregation.types import Dataset, Split

COMMON = (
    "--task mlp4_mine_3 --num_grads 2 --num_local_steps 1 --local_batch_size 4 --num_inner_steps 2 --num_runs 1 "
    "--eval_every 1 --eval_examples 8 --cache_dir cache --compilation_cache False "
)
DATA = " datasets.mine.type=npz datasets.mine.path=mine.npz"
RESUMED = {
    "benchmark": "--run_type benchmark --optimizer fedavg --auto_resume",
    "sweep": "--run_type sweep --optimizer fedavg",
}
SWEEP = (
    " sweep_config.method=grid sweep_config.metric.name=outer_valid_loss sweep_config.metric.goal=minimize "
    "sweep_config.parameters.local_learning_rate.values=[0.1,0.2]"
)


def write_data(seed, path="mine.npz"):
    draw = np.random.default_rng(seed)
    np.savez(path, features=draw.standard_normal((80, 3)).astype(np.float32), label=np.arange(80) % 2)


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_data(0)
    return tmp_path


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("kind", ["benchmark", pytest.param("sweep", marks=pytest.mark.slow)])
def test_other_data_is_refused_and_nothing_is_overwritten(place, capsys, kind):
    argv = (
        f"{COMMON}{RESUMED[kind]} --run_dir out --cfg-options{DATA}{SWEEP if kind == 'sweep' else ''}".split()
    )
    assert main(argv) == 0
    before = files(place / "out")
    write_data(1)
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert (
        "error: out: expected the data that this run began with, got other content for mlp4_mine_3." in said
    )
    assert files(place / "out") == before
    write_data(0)
    assert main(argv) == 0


def test_tasks_that_differ_by_a_capital_do_not_share_checkpoints(place, monkeypatch):
    monkeypatch.setattr(benchmark, "write_report", lambda path: path / "report.html")
    write_data(1, "Mine.npz")
    more = " datasets.Mine.type=npz datasets.Mine.path=Mine.npz"
    argv = f"{COMMON}{RESUMED['benchmark']} --run_dir out --cfg-options{DATA}{more}".split()
    argv[1] += ",mlp4_Mine_3"
    assert main(argv) == 0
    assert {path.name for path in (place / "out/checkpoints").iterdir()} == {"mlp4_mine_3", "mlp4_mine_3_2"}


@pytest.mark.slow
def test_kept_curves_of_other_data_are_not_taken(place):
    (place / "compare.py").write_text(
        'run_type = "compare"\nentrants = [dict(label="FedAvg", optimizer="fedavg")]\n'
    )

    def losses(name):
        argv = f"--config compare.py {COMMON}--curves_dir curves --run_dir {name} --cfg-options{DATA}"
        assert main(argv.split()) == 0
        with open(place / name / "rounds.csv", newline="", encoding="utf-8") as file:
            return [row["test_loss"] for row in csv.DictReader(file)]

    first = losses("one")
    kept = set((place / "curves").iterdir())
    assert losses("same") == first
    assert set((place / "curves").iterdir()) == kept
    write_data(1)
    assert losses("other") != first
    assert set((place / "curves").iterdir()) > kept


def test_a_record_is_kept(tmp_path):
    check_same_data(tmp_path, {"packaged": None})
    assert not (tmp_path / FILE).exists()
    check_same_data(tmp_path, {"a": "1", "packaged": None})
    check_same_data(tmp_path, {"b": "2"})
    with pytest.raises(UserError, match="got other content for b, a"):
        check_same_data(tmp_path, {"b": "3", "a": "2"})
    check_same_data(tmp_path, {"a": "1", "b": "2"})


@pytest.mark.parametrize("text", ["{", "", "[]", "null", "\0", "[" * 100_000, '{"a": 3}', '{"a": null}'])
def test_a_damaged_record_is_said_and_written_anew(tmp_path, capsys, text):
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    check_same_data(tmp_path, {"a": "2"})
    assert "data.json: expected what data this run began with, got a damaged file" in capsys.readouterr().err
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8")) == {"a": "2"}
    check_same_data(tmp_path, {"a": "2"})
    assert not capsys.readouterr().err


def test_arrays_of_a_device_count_by_what_they_hold():
    def digest(value):
        return data_digest(Dataset("mine", {"train": Split({"features": jnp.full((2, 3), value)})}, 2))

    assert digest(0.0) == digest(0.0) != digest(1.0)
