"""`rule_options`, `compressor_options`, `server_compressor`: set, swept and traced; refused where they don't fit."""

import jax
import numpy as np
import pytest

from learned_aggregation import build
from learned_aggregation.aggregators import AGGREGATORS, float_options
from learned_aggregation.config.resolve import Config, load_config
from learned_aggregation.config.settings import check_all
from learned_aggregation.errors import UserError
from learned_aggregation.jobs.groups import GroupRunner, group_points

SIZES = {
    "run_type": "benchmark",
    "task": "mlp4_digits_8",
    "num_grads": 2,
    "num_local_steps": 2,
    "local_batch_size": 8,
    "num_inner_steps": 4,
    "eval_every": 2,
}


def config(**settings):
    return Config(**{**SIZES, **settings})


def test_every_float_option_of_every_rule_is_a_rate():
    for name in AGGREGATORS:
        options = dict.fromkeys(float_options(name), 0.25)
        options.pop("local_learning_rate", None)
        made = config(optimizer=name, rule_options=options)
        rates = build.rates_of(made)
        assert {rates[option] for option in options} <= {0.25}
        for option in options:
            assert build.rate_name(made, f"rule_options.{option}") == option


def test_options_reach_the_rule_traced():
    chosen = config(optimizer="fedadam", learning_rate=0.1, rule_options={"beta1": 0.5, "tau": 1e-2})
    loaded = build.load_task(chosen, "mlp4_digits_8")
    points = [{}, {"rule_options.beta1": 0.0}, {"rule_options.tau": 0.1}, {"learning_rate": 0.3}]
    [group] = group_points(chosen, points)  # one compiled program
    curves = GroupRunner(group.config, loaded, (), ("test",)).run(points, [0], "test")
    alone = [
        GroupRunner(chosen.changed(point), loaded, (), ("test",)).run([{}], [0], "test")[0]
        for point in points
    ]
    for together, single in zip(curves, alone, strict=True):
        np.testing.assert_allclose(together.train_loss, single.train_loss, rtol=1e-5)
    assert len({float(curve.train_loss[0, -1]) for curve in curves}) == 4


def test_an_option_goes_before_the_setting_of_its_name():
    chosen = config(optimizer="fedavgm", learning_rate=0.5, beta=0.9, rule_options={"beta": 0.1})
    assert build.rates_of(chosen)["beta"] == 0.1


def test_a_static_option_makes_a_program_of_its_own():
    chosen = config(optimizer="fedlagg-set", hidden_size=4)
    points = [{"base": "mean"}, {"base": "momentum"}, {"rule_options.base_momentum": 0.1, "base": "momentum"}]
    assert [group.points for group in group_points(chosen, points)] == [[0], [1, 2]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "fedadam", "rule_options": {"beta3": 0.1}}, r"rule_options: .*fedadam.*'beta3'.*beta"),
        ({"optimizer": "fedavg", "rule_options": {"beta": 0.1}}, r"rule_options: .*fedavg.*none"),
        ({"optimizer": "fedadam", "rule_options": {"beta1": float("nan")}}, r"rule_options\.beta1: .*finite"),
        ({"optimizer": "fedadam", "rule_options": {"beta1": [1]}}, r"rule_options\.beta1: expected a number"),
        (
            {"optimizer": "fedlagg", "rule_options": {"num_grads": 3}},
            r"rule_options: .*setting num_grads itself",
        ),
        ({"compressor": "topq"}, r"compressor: .*'topq'.*topk"),
        (
            {"compressor": "topk", "compressor_options": {"fraktion": 0.1}},
            r"compressor_options: topk: .*fraction",
        ),
        (
            {"compressor": "topk", "compressor_options": {"fraction": 2.0}},
            r"compressor_options: topk: .*fraction",
        ),
        ({"compressor_options": {"fraction": 0.1}}, r"compressor_options: none: "),
        ({"server_compressor": "qsdg"}, r"server_compressor\.type: .*qsgd"),
        ({"server_compressor": {"bits": 8}}, r"server_compressor: expected a type"),
        ({"server_compressor": {"type": "qsgd", "bits": 99}}, r"server_compressor: qsgd: .*bits"),
        ({"server_compressor": 8}, r"server_compressor: expected a dict"),
    ],
)
def test_what_does_not_fit_is_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        config(**settings)
    assert "\n" not in str(caught.value)


def test_dotted_names_in_sweeps_are_checked():
    parameters = {"rule_options.tau": {"values": [0.1, 0.01]}, "learning_rate": {"values": [0.1]}}
    sweep = {"method": "grid", "parameters": parameters}
    made = config(run_type="sweep", optimizer="fedadam", sweep_config=sweep)
    assert list(made.sweep_config["parameters"]) == ["rule_options.tau", "learning_rate"]
    with pytest.raises(UserError, match=r"rule_options: expected options of fedavg"):
        config(run_type="sweep", optimizer="fedavg", sweep_config=sweep)
    bad = {"method": "grid", "parameters": {"schedule.clip": {"values": [1.0]}}}
    with pytest.raises(UserError, match="may vary here"):
        config(run_type="sweep", optimizer="fedavg", sweep_config=bad)


def test_points_change_single_options():
    made = config(optimizer="fedadam", learning_rate=0.1, rule_options={"tau": 0.5, "beta1": 0.25})
    changed = made.changed({"rule_options.tau": 0.1, "seed": 3})
    assert changed.rule_options == {"tau": 0.1, "beta1": 0.25}
    assert changed.seed == 3
    assert made.rule_options == {"tau": 0.5, "beta1": 0.25}


def test_a_run_under_compression_differs_and_counts_its_bits():
    plain, signs = config(optimizer="fedavg"), config(optimizer="fedavg", compressor="signsgd")
    loaded = build.load_task(plain, "mlp4_digits_8")
    numbers = 64 * 4 + 4 + 4 * 10 + 10
    assert build.traffic(plain, loaded) == (32 * numbers, 32 * numbers)
    assert build.traffic(signs, loaded) == (numbers + 4 * 32, 32 * numbers)
    losses = [GroupRunner(c, loaded, (), ("test",)).run([{}], [0], "test")[0] for c in (plain, signs)]
    assert losses[0].train_loss[0, -1] != losses[1].train_loss[0, -1]
    assert np.isfinite(losses[1].train_loss).all()


def test_meta_training_under_a_compressor_has_a_gradient():
    """Truncated backpropagation passes through the compressor, with clients of a population that remember."""
    made = Config(
        optimizer="fedlagg-set",
        hidden_size=4,
        task="mlp4_digits_8",
        num_tasks=1,
        num_grads=2,
        num_clients=4,
        partition="iid",
        num_local_steps=1,
        local_batch_size=4,
        truncation_length=3,
        truncation_schedule_min_length=3,
        num_inner_steps=3,
        estimator="truncated_backprop",
        meta_loss_split="inner_valid",
        compressor="topk",
        compressor_options={"fraction": 0.1, "error_feedback": "ef14"},
        num_devices=1,
    )
    training = build.meta_training(made)
    _, metrics = training.outer_step(training.state, list(training.datas))
    assert float(metrics["grad_norm"]) > 0
    assert np.isfinite(float(metrics["meta_loss"]))


def test_flags_reach_them():
    made = load_config(
        [
            "--optimizer=fedavg",
            "--run_type=benchmark",
            "--compressor=qsgd",
            "--cfg-options",
            "compressor_options.bits=4",
            "--server_compressor=signsgd",
        ]
    )
    assert made.compressor_options == {"bits": 4}
    assert made.server_compressor == {"type": "signsgd"}
    assert check_all(vars(made), str) == vars(made)


def test_listing_compressors_needs_no_jax():
    import subprocess
    import sys

    script = (
        "from learned_aggregation.federated.compressors import COMPRESSORS; import sys; "
        "list(COMPRESSORS); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert jax.__version__


def test_clients_of_a_population_keep_their_optimizers():
    """DiLoCo's workers, two of four in each round; earlier versions refused it."""
    shared = {
        "optimizer": "diloco",
        "local_optimizer": "adamw",
        "local_learning_rate": 0.01,
        "partition": "iid",
        "num_clients": 4,
        "num_inner_steps": 6,
    }
    kept, fresh = config(**shared, keep_local_state=True), config(**shared)
    loaded = build.load_task(kept, "mlp4_digits_8")
    losses = [
        GroupRunner(c, loaded, (), ("test",)).run([{}], [0], "test")[0].train_loss[0] for c in (kept, fresh)
    ]
    assert np.isfinite(losses).all()
    assert losses[0][0] == losses[1][0]
    assert losses[0][-1] != losses[1][-1]
