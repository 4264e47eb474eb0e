"""A config's aggregator: its options, which of them are traced, and its theta."""

from collections.abc import Mapping
from typing import Any

import jax

from learned_aggregation.aggregators import float_options, get_aggregator, option_defaults
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.meta_testing.program import Rates
from learned_aggregation.pretrained.names import card_of, strength_of
from learned_aggregation.pretrained.theta_file import check_theta, load_theta
from learned_aggregation.runs.messages import say
from learned_aggregation.types import Aggregator, Key, Theta

LOCAL_RATE = "local_learning_rate"
"""The one rate that is the clients'; the others are options of the rule."""

_COMPARED = ("optimizer", "num_grads", "hidden_size", "base", "parametrization")


def rate_name(config: Config, setting: str) -> str | None:
    """The rate that a setting is ("rule_options.tau" is tau), None if it is static.

    Rates are traced: points of a sweep that differ in them alone share one compiled program.
    """
    name = setting.removeprefix("rule_options.")
    return name if setting == LOCAL_RATE or name in float_options(config.optimizer) else None


def rates_of(config: Config) -> dict[str, float]:
    """The float settings of the clients and of the rule that are given, by name."""
    settings = {name: getattr(config, name, None) for name in (LOCAL_RATE, *float_options(config.optimizer))}
    chosen = {name: value for name, value in settings.items() if value is not None}
    options = {n: float(v) for n, v in config.rule_options.items() if n in float_options(config.optimizer)}
    return chosen | options


def make_aggregator(config: Config, rates: Rates) -> Aggregator:
    """The aggregator of the config with the given (maybe traced) rates.

    Raises:
      UserError: a rate that the rule needs is not given.
    """
    return get_aggregator(config.optimizer, **aggregator_options(config, rates))


def aggregator_options(config: Config, rates: Rates) -> dict[str, Any]:
    """The options of the config's rule; where it says nothing the card's strength, then the rule's own defaults."""
    chosen: dict[str, Any] = {"num_grads": config.num_grads, "hidden_size": config.hidden_size}
    chosen |= {} if config.base is None else {"base": config.base}
    defaults = option_defaults(config.optimizer)
    chosen |= card_strength(config) | dict(config.rule_options)
    chosen |= {name: value for name, value in rates.items() if name in defaults}
    known = {name: chosen.get(name, default) for name, default in defaults.items()}
    strange = {name: value for name, value in config.rule_options.items() if name not in defaults}
    return {name: value for name, value in known.items() if value is not None or name in chosen} | strange


def card_strength(config: Config) -> dict[str, float]:
    """{"strength": ...} that the card of `test_checkpoint` has for the config's clients; {} without one."""
    source = config.test_checkpoint
    return strength_of(None if source is None else card_of(source), config.local_optimizer)


def theta_settings(config: Config) -> dict[str, Any]:
    """What a theta depends on: kept beside it and compared when it is read."""
    options = aggregator_options(config, rates_of(config))
    return {
        "optimizer": config.optimizer,
        "num_grads": config.num_grads,
        "hidden_size": config.hidden_size,
        **{name: value for name, value in options.items() if name.startswith("base")},
        "parametrization": config.parametrization,
        "num_local_steps": config.num_local_steps,
        "local_learning_rate": config.local_learning_rate,
        "task": ",".join(dict.fromkeys(problem.tasks[0] for problem in config.inner_problems.values())),
    }


def learned_theta(config: Config) -> Theta:
    """theta for meta-testing: read from `test_checkpoint`, () for a classical rule.

    Raises:
      UserError: a learned rule without a checkpoint, or a checkpoint of another rule, K or width.
    """
    aggregator = make_aggregator(config, rates_of(config))
    expected = jax.eval_shape(aggregator.init_theta, jax.random.key(0))
    if not jax.tree.leaves(expected):
        if config.test_checkpoint is not None:
            say(f"test_checkpoint: {config.test_checkpoint!r} is not used, {config.optimizer} has no theta.")
        return ()
    if config.test_checkpoint is None:
        raise UserError(
            f"test_checkpoint: expected the path of a meta-trained theta for {config.optimizer}, got none. "
            "Give --test_checkpoint checkpoints/<meta-train-name>, or meta-train one first."
        )
    for strength in card_strength(config).values():
        if "strength" not in config.rule_options:
            say(f"strength: {strength:g}, as the card has it for clients with {config.local_optimizer}.")
    return _read_theta(config, config.test_checkpoint, expected)


def first_theta(config: Config, aggregator: Aggregator, key: Key) -> Theta:
    """theta before meta-training: that of `start_checkpoint`, drawn from the key without one.

    Raises:
      UserError: a classical rule, which has none, or a checkpoint of another rule, K or width.
    """
    theta = jax.jit(aggregator.init_theta)(key)
    if not jax.tree.leaves(theta):
        raise UserError(
            f"optimizer: expected a learned aggregator to meta-train, got {config.optimizer!r}. "
            "Use fedlagg-adafac, or --run_type benchmark."
        )
    return theta if config.start_checkpoint is None else _read_theta(config, config.start_checkpoint, theta)


def _read_theta(config: Config, source: str, expected: Theta) -> Theta:
    theta, metadata = load_theta(source)
    settings = {name: value for name, value in theta_settings(config).items() if name in _COMPARED}
    check_theta(theta, expected, config.optimizer, _fixed(config, settings), metadata)
    return theta


def _fixed(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that theta's shape depends on: K only for a rule that reads raw deltas."""
    any_k = serves_any_k(config)
    return {name: value for name, value in settings.items() if not (any_k and name == "num_grads")}


def serves_any_k(config: Config) -> bool:
    """Whether theta is made for no one K."""
    return get_aggregator(config.optimizer, num_grads=config.num_grads).num_clients is None
