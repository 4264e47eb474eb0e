"""Paths and names in every setting that has one: `~`, too long, no text, a locale's encoding, no home directory."""

import ast
import os
from pathlib import Path

import pytest
from helpers import fresh_pretrained

from learned_aggregation import cli, export
from learned_aggregation.config import kinds
from learned_aggregation.config.resolve import Config, load_config, meta_train_name, run_dir
from learned_aggregation.config.settings import SETTINGS
from learned_aggregation.data import cache
from learned_aggregation.errors import UserError, one_line
from learned_aggregation.pretrained.loading import load_aggregator
from learned_aggregation.pretrained.theta_file import load_theta

ROOT = Path(__file__).parent.parent
PATHS = [row.name for row in SETTINGS.values() if row.kind.metavar == "PATH"]
NAMES = ["name", "name_suffix", "sweep_id", "test_project"]
FLAGS = ["config", *PATHS]


def _refused(flag: str, value: str) -> str:
    with pytest.raises(UserError) as error:
        load_config(["--run_type=sweep" if flag == "sweep_config" else "--seed=0", f"--{flag}={value}"])
    assert "\n" not in str(error.value)
    str(error.value).encode(errors="backslashreplace")
    return str(error.value)


BAD = {
    "too long": "x" * 300,
    "a part too long": f"a/{'x' * 256}/b",
    "too long in all": "/".join(["x" * 200] * 30),
    "no text": "a\udcff",
    "lines": "a\nb",
    "a null": "a\0b",
    "nobody's home": "~nobody-of-this-name/a",
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("flag", FLAGS)
def test_a_path_that_cannot_be_one_names_its_setting(flag, case):
    assert _refused(flag, BAD[case]).startswith(f"--{flag}: expected a ")


@pytest.mark.parametrize("value", ["x" * 300, "a\udcff", "a/b", "a\nb", ".."])
@pytest.mark.parametrize("flag", NAMES)
def test_a_name_that_cannot_be_one_names_its_setting(flag, value):
    assert _refused(flag, value).startswith(f"--{flag}: expected a name ")


def test_tilde_is_the_home_directory_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.py").write_text("seed = 3\nsweep_config = '~/s.py'\nrun_type = 'sweep'\n")
    (tmp_path / "s.py").write_text(
        "sweep_config = dict(method='grid', parameters=dict(beta=dict(value=0.5)))\n"
    )
    for name in PATHS:
        if name != "sweep_config":
            assert getattr(load_config([f"--{name}=~/x"]), name) == f"{tmp_path}/x"
            assert getattr(Config(**{name: "~/x"}), name) == f"{tmp_path}/x"
    config = load_config(["--config=~/a.py"])
    assert config.seed == 3
    assert config.sweep_config is not None
    assert cache.cache_dir("~/x") == tmp_path / "x"


def test_tilde_where_no_setting_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = fresh_pretrained(monkeypatch, tmp_path, "theirs")
    assert load_aggregator("~/theirs").name == "theirs"
    assert load_theta("~/theirs/theta.safetensors")[1]["optimizer"] == "fedlagg"
    assert load_config(["--run_type=benchmark", "--test_checkpoint=~/theirs"]).hidden_size == 4
    assert export.main(["--name=theirs", "--to=~", "--note=A note."]) == 0
    assert "A note." in (directory / "README.md").read_text()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_name_that_the_locale_cannot_hold_is_one_line(encoding, monkeypatch):
    monkeypatch.setattr(kinds.os, "fsencode", lambda text: text.encode(encoding))
    for flag in (*NAMES, "run_dir", "checkpoints_dir"):
        assert f"--{flag}: expected a name that can be written in {encoding}, got 'run-Δ'" in _refused(
            flag, "run-Δ"
        ).replace("iso8859-1", "latin-1")
    assert load_config(["--name=run"]).name == "run"


def test_a_built_name_fits_a_directory():
    tasks = tuple(f"mlp{width}x{width}_digits_8" for width in range(100, 130))
    config = Config(task=tasks, name_suffix="_a")
    name = meta_train_name(config)
    assert len(name) <= 200
    assert meta_train_name(Config(task=tasks, name_suffix="_b")) != name
    assert len(run_dir(Config(task=tasks, run_type="benchmark")).name) < 250
    assert meta_train_name(Config()) == "fedlagg-adafac32_mlp32_digits_8_K8_H4_0.5"


def test_without_a_home_there_is_a_cache_of_that_users_alone(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache.cache_dir().name == f"learned-aggregation-{os.getuid()}"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.cache_dir() == Path("/x/learned-aggregation")


def test_any_message_is_one_line_of_bounded_length():
    assert one_line("a\n  b\tc") == "a b c"
    assert str(UserError("a:\nb")) == "a: b"
    long = one_line("where: " + "x" * 100_000 + " what to do.")
    assert len(long) < 2100
    assert long.startswith("where: x")
    assert long.endswith("x what to do.")


def test_a_system_that_refuses_is_one_line_and_status_1(monkeypatch, capsys):
    def refuses(*_):
        raise PermissionError(13, "Permission denied", "/root/x")

    monkeypatch.setattr("learned_aggregation.jobs.run", refuses)
    assert cli.main(["--seed=1"]) == 1
    assert capsys.readouterr().err == (
        "error: /root/x: expected the system to allow it, got 'Permission denied'. Remove the cause, then run again.\n"
    )


def _opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
    binary = any(isinstance(text, str) and "b" in text and set(text) <= set("rwxab+") for text in texts)
    is_os = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in (
        "os",
        "tarfile",
        "zipfile",
        "Image",
    )
    is_method = isinstance(call.func, ast.Attribute)  # a function of that name may be our own
    return (is_method and name in ("read_text", "write_text")) or (
        name in ("open", "fdopen") and not binary and not is_os
    )


def test_every_text_file_says_its_encoding():
    """The locale's would be another on another machine."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _opens_text(node):
                said = [keyword.arg for keyword in node.keywords]
                assert "encoding" in said, f"{path}:{node.lineno}"
