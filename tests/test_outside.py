"""What users bring by name: package.module:attribute, custom_imports, and errors in their modules."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from benchmarks.checkout import ROOT
from learned_aggregation import load_aggregator
from learned_aggregation.aggregators import AGGREGATORS, get_aggregator
from learned_aggregation.cli import main
from learned_aggregation.config.resolve import load_config
from learned_aggregation.config.settings import Config
from learned_aggregation.errors import UserError
from learned_aggregation.outside import blamed
from learned_aggregation.pretrained.card import card_text, read_card
from learned_aggregation.pretrained.names import card_of
from learned_aggregation.pretrained.theta_file import load_theta, save_theta
from learned_aggregation.registry import Registry, brought
from learned_aggregation.tasks.names import parse_task_name

RULES = """
import jax
import jax.numpy as jnp

from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.aggregators.classical import classical


def halved(*, tempo: float = 0.5):
    return classical(lambda params: (), lambda g, state: (jax.tree.map(lambda x: -tempo * x, g), state))


AGGREGATORS.register("users_halved")(halved)


def broken(*, tempo: float = 0.5):
    def rule(g, state):
        return jnp.ones(3) + jnp.ones(4), state

    return classical(lambda params: (), rule)
"""
SMALL = ("--run_type=benchmark", "--task=mlp4_digits_8", "--num_grads=2", "--num_local_steps=1")
SMALL += ("--local_batch_size=4", "--num_inner_steps=2", "--num_runs=1", "--run_dir=run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)
    (tmp_path / "users_rules.py").write_text(RULES)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]
    AGGREGATORS._entries.pop("users_halved", None)


def errors(capsys, *argv):
    """(the exit status, the last line on stderr) of a command."""
    status = main(argv)
    *_, last = capsys.readouterr().err.strip().splitlines()
    return status, last


def test_a_rule_of_another_module_runs_and_its_options_are_swept(here, capsys):
    argv = (*SMALL, "--optimizer=users_rules:halved", "--cfg-options", "rule_options.tempo=0.25")
    assert main(argv) == 0
    assert "users_rules:halved" in capsys.readouterr().out
    again = load_config(["--config", "run/config.py"])
    assert (again.optimizer, again.rule_options) == ("users_rules:halved", {"tempo": 0.25})


def test_custom_imports_register(here):
    """Before the settings, and the rows of by_optimizer, that name what they register."""
    rows = 'by_optimizer = {"users_halved": dict(learning_rate=0.5)}\n'
    (here / "config.py").write_text(f'custom_imports = dict(imports=["users_rules"])\n{rows}')
    config = load_config(["--config", "config.py", "--optimizer", "users_halved"])
    assert config.custom_imports == {"imports": ["users_rules"]}
    assert config.learning_rate == 0.5
    assert (
        load_config(["--custom_imports=users_rules", "--optimizer=users_halved"]).optimizer == "users_halved"
    )
    assert (
        Config(optimizer="users_halved", custom_imports=["users_rules"]).custom_imports
        == config.custom_imports
    )


def test_a_failed_import_that_is_allowed_is_a_warning():
    with pytest.warns(UserWarning, match="users_nowhere"):
        Config(custom_imports={"imports": ["users_nowhere"], "allow_failed_imports": True})


REGISTRIES = {
    "optimizer": "fedavg",
    "local_optimizer": "sgd",
    "compressor": "none",
    "objective": "classification",
    "partition": "shared",
    "estimator": "pes",
    "tracker": "csv",
    "task": "mlp4_digits_8",
}


@pytest.mark.parametrize("setting", REGISTRIES)
def test_every_setting_that_takes_a_registered_name_takes_one_from_outside(setting, here):
    """Looked up, and refused with the setting's name where it is not there."""
    (here / "users_all.py").write_text(
        "from learned_aggregation.federated.compressors.none import none\n"
        "from learned_aggregation.aggregators.fedavg import fedavg\n"
        "def thing(*_, **__): pass\n"
    )
    sys.path.append(str(here))
    found = {"optimizer": "fedavg", "compressor": "none"}.get(setting, "thing")
    form = "{}_digits_8" if setting == "task" else "{}"
    config = load_config([f"--{setting}", form.format(f"users_all:{found}")])
    kept = getattr(config, setting)
    assert kept == ((f"users_all:{found}",) if setting == "tracker" else form.format(f"users_all:{found}"))
    with pytest.raises(UserError, match=rf"^--{setting}: .*no module named 'users_none'"):
        load_config([f"--{setting}", form.format("users_none:thing")])
    with pytest.raises(UserError, match=rf"^--{setting}: .*attribute of users_all \(thing\), got 'nothing'"):
        load_config([f"--{setting}", form.format("users_all:nothing")])


@pytest.mark.parametrize("setting", REGISTRIES)
def test_a_name_from_outside_of_something_else_is_refused(setting, here):
    (here / "users_number.py").write_text("x = 3")
    sys.path.append(str(here))
    form = "{}_digits_8" if setting == "task" else "{}"
    with pytest.raises(
        UserError, match=rf"^--{setting}: .*got 'users_number:x', which is 3\. Check the name"
    ):
        load_config([f"--{setting}", form.format("users_number:x")])


def test_task_names_with_underscores_and_modules():
    named = ["my_data", "data", "data_2"]
    assert parse_task_name("mlp64x64_my_data_28", named) == ("mlp", "64x64", "my_data", 28)
    assert parse_task_name("small_conv_data_2_28", named) == ("conv", "16x32", "data_2", 28)
    assert parse_task_name("vit_p4_h64_m128_nh4_nl4_my_data_28", named)[2] == "my_data"
    assert parse_task_name("os.path:join_my_data_28", named) == ("os.path:join", "", "my_data", 28)
    assert parse_task_name("os.path:join_digits_8") == ("os.path:join", "", "digits", 8)
    assert parse_task_name("mlp8x8_os.path:join_8") == ("mlp", "8x8", "os.path:join", 8)
    assert parse_task_name("os.path:join_os.path:split_8") == ("os.path:join", "", "os.path:split", 8)
    with brought({("model", "my_net"): object}):
        assert parse_task_name("my_net64_my_data_28", named) == ("my_net", "64", "my_data", 28)
    for name in ("mlp8_his_date_8", "mpl8_my_data_8", "mlp8_my_data_", "mlp8_my_data_x"):
        with pytest.raises(UserError, match=f"task {name!r}"):
            parse_task_name(name, named)


def test_an_error_in_the_users_module_names_its_line(here, capsys):
    status, last = errors(capsys, *SMALL, "--optimizer=users_rules:broken")
    assert status == 1
    assert last.startswith(
        "error: users_rules.py, line 18: expected code that runs, got TypeError: add got incompatible"
    )
    for text, told in [
        ("x = 1 +", "SyntaxError: invalid syntax"),
        ("\nimport os\nos.nix", "AttributeError: module 'os'"),
    ]:
        name = f"users_bad{len(text)}"
        (here / f"{name}.py").write_text(text)
        status, last = errors(capsys, f"--custom_imports={name}")
        assert (status, told in last, f"line {text.count(chr(10)) + 1}. Fix" in last) == (2, True, True), last


def test_an_error_of_ours_is_not_blamed_on_users():
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    assert blamed(caught.value, ["users_rules"]) is None
    assert "ZeroDivisionError" in str(blamed(caught.value, [__name__]))


def test_a_folder_of_the_command_line_is_searched_last(here):
    """An installed module goes before one of its name in the folder; `learned-aggregation` finds the folder's."""
    (here / "json.py").write_text("1 / 0")
    program = "import sys; sys.path.remove(''); from learned_aggregation.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--optimizer=users_rules:halved", "--print_config"]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "optimizer = 'users_rules:halved'" in done.stdout, done.stderr


def a_theta_that_names(rule, path):
    theta = get_aggregator("fedlagg-set").init_theta(__import__("jax").random.key(0))
    save_theta(path, theta, {"optimizer": rule, "num_grads": 8, "hidden_size": 32})


@pytest.mark.parametrize("where", ["theta", "card", "card's options"])
def test_what_a_file_names_is_never_imported(where, here):
    """Neither by loading it, nor by testing it without naming the module oneself."""
    (here / "users_trap.py").write_text("raise SystemExit('imported')")
    sys.path.append(str(here))
    if where == "theta":
        a_theta_that_names("users_trap:rule", here / "a.safetensors")
        with pytest.raises(UserError, match=r"optimizer: expected one of .* got 'users_trap:rule'"):
            load_aggregator(here / "a.safetensors")
    else:
        card = card_of("lagg-set")
        changes = (
            {"aggregator": "users_trap:rule"} if where == "card" else {"options": {"base": "users_trap:rule"}}
        )
        (here / "mine").mkdir()
        (here / "mine" / "card.json").write_text(card_text(card.__class__(**{**vars(card), **changes})))
        with pytest.raises(UserError, match="names of the package, got 'users_trap:rule'"):
            read_card(here / "mine")
        with pytest.raises(UserError, match="names of the package"):
            load_config(["--test_checkpoint", "mine"])
    assert "users_trap" not in sys.modules


def test_a_theta_of_the_users_rule_is_tested_by_naming_the_rule(here):
    (here / "users_learned.py").write_text(
        "from learned_aggregation.aggregators.fedlagg_set import fedlagg_set as rule\n"
    )
    sys.path.append(str(here))
    a_theta_that_names("users_learned:rule", here / "a.safetensors")
    assert load_theta(here / "a.safetensors")[1]["optimizer"] == "users_learned:rule"
    named = ["--optimizer=users_learned:rule", "--test_checkpoint=a.safetensors"]
    assert main([*SMALL, *named]) == 0


def test_a_name_is_registered_once():
    registry = Registry("colour", {"red": "os:getcwd"})
    with pytest.raises(UserError, match="colour: expected a name that is free to register, got 'red'"):
        registry.register("red")(len)
    with pytest.raises(UserError, match="without colon"):
        registry.register("a:b")(len)
    assert registry.register("blue")(len) is len
    registry.register("blue")(len)
    assert (list(registry), registry["blue"], len(registry)) == (["red", "blue"], len, 2)


def test_what_is_brought_for_a_time_is_gone_afterwards():
    registry = Registry("colour", {})
    with brought({("colour", "red"): 1}):
        with brought({("colour", "blue"): 2}):
            assert (registry["red"], registry["blue"], sorted(registry)) == (1, 2, ["blue", "red"])
        assert "blue" not in registry
    assert list(registry) == []
    with pytest.raises(UserError, match="colour"):
        registry["red"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"imports": "my_rules.py/"}, "custom_imports.imports: expected names of modules"),
        ({"import": ["a"]}, "custom_imports: expected a known key, got 'import'. Did you mean 'imports'"),
        (3, "custom_imports: expected names of modules, got 3"),
        ({"imports": [], "allow_failed_imports": 1}, "allow_failed_imports: expected True or False"),
    ],
)
def test_custom_imports_of_another_form_are_refused(value, message):
    with warnings.catch_warnings(), pytest.raises(UserError, match=message):
        Config(custom_imports=value)


def test_nothing_is_brought_by_default():
    assert (Config().custom_imports, Config().datasets) == ({}, {})
    assert np.size(Config().task)
