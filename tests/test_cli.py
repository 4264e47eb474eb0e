"""The command line: exit statuses, one line for bad input, and a quick start."""

import subprocess
import sys
from pathlib import Path

import pytest

from learned_aggregation import jobs
from learned_aggregation.cli import main
from learned_aggregation.config.resolve import load_config
from learned_aggregation.config.settings import SETTINGS
from learned_aggregation.errors import RunError, UserError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def ran(monkeypatch):
    """What the command line handed to the jobs."""
    calls = []
    monkeypatch.setattr(jobs, "run", lambda config, command: calls.append((config, command)) or 0)
    return calls


def test_the_resolved_config_and_the_command_are_handed_on(ran, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["src/main.py"])
    assert main(["--num_grads", "4", "--name", "a b"]) == 0
    [(config, command)] = ran
    assert (config.num_grads, config.name) == (4, "a b")
    assert command == "python src/main.py --num_grads 4 --name 'a b'"


def test_print_config_prints_a_config_and_runs_nothing(ran, capsys, tmp_path):
    assert main(["--num_grads", "4", "--print_config"]) == 0
    (tmp_path / "a.py").write_text(capsys.readouterr().out)
    assert load_config(["--config", str(tmp_path / "a.py")]) == load_config(["--num_grads", "4"])
    assert ran == []


@pytest.mark.parametrize("argv", [["--num_grads", "0"], ["--num_grad", "4"], ["--config", "nowhere.py"]])
def test_bad_input_is_one_line_and_status_2(ran, capsys, argv):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert ran == []


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("bad input"), 2), (RunError("disk full"), 1), (KeyboardInterrupt(), 130)]
)
def test_exit_statuses(monkeypatch, capsys, error, status):
    def run(config, command):
        raise error

    monkeypatch.setattr(jobs, "run", run)
    assert main(["--seed", "1"]) == status
    assert capsys.readouterr().err == (f"error: {error}\n" if status < 130 else "")


def test_a_bug_keeps_its_traceback(monkeypatch):
    def run(config, command):
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "run", run)
    with pytest.raises(ZeroDivisionError):
        main(["--seed", "1"])


@pytest.mark.parametrize("argv", [["--help"], []])
def test_help_shows_every_flag_with_its_default(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for row in SETTINGS.values():
        assert (f"--{row.name} " in text) == row.flag
    assert "width of a learned aggregator's network (default: 32)" in text


def run_main(*argv):
    command = [sys.executable, "src/main.py", *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_program_refuses_without_a_traceback():
    done = run_main("--optimizer", "fedlaggg")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'fedlagg'?" in done.stderr


def test_help_does_not_wait_for_heavy_libraries():
    code = (
        "import sys; sys.path.insert(0, 'src'); from learned_aggregation.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', sorted({'jax', 'flax', 'optax', 'matplotlib', 'mmengine', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("LOADED []\n"), done.stderr
