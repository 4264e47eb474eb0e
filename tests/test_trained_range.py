"""A theta outside what it was meta-trained on says so once: in a drop-in, in runs; and what a card suggests."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from learned_aggregation import DropIn, build, cli, export, get_aggregator
from learned_aggregation.config.resolve import load_config, with_settings
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import compare
from learned_aggregation.jobs.range_notes import RangeNotes
from learned_aggregation.pretrained import names as pretrained
from learned_aggregation.pretrained.card import read_card, readme_text
from learned_aggregation.pretrained.drop_in import OutsideTrainedRange
from learned_aggregation.pretrained.loading import load_aggregator, trained_of
from learned_aggregation.pretrained.theta_file import save_theta
from learned_aggregation.pretrained.trained import TRAINED, Trained, trained_text
from learned_aggregation.types import Task

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "checkpoints/pretrained"
BASE = {"base": "mean", "base_learning_rate": 0.7, "base_momentum": 0.3}
END = "Compare it with a tuned baseline there."
RANGES = {
    "num_grads": (2, 2),
    "num_local_steps": (1, 4),
    "local_learning_rate": (0.1, 0.5),
    "num_rounds": (1, 2),
}


def theta_of(path: Path, **trained) -> Path:
    """A theta of fedlagg-set that no pretrained aggregator is, at a path, with the metadata of a run."""
    theta = get_aggregator("fedlagg-set", hidden_size=4).init_theta(jax.random.key(0))
    told = Trained(ranges=RANGES, local_optimizers=["sgd"])._replace(**trained)
    save_theta(
        path, theta, {"optimizer": "fedlagg-set", "hidden_size": 4, **BASE, TRAINED: trained_text(told)}
    )
    return path


def model(*shapes) -> dict:
    return {f"w{i}": jnp.zeros(shape) for i, shape in enumerate(shapes)}


def test_a_drop_in_warns_once_of_tensors_rounds_and_the_clients_optimizer():
    ranges = {"tensor_size": (10, 2048), "num_rounds": (1, 100)}
    agg = DropIn("fedavg", name="mine", trained=ranges, local_optimizers=["sgd", "adamw"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agg.init(model((10,), (32, 64)))
        agg.check_problem(num_rounds=100, local_optimizer="adamw")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            agg.init(model((784, 128), (128,)))
            agg.check_problem(num_rounds=200, local_optimizer="muon")
    assert [str(warning.message) for warning in seen] == [
        f"mine: meta-trained with tensor_size 10 to 2048, used with 128 to 100352. {END}",
        f"mine: meta-trained with num_rounds 1 to 100, used with 200. {END}",
        f"mine: meta-trained with local_optimizer sgd, adamw, used with muon. {END}",
    ]


def test_loading_warns_of_rounds_and_the_clients_optimizer(tmp_path):
    with pytest.warns(OutsideTrainedRange) as seen:
        load_aggregator(SHIPPED / "lagg-set", num_rounds=1000, local_optimizer="adamw")
    assert [str(warning.message).split(",")[0] for warning in seen] == [
        "lagg-set: meta-trained with num_rounds 1 to 100",
        "lagg-set: meta-trained with local_optimizer sgd",
    ]
    with pytest.warns(OutsideTrainedRange, match="local_optimizer sgd, used with muon"):
        load_aggregator(theta_of(tmp_path / "a.safetensors"), num_rounds=2, local_optimizer="muon")


@pytest.fixture
def with_strength(tmp_path, monkeypatch):
    """lagg-set's card, which says that with AdamW clients a quarter of it is enough."""
    shutil.copytree(SHIPPED / "lagg-set", tmp_path / "lagg-set")
    arguments = ["--name", "lagg-set", "--to", str(tmp_path), "--strength", "adamw=0.25", "muon=0.5"]
    assert export.main(arguments) == 0
    monkeypatch.setattr(pretrained, "PLACES", (tmp_path,))
    return tmp_path / "lagg-set"


def test_a_card_s_strength_is_that_of_the_clients_optimizer(with_strength, capsys):
    card = read_card(with_strength)
    assert card.strengths == {"adamw": 0.25, "muon": 0.5}
    assert (
        "Strength: 0.25 with adamw, 0.5 with muon; 1 with others" in (with_strength / "README.md").read_text()
    )

    def strength(config):
        return build.aggregator_options(config, build.rates_of(config)).get("strength")

    def of(*argv):
        return load_config(["--test_checkpoint", "lagg-set", *argv])

    assert strength(of()) == strength(of("--local_optimizer", "momentum")) == 1.0
    adamw = of("--local_optimizer", "adamw")
    assert strength(adamw) == 0.25
    assert build.learned_theta(adamw)
    assert "strength: 0.25, as the card has it for clients with adamw." in capsys.readouterr().err
    assert strength(of("--local_optimizer", "adamw", "--cfg-options", "rule_options.strength=1.0")) == 1.0
    assert strength(of("--local_optimizer", "adamw", "--optimizer", "fedavg")) is None
    # A point of a sweep, a method of a comparison.
    assert strength(adamw.changed({"local_optimizer": "muon"})) == 0.5
    assert strength(adamw.changed({"local_optimizer": "sgd"})) == 1.0
    base = load_config(["--local_optimizer", "muon"])
    assert strength(with_settings(base, {"test_checkpoint": "lagg-set"})) == 0.5

    params = model((3, 2))
    deltas = jax.tree.map(lambda leaf: jnp.full((2, *leaf.shape), 0.1).at[0].set(0.3), params)

    def stepped(agg):
        return agg.update(params, deltas, None, agg.init(params))[0]["w0"]

    weak, plain = load_aggregator("lagg-set", local_optimizer="adamw"), load_aggregator("lagg-set")
    assert jnp.any(stepped(weak) != stepped(plain))
    asked = DropIn("fedlagg-set", plain.theta, options={**card.options, "strength": 0.25})
    assert jnp.all(stepped(weak) == stepped(asked))


@pytest.mark.parametrize("number", ["-1", "nan", "'x'"])
def test_strengths_that_are_none_are_refused(with_strength, number, capsys):
    arguments = ["--name", "lagg-set", "--to", str(with_strength.parent), "--strength", f"adamw={number}"]
    assert export.main(arguments) == 2
    assert "--strength: expected OPTIMIZER=NUMBER" in capsys.readouterr().err


def test_suggested_rates():
    agg = load_aggregator(SHIPPED / "lagg-set")
    assert (agg.suggested_rate(), agg.suggested_rate("adamw"), agg.suggested_rate("muon")) == (
        0.2,
        0.003,
        0.01,
    )
    written = (ROOT / "config/_base_/results_real.py").read_text(encoding="utf-8")
    assert "_untuned_rates = dict(sgd=0.2, adamw=0.003, muon=0.01)" in written  # the tables' untuned columns
    with pytest.raises(
        UserError, match=r"lagg-set: expected .* a suggested rate, sgd, adamw, muon, got 'momentum'"
    ):
        agg.suggested_rate("momentum")
    with pytest.raises(UserError, match="fedavg: expected a card with suggested rates, got none"):
        DropIn("fedavg").suggested_rate()


@pytest.fixture
def older(tmp_path):
    """A card as an earlier version wrote it."""
    directory = tmp_path / "old"
    shutil.copytree(SHIPPED / "lagg-set", directory)
    card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    for name in ("num_rounds", "tensor_size", "model_size"):
        del card["ranges"][name]
    del card["local_optimizers"], card["suggested_rates"]
    (directory / "card.json").write_text(json.dumps(card | {"name": "old"}), encoding="utf-8")
    return directory


def test_an_older_card_loads_and_knows_of_nothing_more(older):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agg = load_aggregator(older, num_rounds=10**6, local_optimizer="muon")
        agg.init(model((1,), (3000,)))
    page = readme_text(read_card(older))
    assert not [text for text in ("tensor_size", "clients' optimizers", "to start from") if text in page]


def test_export_completes_an_older_card(older, capsys):
    argv = [
        "--name=old",
        f"--to={older.parent}",
        "--complete",
        "--suggest",
        "sgd=0.2",
        "adamw=0.003",
        "muon=0.01",
    ]
    assert export.main(argv) == 0
    card, shipped = read_card(older), read_card(SHIPPED / "lagg-set")
    assert card.ranges == shipped.ranges
    assert (card.local_optimizers, card.suggested_rates) == (["sgd"], shipped.suggested_rates)
    assert "- Local rate to start from: 0.2 with sgd, 0.003 with adamw" in (older / "README.md").read_text(
        "utf-8"
    )
    for wrong in ("sgd", "sgd=0", "sdg=0.1"):
        assert export.main([*argv[:2], "--suggest", wrong]) == 2
        assert "--suggest: expected OPTIMIZER=NUMBER" in capsys.readouterr().err
    assert read_card(older) == card


BROKEN = {
    "a rate of 0": {"suggested_rates": {"sgd": 0}},
    "rates in a list": {"suggested_rates": [0.1]},
    "an optimizer that is no text": {"local_optimizers": [3]},
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_field_is_refused(older, case):
    card = json.loads((older / "card.json").read_text(encoding="utf-8"))
    (older / "card.json").write_text(json.dumps(card | BROKEN[case]), encoding="utf-8")
    with pytest.raises(UserError, match=r"card\.json: expected (suggested_rates|local_optimizers) to be"):
        load_aggregator(older)


@pytest.mark.parametrize(
    "told", ["[]", "{", '{"ranges": {"K": [1, 2]}}', '{"ranges": {}, "local_optimizers": 3}']
)
def test_broken_metadata_is_refused(tmp_path, told):
    theta = get_aggregator("fedlagg-set", hidden_size=4).init_theta(jax.random.key(0))
    save_theta(
        tmp_path / "a.safetensors", theta, {"optimizer": "fedlagg-set", "hidden_size": 4, TRAINED: told}
    )
    with pytest.raises(UserError, match="metadata: expected"):
        load_aggregator(tmp_path / "a.safetensors")


def task_of(params) -> Task:
    """A task that is asked for its model alone."""
    return Task("model", lambda key: (params, ()), None, None, None)  # pyright: ignore[reportArgumentType]


def test_the_published_form_says_what_it_is_for(capsys):
    """Where it collapses: Fashion-MNIST, 200 rounds, rates beyond its own; each method and quantity on one line."""
    config = load_config(
        ["--run_type=benchmark", f"--test_checkpoint={SHIPPED / 'lagg-a-k8-h4'}", "--num_inner_steps=200"]
    )
    points = [config.changed({"local_learning_rate": rate}) for rate in (0.02, 0.96)]
    ranges, task = RangeNotes(), task_of(model((784, 128), (128,)))
    for _ in range(2):
        ranges.check("LAgg-A", points, task)
        ranges.check("FedAvg", [replace(config, optimizer="fedavg")], task)
    assert ranges.notes == capsys.readouterr().err.splitlines()
    assert sorted(ranges.notes) == [
        f"LAgg-A: meta-trained with local_learning_rate 0.3 to 1, used with 0.02 to 0.96. {END}",
        f"LAgg-A: meta-trained with num_rounds 1 to 100, used with 200. {END}",
        f"LAgg-A: meta-trained with tensor_size 10 to 2048, used with 128 to 100352. {END}",
    ]
    [note] = read_card(SHIPPED / "lagg-a-k8-h4").notes
    assert "2,410 weights" in note
    assert "collapses to 10 % accuracy on Fashion-MNIST" in note
    ranges.check("LAgg-A", [replace(config, local_optimizer="adamw", num_local_steps=8)], task)
    assert [line.split(", used")[0] for line in ranges.notes[3:]] == [
        "LAgg-A: meta-trained with num_local_steps 4",
        "LAgg-A: meta-trained with local_optimizer sgd",
    ]


SMALL = [
    *("--task=mlp4_digits_8", "--num_grads=2", "--num_local_steps=1", "--local_batch_size=4"),
    *("--num_inner_steps=3", "--num_runs=1", "--hidden_size=4", "--optimizer=fedlagg-set"),
]
SWEEP = """sweep_config = dict(method="grid", metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(local_learning_rate=dict(values=[0.5, 0.7])))
"""
COMPARE = """tuning_seeds = 1
entrants = [
    dict(label="FedAvg", optimizer="fedavg"),
    dict(label="mine", optimizer="fedlagg-set", sweep=dict(local_learning_rate=[0.5, 0.7])),
]
"""
RUNS = {
    "benchmark": ("", "fedlagg-set", []),
    "sweep": (SWEEP, "fedlagg-set", [0.7]),
    "compare": (COMPARE, "mine", [0.7]),
}


@pytest.mark.parametrize("run_type", RUNS)
def test_a_run_says_it_and_notes_it(tmp_path, monkeypatch, capsys, run_type):
    text, label, rates = RUNS[run_type]
    monkeypatch.chdir(tmp_path)
    theta_of(Path("a.safetensors"))
    Path("c.py").write_text(text + "seed = 0\n", encoding="utf-8")
    argv = [
        "--config=c.py",
        f"--run_type={run_type}",
        "--test_checkpoint=a.safetensors",
        "--run_dir=run",
        *SMALL,
    ]
    assert cli.main(argv) == 0
    expected = [f"{label}: meta-trained with num_rounds 1 to 2, used with 3. {END}"]
    if rates:
        expected.append(
            f"{label}: meta-trained with local_learning_rate 0.1 to 0.5, used with 0.5 to 0.7. {END}"
        )
    notes = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["notes"]
    said = [line for line in capsys.readouterr().err.splitlines() if "meta-trained with" in line]
    assert sorted(said) == sorted(expected)
    assert sorted(note for note in notes if "meta-trained with" in note) == sorted(expected)


def test_a_path_brings_the_base_that_is_not_asked_for(tmp_path):
    argv = [
        "--run_type=benchmark",
        f"--test_checkpoint={theta_of(tmp_path / 'a.safetensors')}",
        "--hidden_size=4",
    ]
    config = load_config([*argv, "--optimizer=fedlagg-set"])
    assert {name: getattr(config, name) for name in BASE} == BASE
    build.learned_theta(config)
    other = load_config([*argv, "--optimizer=fedlagg-set", "--base=momentum"])
    assert (other.base, other.base_momentum) == ("momentum", 0.3)
    with pytest.raises(UserError, match="meta-trained for base=mean, the config asks for momentum"):
        build.learned_theta(other)
    assert load_config([*argv, "--optimizer=fedavg"]).base is None
    assert load_config([*argv[:1], "--test_checkpoint=none.safetensors"]).base is None


def test_a_method_of_a_comparison_brings_its_base(tmp_path):
    settings = {"label": "mine", "optimizer": "fedlagg-set", "hidden_size": 4}
    made = compare._method(
        load_config([]), settings | {"test_checkpoint": str(theta_of(tmp_path / "a.safetensors"))}
    )
    assert {name: getattr(made.config, name) for name in BASE} == BASE


def test_every_shipped_card_knows_all_ranges():
    for name in pretrained.pretrained_names():
        known = trained_of(name)
        assert {*RANGES, "tensor_size", "model_size"} == set(known.ranges)
        assert known.local_optimizers


def test_a_tensor_below_the_smallest_is_nothing_new():
    known = Trained(ranges={"tensor_size": (10, 2048), "num_grads": (2, 8)})
    assert known.left("tensor_size", [1, 2048]) is None
    assert "used with 1 to 4096" in known.left("tensor_size", [1, 4096])
    assert known.left("num_grads", [1]) is not None


def test_a_checkpoint_that_the_rule_does_not_use_is_told(capsys):
    """A file that names fedavg goes over the card: nothing of lagg-set is left then."""
    config = load_config(["--optimizer", "fedavg", "--test_checkpoint", "lagg-set"])
    assert build.learned_theta(config) == ()
    assert capsys.readouterr().err == "test_checkpoint: 'lagg-set' is not used, fedavg has no theta.\n"
