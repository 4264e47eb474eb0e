"""benchmarks/results.py: the page from made-up comparisons, and the rule by which it counts."""

import csv
import json

import numpy as np
import pytest

from benchmarks import results

SEEDS, ROUNDS = 4, np.array([0, 1, 2])
NOISE = np.random.default_rng(0).normal(0, 1e-3, (SEEDS, 1))


def write_setting(root, name, title, losses, notes=(), further=None, metrics=None):
    """losses: method -> its curve [E]; each seed adds its own noise, the same for all methods but one."""
    config = root / "config" / f"{name}.py"
    config.parent.mkdir(exist_ok=True)
    config.write_text(f"# {title}.\n")
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
    return results.read_setting(config, run)


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
