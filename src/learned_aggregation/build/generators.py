"""A config's run with generators: the store, its division, the adapters' task, and the parts of the rounds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.build.data import data_options
from learned_aggregation.build.parts import make_local_training, round_sizes
from learned_aggregation.build.rule import learned_theta, make_aggregator, rates_of
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.sources.arrays import fingerprint
from learned_aggregation.errors import UserError
from learned_aggregation.federated import round as one_round
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.compressors import get_compressor
from learned_aggregation.federated.parts import assemble
from learned_aggregation.generators import GENERATORS
from learned_aggregation.generators.adapter import METRICS, adapter_task
from learned_aggregation.generators.base import Generator, GeneratorState, Training
from learned_aggregation.generators.client import Kind
from learned_aggregation.generators.esc50 import esc50
from learned_aggregation.generators.options import FedA2VOptions
from learned_aggregation.generators.rounds import Leaving, Setting, classes_of
from learned_aggregation.generators.samples import WINDOW, empty_pool
from learned_aggregation.generators.server import ServerState, training_on_samples
from learned_aggregation.generators.stand_ins import digits, spoken_digits
from learned_aggregation.generators.store import (
    Store,
    conditions,
    divided,
    read_store,
    standardised,
    trained_on,
)
from learned_aggregation.generators.work import sending_samples, with_generators
from learned_aggregation.meta_testing.evaluation import chunked
from learned_aggregation.types import Metric, Parts, Server, Split, Task, Traffic

LEFT = Metric("left_accuracy", higher_is_better=True, unit="%")
"""On the classes that left with their client."""
MEASURED = (*METRICS, LEFT)


class Held(NamedTuple):
    """What the clients hold: the store in units of its root mean square, and each one's training examples by id.

    valid: ids of what is held out beside the test. conditions: of each class [Y, ...], which everyone knows. left: the
    classes that only the leaving client holds.
    """

    store: Store
    rows: list[np.ndarray]
    valid: np.ndarray
    conditions: np.ndarray
    left: list[int]


class Run(NamedTuple):
    """A case of one seed, ready for its rounds. pool_size: 0 where no samples are sent."""

    setting: Setting
    server: Server
    traffic: Traffic
    pool_size: int


def options_of(config: Config) -> FedA2VOptions:
    return FedA2VOptions(**config.feda2v)


def load_store(config: Config, say: Callable[[str], None]) -> Store:
    """The config's embeddings.

    Raises:
      UserError: a file or folder that is not there or not usable.
    """
    options = options_of(config)
    if options.store == "digits":
        return digits()
    if options.store == "fsdd":
        return spoken_digits(data_options(config))
    if options.store == "esc50":
        return esc50(str(options.store_path), say)
    return read_store(str(options.store_path))


def store_digest(config: Config, store: Store) -> str | None:
    """sha256 of a user's store; None for the embedded one, which is always the same."""
    if options_of(config).store == "digits":
        return None
    return fingerprint({**store._asdict(), "classes": np.array(store.classes)})


def hold(config: Config, store: Store) -> Held:
    """The store divided over the clients.

    Raises:
      UserError: it does not fit so many clients.
    """
    options = options_of(config)
    store = standardised(store)
    train, valid = trained_on(store)
    rows = divided(store, train, options.client_classes, config.num_grads)
    left: list[int] = []
    if options.leaving_client is not None:
        others = [client for client in range(config.num_grads) if client != options.leaving_client]
        stay = classes_of(rows, store.label, others)
        left = [c for c in classes_of(rows, store.label, [options.leaving_client]) if c not in stay]
    return Held(store, rows, valid, conditions(store), left)


def task_name(config: Config) -> str:
    return f"a2v_{config.feda2v['store']}"


def make_task(config: Config, held: Held) -> Task:
    known = held.conditions if held.conditions.ndim == 2 else held.conditions.mean(axis=1)
    _, sequence, dim = held.store.audio.shape
    hidden = options_of(config).adapter_hidden_dim
    return adapter_task(task_name(config), jnp.asarray(known), dim, sequence, hidden)


def make_kind(config: Config, held: Held, directory: Path, sample_dir: Path) -> Kind:
    """The clients' generators.

    Args:
      directory: of their files. sample_dir: where samples wait with optimize_memory_usage.
    """
    options = options_of(config)
    _, sequence, dim = held.store.audio.shape
    sizes: dict[str, Any] = {"input_dim": dim, "sequence_length": sequence}
    if options.generator_type == "gaussian":
        generator: Generator = GENERATORS["gaussian"](**sizes, num_classes=held.store.num_classes)
    else:
        generator = GENERATORS[options.generator_type](
            **sizes,
            visual_dim=held.conditions.shape[-1],
            hidden_dim=options.generator_hidden_dim,
            latent_dim=options.generator_latent_dim,
            learning_rate=options.generator_learning_rate,
            noise=options.generator_augmentation_noise,
            augmented=options.generator_augmentation,
            beta=options.generator_beta,
        )
    epochs = options.generator_training_epochs
    training = Training(epochs, config.num_inner_steps * epochs / 2)
    return Kind(
        generator,
        options.generator_type,
        training,
        directory,
        options.synthetic_samples_per_class,
        options.diffusion_type,
        sample_dir if options.optimize_memory_usage else None,
    )


def pool_size(options: FedA2VOptions, held: Held) -> int:
    """Room for what all clients send in a round; with optimize_memory_usage at most a window of it."""
    classes = sum(len(classes_of(held.rows, held.store.label, [client])) for client in range(len(held.rows)))
    size = classes * options.synthetic_samples_per_class
    return min(size, WINDOW) if options.optimize_memory_usage else size


def prepare(
    config: Config, held: Held, kind: Kind, seed: int, states: list[GeneratorState] | None, samples: bool
) -> Run:
    """The rounds of one case.

    Args:
      states: the clients' generators, where they are trained; None: they are not.
      samples: whether clients send some, which the server trains on.
    Raises:
      UserError: a learned rule without its theta, a rate that is missing.
    """
    options, config = options_of(config), replace(config, seed=seed)
    task, rates = make_task(config, held), rates_of(config)
    size = pool_size(options, held) if samples else 0
    work = independently(make_local_training(config, task, rates))
    if states is not None:
        work = with_generators(work, kind.generator, kind.training)
    _, sequence, dim = held.store.audio.shape
    if samples:
        largest = max(len(classes_of(held.rows, held.store.label, [c])) for c in range(len(held.rows)))
        work = sending_samples(work, largest * options.synthetic_samples_per_class * sequence * dim + largest)
    server_work = training_on_samples(
        task,
        options.global_model_train_epochs,
        config.local_batch_size,
        options.global_model_train_learning_rate,
        options.global_model_train_from_nodes_adapters,
    )
    down = {k: v for k, v in config.server_compressor.items() if k != "type"}
    parts = assemble(
        task,
        work,
        make_aggregator(config, rates),
        compressor=get_compressor(config.compressor, **config.compressor_options),
        server_work=server_work if samples and options.global_model_train else None,
        server_compressor=get_compressor(config.server_compressor["type"], **down),
    )
    theta = learned_theta(config)
    params, model_state = task.init(jax.random.key(seed))
    server = one_round.init_server(theta, parts, params, model_state, len(held.rows))
    server = _with_states(server, states)
    if samples and options.global_model_train:
        server = server._replace(work=ServerState(empty_pool(size, sequence, dim), params))
    setting = _setting(config, held, parts, theta, seed)
    return Run(setting, server, one_round.traffic(parts, params), size)


def _with_states(server: Server, states: list[GeneratorState] | None) -> Server:
    """Each client's generator at its place of the population."""
    if states is None:
        return server
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    kept = server.clients.work._replace(generator=together)
    return server._replace(clients=server.clients._replace(work=kept))


def _setting(config: Config, held: Held, parts: Parts, theta: Any, seed: int) -> Setting:
    store, options = held.store, options_of(config)
    clip = store.clip
    examples = {"audio": store.audio, "clip": clip, "label": store.label}
    train = to_federated(Split(examples), held.rows)
    evaluation = {}
    for name, ids in (("outer_valid", held.valid), ("test", np.flatnonzero(store.is_test))):
        some = {leaf: jnp.asarray(examples[leaf][ids]) for leaf in ("audio", "label")}
        evaluation[name] = chunked(some, config.eval_chunk)
    return Setting(
        parts,
        round_sizes(config),
        theta,
        train,
        evaluation,
        store.num_classes,
        Leaving(options.leaving_client, options.leaves_after_round),
        config.num_inner_steps,
        config.save_iter,
        seed,
    )


def check_rule(config: Config) -> None:
    """Refuses a learned rule without its theta before anything runs.

    Raises:
      UserError: there is none, or one of another rule.
    """
    learned_theta(config)
    if config.parametrization != "standard":
        raise UserError(
            f"parametrization: expected 'standard' with run_type 'feda2v', got "
            f"{config.parametrization!r}. Leave it out."
        )
