"""Whole runs from the command line, in process and tiny: benchmark, sweep, compare, and the README's commands."""

import contextlib
import csv
import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import fresh_pretrained

from learned_aggregation.cli import main
from learned_aggregation.config.resolve import load_config
from learned_aggregation.jobs import compare as compare_job
from learned_aggregation.jobs import sweep as sweep_job

ROOT = Path(__file__).parent.parent
TINY = "--task mlp4_digits_8 --num_grads 2 --num_local_steps 1 --local_batch_size 4 --num_inner_steps 4 --num_runs 2"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(command):
    return main(shlex.split(command))


def test_benchmark_writes_its_rounds_and_report(here):
    assert run(f"--run_type benchmark --optimizer fedavg --run_dir out {TINY}") == 0
    found = rows(here / "out/rounds.csv")
    assert len(found) == 2 * (4 + 1)
    assert list(found[0]) == [
        "optimizer", "task", "seed", "round", "train_loss", "outer_valid_accuracy", "outer_valid_loss",
        "test_accuracy", "test_loss", "bytes_up", "bytes_down", "bits_up", "bits_down",
    ]  # fmt: skip
    model = 4 * (64 * 4 + 4 + 4 * 10 + 10)
    assert found[-1]["bytes_up"] == str(4 * 2 * model)
    assert found[-1]["bytes_down"] == str(4 * model)
    assert found[-1]["bits_up"] == found[-1]["bits_down"] == str(4 * 8 * model)
    assert found[0]["train_loss"] == ""
    assert load_config(["--config", str(here / "out/config.py")]).run_dir == "out"
    facts = json.loads((here / "out/run.json").read_text())
    assert facts["versions"]["jax"]
    assert "8 examples a round" in facts["notes"][0]
    assert "<table" in (here / "out/report.html").read_text()


def test_a_used_run_directory_is_refused_and_kept(here, capsys):
    command = f"--run_type benchmark --optimizer fedavg --run_dir out {TINY}"
    assert run(command) == 0
    before = (here / "out/rounds.csv").read_bytes()
    assert run(command) == 2
    assert "expected an unused run directory" in capsys.readouterr().err
    assert (here / "out/rounds.csv").read_bytes() == before


SWEEP = """
run_type = "sweep"
optimizer = "fedavg-slowmo"
sweep_config = dict(
    method="grid",
    metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(
        num_local_steps=dict(values=[1, 2]),
        slowmo_learning_rate=dict(values=[0.1, 0.2, 1e30]),
        beta=dict(values=[0.0, 0.5]),
    ),
)
"""


@pytest.fixture
def sweep(here, monkeypatch):
    (here / "sweep.py").write_text(SWEEP)
    monkeypatch.setattr(sweep_job, "POINTS_AT_ONCE", 2)
    return f"--config sweep.py {TINY.replace('--num_local_steps 1', '')}"


def test_a_killed_sweep_goes_on_and_equals_the_undisturbed_one(here, sweep, monkeypatch):
    assert run(f"{sweep} --name whole") == 0
    write, calls = sweep_job.Results.write, []

    def dying_write(self):
        write(self)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep_job.Results, "write", dying_write)
        assert run(f"{sweep} --name killed") == 130
    halfway = rows(here / "runs/killed/sweep.csv")
    assert len(halfway) == 2 * 2 * 2
    assert run(f"{sweep} --name killed") == 0
    assert not (here / "runs/killed-2").exists()
    assert (here / "runs/killed/sweep.csv").read_bytes() == (here / "runs/whole/sweep.csv").read_bytes()
    assert (here / "runs/killed/sweep.json").read_bytes() == (here / "runs/whole/sweep.json").read_bytes()


def test_a_sweep_chooses_on_outer_valid_and_writes_the_winner_as_a_config(here, sweep):
    assert run(f"{sweep} --run_dir out") == 0
    found = rows(here / "out/sweep.csv")
    assert len(found) == 12 * 2
    summary = json.loads((here / "out/sweep.json").read_text())
    scores = {}
    for row in found:
        scores.setdefault(row["point"], []).append(float(row["outer_valid_loss"]))
    best = min(
        scores, key=lambda point: np.mean(scores[point]) if np.all(np.isfinite(scores[point])) else np.inf
    )
    winner = next(row for row in found if row["point"] == best)
    for name, value in summary["winner"].items():
        assert float(winner[name]) == value
    assert "True" in {row["diverged"] for row in found if float(row["slowmo_learning_rate"]) == 1e30}
    assert {row["diverged"] for row in found if float(row["slowmo_learning_rate"]) < 1} == {"False"}
    config = load_config(["--config", str(here / "out/best.py")])
    assert config.run_type == "benchmark"
    assert {name: getattr(config, name) for name in summary["winner"]} == summary["winner"]


def test_the_wandb_engine_hands_the_same_sweep_to_wandb(here, sweep, monkeypatch):
    logged = []

    chosen = SimpleNamespace(
        config={"slowmo_learning_rate": 0.1, "beta": 0.5, "num_local_steps": 2}, log=logged.append
    )
    fake = SimpleNamespace(
        login=lambda prompt: True,
        sweep=lambda config, project: handed.update(config) or "id7",
        agent=lambda sweep_id, function, project: (agents.append(sweep_id), function()),
        init=lambda **_: contextlib.nullcontext(chosen),
    )
    handed, agents = {}, []
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert run(f"{sweep} --sweep_engine wandb") == 0
    assert handed["method"] == "grid"
    assert handed["parameters"]["beta"] == {"values": [0.0, 0.5]}
    assert agents == ["id7"]
    assert logged[-1]["round"] == 4
    assert handed["metric"] == {"name": "outer_valid_loss", "goal": "minimize"}
    assert np.isfinite(logged[-1]["outer_valid_loss"])
    assert np.isfinite(logged[-1]["train_loss"])
    assert run(f"{sweep} --sweep_engine wandb --sweep_id other") == 0
    assert agents == ["id7", "other"]


def test_without_a_wandb_server_the_error_is_clear(here, sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(login=lambda prompt: False))
    assert run(f"{sweep} --sweep_engine wandb") == 2
    assert "--sweep_engine local" in capsys.readouterr().err


META = "--num_tasks 2 --truncation_length 2 --truncation_schedule_min_length 2 --hidden_size 4 --num_outer_steps 2"
COMPARE = """
run_type = "compare"
entrants = [
    dict(label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=[0.1, 0.5])),
    dict(label="learned", optimizer="fedlagg", hidden_size=4, test_checkpoint="checkpoints/tiny"),
    dict(label="untrained", optimizer="fedlagg", hidden_size=4,
         test_checkpoint="checkpoints/tiny/global_step0.safetensors"),
]
"""


def test_meta_train_then_compare(here, capsys):
    assert run(f"--optimizer fedlagg --name tiny {META} {TINY}".replace("--num_runs 2", "")) == 0
    (here / "compare.py").write_text(COMPARE)
    assert run(f"--config compare.py --run_dir out {TINY}") == 0
    assert "Speed-up" in capsys.readouterr().out
    table = rows(here / "out/table.csv")
    assert [row["entrant"] for row in table] == ["FedAvg", "learned", "untrained"]
    assert json.loads(table[0]["tuned"])["local_learning_rate"] in (0.1, 0.5)
    assert float(table[0]["rounds_to_100"]) <= 4
    assert {row["optimizer"] for row in rows(here / "out/rounds.csv")} == {"FedAvg", "learned", "untrained"}
    facts = json.loads((here / "out/run.json").read_text())
    assert "grid of 2" in facts["notes"][0]
    assert "the same for all" in facts["table_note"]


def test_a_rule_is_tuned_by_its_last_or_its_mean_loss_from_the_same_curves(here, monkeypatch):
    rising = {0.1: [2.0, 0.1, 0.9], 0.5: [2.0, 0.9, 0.5]}  # the best mean is not the best end
    rates, asked = [0.1, 0.5], []

    def curves(method, points, loader, task):
        asked.append(points)
        return [np.array([rising[point["local_learning_rate"]]]) for point in points]

    monkeypatch.setattr(compare_job, "_run_tuning", curves)
    entrants = [
        f"dict(label='{by}', optimizer='fedavg', tune_by='{by}', sweep=dict(local_learning_rate={rates}))"
        for by in ("last", "mean")
    ]
    (here / "compare.py").write_text(f"run_type = 'compare'\nentrants = [{', '.join(entrants)}]\n")
    assert run(f"--config compare.py --run_dir out {TINY}") == 0
    chosen = {row["entrant"]: json.loads(row["tuned"]) for row in rows(here / "out/table.csv")}
    assert chosen == {"last": {"local_learning_rate": 0.5}, "mean": {"local_learning_rate": 0.1}}
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("widen", "chosen", "tried"),
    [(0, 0.4, [[0.1, 0.2, 0.4]]), (9, 1.6, [[0.1, 0.2, 0.4], [0.8], [1.6], [3.2]])],
)
def test_a_grid_is_widened_until_its_best_point_is_inside(widen, chosen, tried, here, monkeypatch):
    asked = []

    def curves(method, points, loader, task):
        rates = [point["local_learning_rate"] for point in points]
        asked.append(rates)
        return [np.array([[2.0, abs(rate - 1.6)]]) for rate in rates]

    monkeypatch.setattr(compare_job, "_run_tuning", curves)
    entrant = "dict(label='a', optimizer='fedavg', sweep=dict(local_learning_rate=[0.1, 0.2, 0.4]))"
    (here / "compare.py").write_text(f"run_type = 'compare'\nwiden = {widen}\nentrants = [{entrant}]\n")
    assert run(f"--config compare.py --run_dir out {TINY}") == 0
    assert asked == tried
    assert json.loads(rows(here / "out/table.csv")[0]["tuned"]) == {"local_learning_rate": chosen}
    note = json.loads((here / "out/run.json").read_text())["notes"][0]
    assert f"grid of {sum(map(len, tried))}" in note
    assert ("edge" in note) == (widen == 0)


def test_a_comparison_needs_its_baseline(here, capsys):
    (here / "compare.py").write_text(
        "run_type = 'compare'\nentrants = [dict(label='a', optimizer='fedadam', learning_rate=0.1)]\n"
    )
    assert run(f"--config compare.py {TINY}") == 2
    assert "expected one with optimizer 'fedavg'" in capsys.readouterr().err


README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python src/main.py (.*?)(?: *#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_s_commands_are_accepted(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run(f"{command} --print_config") == 0
    assert "run_type" in capsys.readouterr().out


def test_the_readme_s_programs_run(monkeypatch, tmp_path):
    fresh_pretrained(monkeypatch, tmp_path, "lagg-set")
    programs = re.findall(
        r"```python\n(?!# \w+\.py)(.*?)```", README, re.DOTALL
    )  # files: tests/test_readme.py
    assert programs
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})
