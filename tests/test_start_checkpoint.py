"""`start_checkpoint`: meta-training goes on from a theta that somebody else trained."""

from pathlib import Path

import jax
import numpy as np
import pytest

from learned_aggregation.build.meta_training import meta_training
from learned_aggregation.cli import main
from learned_aggregation.config.resolve import load_config
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import load_theta

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "pretrained"
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


def theta_at(name, step):
    return load_theta(f"checkpoints/{name}/global_step{step}.safetensors")[0]


def test_it_starts_there_trains_on_and_resumes_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start, shipped = Path("start.safetensors"), load_theta("lagg-set")[0]
    start.write_bytes((SHIPPED / "lagg-set" / "theta.safetensors").read_bytes())
    run = [*SET, f"--start_checkpoint={start}", "--hidden_size=32", "--base=mean"]
    assert equal(meta_training(load_config(run)).state.theta, shipped)
    assert main([*run, "--name=whole", "--num_outer_steps=3"]) == 0
    assert main([*run, "--name=mine", "--num_outer_steps=2"]) == 0
    assert [equal(theta_at("mine", step), shipped) for step in (0, 2)] == [True, False]
    start.unlink()
    assert main([*run, "--name=mine", "--num_outer_steps=3", "--from_checkpoint"]) == 0
    assert equal(theta_at("mine", 3), theta_at("whole", 3))
    assert main([*run, "--name=another"]) == 2


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
