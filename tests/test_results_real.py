"""The page and the claims of `make results-real`, from made-up comparisons; its configs."""

import csv
import json

import numpy as np
import pytest

from benchmarks import real_settings, results_real
from benchmarks.claims import evidence
from benchmarks.results import comparisons, read_setting
from learned_aggregation.config.resolve import load_config
from learned_aggregation.config.settings import SETTINGS

SEEDS, ROUNDS = 4, (0, 1, 2, 3)
FEDAVG = (2.0, 1.0, 0.8, 0.6)
GOOD, BAD = (2.0, 0.7, 0.5, 0.4), (2.0, 1.4, 1.2, 0.9)
COLUMNS = [
    "optimizer",
    "task",
    "seed",
    "round",
    "train_loss",
    "outer_valid_loss",
    "test_loss",
    "test_accuracy",
]


def write_run(runs, name, curves):
    """A finished comparison; seeds differ by noise that the methods share but for a little."""
    run = runs / name
    run.mkdir(parents=True)
    noise = np.random.default_rng(0)
    with (run / "rounds.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for label, curve in curves.items():
            for seed in range(SEEDS):
                for at, loss in zip(ROUNDS, curve, strict=True):
                    loss += 0.1 * seed + noise.normal(0, 1e-4)
                    valid = loss if at != 3 or label != "lagg-set" else loss + 1  # overfits in the last round
                    out.writerow([label, "t", seed, at, loss / 2 if at else "", valid, loss, 0.9])
    with (run / "table.csv").open("w", newline="") as file:
        names = ["rounds_to_100", "rounds_to_100_low", "rounds_to_100_high", "speedup_100", "bytes_to_target"]
        out = csv.DictWriter(file, ["task", "entrant", *names, "tuned"])
        out.writeheader()
        for label in curves:
            out.writerow({"task": "t", "entrant": label, "tuned": "{}"} | dict.fromkeys(names, 2.0))
    (run / "run.json").write_text(json.dumps({"notes": []}))


def methods(own, untuned=None, nesterov=(2.0, 0.75, 0.55, 0.45), **more):
    curves = {"FedAvg": FEDAVG, "FedAvg (by mean)": FEDAVG, "FedAvg (untuned)": FEDAVG}
    for rival, curve in (("SlowMo", FEDAVG), ("Nesterov", nesterov)):
        curves |= {f"{rival} (by {criterion})": curve for criterion in ("mean", "last")}
    return curves | {"lagg-set": own, "lagg-set (by last)": own, "lagg-set (untuned)": untuned or own} | more


@pytest.fixture
def judge(tmp_path):
    """What is said of a comparison with these curves, by form."""

    def said(curves, name="one"):
        write_run(tmp_path, name, curves)
        setting = read_setting(name, "One", tmp_path / name)
        return {form: real_settings.judged(setting, form) for form in real_settings.FORMS}

    return said


def test_a_better_aggregator_wins_and_one_that_loses_untuned_harms_untuned(judge):
    said = judge(methods(GOOD, untuned=BAD))
    tuned, untuned = said["tuned"], said["untuned"]
    for errors in (*tuned["fedavg"].values(), tuned["best"], tuned["best_last"], *tuned["harm"].values()):
        assert errors < -2
    assert (tuned["rounds"], untuned["rounds"]) == (2 / 3, None)
    for errors in (*untuned["fedavg"].values(), untuned["best"], *untuned["harm"].values()):
        assert errors > 2
    assert not tuned["diverged"]


def test_averaging_is_the_best_of_its_rows(judge):
    good = {"FedAvg": BAD, "FedAvg (by mean)": (2.0, np.nan, np.nan, np.nan), "FedAvg (untuned)": FEDAVG}
    with_bad_rates, plain = judge(methods(GOOD) | good)["tuned"], judge(methods(GOOD), name="two")["tuned"]
    assert with_bad_rates["rounds"] == plain["rounds"]
    for key in ("fedavg", "harm"):
        assert with_bad_rates[key]["last"] < -2
        assert abs(with_bad_rates[key]["last"]) < 1e9


def test_the_best_rival_is_the_one_with_the_lower_loss(judge):
    said = judge(methods(GOOD, nesterov=(2.0, 0.6, 0.45, 0.5)))["tuned"]
    assert said["best"] > 2  # Nesterov's mean is lower than ours, its last loss is not
    assert said["best_last"] < -2
    assert said["nesterov"]["mean"] == said["best"]


def test_divergence_and_a_target_never_reached_are_said_in_json(judge):
    said = judge(methods((2.0, 1.0, np.nan, np.nan)))["tuned"]
    assert said["diverged"]
    assert said["rounds"] is None
    assert said["fedavg"]["mean"] == 1e9
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_training_loss_and_early_stopping_are_read(tmp_path):
    write_run(tmp_path, "one", methods(GOOD))
    train, stopped = real_settings.fits("one", ["lagg-set", "FedAvg"], tmp_path)["lagg-set"]
    np.testing.assert_allclose(train, (GOOD[3] + 0.1 * np.arange(SEEDS)) / 2, atol=1e-3)
    np.testing.assert_allclose(stopped, GOOD[2] + 0.1 * np.arange(SEEDS), atol=1e-3)  # not the last round
    fedavg = real_settings.fits("one", ["FedAvg"], tmp_path)["FedAvg"][1]
    np.testing.assert_allclose(fedavg, FEDAVG[3] + 0.1 * np.arange(SEEDS), atol=1e-3)


def test_the_page_tells_wins_losses_and_both_other_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(results_real, "RUNS", tmp_path)
    settings = []
    for name, own in (("one", GOOD), ("two", BAD)):
        write_run(tmp_path, name, methods(own))
        settings.append(read_setting(name, f"Problem {name}", tmp_path / name))
    page = results_real.page(settings)
    assert "- tuned, against FedAvg, mean loss: 1 wins, 0 ties, 1 losses of 2" in page
    assert "- Problem two, untuned: FedAvg, mean loss (+" in page
    assert "Problem one, tuned:" not in page
    assert "| mean loss | last loss | early-stopped | training loss | last accuracy |" in page
    for table in page.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
    assert "0.5667 (Nesterov)" not in page.split("## All methods")[0].split("Problem one")[0]


def found(said, names=("a", "b", "c")):
    """A measurement in which every setting says the same but for what is given."""
    usual = {
        "fedavg": {"mean": -5.0, "last": -5.0}, "rounds": 0.4, "best": -1.0, "best_last": 0.0,
        "nesterov": {"mean": -1.0, "last": 1.0}, "harm": {"mean": -5.0, "last": -5.0}, "diverged": False,
    }  # fmt: skip
    settings = {n: {form: usual | said.get(n, {}) for form in real_settings.FORMS} for n in names}
    return {"settings": settings, "published": {}}


def verdicts(measurement):
    return {c.key: c.judge(measurement) for c in evidence.one_checkpoint()}


@pytest.mark.parametrize(
    ("key", "said", "figure"),
    [
        ("fedavg-tuned", {"a": {"fedavg": {"mean": -1.9, "last": 0.0}}}, "67%: 2 won, 1 tied, 0 lost"),
        ("rounds-tuned", {"a": {"rounds": None}, "b": {"rounds": 0.6}}, "0.60"),
        ("best-untuned", {"a": {"best": 2.0}, "b": {"best": 3.0}}, "33%: 0 won, 1 tied, 2 lost"),
        ("harm-untuned", {"b": {"harm": {"mean": 0.0, "last": 2.1}}}, "1 settings"),
        ("diverged-tuned", {"c": {"diverged": True}}, "1 settings"),
    ],
)
def test_each_claim_is_met_and_missed_by_what_it_counts(key, said, figure):
    names = [chr(ord("a") + i) for i in range(20)]
    assert all(verdict.met for verdict in verdicts(found({}, names)).values())
    missed = verdicts(found(said))
    assert not missed[key].met
    assert missed[key].figure == figure
    assert not missed["settings"].met
    assert all(
        v.met for k, v in missed.items() if k.rpartition("-")[0] != key.rpartition("-")[0] and k != "settings"
    )


def test_claims_of_text_and_of_the_paper_need_their_settings():
    text = {c.key: c for c in evidence.text()}["text-pytext-muon"]
    assert text.judge(found({}, ["pytext_muon"])).met
    assert not text.judge(
        found({"pytext_muon": {"nesterov": {"mean": 0.0, "last": 2.0}}}, ["pytext_muon"])
    ).met
    paper = {c.key: c for c in evidence.paper()}["lagg-a-h8"]
    won = {"fmnist_mlp_h8": {"LAgg-A": {"FedAvg": -3.0, "SlowMo": -2.0, "Adam": -9.0}}}
    assert paper.judge({"published": won}).met
    won["fmnist_mlp_h8"]["LAgg-A"]["SlowMo"] = -1.0
    assert not paper.judge({"published": won}).met
    with pytest.raises(KeyError):
        paper.judge({"published": {}})
    assert "make results-real" in paper.needs()


FOUND = comparisons(real_settings.CONFIGS)


@pytest.mark.parametrize("comparison", FOUND, ids=lambda c: c.name)
def test_every_comparison_has_the_rivals_and_equal_budgets(comparison):
    config = load_config(["--config", str(comparison.config), *comparison.flags])
    assert (config.run_type, config.num_runs) == ("compare", 10)
    labels = {entrant["label"]: entrant for entrant in config.entrants}
    assert next(iter(labels)) == "FedAvg"
    assert {*methods(GOOD), "Nesterov, decay (by last)"} <= set(labels)
    sizes = {
        label: int(np.prod([len(v) for v in m.get("sweep", {}).values()])) for label, m in labels.items()
    }
    tuned = {label: size for label, size in sizes.items() if not label.endswith("(untuned)")}
    assert sizes["lagg-set"] == min(tuned.values())  # no rival has fewer
    assert max(tuned.values()) == 12
    for label in ("FedAvg (untuned)", "lagg-set (untuned)"):
        assert "sweep" not in labels[label]
    alike = [labels[f"{rule} (untuned)"]["local_learning_rate"] for rule in ("FedAvg", "lagg-set")]
    assert alike[0] == alike[1]
    decay = labels["Nesterov, decay (by last)"]
    assert decay["rule_options"]["rounds"] == config.num_inner_steps
    examples = config.num_grads * config.local_batch_size
    assert all(m["local_batch_size"] == examples for m in config.entrants if m.get("num_grads") == 1)
    assert set(labels["FedAvg"]) <= {"label", *SETTINGS, "sweep"}


def test_the_comparisons_are_those_that_were_asked_for():
    names = [comparison.name for comparison in FOUND]
    assert len(names) >= evidence.SETTINGS
    assert {*evidence.PAPER, *evidence.TEXT} <= set(names)
    checkpoints = {
        entrant["test_checkpoint"]
        for comparison in FOUND
        for entrant in load_config(["--config", str(comparison.config)]).entrants
        if entrant["label"].startswith("lagg-set")
    }
    assert len(checkpoints) == 1


def test_data_are_found_by_flags(tmp_path):
    flags = results_real.data_flags(tmp_path)
    config = load_config(["--run_type", "benchmark", "--optimizer", "fedavg", *flags])
    assert config.tfds_data_dir == str(tmp_path / "tfds")
    assert config.text_file == str(tmp_path / "tinyshakespeare.txt")
    assert config.fsdd_file == str(tmp_path / "fsdd.npz")
