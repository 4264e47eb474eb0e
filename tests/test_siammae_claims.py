"""What `make claims CLAIM=siammae` makes of results, and its bounds."""

import copy

from benchmarks import siammae_federated
from benchmarks.claims import siammae as claim


def judged(key, found):
    [one] = [one for one in claim.claims() if one.key == key]
    return one.judge(found)


def value(mean, std=0.0, seeds=3):
    return {"mean": mean, "std": std, "seeds": seeds}


def losses(another, none, seeds=3):
    groups = ("all", "1-4", "5-8", "9-12")
    return {
        "losses": {name: value(0.4, seeds=seeds) for name in ("right", "another", "none")},
        "another": {group: value(another) for group in groups},
        "none": {group: value(none) for group in groups},
        "tried": {"p4": {"another": {"all": value(6.3)}, "none": {"all": value(4.0)}}},
    }


def test_both_wrong_first_frames_must_be_worse_over_three_seeds():
    verdict = judged("loss", losses(30.0, 12.0))
    assert verdict.met
    assert verdict.figure == "worse by 30.0 ± 0.0 % (another clip's), 12.0 ± 0.0 % (zeros)"
    assert "gap 5-8: 30.0 ± 0.0 %, 12.0 ± 0.0 %" in verdict.spread
    assert verdict.spread.endswith("tried, p4: 6.3 ± 0.0 %, 4.0 ± 0.0 %")
    assert not judged("loss", losses(30.0, 9.0)).met
    assert not judged("loss", losses(9.0, 30.0)).met
    assert not judged("loss", losses(30.0, 12.0, seeds=2)).met


def test_the_decoder_must_look_twice_as_often():
    found = {"source": value(0.5), "same_place": value(0.2), "far_source": value(0.4), "times": value(2.5)}
    found |= {
        "far_place": value(0.1),
        "chance": 0.06,
        "patches": 1000,
        "matching": 1.4,
        "hidden": 0.95,
        "tried": {},
    }
    verdict = judged("attention", found)
    assert verdict.met
    assert "source 0.400 ± 0.000" in verdict.spread
    assert "1.40x by block matching, 5.00x if always right" in verdict.spread
    low = found | {"times": value(1.9)}
    assert not judged("attention", low).met
    assert judged("attention", low | {"tried": {"p4": found}}).met
    assert not judged("attention", low | {"tried": {"p4": found | {"times": value(2.5, seeds=2)}}}).met


def rows(**jf):
    return {name: {"jf_mean": value(mean), "chosen": "block 1"} for name, mean in jf.items()}


def test_the_table_needs_every_encoder_and_says_what_is_not_reached():
    means = {"copying": 0.3, "raw patches of 4": 0.6, "random": 0.58, "trained": 0.57, "trained, p8": 0.59}
    light = rows(**means, **{"supervised on characters": 0.5, "LocalMIM on frames": 0.5})
    found = {"lit": light, "plain": copy.deepcopy(light)}
    verdict = judged("table", found)
    assert verdict.met
    assert verdict.figure == "lit: copying + 0.270; plain: copying + 0.270"
    beats = judged("beats", found)
    assert not beats.met
    assert beats.figure == "trained, p8: random +0.010, best raw -0.010"
    found["lit"]["trained"]["jf_mean"]["mean"] = 0.64
    assert judged("beats", found).met
    found["lit"]["trained"]["jf_mean"]["seeds"] = 1
    assert not judged("beats", found).met
    found["lit"]["trained"]["jf_mean"]["seeds"] = 3
    found["lit"]["random, p4"] = {"jf_mean": value(0.6)}
    assert not judged("beats", found).met
    del found["lit"]["random, p4"]
    found["lit"]["raw patches of 4"]["jf_mean"]["mean"] = 0.65
    assert not judged("beats", found).met
    del found["plain"]["LocalMIM on frames"]
    assert not judged("table", found).met
    low = rows(**means | {"trained": 0.5}, **{"supervised on characters": 0.5, "LocalMIM on frames": 0.5})
    assert not judged("table", {"lit": low, "plain": light}).met


def test_rounds_to_fedavgs_last_loss():
    def run(losses):
        return {
            "rounds": [0, 20, 40],
            "test_loss": losses,
            "test_loss_of_another_clip": losses,
            "jf": 0.6,
        }

    slow, fast, never = ([run([1.0, *rest])] * 3 for rest in ((0.8, 0.6), (0.6, 0.5), (0.9, 0.7)))
    of = {"FedAvg": slow, "Nesterov": fast, "lagg-set": fast, "network off": slow, "central": never}
    methods = {name: siammae_federated._summed(runs, 0.6, {}) for name, runs in of.items()}
    assert [one["rounds"] for one in methods.values()] == [40, 20, 20, 40, None]
    verdict = judged("federated", {"target": 0.6, "methods": methods})
    assert verdict.met
    assert verdict.figure.startswith("FedAvg 40 rounds, J&F 0.600 ± 0.000; Nesterov 20 rounds")
    assert "central not reached" in verdict.figure
    del methods["central"]
    assert not judged("federated", {"target": 0.6, "methods": methods}).met


def test_twenty_sequences_of_davis_with_all_rows():
    row = {"jf_mean": 0.5, "j_mean": 0.4, "f_mean": 0.6}
    found = {"sequences": 20, "report": 1000, "rows": {"raw": row, "random": row, "trained": row}}
    assert judged("davis", found).met
    assert not judged("davis", found | {"sequences": 19}).met
    assert not judged("davis", found | {"rows": {"raw": row, "random": row}}).met
