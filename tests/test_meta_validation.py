"""Meta-validation: paired scores, the best theta kept, early stopping, and a resume that changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from tiny_run import CHECKPOINTS, files_below, meta_train, metrics

from learned_aggregation import build
from learned_aggregation.config.resolve import load_config
from learned_aggregation.meta_training.validation import Validation, after, before_first
from learned_aggregation.pretrained.theta_file import load_theta

BEST = CHECKPOINTS / "best.safetensors"
STEPS = 8
FLAGS = [
    "--meta_valid_every=2",
    "--meta_valid_rounds=4",
    "--meta_valid_seeds=3",
    "--cfg-options=schedule.peak_value=0.1",
]


def _scores(rows):
    return {int(row["step"]): float(row["meta_valid_loss"]) for row in rows if row["meta_valid_loss"]}


def test_the_best_theta_is_kept_and_a_resumed_run_finds_the_same(monkeypatch, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for directory, stops in ((whole, (STEPS,)), (parts, (3, 5, STEPS))):
        directory.mkdir()
        tiny_run.run_here(monkeypatch, directory)
        for steps in stops:
            flags = [*FLAGS, f"--num_outer_steps={steps}", "--checkpoints_to_keep=1", "--auto_resume"]
            assert meta_train(*flags) == 0
    assert metrics(whole) == metrics(parts)
    assert (
        files_below(whole / CHECKPOINTS)["best.safetensors"]
        == files_below(parts / CHECKPOINTS)["best.safetensors"]
    )
    scores = _scores(metrics(whole))
    assert list(scores) == [2, 4, 6, 8]
    assert len(set(scores.values())) == 4
    best = min(scores, key=scores.__getitem__)
    saved = load_theta(whole / CHECKPOINTS / "best")[1]  # as --test_checkpoint names it
    assert (int(saved["step"]), float(saved["meta_valid_loss"])) == (best, pytest.approx(scores[best]))


def test_scores_of_one_theta_are_equal(monkeypatch, tmp_path):
    tiny_run.run_here(monkeypatch, tmp_path)
    training = tiny_run.training_of(load_config([*tiny_run.FLAGS, *FLAGS]))
    assert training.validation is not None
    state, first = training.validation.score(training.state)
    state, second = training.validation.score(state)
    assert float(first["meta_valid_loss"]) == float(second["meta_valid_loss"])
    assert int(state.validation.waited) == 1


def test_patience_ends_the_run_and_a_score_that_is_not_finite_is_the_worst(monkeypatch, tmp_path, capfd):
    tiny_run.run_here(monkeypatch, tmp_path)
    given = iter([3.0, 2.0, np.nan, 2.5, 1.0])

    def score(state):
        value = jnp.float32(next(given))
        return state._replace(validation=after(state.validation, value)), {"meta_valid_loss": value}

    def training(config):
        made = tiny_run.training_of(config)
        state = made.state._replace(validation=before_first())
        return made._replace(state=state, validation=Validation(1, 2, score))

    monkeypatch.setattr(build, "meta_training", training)
    assert meta_train("--num_outer_steps=9", "--meta_valid_patience=2") == 0
    assert "stopped early at outer step 4: no better theta in 2 validations" in capfd.readouterr().err
    assert load_theta(CHECKPOINTS)[1]["step"] == "4"
    assert load_theta(BEST)[1]["step"] == "2"
    assert meta_train("--num_outer_steps=9", "--meta_valid_patience=2", "--from_checkpoint") == 0
    assert "stopped early at outer step 4" in capfd.readouterr().err
    assert len(metrics()) == 4


def test_nan_is_never_the_best():
    best = jax.jit(after)(before_first(), jnp.float32(jnp.nan))
    assert float(best.score) == np.inf
    assert int(best.waited) == 1
