"""Objectives in whole runs, and one that is registered from here."""

import csv
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from tiny_run import SIZES

from learned_aggregation import build
from learned_aggregation.cli import main
from learned_aggregation.config.resolve import Config
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.tasks import make_task, probe_tasks
from learned_aggregation.tasks.flax_task import flax_task, image_inputs
from learned_aggregation.tasks.objectives import OBJECTIVES, Objective
from learned_aggregation.types import Metric

TINY = "--num_grads 4 --num_local_steps 4 --local_batch_size 16 --num_runs 2"


def curves(path, split, metric):
    """[seeds, evaluations] of a benchmark's rounds.csv."""
    with (path / "rounds.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[f"{split}_{metric}"]]
    seeds = sorted({row["seed"] for row in rows})
    return np.array(
        [[float(row[f"{split}_{metric}"]) for row in rows if row["seed"] == seed] for seed in seeds]
    )


def benchmark(path, flags):
    assert main(f"--run_type benchmark --optimizer fedavg --run_dir {path} {TINY} {flags}".split()) == 0


def test_a_regression_learns_more_than_the_constant_and_divides_its_data_by_target(tmp_path):
    flags = "--task mlp16_diabetes_10 --num_inner_steps 40 --eval_every 40 --local_learning_rate 0.05"
    benchmark(tmp_path / "out", f"{flags} --partition dirichlet")
    loss = curves(tmp_path / "out", "test", "loss")
    _, dataset = make_task("mlp16_diabetes_10")
    train, test = (dataset.splits[split].examples["target"] for split in ("train", "test"))
    constant = np.mean(((test - train.mean()) / train.std()) ** 2)
    assert np.all(loss[:, -1] < 0.8 * constant)
    assert np.all(curves(tmp_path / "out", "test", "mae")[:, -1] < 0.8)
    counts = np.loadtxt(tmp_path / "out" / "partition.csv", delimiter=",", skiprows=1, dtype=int)[:, 1:]
    assert counts.shape == (4, 10)
    assert counts.sum() == len(train)
    assert np.count_nonzero(counts == 0) > 5  # clients without any target in some tenths


def test_a_table_is_classified(tmp_path):
    flags = "--task mlp16_breast_30 --num_inner_steps 25 --eval_every 25 --local_learning_rate 0.1"
    benchmark(tmp_path / "out", f"{flags} --partition shards")
    assert np.all(curves(tmp_path / "out", "test", "accuracy")[:, -1] > 0.9)


def test_a_regression_is_meta_trained_with_tensors_in_other_units():
    sizes = SIZES | {"task": "mlp4_diabetes_10", "local_learning_rate": 0.1}
    training = build.meta_training(
        Config(**sizes, weight_scale_range=(0.5, 2.0), meta_loss_split="outer_valid")
    )
    _, metrics = training.outer_step(training.state, training.datas)
    assert 0 < metrics["meta_loss"] <= 3.0


# A new objective: one registry line, here made by a test.

MASKED, HIDDEN = 0.5, 16


class Reconstruction(nn.Module):
    """The model that a task's name stands for as an encoder, and a head of its own for every pixel."""

    encoder: nn.Module
    pixels: int

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.pixels, name="decoder")(nn.relu(self.encoder(x, train=train)))


def masked_pixels(name, model, dataset):
    """Mean squared error of the pixels that the model does not see; the mask is drawn from the key, for each step."""
    read = image_inputs(dataset)
    shape = dataset.splits["train"].examples["image"].shape[1:]

    def draw(key, batch):
        image = read(batch)
        mask = jax.random.bernoulli(key, MASKED, image.shape)
        return {"seen": jnp.where(mask, 0.0, image), "image": image, "mask": mask}

    def measure(predicted, drawn):
        error = (predicted.reshape(drawn["image"].shape) - drawn["image"]) ** 2
        hidden = jnp.sum(drawn["mask"], (1, 2, 3))
        return {"loss": jnp.sum(error * drawn["mask"], (1, 2, 3)) / hidden}

    plain = flax_task(
        name,
        Reconstruction(model, math.prod(shape)),
        jnp.zeros((1, *shape)),
        lambda drawn: drawn["seen"],
        measure,
        (Metric("loss", unit="squared inputs"),),
    )

    def loss(params, model_state, key, batch):
        return plain.loss(params, model_state, key, draw(key, batch))

    def evaluate(params, model_state, key, batch):
        return plain.evaluate(params, model_state, key, draw(key, batch))

    return plain._replace(loss=loss, evaluate=evaluate)


OBJECTIVE = Objective(("image",), lambda about: HIDDEN, masked_pixels)


@pytest.fixture
def registered(monkeypatch):
    """Its registry line."""
    monkeypatch.setitem(OBJECTIVES._entries, "masked_pixels", f"{__name__}:OBJECTIVE")


@pytest.fixture
def masked(registered):
    return make_task("mlp8_digits_8", objective="masked_pixels")


def test_an_objective_wraps_the_model_that_it_is_given(masked):
    task, _ = masked
    params, _ = task.init(jax.random.key(0))
    assert set(params) == {"encoder", "decoder"}
    assert params["encoder"]["Dense_1"]["kernel"].shape == (8, HIDDEN)
    assert params["decoder"]["kernel"].shape == (HIDDEN, 64)


def test_the_key_draws_in_training_and_in_evaluation(masked):
    task, dataset = masked
    params, state = task.init(jax.random.key(0))
    batch = {name: leaf[:6] for name, leaf in dataset.splits["train"].examples.items()}
    one, other = jax.random.split(jax.random.key(1))
    for measured in (
        lambda key: task.loss(params, state, key, batch)[0],
        lambda key: task.evaluate(params, state, key, batch)["loss"],
    ):
        np.testing.assert_array_equal(measured(one), measured(one))
        assert not np.any(np.isclose(measured(one), measured(other), rtol=1e-4))


def test_each_local_step_draws_another_mask(masked):
    task, dataset = masked
    params, state = task.init(jax.random.key(0))
    batch = {name: leaf[:6] for name, leaf in dataset.splits["train"].examples.items()}
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), batch)
    still = local_training(task, optax.sgd(0.0))
    mean = still.run(params, state, (), jax.random.key(2), twice)[3]
    steps = [task.loss(params, state, key, batch)[0] for key in jax.random.split(jax.random.key(2))]
    np.testing.assert_allclose(mean, np.mean(steps), rtol=1e-6)
    assert abs(steps[0] - steps[1]) > 1e-4


def test_a_registered_objective_is_meta_tested(registered, tmp_path):
    flags = "--task mlp32_digits_8 --objective masked_pixels --num_inner_steps 60 --eval_every 20"
    benchmark(tmp_path / "out", f"{flags} --local_learning_rate 3.0 --partition dirichlet")
    loss = curves(tmp_path / "out", "test", "loss")
    assert np.all(np.diff(loss, axis=1) < 0)
    _, dataset = make_task("mlp32_digits_8")
    image = dataset.splits["test"].examples["image"] / 16
    assert np.all(
        loss[:, -1] < np.mean((image - image.mean(0)) ** 2)
    )  # each pixel's own mean, whatever is seen
    assert "test_accuracy" not in (tmp_path / "out" / "rounds.csv").read_text().splitlines()[0]


def test_a_registered_objective_is_meta_trained(registered):
    config = Config(**SIZES, objective="masked_pixels", meta_loss_split="outer_valid")
    training = build.meta_training(config)
    _, metrics = training.outer_step(training.state, training.datas)
    assert 0 < metrics["meta_loss"] < 1


def test_mup_sees_the_objectives_model_at_other_widths(registered):
    config = Config(
        task="mlp8_digits_8",
        optimizer="fedavg",
        objective="masked_pixels",
        parametrization="mup",
        mup_base_width=4,
    )
    loaded = build.load_task(config, config.task)
    task = build.make_parts(config, loaded)(build.rates_of(config)).task
    base, wider = probe_tasks("mlp8_digits_8", 4, loaded.dataset, "masked_pixels")
    shapes = [
        jax.eval_shape(probe.init, jax.random.key(0))[0]["encoder"] for probe in (loaded.task, base, wider)
    ]
    assert [tree["Dense_0"]["kernel"].shape for tree in shapes] == [(64, 8), (64, 4), (64, 8)]
    assert [tree["Dense_1"]["kernel"].shape for tree in shapes] == [(8, HIDDEN), (4, HIDDEN), (8, HIDDEN)]
    plain, scaled = (
        of.init(jax.random.key(0))[0]["encoder"]["Dense_1"]["kernel"] for of in (loaded.task, task)
    )
    np.testing.assert_allclose(scaled, 2**0.5 * plain, rtol=1e-6)


def test_two_objectives_on_one_data_set_are_two_tasks(registered):
    loader = build.Loader()
    plain, masked = (
        loader.load(Config(task="mlp8_digits_8", objective=objective), "mlp8_digits_8").task
        for objective in (None, "masked_pixels")
    )
    assert plain.loss_cap == pytest.approx(1.5 * math.log(10))
    assert masked.loss_cap is None
