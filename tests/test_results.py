"""benchmarks/results.py: the page from made-up comparisons, and the rule by which it counts."""

import csv
import json

import numpy as np
import pytest

from benchmarks import results
from learned_aggregation.config.resolve import load_config
from learned_aggregation.pretrained.card import read_card
from learned_aggregation.pretrained.names import pretrained_directory, pretrained_names

SEEDS, ROUNDS = 4, np.array([0, 1, 2])
NOISE = np.random.default_rng(0).normal(0, 1e-3, (SEEDS, 1))


def write_setting(root, name, title, losses, notes=(), further=None, metrics=None):
    """losses: method -> its curve [E]; each seed adds its own noise, the same for all methods but one."""
    run = root / "runs" / name
    run.mkdir(parents=True)
    with (run / "rounds.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["optimizer", "task", "seed", "round", "test_loss", *([further] if further else [])])
        for label, curve in losses.items():
            for seed in range(SEEDS):
                for at, loss in zip(ROUNDS, curve, strict=True):
                    shift = NOISE[seed, 0] + (2e-4 * seed if label.startswith("lagg") else 0)
                    more = [1 - (loss + shift) / 10] if further else []
                    out.writerow([label, "t", seed, at, loss + shift, *more])
                    out.writerow([label, "t", seed, at, *([""] * (1 + len(more)))])  # a round not evaluated
    with (run / "table.csv").open("w", newline="") as file:
        columns = ["task", "entrant", "rounds_to_100", "rounds_to_100_low", "rounds_to_100_high"]
        out = csv.DictWriter(file, [*columns, "speedup_100", "bytes_to_target", "tuned"])
        out.writeheader()
        for label in losses:
            row = dict.fromkeys(columns[2:], 2.0) | {"speedup_100": 1.0, "bytes_to_target": 1e6}
            out.writerow({"task": "t", "entrant": label, "tuned": json.dumps({"learning_rate": 3.0})} | row)
    (run / "run.json").write_text(json.dumps({"notes": list(notes), "metrics": metrics or {}}))
    return results.read_setting(name, title, run)


def methods(own, fedavg=(2.0, 1.0, 0.5), slowmo=(2.0, 0.8, 0.4)):
    by_last = {"FedAvg": fedavg, "SlowMo (by last)": slowmo, "lagg-set (by last)": own}
    return by_last | {"FedAvg (by mean)": fedavg, "SlowMo (by mean)": slowmo, "lagg-set": own}


def test_a_setting_is_read_by_method_seed_and_evaluated_round(tmp_path):
    setting = write_setting(tmp_path, "one", "In distribution: one", methods((2.0, 0.6, 0.3)))
    own = setting.methods["lagg-set"]
    assert own.loss.shape == (SEEDS, 3)
    np.testing.assert_array_equal(own.rounds, ROUNDS)
    noise = NOISE[:, 0] + 2e-4 * np.arange(SEEDS)
    np.testing.assert_allclose(own.mean, 0.45 + noise, rtol=1e-6)
    np.testing.assert_allclose(own.last, 0.3 + noise, rtol=1e-6)
    assert setting.by("FedAvg", "last") is setting.methods["FedAvg"]
    assert setting.by("SlowMo", "mean") is setting.methods["SlowMo (by mean)"]
    assert setting.inside


@pytest.mark.parametrize(
    ("further", "facts", "heading", "cell"),
    [
        (None, {}, "last loss | rounds to", "0.5002 ± 0.0002 | 2 ["),
        ("test_accuracy", {}, "last loss | last accuracy (%) | rounds to", "± 0.0002 | 95.00 ± 0.00 | 2 ["),
        (
            "test_psnr",
            {"name": "psnr", "unit": "dB"},
            "| last psnr (dB) |",
            "± 0.0002 | 0.9500 ± 0.0000 | 2 [",
        ),
    ],
)
def test_a_table_has_whatever_the_task_measures(tmp_path, further, facts, heading, cell):
    losses = methods((2.0, 0.6, 0.3))
    metrics = {"t": [facts]} if facts else {}
    setting = write_setting(tmp_path, "a", "In distribution: a", losses, further=further, metrics=metrics)
    page = results.page([setting])
    assert heading in page
    line = next(line for line in page.splitlines() if line.startswith("| FedAvg |"))
    assert cell in line
    table = [row for row in page.partition("### a")[2].split("##")[0].splitlines() if row.startswith("|")]
    assert len({row.count("|") for row in table}) == 1


def test_wins_losses_and_edges_are_told(tmp_path):
    notes = [
        "SlowMo (by mean) on t: grid of 9, chosen {}; learning_rate chosen at the edge of its grid: widen it"
    ]
    settings = [
        write_setting(tmp_path, "a", "In distribution: first", methods((2.0, 0.6, 0.3)), notes),
        write_setting(tmp_path, "b", "Out of distribution: second", methods((2.0, 0.6, 0.45))),
        write_setting(tmp_path, "c", "Out of distribution: third", methods((2.0, 0.9, 0.7))),
        write_setting(tmp_path, "d", "Never looked at: fourth", methods((2.0, 0.6, 0.3))),
    ]
    page, _, fresh = results.page(settings).partition("## Problems never looked at before")
    fresh, _, rest = fresh.partition("## Where it loses")
    assert "- mean loss against FedAvg (by mean): 1 wins, 0 ties, 0 losses of 1" in fresh
    page += "## Where it loses" + rest
    assert "- mean loss against FedAvg (by mean): 1 wins, 0 ties, 1 losses of 2" in page
    assert "- last loss against SlowMo (by last): 0 wins, 0 ties, 2 losses of 2" in page
    assert "- Out of distribution: second: lagg-set, last loss against SlowMo (by last), by 0.0503" in page
    assert "- diverged: never" in page
    assert "In distribution: first: SlowMo (by mean): learning_rate chosen at the edge" in page
    assert "first" not in page.split("## Where it loses")[1].split("## What")[0]


@pytest.mark.parametrize(
    ("own", "rival", "expected"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.2, 1.9], "win"),
        ([2.0, 2.2, 1.9], [1.0, 1.1, 0.9], "loss"),
        ([1.0, 2.0, 3.0], [2.0, 1.0, 3.1], "tie"),
        ([1.0, np.nan, 1.0], [5.0, 5.0, 5.1], "loss"),
        ([1.0, 1.0, 1.0], [5.0, np.inf, 5.1], "win"),
        ([1.0, np.inf, 1.0], [5.0, np.nan, 5.1], "tie"),
    ],
)
def test_the_verdict_is_paired_and_divergence_loses(own, rival, expected):
    assert results.verdict(results.paired(np.array(own), np.array(rival))[1]) == expected


HEADER = """# Digits.
# Run:    python src/main.py --config two.py FLAGS
#   digits_h8: In distribution: digits, Dirichlet 0.1, H = 8. --num_local_steps 8 --partition dirichlet
#   digits: Never looked at: digits, 8 of 64 clients.
_base_ = "base.py"
"""


def test_a_header_lists_comparisons_and_a_file_without_a_list_is_one(tmp_path):
    (tmp_path / "two.py").write_text(HEADER)
    (tmp_path / "one.py").write_text("# Out of distribution: text, B = 8.\n# Run:    it\n")
    assert results.comparisons(tmp_path) == [
        ("one", "Out of distribution: text, B = 8", tmp_path / "one.py", []),
        (
            "digits_h8",
            "In distribution: digits, Dirichlet 0.1, H = 8",
            tmp_path / "two.py",
            ["--num_local_steps", "8", "--partition", "dirichlet"],
        ),
        ("digits", "Never looked at: digits, 8 of 64 clients", tmp_path / "two.py", []),
    ]
    (tmp_path / "digits.py").write_text("# Out of distribution: again.\n")
    with pytest.raises(ValueError, match=r"a comparison named digits is in .*digits\.py too"):
        results.comparisons(tmp_path)


def test_the_comparisons_of_the_page_and_of_the_cards_are_those_of_the_configs():
    found = results.comparisons(results.CONFIGS)
    assert len(found) == 32
    page = results.PAGE.read_text()
    for comparison in found:
        kind, _, title = comparison.title.partition(": ")
        assert f"### {title}\n" in page or f"| {title} |" in page
        config = load_config(["--config", str(comparison.config), *comparison.flags])
        assert (config.run_type, config.num_inner_steps) == ("compare", 100)
        assert f"{kind}: " in (results.IN_DISTRIBUTION, results.OUT_OF_DISTRIBUTION, results.FRESH)
    cards = (read_card(path) for name in pretrained_names() if (path := pretrained_directory(name)))
    sources = {row["source"] for card in cards for row in card.results}
    assert {comparison.name for comparison in found} <= sources


def test_what_has_no_table_yet_is_run_with_its_flags(tmp_path, monkeypatch):
    configs, commands = tmp_path / "config", []
    configs.mkdir()
    (configs / "two.py").write_text(HEADER)
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "table.csv").touch()
    unfinished = tmp_path / "runs" / "digits_h8" / "config.py"
    unfinished.parent.mkdir()
    unfinished.touch()  # a killed run's, which a run in the same directory would stop at
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "CONFIGS", configs)
    monkeypatch.setattr(results, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(results, "read_setting", lambda name, title, run: (name, title, run.name))
    monkeypatch.setattr(results, "page", repr)
    monkeypatch.setattr(results.subprocess, "run", lambda command, **_: commands.append(command[2:]))
    assert results.main() == 0
    flags = ["--num_local_steps", "8", "--partition", "dirichlet"]
    run, curves = (str(tmp_path / "runs" / name) for name in ("digits_h8", "curves"))
    assert commands == [["--config", "config/two.py", *flags, "--run_dir", run, "--curves_dir", curves]]
    assert not unfinished.exists()
    assert (
        "('digits', 'Never looked at: digits, 8 of 64 clients', 'digits')"
        in (tmp_path / "page.md").read_text()
    )
