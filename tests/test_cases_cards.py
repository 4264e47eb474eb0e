"""A pretrained aggregator's files are files from elsewhere: they say which rule it is, and nothing about a run."""

import json
import re

import pytest
from helpers import fresh_pretrained

from learned_aggregation.aggregators import AGGREGATORS, accepted_options
from learned_aggregation.config.resolve import load_config
from learned_aggregation.config.settings import INNER, RULE, SETTINGS, check_point
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import compare
from learned_aggregation.pretrained.loading import load_aggregator
from learned_aggregation.pretrained.names import NOT_A_CARD_S, RULE_SETTINGS

FOREIGN = {
    "run_dir": "chosen-by-the-card",
    "checkpoints_dir": "chosen-by-the-card",
    "tracker": "wandb",
    "test_project": "theirs",
    "tfds_download": True,
    "seed": 5,
    "local_learning_rate": 9.0,
    "run_type": "meta-train",
    "zz": 1,
}
OF_ANOTHER_KIND = {
    "num_grads": "8",
    "hidden_size": 4.0,
    "base": 3,
    "base_momentum": "x",
    "base_learning_rate": True,
}


@pytest.fixture
def card(tmp_path, monkeypatch):
    """The card of a pretrained aggregator, to be changed."""
    return fresh_pretrained(monkeypatch, tmp_path, "theirs") / "card.json"


def _with_options(card, **options):
    content = json.loads(card.read_text())
    card.write_text(json.dumps(content | {"options": content["options"] | options}))


@pytest.mark.parametrize("name", FOREIGN)
def test_a_card_sets_nothing_but_its_rules_options(card, name):
    _with_options(card, **{name: FOREIGN[name]})
    message = re.escape(f"{card}: options: expected options of fedlagg (") + f".*got '{name}'"
    for source in ("theirs", str(card.parent)):
        with pytest.raises(UserError, match=message):
            load_config(["--run_type", "benchmark", "--test_checkpoint", source])
        with pytest.raises(UserError, match=message):
            load_aggregator(source)
    with pytest.raises(UserError, match=message):
        compare._method(load_config([]), {"label": "theirs", "test_checkpoint": "theirs"})


@pytest.mark.parametrize("name", OF_ANOTHER_KIND)
def test_a_cards_options_are_of_their_kind(card, name):
    _with_options(card, **{name: OF_ANOTHER_KIND[name]})
    with pytest.raises(UserError, match=f"expected {name} to be a (int|float|str), got"):
        load_config(["--run_type", "benchmark", "--test_checkpoint", "theirs"])


def test_options_of_a_rule_that_are_no_settings_are_rule_options(card):
    content = json.loads(card.read_text())
    options = {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "tau": 0.01}
    card.write_text(json.dumps(content | {"aggregator": "fedadam", "options": options}))
    config = load_config(["--run_type", "benchmark", "--test_checkpoint", "theirs"])
    assert (config.optimizer, config.learning_rate) == ("fedadam", 0.1)
    assert config.rule_options == {"beta1": 0.8, "beta2": 0.9, "tau": 0.01}


def test_no_option_of_a_rule_moves_a_run():
    """Whoever adds a rule with an option of a setting's name says here whether a card may give it."""
    options = {option for rule in AGGREGATORS for option in accepted_options(rule)}
    assert options & SETTINGS.keys() == {*RULE_SETTINGS, *NOT_A_CARD_S}
    assert {SETTINGS[name].group for name in RULE_SETTINGS} <= {RULE, INNER}


@pytest.mark.parametrize("name", ["run_dir", "tracker", "seed"])
def test_a_wandb_servers_point_sets_swept_settings_alone(name, monkeypatch):
    with pytest.raises(UserError, match=f"a server: {name}: expected a setting that may vary here"):
        check_point("a server", {"beta": 0.5, name: FOREIGN[name]})
    assert check_point("a server", {"beta": 0, "rule_options.tau": 0.1}) == {
        "beta": 0.0,
        "rule_options.tau": 0.1,
    }
