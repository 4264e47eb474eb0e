"""What `make claims CLAIM=mim` makes of results, and its bounds."""

import csv
import subprocess

import numpy as np
import pytest

from benchmarks import mim
from benchmarks.claims import mim as claim

ROUNDS = (0, 100, 400)


def rows(probe, loss=(0.4, 0.2, 0.1), bits=(10, 10)):
    """rounds.csv of three seeds: a probe's value at each of ROUNDS, seeds 0.01 apart."""
    return [
        {
            "seed": str(seed),
            "round": str(r),
            "test_loss": str(loss[i]),
            "test_reconstruction": str(loss[i]),
            "bits_up": str(0 if not i else sum(bits[:i])),
            "bits_down": "0",
            **{
                f"test_{name}": str(probe[i] + 0.01 * seed)
                for name in ("linear50", "linear200", "linear", "knn", "finetune", "pixels50", "scratch")
            },
        }
        for seed in range(3)
        for i, r in enumerate(ROUNDS)
    ]


def judged(key, found):
    [one] = [one for one in claim.claims() if one.key == key]
    return one.judge(found)


@pytest.fixture
def results(monkeypatch):
    """case -> its rows; any other case is that of "" ."""
    kept = {"": rows((0.1, 0.15, 0.2))}
    monkeypatch.setattr(mim, "rows_of", lambda case, data: kept.get(case, kept[""]))
    return kept


def test_probes_must_gain_on_both_data_sets(results):
    verdict = judged("probes", mim.probes(""))
    assert verdict.met
    assert verdict.figure == "glyphs: 10.0 ± 0.0 points above random; cifar: 10.0 ± 0.0 points above random"
    results["cifar_plain"] = rows((0.1, 0.15, 0.17))
    assert not judged("probes", mim.probes("")).met


def test_freezing_may_lose_little(results):
    results["glyphs_freezeout"] = rows((0.1, 0.15, 0.18))
    results["cifar_early"] = rows((0.1, 0.15, 0.1))
    verdict = judged("freezing", mim.freezing(""))
    assert verdict.met
    assert "FreezeOut loses 2.0 ± 0.0 points, stopping early 0.0 ± 0.0" in verdict.figure
    results["glyphs_freezeout"] = rows((0.1, 0.15, 0.16))
    assert not judged("freezing", mim.freezing("")).met


def test_bits_must_fall(results, monkeypatch):
    results["glyphs_freezeout"] = rows((0.1, 0.15, 0.2), bits=(10, 5))
    monkeypatch.setattr(mim, "values", lambda rows, column: np.array([0.2]))
    found = mim.bits("")
    assert found["freezeout"]["by_phase"] == [10.0, 5.0]
    assert judged("bits", found).met
    results["glyphs_freezeout"] = rows((0.1, 0.15, 0.2), bits=(5, 10))
    assert not judged("bits", mim.bits("")).met


def test_cost_must_be_the_formula():
    one = {"encoder": 0.86, "phases": 0.861, "formula": 0.853, "with_decoders": 0.9}
    assert judged("cost", {"6": one}).met
    assert not judged("cost", {"6": {**one, "encoder": 0.845}}).met
    assert not judged("cost", {"6": {**one, "encoder": 0.88, "phases": 0.88}}).met


def test_stored_features_must_save_and_what_they_cost_before_is_said():
    one = {"moving": 1.4, "still": 1.2, "stored": 0.9, "pays": 0.8}
    verdict = judged("features", {"1": {"seconds": one, "flops": {**one, "pays": None}}})
    assert verdict.met
    assert verdict.figure == "mask_after 1: 0.75 of the seconds, 0.75 of the FLOPs"
    assert "stored, pays from 80 % of a run on; " in verdict.spread
    assert verdict.spread.endswith("stored, pays never")
    assert not judged("features", {"1": {"seconds": {**one, "stored": 1.3}, "flops": one}}).met


def test_the_aggregators_table_is_whole_and_says_when_it_is_reached(results):
    results["shards_lagg-set"] = rows((0.1, 0.15, 0.2), loss=(0.4, 0.05, 0.04))
    found = mim.aggregators("")
    assert found["shards"]["lagg-set"]["rounds"] == 100
    assert found["shards"]["fedavg"]["rounds"] == 400
    assert judged("aggregators", found).met
    del found["shards"]["fedavg"]
    assert not judged("aggregators", found).met


def test_meta_training_must_lower_its_loss():
    found = {
        "learned": [[0.1], [0.1], [0.1]],
        "fedavg": [0.2],
        "meta_loss": {"first": [3, 3, 3], "last": [2, 2, 2]},
    }
    assert judged("meta", found).met
    assert not judged("meta", {**found, "meta_loss": {"first": [2, 2, 2], "last": [3, 3, 3]}}).met


def test_a_finished_case_is_not_run_again_and_another_is(monkeypatch, tmp_path):
    monkeypatch.setattr(mim, "RUNS", tmp_path)
    ran = []

    def run(command, **_):
        ran.append(command)
        (tmp_path / "glyphs_plain").mkdir()
        with (tmp_path / "glyphs_plain" / "rounds.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["seed", "round"])
            writer.writeheader()
            writer.writerow({"seed": 0, "round": 1})

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert mim.rows_of("glyphs_plain", "data") == [{"seed": "0", "round": "1"}]
    [command] = ran
    assert "config/ssl/localmim.py" in command
    assert command[-2:] == ["--cfg-options", "freezing.t0=1.0"]
