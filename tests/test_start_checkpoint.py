"""`start_checkpoint`: meta-training goes on from a theta that somebody else trained."""

import jax
import numpy as np
import pytest

from learned_aggregation.build.meta_training import meta_training
from learned_aggregation.cli import main
from learned_aggregation.config.resolve import load_config
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import load_theta

TINY = [
    "--run_type=meta-train",
    "--task=mlp4_digits_8",
    "--num_tasks=1",
    "--num_grads=2",
    "--num_local_steps=1",
    "--local_batch_size=2",
    "--truncation_length=2",
    "--truncation_schedule_min_length=2",
    "--num_inner_steps=2",
    "--save_iter=1",
]
SET = [*TINY, "--optimizer", "fedlagg-set"]


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


def test_it_starts_there_trains_on_and_resumes_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = [
        *SET,
        "--start_checkpoint",
        "lagg-set",
        "--hidden_size",
        "32",
        "--base",
        "mean",
        "--name",
        "mine",
    ]
    shipped = load_theta("lagg-set")[0]
    assert equal(meta_training(load_config(first)).state.theta, shipped)
    assert main([*first, "--num_outer_steps", "2"]) == 0
    found = [load_theta(f"checkpoints/mine/global_step{step}.safetensors")[0] for step in (0, 2)]
    assert [equal(theta, shipped) for theta in found] == [True, False]
    assert main([*first, "--num_outer_steps", "3", "--from_checkpoint", "--name", "mine"]) == 0
    assert main([*first, "--num_outer_steps", "3", "--name", "whole"]) == 0
    resumed, whole = (
        load_theta(f"checkpoints/{name}/global_step3.safetensors")[0] for name in ("mine", "whole")
    )
    assert equal(resumed, whole)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimizer", "fedlagg-set", "--hidden_size", "8"], "hidden_size=32, the config asks for 8"),
        (["--optimizer", "fedlagg-adafac"], "theta was meta-trained for optimizer=fedlagg-set"),
        (["--optimizer", "fedavg"], "expected a learned aggregator to meta-train"),
    ],
)
def test_a_theta_of_another_rule_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        meta_training(load_config([*TINY, *flags, "--start_checkpoint", "lagg-set"]))
