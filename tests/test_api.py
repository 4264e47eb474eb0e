"""The package from Python: objects in, curves and tables out, nothing printed."""

import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import learned_aggregation as la
from learned_aggregation.aggregators.classical import classical
from learned_aggregation.api.bring import Bringing
from learned_aggregation.api.results import Table, read_table
from learned_aggregation.cli import main
from learned_aggregation.config.resolve import load_config
from learned_aggregation.errors import UserError
from learned_aggregation.types import Task

SMALL = {"num_grads": 2, "num_local_steps": 2, "local_batch_size": 4, "num_inner_steps": 4, "num_runs": 2}
LABELS = np.arange(120) % 3
DATA = {
    "features": np.random.default_rng(0).normal(size=(120, 3)) + 4 * np.eye(3)[LABELS],
    "label": LABELS,
    "client": np.arange(120) % 6,
}
META = {
    "num_tasks": 2,
    "truncation_length": 2,
    "truncation_schedule_min_length": 2,
    "hidden_size": 4,
    "save_iter": 2,
}


class Net(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs)(x)


def squares(outputs, batch):
    error = outputs - jax.nn.one_hot(batch["label"], 3)
    return {
        "loss": jnp.sum(error**2, axis=-1),
        "right": (jnp.argmax(outputs, -1) == batch["label"]).astype(jnp.float32),
    }


def slowed(*, tempo: float = 0.5):
    return classical(lambda params: (), lambda g, state: (jax.tree.map(lambda x: -tempo * x, g), state))


MEAN = (
    lambda key: ({"m": jnp.ones(3)}, ()),
    lambda params, state, key, batch: (jnp.sum(params["m"]), (state, {})),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_meta_train_and_compare_from_objects(here, capsys):
    """Resumed bit for bit; the aggregator trains in a loop; the run directories are the command line's."""
    problem = {"model": Net, "data": DATA, "loss": squares, "partition": "natural", "num_clients": 6}
    settings = {**problem, **SMALL, **META, "optimizer": "fedlagg-set", "name": "mine"}
    trained = la.meta_train(num_outer_steps=4, **settings)
    assert trained.curves["step"].tolist() == [1, 2, 3, 4]
    assert np.isfinite(trained.curves["meta_loss"]).all()
    la.meta_train(num_outer_steps=2, **settings | {"checkpoints_dir": "b", "run_dir": "b"})
    again = la.meta_train(
        num_outer_steps=4, from_checkpoint=True, **settings | {"checkpoints_dir": "b", "run_dir": "b"}
    )
    jax.tree.map(np.testing.assert_array_equal, again.theta, trained.theta)
    with pytest.raises(UserError, match="expected no checkpoints of a new run"):
        la.meta_train(num_outer_steps=4, **settings)

    params = {"w": jnp.ones((3, 2))}
    rule = trained.aggregator()
    after, _ = rule.update(params, {"w": jnp.ones((2, 3, 2))}, None, rule.init(params))
    assert after["w"].shape == (3, 2)

    result = la.compare(
        {
            "FedAvg": "fedavg",
            "slowed": {"optimizer": lambda *, tempo=1.0: slowed(tempo=tempo)},
            "mine": trained,
        },
        **problem,
        **SMALL,
    )
    assert capsys.readouterr() == ("", "")
    table = result.table
    assert table["entrant"].tolist() == ["FedAvg", "slowed", "mine"]
    assert {"test_loss", "test_right"} <= set(table)
    assert np.isfinite(table["test_loss"]).all()
    last = result.curves.where(optimizer="mine", round=4)
    np.testing.assert_allclose(np.mean(last["test_loss"]), table["test_loss"][2], rtol=1e-4)
    assert {path.name for path in result.directory.iterdir()} >= {
        "config.py",
        "run.json",
        "report.html",
        "table.csv",
    }
    assert (result.directory / "partition.csv").read_text().count("\n") == 7


def test_a_run_of_importable_objects_and_files_is_the_command_line_s(here):
    """Its config.py names them and runs again, to the same numbers."""
    np.savez(here / "mine.npz", **DATA)
    entry = {"type": "npz", "path": "mine.npz"}
    la.benchmark(
        optimizer=slowed,
        model=Net,
        data=entry,
        loss=squares,
        rule_options={"tempo": 0.9},
        run_dir="a",
        **SMALL,
    )
    config = load_config(["--config", "a/config.py"])
    assert (config.optimizer, config.task) == ("test_api:slowed", "test_api:Net_data_3")
    arrays = la.benchmark(
        optimizer=slowed,
        model=Net,
        data=DATA,
        loss=squares,
        rule_options={"tempo": 0.9},
        run_dir="b",
        **SMALL,
    )
    assert main(["--config", "a/config.py", "--run_dir", "c"]) == 0
    for directory in ("b", "c"):
        np.testing.assert_array_equal(
            read_table(here / directory / "rounds.csv")["test_loss"],
            read_table(here / "a" / "rounds.csv")["test_loss"],
        )
    assert arrays.curves["test_loss"].shape == (10,)


def test_a_task_of_pure_functions():
    def loss(params, state, key, batch):
        return jnp.mean(jnp.sum((batch["features"] - params["m"]) ** 2, -1)), (state, {})

    def evaluate(params, state, key, batch):
        return {"loss": jnp.sum((batch["features"] - params["m"]) ** 2, -1)}

    mean = Task("mean", lambda key: ({"m": 3 * jnp.ones(3)}, ()), loss, evaluate, None)
    result = la.benchmark(optimizer="fedavg", task=mean, data=DATA, local_learning_rate=0.1, **SMALL)
    losses = result.curves.where(seed=0)["test_loss"]
    assert losses[4] < losses[0]


def test_functions_in_the_place_of_registered_names(here):
    """A local optimizer, a compressor, a partition and a tracker."""
    seen = []

    def halves(labels, clients, num_clients, seed):
        seen.append(num_clients)
        return np.array_split(np.arange(len(labels)), num_clients)

    class Tracker:
        def log(self, step, row):
            seen.append(step)

        def close(self):
            seen.append("closed")

    def exact():
        return la.get_compressor("none")

    def tracker(run_dir, **_):
        return Tracker()

    brought = {"compressor": exact, "partition": halves, "tracker": [tracker]}
    brought["local_optimizer"] = lambda rate: optax.sgd(rate / 2)
    problem = {"optimizer": "fedlagg-set", "task": "mlp4_digits_8", "num_clients": 4}
    la.meta_train(num_outer_steps=2, name="a", **brought, **problem, **SMALL, **META)
    assert seen == [4, 1, 2, "closed"]


def test_what_is_asked_to_be_printed_is(capsys):
    la.benchmark(optimizer="fedavg", task="mlp4_digits_8", verbose=True, **SMALL)
    printed = capsys.readouterr()
    assert "fedavg" in printed.out
    assert "report:" in printed.err


def test_a_call_in_another_thread():
    """Signals are the main thread's; what a call brings is its thread's."""
    found = []
    settings = {"optimizer": "fedlagg-set", "task": "mlp4_digits_8", "num_outer_steps": 1, **SMALL, **META}
    thread = threading.Thread(target=lambda: found.append(la.meta_train(**settings)))
    thread.start()
    thread.join()
    assert found[0].curves["step"].tolist() == [1]


def test_the_function_and_the_old_module_of_its_name():
    from learned_aggregation.meta_train import meta_train as loop

    import learned_aggregation.meta_training.loop as new

    assert loop is new.meta_train
    assert la.meta_train.__module__ == "learned_aggregation.api.calls"


def test_objects_get_names_that_differ():
    bringing = Bringing()
    first, second = (lambda: None), (lambda: None)
    names = [bringing.name("optimizer", item) for item in (first, second, first, slowed)]
    assert names == ["lambda", "lambda_2", "lambda", "test_api:slowed"]
    assert bringing.objects == {("optimizer", "lambda"): first, ("optimizer", "lambda_2"): second}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            {"num_grad": 3},
            "settings: expected a setting that exists, got 'num_grad'. Did you mean 'num_grads'",
        ),
        ({"task": "mlp4_digits_8", "model": Net}, "task: expected a task's name or model and data, got both"),
        ({"model": Net}, "data: expected one with model, got None"),
        ({"data": DATA}, "model: expected one with data, got None"),
        ({"model": Net, "data": [1]}, "data: expected a name, a dict of arrays"),
        ({"model": Net, "data": "digits"}, "size: expected one, as digits comes in several"),
        (
            {"model": Net, "data": DATA, "loss": squares, "objective": "classification"},
            "loss: expected loss or objective",
        ),
        ({"model": Net, "data": {"features": DATA["features"]}}, "data: expected labels for the objective"),
        ({"model": Net, "data": DATA, "loss": lambda o, b: jnp.mean(o)}, "expected one loss for each of"),
        ({"model": lambda widths: None, "data": DATA}, "expected one that is made from arguments, outputs"),
        ({"model": Net, "data": DATA, "size": 4}, "datasets.data: expected 4 features"),
        (
            {"model": Net, "data": {0: LABELS}},
            "data: expected names of leaves, or of parts with leaves in them, got 0",
        ),
        ({"model": Net, "data": {"train": {0: LABELS}}}, "data: expected names of leaves, or of parts"),
        ({"model": Net, "data": {"type": "npz"}}, "datasets.data: expected path with type='npz'"),
        ({"model": Net, "data": DATA, "datasets": [1]}, "datasets: expected a dict, got [1]"),
        (
            {"model": Net, "data": DATA, "run_type": "sweep"},
            "run_type: expected 'benchmark', as the function says",
        ),
        ({"model": Net(2), "data": DATA}, "model: expected outputs [2, 3] for a batch of 2, got [2, 2]"),
        (
            {"model": (lambda key: {"w": jnp.ones(3, int)}, abs), "data": DATA},
            "expected init to return params of floats",
        ),
        (
            {"task": Task("t", *MEAN, lambda *_: {"loss": 0.0}, None), "data": DATA},
            "task t: expected evaluate to return",
        ),
        (
            {"task": Task("t", *MEAN[:1], lambda *_: 3, abs, None), "data": DATA},
            "task t: expected loss to return",
        ),
        (
            {"model": Net, "data": DATA, "compressor": lambda: 3},
            "compressor lambda: expected a function that returns",
        ),
        (
            {"model": Net, "data": DATA, "local_optimizer": lambda rate: 3},
            "local_optimizer lambda: expected a function",
        ),
        (
            {"model": Net, "data": DATA, "partition": lambda *_: None, "num_clients": 2},
            "partition lambda: expected 2 arrays",
        ),
    ],
)
def test_bad_calls_are_one_line(call, message):
    with pytest.raises(UserError) as caught:
        la.benchmark(optimizer="fedavg", **SMALL, **call)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entrants", [["fedavg"], "fedavg", None])
def test_entrants_of_another_form_are_one_line(entrants):
    with pytest.raises(UserError, match="entrants: expected a dict of label -> rule, or a list of dicts"):
        la.compare(entrants, task="mlp4_digits_8", **SMALL)


def test_a_name_of_the_package_stays_the_package_s():
    """A user's function called fedavg must not take FedAvg's place in a comparison."""
    bringing = Bringing()

    def fedavg():
        return None

    class mlp(Net):
        pass

    assert (bringing.name("optimizer", fedavg), bringing.name("model", mlp)) == ("fedavg_2", "mlp_2")
    assert bringing.objects["optimizer", "fedavg_2"] is fedavg


def test_labels_that_are_numbers_are_texts(here):
    (here / "table.csv").write_text("entrant,seeds,task\n1,2,3\n")
    table = read_table(here / "table.csv")
    assert (table["entrant"].tolist(), table["seeds"].tolist()) == (["1"], [2.0])
    assert len(table.where(entrant="1")["seeds"]) == 1


def test_tables():
    table = Table({"round": np.array([0.0, 1.0]), "name": np.array(["a", "b"])})
    assert table.where(round=1)["name"].tolist() == ["b"]
    assert (len(table), repr(table)) == (2, "Table of 2 rows: round, name")
    assert table.rows() == [{"round": 0.0, "name": "a"}, {"round": 1.0, "name": "b"}]
    pandas = sys.modules.get("pandas")
    if pandas is None:
        with pytest.raises(UserError, match="expected the package pandas"):
            table.to_pandas()


@pytest.mark.extras
def test_tables_as_pandas_frames():
    pytest.importorskip("pandas")
    table = Table({"round": np.array([0.0, 1.0]), "name": np.array(["a", "b"])})
    assert table.to_pandas().name.tolist() == ["a", "b"]
