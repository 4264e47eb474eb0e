"""The structure of sweeps and of comparisons in settings."""

from pathlib import Path

import pytest

from learned_aggregation.config.resolve import Config, load_config
from learned_aggregation.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def refusal(argv):
    """The one line that refuses `argv`."""
    with pytest.raises(UserError) as caught:
        load_config(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sweep(**changes):
    base = {"method": "grid", "metric": {"name": "outer_valid_loss", "goal": "minimize"}}
    return base | {"parameters": {"beta": {"values": [0.9, 0.5]}}} | changes


def test_a_sweep_is_completed():
    parameters = {
        "local_learning_rate": {"min": 0.1, "max": 1, "distribution": "log_uniform_values"},
        "num_local_steps": {"min": 2, "max": 8},
        "beta": {"min": 0, "max": 0.9, "q": 0.1, "distribution": "q_uniform"},
        "task": {"values": ["mlp32_digits_8", "conv-c10"], "probabilities": [0.25, 0.75]},
        "learning_rate": {"value": 1},
    }
    given_sweep = {"method": "random", "run_cap": 5, "parameters": parameters}
    found = Config(run_type="sweep", sweep_config=given_sweep).sweep_config
    assert found["metric"] == {"name": "outer_valid_loss", "goal": "minimize"}
    assert found["parameters"]["local_learning_rate"]["max"] == 1.0
    assert found["parameters"]["num_local_steps"]["distribution"] == "int_uniform"
    assert found["parameters"]["learning_rate"] == {"value": 1.0}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (sweep(method="bayes"), "sweep_config.method: expected one of grid, random, got 'bayes'."),
        (sweep(metric={"name": "inner_valid_loss"}), "metric of the task, got 'inner_valid_loss'. Did you mean 'outer"),
        (sweep(metric={"name": "outer_valid_loss", "gaol": "minimize"}), "Did you mean 'goal'?"),
        (sweep(parameter={}), "sweep_config: expected a known key, got 'parameter'."),
        (sweep(parameters={}), "sweep_config.parameters: expected at least one setting, got {}."),
        (sweep(parameters={"bet": {"values": [0.1]}}), "got 'bet'. Did you mean 'beta'?"),
        (sweep(parameters={"save_iter": {"values": [1]}}), "expected a setting that may vary here"),
        (sweep(parameters={"beta": {"values": [0.1, 2]}}), "parameters.beta: expected a number in [0, 1), got 2."),
        (sweep(parameters={"beta": {"values": []}}), "parameters.beta: expected a list of values, got []."),
        (sweep(parameters={"beta": {"value": 0.1, "values": [1]}}), "with a distribution of uniform, log_uni"),
        (sweep(parameters={"beta": {"min": 0.1, "max": 0.2}}), "List the values, or use method='random'"),
        (sweep(method="random"), "sweep_config.run_cap: expected a whole number of at least 1, got None."),
        (sweep(method="random", run_cap=3, parameters={"beta": {"min": 0.5, "max": 0.1}}), "min below max"),
        (
            sweep(method="random", run_cap=3, parameters={"beta": {"min": 0.1, "max": 0.5, "distribution": "beta"}}),
            "distribution: expected one of uniform, log_uniform_values",
        ),
        (
            sweep(method="random", run_cap=3, parameters={"num_grads": {"min": 1.5, "max": 5}}),
            "parameters.num_grads: expected a whole number",
        ),
        (sweep(parameters={"beta": {"values": [0.1, 0.2], "probabilities": [0.5, 0.6]}}), "sum to 1"),
        ([], None),
    ],
)  # fmt: skip
def test_bad_sweeps(bad, words):
    with pytest.raises(UserError) as caught:
        Config(run_type="sweep", sweep_config=bad)
    assert (words or "sweep_config with run_type") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_file_on_top_of_a_config_of_meta_test(monkeypatch):
    monkeypatch.chdir(ROOT)
    base = ["--config", "config/meta_test/fedavg-slowmo_glyphs.py"]
    sweep_file = "config/sweeps/sweep_slowmo_digits_44.py"
    config = load_config([*base, "--run_type", "sweep", "--sweep_config", sweep_file])
    assert config.task == "mlp64_glyphs_14"
    grid = config.sweep_config["parameters"]
    assert len(grid["local_learning_rate"]["values"]) * len(grid["slowmo_learning_rate"]["values"]) == 44
    assert "Add --run_type sweep" in refusal([*base, "--sweep_config", sweep_file])
    assert "--sweep_config: expected a config file" in refusal([*base, "--sweep_config", "none.py"])
    assert "fedavg_digits.py: sweep_config: expected a dict, got None." in refusal(
        [*base, "--run_type", "sweep", "--sweep_config", "config/meta_test/fedavg_digits.py"]
    )


@pytest.mark.parametrize(
    ("entrants", "words"),
    [
        ([{"label": "A", "optimizer": "fedavgg"}], "entrants[0].optimizer: expected one of"),
        ([{"optimizer": "fedavg"}], "entrants[0]: expected label in every method"),
        ([{"label": "A", "optimizer": "fedavg", "sweeps": {}}], "entrants[0].sweeps: expected a setting"),
        ([{"label": "A", "optimizer": "fedavg", "task": "conv-c10"}], "expected a setting that may vary"),
        ([{"label": "A", "optimizer": "fedavg", "sweep": {"beta": [1]}}], "entrants[0].sweep.beta: expected"),
        ([{"label": "A", "optimizer": "fedavg"}] * 2, "entrants: expected labels that differ"),
        ([3], "entrants[0]: expected a dict, got 3."),
    ],
)
def test_bad_entrants(entrants, words):
    with pytest.raises(UserError) as caught:
        Config(run_type="compare", entrants=entrants)
    assert words in str(caught.value)
