"""From a finished meta-training run to a pretrained aggregator: export, card, look-up, test_checkpoint."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

import learned_aggregation
from learned_aggregation import build, export
from learned_aggregation.config.resolve import load_config
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import compare
from learned_aggregation.pretrained import names as pretrained
from learned_aggregation.pretrained.card import read_card, readme_text
from learned_aggregation.pretrained.drop_in import OutsideTrainedRange
from learned_aggregation.pretrained.loading import load_aggregator
from learned_aggregation.pretrained.theta_file import load_theta, save_theta

REPOSITORY = Path(__file__).parent.parent
NAME = "tiny-agg"
PARAMS = {"w": jnp.ones((2, 10)), "b": jnp.zeros(10)}
DELTAS = jax.tree.map(lambda leaf: 0.1 * jnp.ones((2, *leaf.shape)), PARAMS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with the smallest meta-training run in it, and an exported aggregator."""
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny_run.run_here(monkeypatch, directory)
        assert tiny_run.meta_train("--num_outer_steps=30", "--seed=0") == 0
        assert export.main(["--run", "runs/tiny", "--name", NAME]) == 0
    return directory


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A copy of it, whose pretrained aggregators are found by name."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "PLACES", (tmp_path / "none", tmp_path / "checkpoints/pretrained"))
    return tmp_path / "checkpoints/pretrained" / NAME


def test_the_card_tells_what_theta_is(here):
    card = read_card(here)
    assert (card.name, card.aggregator) == (NAME, "fedlagg")
    assert card.options == {
        "num_grads": 2,
        "hidden_size": 4,
        "base": "none",
        "base_learning_rate": 1.0,
        "base_momentum": 0.5,
    }
    assert card.theta_sha256 == hashlib.sha256((here / "theta.safetensors").read_bytes()).hexdigest()
    assert card.ranges == {
        "num_grads": [2, 2],
        "num_local_steps": [1, 1],
        "local_learning_rate": [0.5, 0.5],
        "num_rounds": [1, 20],
        "tensor_size": [4, 256],  # an MLP of 64 * 4 + 4 and 4 * 10 + 10 numbers
        "model_size": [310, 310],
    }
    assert (card.local_optimizers, card.suggested_rates) == (["sgd"], {})
    told = {
        "task": "mlp4_digits_8",
        "partition": "shared",
        "num_inner_steps": 20,
        "seed": 0,
        "estimator": "pes",
    }
    assert told.items() <= card.trained_on.items()
    assert card.cost["outer_steps"] == 30
    assert card.cost["wall_time_s"] > 0
    assert len(card.meta_loss) == export.CURVE_POINTS
    assert card.meta_loss[-1][0] == 30
    remade = card.command.split("\n")
    assert "--task=mlp4_digits_8" in remade[0]
    assert remade[1] == f"python -m learned_aggregation.export --run runs/tiny --name {NAME}"
    page = (here / "README.md").read_text()
    for told in (NAME, card.theta_sha256, *remade, "| seed | 0 |", "| num_grads | 2 |"):
        assert told in page


def test_a_mixtures_card_has_the_ranges_over_its_problems(here):
    config = Path("runs/tiny/config.py")
    problems = [
        {"label": "a", "num_grads": 4, "num_local_steps": 16, "local_learning_rate_range": (0.1, 0.6)},
        {"label": "b", "task": "mlp8_digits_8", "local_optimizer": "adamw", "num_inner_steps": 40},
    ]
    config.write_text(config.read_text().replace("\nproblems = []", f"\nproblems = {problems}"))
    card = export.export_run(Path("runs/tiny"), here, checkpoint=None, command="")
    assert card.ranges == {
        "num_grads": [2, 4],
        "num_local_steps": [1, 16],
        "local_learning_rate": [0.1, 0.6],
        "num_rounds": [1, 40],
        "tensor_size": [4, 512],
        "model_size": [310, 610],
    }
    assert card.local_optimizers == ["sgd", "adamw"]
    assert card.trained_on["task"] == ["mlp4_digits_8", "mlp8_digits_8"]
    page = (here / "README.md").read_text()
    columns = "label | num_grads | num_local_steps | local_learning_rate_range | task | local_optimizer"
    assert f"problems:\n\n| {columns} |" in page
    assert "| clients' optimizers | sgd, adamw |" in page


def test_theta_is_the_runs_and_export_repeats_bit_for_bit(here):
    theta, metadata = load_theta(here)
    latest, _ = load_theta("checkpoints/tiny")
    jax.tree.map(np.testing.assert_array_equal, theta, latest)
    assert metadata["step"] == "30"
    before = tiny_run.files_below(here)
    assert export.main(["--run", "runs/tiny", "--name", NAME]) == 0
    assert tiny_run.files_below(here) == before
    assert (
        export.main(
            ["--run", "runs/tiny", "--name", "early", "--checkpoint", "checkpoints/tiny/global_step0"]
        )
        == 0
    )
    early = read_card(here.parent / "early")
    assert (early.cost["outer_steps"], list(early.meta_loss)) == (0, [])


def test_the_best_theta_goes_over_the_latest(here):
    theta, metadata = load_theta("checkpoints/tiny/global_step0")
    save_theta("checkpoints/tiny/best.safetensors", theta, metadata)
    assert export.main(["--run", "runs/tiny", "--name", NAME]) == 0
    jax.tree.map(np.testing.assert_array_equal, load_theta(here)[0], theta)


def test_a_name_a_directory_a_run_and_a_file_load_the_same(here):
    sources = [
        NAME,
        here,
        here / "theta.safetensors",
        "checkpoints/tiny",
        "checkpoints/tiny/global_step30.safetensors",
    ]
    outcomes = []
    for i, source in enumerate(sources):
        agg = load_aggregator(source)
        assert agg.name == (NAME if i < 3 else "fedlagg")
        assert agg.clients == 2
        assert agg.trained == {
            "num_grads": (2, 2),
            "num_local_steps": (1, 1),
            "local_learning_rate": (0.5, 0.5),
            "num_rounds": (1, 20),
        } | ({"tensor_size": (4, 256), "model_size": (310, 310)} if i < 3 else {})
        assert agg.local_optimizers == ("sgd",)
        outcomes.append(agg.update(PARAMS, DELTAS, None, agg.init(PARAMS))[0])
    for outcome in outcomes[1:]:
        jax.tree.map(np.testing.assert_array_equal, outcome, outcomes[0])


def test_loading_warns_of_other_clients(here):
    with pytest.warns(
        OutsideTrainedRange, match="tiny-agg: meta-trained with num_local_steps 1, used with 4"
    ):
        load_aggregator(NAME, num_local_steps=4, local_learning_rate=0.5)


def test_an_unknown_name_is_told_the_known_ones(here):
    message = "tiny-ag: expected a pretrained aggregator .tiny-agg. or the path .* Did you mean 'tiny-agg'?"
    with pytest.raises(UserError, match=message):
        load_aggregator("tiny-ag")
    with pytest.raises(UserError, match=r"expected a theta .*, got no "):
        load_aggregator("./tiny-agg")


def test_a_theta_without_metadata_is_told_what_to_do(here):
    save_theta("bare.safetensors", load_theta(here)[0], {})
    with pytest.raises(UserError, match=r"bare.safetensors: expected a theta that says which rule"):
        load_aggregator("bare.safetensors")


def test_a_changed_theta_is_refused(here):
    path = here / "theta.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for source in (NAME, path):
        with pytest.raises(
            UserError, match=r"theta.safetensors: expected sha256 \w{64}, as card.json says, got"
        ):
            load_aggregator(source)


BROKEN = {
    "not JSON": (lambda card: "{", "expected a readable card"),
    "a list": (lambda card: "[]", "got 'list'"),
    "another format": (
        lambda card: card | {"format": "x.2"},
        "a card of format 'learned_aggregation.card.1', got 'x.2'",
    ),
    "an unknown field": (lambda card: card | {"size": 3}, r"expected fields among .*, name, .*, got 'size'"),
    "a missing field": (
        lambda card: {name: value for name, value in card.items() if name != "options"},
        "expected the fields options, got none of them",
    ),
    "another type": (lambda card: card | {"options": []}, "expected options to be a dict, got"),
    "a range the wrong way": (
        lambda card: card | {"ranges": {"num_grads": [8, 2]}},
        r"got num_grads: \[8, 2\]",
    ),
    "a range of nothing known": (
        lambda card: card | {"ranges": {"K": [2, 8]}},
        r"ranges \[lowest, highest\] of",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_card_is_refused_in_one_line(here, case):
    change, message = BROKEN[case]
    changed = change(json.loads((here / "card.json").read_text()))
    (here / "card.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(UserError, match=message) as error:
        load_aggregator(NAME)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(here / "card.json"))


def test_a_rule_that_this_version_does_not_know_is_named(here):
    card = json.loads((here / "card.json").read_text())
    (here / "card.json").write_text(json.dumps(card | {"aggregator": "fedlagg-new"}))
    with pytest.raises(UserError, match=r"optimizer: expected one of .*, got 'fedlagg-new'"):
        load_aggregator(NAME)


def test_test_checkpoint_takes_a_name_and_its_options(here):
    config = load_config(["--run_type", "benchmark", "--test_checkpoint", NAME])
    assert (config.optimizer, config.num_grads, config.hidden_size) == ("fedlagg", 2, 4)
    jax.tree.map(np.testing.assert_array_equal, build.learned_theta(config), load_theta(here)[0])
    other = load_config(["--run_type", "benchmark", "--test_checkpoint", NAME, "--hidden_size", "8"])
    assert other.hidden_size == 8
    with pytest.raises(
        UserError, match="fedlagg: theta was meta-trained for hidden_size=4, the config asks for 8"
    ):
        build.learned_theta(other)


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "", "a/b"])
def test_any_text_may_be_asked_about(path):
    assert pretrained.card_settings({"test_checkpoint": path}) == {}


def test_an_entrant_takes_a_name_and_its_options(here):
    config = load_config([])
    given = {"label": "tiny", "optimizer": "fedlagg", "test_checkpoint": NAME}
    method = compare._method(config, dict(given))
    assert (method.config.num_grads, method.config.hidden_size) == (2, 4)
    with pytest.raises(
        UserError, match="theta was meta-trained for optimizer=fedlagg, the config asks for fedlopt"
    ):
        compare._method(config, given | {"optimizer": "fedlopt"})


TABLE = """task,entrant,seeds,rounds_to_100,speedup_100,test_loss,test_loss_ci95,tuned
mlp4_digits_8,FedAvg,3,20.0,1.0,0.5,0.1,"{""local_learning_rate"": 0.5}"
mlp4_digits_8,tiny,3,inf,0.0,2.25,0.01,{}
"""


def test_results_notes_and_ranges_are_added_and_replaced(here):
    run = Path("runs/compare_a")
    run.mkdir(parents=True)
    (run / "table.csv").write_text(TABLE)
    asked = ["--name", NAME, "--results", str(run), "--note", "Tiny.", "--range", "num_grads=2,16"]
    for _ in range(2):  # a second time changes nothing
        assert export.main(asked) == 0
        card = read_card(here)
        assert [row["entrant"] for row in card.results] == ["FedAvg", "tiny"]
        assert card.results[1] == {
            "source": "compare_a",
            "task": "mlp4_digits_8",
            "entrant": "tiny",
            "seeds": 3.0,
            "rounds_to_100": "not reached",
            "speedup_100": 0.0,
            "test_loss": 2.25,
            "test_loss_ci95": 0.01,
        }
        assert list(card.notes) == ["Tiny."]
        assert card.ranges["num_grads"] == [2, 16]
    page = (here / "README.md").read_text()
    assert "## Results: compare_a" in page
    assert "| num_grads | 2 to 16 |" in page


BAD = {
    "no run": (
        ["--run", "runs/none", "--name", "a"],
        "runs/none: expected a meta-training run with config.py",
    ),
    "no card": (["--name", "none"], "none/card.json: expected a readable card"),
    "no table": (["--name", NAME, "--results", "runs/tiny"], "runs/tiny/table.csv: expected the table"),
    "a range of nothing": (["--name", NAME, "--range", "K=2,8"], "--range: expected NAME=LOW,HIGH"),
    "no range": (["--name", NAME, "--range", "num_grads=8"], "--range: expected NAME=LOW,HIGH"),
    "no theta": (
        ["--run", "runs/tiny", "--name", "a", "--checkpoint", "b.safetensors"],
        "b.safetensors: expected a th",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_export_is_one_line_and_status_2(here, case, capsys):
    argv, message = BAD[case]
    before = tiny_run.files_below(here)
    assert export.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert tiny_run.files_below(here) == before
    assert not (here.parent / "a").exists()


def test_a_run_of_another_type_is_refused(here):
    config = Path("runs/tiny/config.py")
    config.write_text(config.read_text().replace("run_type = 'meta-train'", "run_type = 'benchmark'"))
    with pytest.raises(
        UserError, match="runs/tiny: expected a run of run_type 'meta-train', got 'benchmark'"
    ):
        export.export_run(Path("runs/tiny"), here, checkpoint=None, command="")


@pytest.mark.parametrize("name", pretrained.pretrained_names())
def test_every_pretrained_aggregator_of_the_repository_is_whole(name):
    """Its hash, its page, its size, and a round with it."""
    directory = pretrained.pretrained_directory(name)
    assert directory is not None
    card = read_card(directory)
    assert card.name == name
    assert (directory / "README.md").read_text() == readme_text(card)
    assert sum(path.stat().st_size for path in directory.iterdir()) < 1_000_000
    agg = learned_aggregation.load_aggregator(name)
    clients = agg.clients or int(card.ranges["num_grads"][0])
    deltas = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0], (clients, *leaf.shape[1:])), DELTAS)
    params, _ = agg.update(PARAMS, deltas, None, agg.init(PARAMS))
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf) for leaf in jax.tree.leaves(params))


def test_names_are_looked_up_without_jax():
    code = (
        "import sys, learned_aggregation, learned_aggregation.pretrained.names as p; p.pretrained_names(); "
        "import learned_aggregation.integrations; sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(REPOSITORY / "src")})


@pytest.mark.slow
@pytest.mark.network
def test_pip_installs_the_pretrained_aggregators(here, tmp_path):
    """A real `pip install` of the repository with one more pretrained aggregator, read from elsewhere by name."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "src/learned_aggregation", source / "src/learned_aggregation")
    shutil.copytree(here, source / "checkpoints/pretrained" / NAME)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(source),
    ]
    subprocess.run(pip, check=True)
    shutil.rmtree(source)
    code = f"import learned_aggregation as la; print(la.__file__, la.load_aggregator({NAME!r}).clients)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == [str(target / "learned_aggregation/__init__.py"), "2"]
