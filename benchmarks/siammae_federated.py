"""Siamese masked autoencoders from 8 clients, a family of motions each: who averages, and central training beside."""

import functools
from collections.abc import Callable
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
SMALLER = {
    "task": "siammae_p8_h64_m256_nh2_nl2_dh32_dnh2_dnl1_photoclips_64",
    "num_inner_steps": 60,
    "num_runs": 1,
}
"""Beside CONFIG: so that twenty runs are minutes on a core."""
RATES = (1.5e-3, 4e-3)
METHODS: dict[str, list[dict[str, Any]]] = {
    "FedAvg": [{"optimizer": "fedavg", "local_learning_rate": rate} for rate in RATES],
    "Nesterov": [
        {"optimizer": "diloco", "local_learning_rate": rate, "learning_rate": server, "beta": beta}
        for rate, server, beta in ((1.5e-3, 1.0, 0.6), (4e-3, 0.7, 0.6))
    ],
    "lagg-set": [{"test_checkpoint": "lagg-set", "local_learning_rate": rate} for rate in RATES],
}
EVERY = 20
"""Rounds between evaluations."""
HOW = Propagation(radius=4.0, temperature=0.05, centred=True)
"""One for all: which method, not which setting, is asked here."""


def _config(settings: dict[str, Any]) -> Config:
    flags = [text for name, value in (SMALLER | settings).items() for text in (f"--{name}", str(value))]
    return load_config(["--config", str(CONFIG), *flags])


Programs = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


@functools.cache
def _programs(rule: str) -> Programs:
    """(reset, EVERY rounds, losses) of a rule, compiled once for all its rates and seeds, which are traced."""
    config = _config(METHODS[rule][0])
    loaded = _loaded()
    parts, sizes = build.make_parts(config, loaded), build.round_sizes(config)

    def reset(theta: Any, rates: Any, data: Any, key: jax.Array) -> Any:
        return training_problem(parts(rates), sizes).reset(theta, data, key)

    def segment(theta: Any, rates: Any, server: Any, done: jax.Array, data: Any, key: jax.Array) -> Any:
        problem = training_problem(parts(rates), sizes)

        def one(server: Any, index: jax.Array):
            return problem.advance(theta, server, data, jax.random.fold_in(key, index))

        return jax.lax.scan(one, server, done + jnp.arange(EVERY))[0]

    return jax.jit(reset), jax.jit(segment), _losses_program()


@functools.cache
def _loaded() -> build.TaskData:
    config = _config(METHODS["FedAvg"][0])
    return build.load_task(config, config.tasks[0])


@functools.cache
def _losses_program() -> Callable[..., Any]:
    return jax.jit(functools.partial(_losses, _loaded().task))


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


def run(rule: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """One method with one seed: losses by rounds, and J&F at the end."""
    config, loaded = _config(settings), _loaded()
    theta, rates = build.learned_theta(config), build.rates_of(config)
    reset, segment, losses = _programs(rule)
    data = {"train": to_federated(loaded.dataset.splits["train"], loaded.rows)}
    evaluation, key = _evaluation(loaded), jax.random.key(seed)
    server = reset(theta, rates, data, key)
    curve = [(0, losses(server.params, evaluation))]
    for done in range(0, config.num_inner_steps, EVERY):
        server = segment(theta, rates, server, jnp.int32(done), data, key)
        curve.append((done + EVERY, losses(server.params, evaluation)))
    return _result(curve, server.params, config)


def central(seed: int, rate: float) -> dict[str, Any]:
    """As many samples in as many steps, from all clients' clips together, at one rate."""
    config = _config({"optimizer": "fedavg"})
    loaded = _loaded()
    split = loaded.dataset.splits["train"]
    data = to_federated(split, [np.arange(len(split.examples["video"]))])
    steps = config.num_inner_steps * config.num_local_steps
    batch = config.num_grads * config.local_batch_size
    recipe = Recipe(steps, 1, batch, learning_rate=rate, min_rate=rate)
    step, training = make_step(loaded.task, recipe), start(loaded.task, recipe, seed)
    losses, evaluation = _losses_program(), _evaluation(loaded)
    curve = [(0, losses(training.theta, evaluation))]
    for number in range(steps):
        training = step(data, training, jnp.int32(number))
        if (number + 1) % (EVERY * config.num_local_steps) == 0:
            curve.append(((number + 1) // config.num_local_steps, losses(training.theta, evaluation)))
    return _result(curve, training.theta, config)


def _result(curve: list[tuple[int, dict[str, jax.Array]]], params: Params, config: Config) -> dict[str, Any]:
    return {
        "rounds": [rounds for rounds, _ in curve],
        **{name: [float(found[name]) for _, found in curve] for name in curve[0][1]},
        "jf": _probe(params, config),
    }


def _kept(label: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    text = ", ".join(f"{name} {value}" for name, value in settings.items())
    return kept(RUNS / "federated" / f"{slug(f'{label} {text}')}_seed{seed}.json", run, label, settings, seed)


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
