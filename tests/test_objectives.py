"""Objectives: each against NumPy by hand, in whole runs, and one that is registered from here."""

import csv
import math
import os
import subprocess
import sys

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
from learned_aggregation.data import KINDS
from learned_aggregation.errors import UserError
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.problems.inner_problem import normalise_loss
from learned_aggregation.tasks import make_model, make_task, probe_tasks
from learned_aggregation.tasks.flax_task import flax_task, image_inputs
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.objectives import OBJECTIVES, USUAL, Objective, objective_name
from learned_aggregation.tasks.perceptron import PerceptronLoss
from learned_aggregation.types import SPLITS, Dataset, Metric, Split

B, F, C, S = 5, 3, 4, 6
RNG = np.random.default_rng(0)
ACCURACY = Metric("accuracy", higher_is_better=True)
LINEAR = {"Dense_0": {"kernel": RNG.normal(size=(F, C)), "bias": RNG.normal(size=C)}}
"""Of MLP((), C): one layer."""


class NextToken(nn.Module):
    """Logits of the next token from the current one alone."""

    @nn.compact
    def __call__(self, tokens, train):
        return nn.Embed(C, C)(tokens)


def made(objective, model, examples, num_classes=C, **scaling):
    dataset = Dataset("made", dict.fromkeys(SPLITS, Split(examples)), num_classes, **scaling)
    return OBJECTIVES[objective].make("made", model, dataset)


def as_float32(params):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def by_hand_of_classes(inputs, label):
    logits = inputs @ LINEAR["Dense_0"]["kernel"] + LINEAR["Dense_0"]["bias"]
    return {
        "loss": -log_softmax(logits)[np.arange(B), label],
        "accuracy": (logits.argmax(-1) == label).astype(float),
    }


def images():
    batch = {
        "image": RNG.integers(0, 256, (B, 1, 1, F)).astype(np.uint8),
        "label": RNG.integers(0, C, B).astype(np.int32),
    }
    task = made("classification", MLP((), C), batch, scale=(0.01, 0.02, 0.03), shift=(0.1, 0.2, 0.3))
    inputs = batch["image"].reshape(B, F) * [0.01, 0.02, 0.03] - [0.1, 0.2, 0.3]
    metrics = (Metric("loss", unit="nats"), ACCURACY)
    return task, LINEAR, batch, by_hand_of_classes(inputs, batch["label"]), metrics, 1.5 * math.log(C)


def text():
    batch = {"tokens": RNG.integers(0, C, (B, S + 1)).astype(np.uint8)}
    table = RNG.normal(size=(C, C))
    predicted, label = log_softmax(table)[batch["tokens"][:, :-1]], batch["tokens"][:, 1:]
    found = {
        "loss": -np.take_along_axis(predicted, label[..., None].astype(int), -1).mean((1, 2)),
        "accuracy": (predicted.argmax(-1) == label).mean(-1),
    }
    task = made("language_modelling", NextToken(), batch)
    metrics = (Metric("loss", unit="nats per token"), ACCURACY)
    return task, {"Embed_0": {"embedding": table}}, batch, found, metrics, 1.5 * math.log(C)


def table():
    batch = {
        "features": RNG.normal(size=(B, F)).astype(np.float32),
        "label": RNG.integers(0, C, B).astype(np.int32),
    }
    task = made("tabular_classification", MLP((), C), batch)
    metrics = (Metric("loss", unit="nats"), ACCURACY)
    found = by_hand_of_classes(batch["features"].astype(float), batch["label"])
    return task, LINEAR, batch, found, metrics, 1.5 * math.log(C)


def numbers():
    """Of several targets in unlike units; the train split is another one than the batch."""
    train = {"features": np.zeros((40, F), np.float32), "target": RNG.normal(7, 3, (40, C)) * [1, 10, 100, 1]}
    batch = {
        "features": RNG.normal(size=(B, F)).astype(np.float32),
        "target": (RNG.normal(7, 3, (B, C)) * [1, 10, 100, 1]).astype(np.float32),
    }
    predicted = batch["features"] @ LINEAR["Dense_0"]["kernel"] + LINEAR["Dense_0"]["bias"]
    error = predicted - (batch["target"] - train["target"].mean(0)) / train["target"].std(0)
    task = made("regression", MLP((), C), train, num_classes=0)
    metrics = (Metric("loss", unit="squared standard deviations"), Metric("mae", unit="standard deviations"))
    return task, LINEAR, batch, {"loss": (error**2).mean(-1), "mae": abs(error).mean(-1)}, metrics, 3.0


@pytest.mark.parametrize("case", [images, text, table, numbers])
def test_an_objective_by_hand(case):
    task, params, batch, expected, metrics, cap = case()
    params, key = as_float32(params), jax.random.key(0)
    shapes, state = jax.eval_shape(task.init, key)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    found = task.evaluate(params, state, key, batch)
    assert found.keys() == expected.keys() == {metric.name for metric in metrics}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)
    loss, (after, training) = task.loss(params, state, key, batch)
    np.testing.assert_allclose(loss, expected["loss"].mean(), rtol=1e-5)
    assert after == state == {}
    for name, value in training.items():
        np.testing.assert_allclose(value, expected[name].mean(), rtol=1e-5)
    assert task.metrics == metrics
    assert task.loss_cap == pytest.approx(cap)


def test_a_regressions_constant_prediction_has_loss_1_and_the_cap_bounds_what_diverged():
    task, dataset = make_task("mlp4_diabetes_10")
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0))[0])
    train = dataset.splits["train"].examples
    loss = task.loss(params, {}, jax.random.key(0), train)[0]
    np.testing.assert_allclose(loss, 1.0, rtol=1e-5)
    assert normalise_loss(loss, task.loss_cap) == loss
    assert normalise_loss(jnp.float32(1e9), task.loss_cap) == normalise_loss(jnp.nan, task.loss_cap) == 3.0

    def initial(key):
        return task.loss(task.init(key)[0], {}, key, train)[0]

    losses = jax.vmap(initial)(jax.random.split(jax.random.key(1), 100))
    assert np.mean(losses < task.loss_cap) > 0.95  # the cap leaves untrained models alone


def test_a_target_that_does_not_vary_is_centred_only():
    train = {"features": np.zeros((6, F), np.float32), "target": np.full((6, 1), 5.0, np.float32)}
    task = made("regression", MLP((), 1), train, num_classes=0)
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0))[0])
    np.testing.assert_array_equal(task.evaluate(params, {}, jax.random.key(0), train)["loss"], np.zeros(6))


def test_only_images_have_the_loss_that_a_kernel_knows():
    losses = {case.__name__: case()[0].loss for case in (images, text, table, numbers)}
    assert [name for name, loss in losses.items() if isinstance(loss, PerceptronLoss)] == ["images"]


def test_every_kind_of_data_has_a_usual_objective_that_reads_it():
    assert USUAL.keys() == KINDS.keys()
    for kind, name in USUAL.items():
        assert kind in OBJECTIVES[name].kinds
    for entry in OBJECTIVES.values():
        assert set(entry.kinds) <= set(KINDS)


def test_listing_objectives_imports_no_library():
    code = (
        "import sys; from learned_aggregation.tasks.objectives import OBJECTIVES, objective_name;"
        "print(sorted(OBJECTIVES), objective_name('pytext'), sorted({'jax', 'flax', 'optax'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == f"{sorted(OBJECTIVES)} language_modelling []", done.stderr


# What a run does with them.

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


# What is refused.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective": "regresion"},
            r"^objective: expected one of classification, .* Did you mean 'regression'\?",
        ),
        (
            {"objective": "regression"},
            r"^objective: expected one that reads the kind 'image' of the data set digits \(classification\), "
            r"got 'regression'. Leave it out for classification",
        ),
        ({"task": "mlp4_breast_30", "objective": "regression"}, r"the kind 'table' .* breast \(tabular_"),
        ({"task": "mlp4_digits_8,mlp4_diabetes_10", "objective": "classification"}, "data set diabetes"),
        (
            {"problems": [{"label": "a", "task": "mlp4_diabetes_10", "objective": "classification"}]},
            r"^problems\[0\].objective: expected one that reads the kind 'regression'",
        ),
        (
            {
                "run_type": "compare",
                "entrants": [{"label": "a", "optimizer": "sgd", "objective": "regression"}],
            },
            r"entrants\[0\].objective: expected a setting that may vary here",
        ),
    ],
)
def test_an_objective_that_does_not_read_the_data_is_refused_at_once(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        Config(**settings)
    assert "\n" not in str(caught.value)


def test_the_runs_objective_is_not_held_against_tasks_that_it_does_not_train():
    mixture = Config(objective="regression", problems=[{"label": "a", "task": "mlp4_diabetes_10"}])
    assert mixture.inner_problems["a"].objective == "regression"
    grid = {"task": {"values": ["mlp4_diabetes_10"]}}
    sweep = {"method": "grid", "parameters": grid}
    assert Config(run_type="sweep", objective="regression", sweep_config=sweep).objective == "regression"


def test_a_task_made_in_code_is_checked_too():
    with pytest.raises(UserError, match="objective: expected one that reads the kind 'text'"):
        make_task("transformer32_pytext_8", objective="classification")
    with pytest.raises(UserError, match="got 'nothing'"):
        make_model("mlp4_digits_8", objective="nothing")
    assert objective_name("glyphs62rgb", "classification") == "classification"


def test_tables_have_nothing_to_permute():
    for task in ("mlp4_breast_30", "mlp4_diabetes_10"):
        with pytest.raises(UserError, match=f"permute: expected an image data set, got that of {task}"):
            build.meta_training(Config(**SIZES | {"task": task}, permute=("labels",)))
