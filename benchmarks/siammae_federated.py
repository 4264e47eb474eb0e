"""Siamese masked autoencoders from 8 clients, a family of motions each: who averages, and central training beside."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checkout import ROOT
from benchmarks.siammae_models import RUNS, SEEDS, kept, slug, summary
from benchmarks.siammae_table import STRIDE, Propagation, _clips, _rows
from learned_aggregation import build
from learned_aggregation.config.resolve import Config, load_config
from learned_aggregation.data.federated import to_federated
from learned_aggregation.meta_testing.evaluation import chunked, evaluate_split
from learned_aggregation.problems.inner_problem import training_problem
from learned_aggregation.ssl.central import Recipe, make_step, start
from learned_aggregation.ssl.features import siamese_features
from learned_aggregation.ssl.probing import clip_scores
from learned_aggregation.ssl.siamese import siammae
from learned_aggregation.types import Params, Task

CONFIG = ROOT / "config" / "_base_" / "siammae.py"
RATES = (1e-3, 2e-3, 4e-3)
METHODS: dict[str, list[dict[str, Any]]] = {
    "FedAvg": [{"optimizer": "fedavg", "local_learning_rate": rate} for rate in RATES],
    "Nesterov": [
        {"optimizer": "diloco", "local_learning_rate": rate, "learning_rate": server, "beta": beta}
        for rate, server, beta in ((1e-3, 1.0, 0.6), (2e-3, 0.7, 0.6), (2e-3, 0.7, 0.9), (2e-3, 1.0, 0.6))
    ],
    "lagg-set": [{"test_checkpoint": "lagg-set", "local_learning_rate": rate} for rate in RATES],
}
EVERY = 20
"""Rounds between evaluations."""
HOW = Propagation(radius=6.0, temperature=0.05, centred=True)
"""One for all: which method, not which setting, is asked here."""


def _config(settings: dict[str, Any]) -> Config:
    flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return load_config(["--config", str(CONFIG), *flags])


def _losses(task: Task, params: Params, evaluation: dict[str, Any]) -> dict[str, jax.Array]:
    return {
        f"{split}_{name}": value
        for split, (chunks, mask) in evaluation.items()
        for name, value in evaluate_split(task, params, (), chunks, mask).items()
    }


def _probe(params: Params, config: Config) -> float:
    """J&F of the encoder's last block on the plain test clips."""
    sizes = siammae(config.tasks[0].removeprefix("siammae").rsplit("_", 2)[0], 3)
    feature = siamese_features("", params, sizes)[sizes.layers - 1]
    video, masks = _clips("test", "plain")
    _, j, f = clip_scores(feature, video, jnp.asarray(masks), 4, STRIDE, [HOW])
    return _rows(masks, j, f)[0]["jf_mean"]


def _evaluation(loaded: build.TaskData) -> dict[str, Any]:
    return {
        split: chunked({"video": jnp.asarray(loaded.dataset.splits[split].examples["video"])}, 32)
        for split in ("outer_valid", "test")
    }


def run(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """One method with one seed: losses by rounds, and J&F at the end."""
    config = _config(settings)
    loaded = build.load_task(config, config.tasks[0])
    theta, rates = build.learned_theta(config), build.rates_of(config)
    sizes = build.round_sizes(config)
    problem = training_problem(build.make_parts(config, loaded)(rates), sizes)
    data = {"train": to_federated(loaded.dataset.splits["train"], loaded.rows)}
    key = jax.random.key(seed)
    server = jax.jit(problem.reset)(theta, data, key)

    @jax.jit
    def segment(server: Any, done: jax.Array, data: Any):
        def one(server: Any, index: jax.Array):
            return problem.advance(theta, server, data, jax.random.fold_in(key, index))

        return jax.lax.scan(one, server, done + jnp.arange(EVERY))[0]

    evaluate = jax.jit(lambda params: _losses(loaded.task, params, _evaluation(loaded)))
    curve = [(0, evaluate(server.params))]
    for done in range(0, config.num_inner_steps, EVERY):
        server = segment(server, jnp.int32(done), data)
        curve.append((done + EVERY, evaluate(server.params)))
    return _result(curve, server.params, config)


def central(seed: int, rate: float) -> dict[str, Any]:
    """As many samples in as many steps, from all clients' clips together, at one rate."""
    config = _config({"optimizer": "fedavg"})
    loaded = build.load_task(config, config.tasks[0])
    split = loaded.dataset.splits["train"]
    data = to_federated(split, [np.arange(len(split.examples["video"]))])
    steps = config.num_inner_steps * config.num_local_steps
    batch = config.num_grads * config.local_batch_size
    recipe = Recipe(steps, 1, batch, learning_rate=rate, min_rate=rate, decay=0.1)
    step, training = make_step(loaded.task, recipe), start(loaded.task, recipe, seed)
    evaluate = jax.jit(lambda params: _losses(loaded.task, params, _evaluation(loaded)))
    curve = [(0, evaluate(training.theta))]
    for number in range(steps):
        training = step(data, training, jnp.int32(number))
        if (number + 1) % (EVERY * config.num_local_steps) == 0:
            curve.append(((number + 1) // config.num_local_steps, evaluate(training.theta)))
    return _result(curve, training.theta, config)


def _result(curve: list[tuple[int, dict[str, jax.Array]]], params: Params, config: Config) -> dict[str, Any]:
    return {
        "rounds": [rounds for rounds, _ in curve],
        **{name: [float(found[name]) for _, found in curve] for name in curve[0][1]},
        "jf": _probe(params, config),
    }


def _kept(label: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    text = ", ".join(f"{name} {value}" for name, value in settings.items())
    return kept(
        RUNS / "federated" / f"{slug(f'{label} {text}')}_seed{seed}.json", lambda: run(settings, seed)
    )


def federated() -> dict[str, Any]:
    """Each method at its best of the grid (by seed 0's last loss on outer_valid), over seeds."""
    chosen = {
        label: min(grid, key=lambda settings: _kept(label, settings, 0)["outer_valid_loss"][-1])
        for label, grid in METHODS.items()
    }
    # lagg-set with its network off is FedAvg: the control at the rate that was chosen for it.
    off = {"optimizer": "fedavg", "local_learning_rate": chosen["lagg-set"]["local_learning_rate"]}
    runs = {label: [_kept(label, settings, seed) for seed in SEEDS] for label, settings in chosen.items()}
    runs["network off"] = [_kept("FedAvg", off, seed) for seed in SEEDS]
    rate = chosen["FedAvg"]["local_learning_rate"]
    where = [RUNS / "federated" / f"central_{rate:g}_seed{seed}.json" for seed in SEEDS]
    runs["central"] = [kept(path, central, seed, rate) for path, seed in zip(where, SEEDS, strict=True)]
    target = float(np.mean([one["test_loss"][-1] for one in runs["FedAvg"]]))
    return {
        "target": target,
        "methods": {label: _summed(found, target, chosen.get(label, {})) for label, found in runs.items()},
    }


def _summed(runs: list[dict[str, Any]], target: float, settings: dict[str, Any]) -> dict[str, Any]:
    mean = np.mean([one["test_loss"] for one in runs], axis=0)
    reached = np.flatnonzero(mean <= target)
    return {
        "settings": settings,
        "loss": summary([one["test_loss"][-1] for one in runs]),
        "another": summary([one["test_loss_of_another_clip"][-1] for one in runs]),
        "jf": summary([one["jf"] for one in runs]),
        "rounds": runs[0]["rounds"][reached[0]] if len(reached) else None,
    }
