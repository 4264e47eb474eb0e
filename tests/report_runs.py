"""Run directories as the jobs write them, made up, for the tests of the report; and how a report is read."""

import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from learned_aggregation.report.files import read_csv
from learned_aggregation.report.statistics import curves

ENTRANTS = (
    "fedlagg-adafac (quickstart)",
    "FedAvg, tuned",
    "SlowMo, tuned",
    "FedAdam, tuned",
    "FedAvgM, tuned",
    "sgd",
)
TASKS = ("mlp32_digits_8", "mlp128x128_glyphs_28")


def write_rows(path: Path, rows: list[dict]) -> None:
    """A CSV file as the runs write it."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def rounds_rows(optimizers=("fedavg",), tasks=("mlp32_digits_8",), seeds=3, rounds=20, every=5) -> list[dict]:
    """Rows of rounds.csv: losses that fall with a rate of the optimizer's own, and noise of the seed's."""
    noise = np.random.default_rng(0)
    return [
        {
            "optimizer": optimizer,
            "task": task,
            "seed": seed,
            "round": r,
            "train_loss": f"{loss * math.exp(0.25 * noise.normal()):.6g}",
            **{
                name: f"{value:.6g}" if evaluated else ""
                for name, value in {
                    "outer_valid_loss": 1.05 * loss,
                    "outer_valid_accuracy": 1 - loss / 3.2,
                    "test_loss": loss,
                    "test_accuracy": 1 - loss / 3,
                }.items()
            },
            "bytes_up": 8 * 9000 * r,
            "bytes_down": 9000 * r,
        }
        for t, task in enumerate(tasks)
        for o, optimizer in enumerate(optimizers)
        for seed in range(seeds)
        for offset in [math.exp(0.1 * noise.normal())]
        for r in range(rounds + 1)
        for evaluated in [r % every == 0 or r == rounds]
        for loss in [offset * (0.06 + 0.03 * o + 0.05 * t + 2.24 * math.exp(-r / (rounds / 6) / (1 + o / 2)))]
    ]


def make_benchmark(run_dir: Path, **options) -> Path:
    """A benchmark's run directory."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_rows(run_dir / "rounds.csv", rounds_rows(**options))
    return run_dir


def make_meta(run_dir: Path, steps=400) -> Path:
    """A meta-training's run directory."""
    run_dir.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).normal(size=steps)
    rows = [
        {
            "step": i,
            "meta_loss": 0.4 + 1.9 * math.exp(-i / 60) * math.exp(0.2 * noise[i]),
            "grad_norm": math.exp(noise[i]),
            "learning_rate": 3e-3,
            "outer_steps_per_s": 4 + noise[i] / 9,
            "rounds_per_s": 3300,
            "elapsed_s": i / 4,
        }
        for i in range(steps)
    ]
    write_rows(run_dir / "metrics.csv", rows)
    return run_dir


def make_sweep(run_dir: Path, seeds=3, **extra) -> Path:
    """A sweep of 4 local rates by 11 server rates (and `extra` parameters)."""
    run_dir.mkdir(parents=True, exist_ok=True)
    grid = {
        "local_learning_rate": [0.01, 0.1, 0.5, 1.0],
        "slowmo_learning_rate": [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0],
        **extra,
    }
    points, rows = [{}], []
    for name, values in grid.items():
        points = [{**point, name: value} for point in points for value in values]
    for point in points:
        local, server, *others = point.values()
        loss = (
            0.15 + 0.1 * math.log(local / 0.5) ** 2 + 0.02 * math.log(server / 0.5) ** 2 + 0.05 * sum(others)
        )
        diverged = local == 1.0 and server >= 1
        for seed in range(seeds):
            value = "nan" if diverged else f"{loss + 0.003 * seed:.6g}"
            rows.append(
                {
                    **point,
                    "seed": seed,
                    "train_loss": value,
                    "outer_valid_loss": value,
                    "outer_valid_accuracy": "nan" if diverged else 0.9,
                    "test_loss": value,
                    "test_accuracy": "nan" if diverged else 0.9,
                    "diverged": diverged,
                }
            )
    write_rows(run_dir / "sweep.csv", rows)
    winner = {"local_learning_rate": 0.5, "slowmo_learning_rate": 0.5, **{k: v[0] for k, v in extra.items()}}
    about = {
        "parameters": list(grid),
        "metric": {"name": "outer_valid_loss", "goal": "minimize"},
        "winner": winner,
        "on_edge": list(extra),
    }
    (run_dir / "sweep.json").write_text(json.dumps(about))
    return run_dir


def make_comparison(run_dir: Path, entrants=ENTRANTS, tasks=TASKS, **options) -> Path:
    """A comparison's run directory with everything a report can show."""
    make_benchmark(
        run_dir, optimizers=entrants, tasks=tasks, **{"seeds": 10, "rounds": 120, "every": 10, **options}
    )
    rows = [
        {
            "entrant": entrant,
            "task": task,
            "seeds": 10,
            "tuned": json.dumps({"local_learning_rate": 0.5, "beta": 0.9}) if i else "",
            "rounds_to_25": 4.0 + 3 * i,
            "rounds_to_25_low": 3.0 + 3 * i,
            "rounds_to_25_high": 5.0 + 3 * i,
            "rounds_to_100": 21.0 + 31 * i if i < 5 else math.inf,
            "rounds_to_100_low": 18.0 + 31 * i,
            "rounds_to_100_high": 25.0 + 31 * i if i < 4 else math.inf,
            "speedup_100": 52 / (21 + 31 * i) if i < 5 else 0.0,
            "speedup_100_low": 48 / (21 + 31 * i) if i < 5 else 0.0,
            "speedup_100_high": 55 / (21 + 31 * i) if i < 5 else 0.0,
            "test_loss": 0.061 + 0.031 * i,
            "test_loss_ci95": 0.004 + 0.001 * i,
            "test_accuracy": 0.981 - 0.011 * i,
            "test_accuracy_ci95": 0.0031,
            "bytes_up_per_round": 72_000,
            "bytes_down_per_round": 9_000,
            "bytes_to_target": 81_000.0 * (21 + 31 * i) if i < 5 else math.inf,
            "client_gradients_per_round": 1024,
        }
        for task in tasks
        for i, entrant in enumerate(entrants)
    ]
    write_rows(run_dir / "table.csv", rows)
    write_rows(
        run_dir / "partition.csv",
        [
            {"client": c, **{f"class_{k}": int(v) for k, v in enumerate(counts)}}
            for c, counts in enumerate(
                np.random.default_rng(2).multinomial(60, [0.1] * 10, size=30)
                * (np.random.default_rng(3).random((30, 10)) < 0.4)
            )
        ],
    )
    make_sweep(run_dir)
    make_meta(run_dir)
    (run_dir / "config.py").write_text(
        "optimizer = 'fedlagg-adafac'\nnote = '<script>alert(1)</script>'\nnum_grads = 8\n"
        + f"tasks = {[f'mlp32_digits_{n}' for n in range(20)]}\n"
    )
    (run_dir / "run.json").write_text(
        json.dumps(
            {
                "run_type": "compare",
                "name": "compare_digits",
                "command": "python src/main.py --config compare_digits.py",
                "started": "2025-11-21T03:01:00",
                "finished": "2025-11-21T03:06:31",
                "versions": {"python": "3.11", "jax": "0.10.2"},
                "machine": {"cores": 2},
                "notes": ["Data set <digits> is embedded.", "FedAvg was tuned on outer_valid."],
                "table_note": "Equal budgets: 256 examples a client and round, 44 grid points, the same 10 seeds.",
            }
        )
    )
    return run_dir


def text_of(page: str) -> str:
    """A page as one reads it."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def column(table, name: str) -> list[str]:
    """The texts of a table's column."""
    return [row[table.headings.index(name)].text for row in table.rows]


def rounds_of(tmp_path, text: str):
    """The curves of a rounds.csv with this text, spaces left out."""
    (tmp_path / "rounds.csv").write_text(text.replace(" ", ""))
    return curves(read_csv(tmp_path / "rounds.csv"))


class Reader(HTMLParser):
    """Checks that tags are balanced, and collects ids, attributes and headings."""

    VOID = ("meta", "wbr", "br")

    def __init__(self, page: str):
        super().__init__()
        self.open, self.ids, self.tags, self.sections = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.sections.append(data)
