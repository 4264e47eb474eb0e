"""Objectives: each against NumPy by hand, and what is refused."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from tiny_run import SIZES

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.data import KINDS
from learned_aggregation.errors import UserError
from learned_aggregation.problems.inner_problem import normalise_loss
from learned_aggregation.tasks import make_model, make_task
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.objectives import OBJECTIVES, USUAL, objective_name
from learned_aggregation.tasks.perceptron import PerceptronLoss
from learned_aggregation.types import SPLITS, Dataset, Metric, Split

B, F, C, S = 5, 3, 4, 6
RNG = np.random.default_rng(0)
ACCURACY = Metric("accuracy", higher_is_better=True, unit="%")
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
            r"^objective: expected one that reads the kind 'image' of the data set digits "
            r"\(classification, finetuning, localmim\), got 'regression'. Leave it out for classification",
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
