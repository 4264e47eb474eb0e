"""What `make claims CLAIM=split` makes of results, and its bounds."""

import importlib

import pytest

from benchmarks import split
from benchmarks.claims import split as claim


def result(label, seed, accuracy, cut=(320.0, 320.0), loss=1.0, **autoencoder):
    """A run whose accuracy is a curve of three evaluations."""
    return {
        "label": label,
        "seed": seed,
        "num_grads": 2,
        "eval_rounds": [0, 4, 8],
        "evaluated": {"test_accuracy": accuracy, "outer_valid_loss": [2.0, 2.0, loss]},
        "traffic": [1000.0, 1200.0],
        "crossed_up": {"latents": cut[0], "labels": 5.0},
        "crossed_down": {"gradients": cut[1]},
        "autoencoder": autoencoder,
    }


def cases(**accuracies):
    return {
        label: [result(label, seed, [0.1, value / 2, value]) for seed, value in enumerate(values)]
        for label, values in accuracies.items()
    }


def judged(key, found):
    [one] = [one for one in claim.claims() if one.key == key]
    return one.judge(found)


def test_the_curve():
    found = {"identity": [result("identity", s, [0, 0, 0.8]) for s in range(3)]}
    for z, accuracy in enumerate((0.5, 0.6, 0.7, 0.78, 0.795)):
        found[f"linear, z {z}"] = [result("", s, [0, 0, accuracy], (32.0 + z, 32.0)) for s in range(3)]
    for bits in (8, 4):
        found[f"linear, {bits} bits"] = [result("", s, [0, 0, 0.7], (8.0, 8.0)) for s in range(3)]
    verdict = judged("bytes", split.curve(found))
    assert verdict.met
    assert verdict.figure == "linear, z 4: 9.4x fewer, 0.5 ± 0.0 points lost"
    worse = {**found, "linear, z 4": [result("", s, [0, 0, 0.78], (36.0, 32.0)) for s in range(3)]}
    assert not judged("bytes", split.curve(worse)).met
    del found["linear, 4 bits"]
    assert not judged("bytes", split.curve(found)).met


def test_a_harsh_bottleneck():
    accuracies = {"random, frozen": (0.5, 0.5, 0.5), "pretrained, frozen": (0.6, 0.5, 0.56)}
    accuracies["pretrained, trained along"] = (0.7, 0.6, 0.66)
    found = split.harsh(cases(**accuracies))
    assert found["pretraining"]["mean"] == pytest.approx(16 / 3)
    assert found["along"]["mean"] == pytest.approx(10)
    assert judged("harsh", found).met
    less = split.harsh(cases(**accuracies | {"random, frozen": (0.52, 0.5, 0.5)}))
    assert not judged("harsh", less).met


def test_decoders():
    def runs(label, others):
        errors = {"own_error": [0.1, 0.1], "others_error": others}
        return [result(label, seed, [0, 0, 0], **errors) for seed in range(3)]

    found = {"own decoders": runs("own decoders", [1.0, 3.0])}
    found["aggregated decoders"] = runs("aggregated decoders", [1.5, 1.5])
    verdict = judged("decoders", split.decoders(found))
    assert verdict.met
    assert "lower by 25.0 ± 0.0 %" in verdict.spread
    found["aggregated decoders"] = found["own decoders"]
    assert not judged("decoders", split.decoders(found)).met


def test_aggregators_are_chosen_on_outer_valid_and_raced_to_fedavg_s_last_accuracy():
    found = {
        label: [result(label, seed, accuracy, loss=loss) for seed in range(3)]
        for label, accuracy, loss in (
            ("FedAvg, 0.1", [0.1, 0.3, 0.5], 0.9),
            ("FedAvg, 0.2", [0.1, 0.9, 0.9], 1.0),
            ("Nesterov, 0.1, 0.7, 0.9", [0.1, 0.5, 0.6], 0.8),
            ("lagg-set, 0.2", [0.1, 0.2, 0.4], float("nan")),
        )
    }
    judged_by = split.aggregators(found)
    assert judged_by["target"] == 50
    reached = {name: (one["case"], one["rounds"]) for name, one in judged_by["methods"].items()}
    assert reached == {
        "FedAvg": ("FedAvg, 0.1", 8),
        "Nesterov": ("Nesterov, 0.1, 0.7, 0.9", 4),
        "lagg-set": ("lagg-set, 0.2", None),
        "network off": ("FedAvg, 0.2", 4),
    }
    per_round = (2 * (1000 + 320) + 1200 - 320) / 8
    assert judged_by["methods"]["FedAvg"]["megabytes"] == pytest.approx(8 * per_round / 1e6)
    verdict = judged("aggregators", judged_by)
    assert verdict.met
    assert "lagg-set not reached" in verdict.figure


def test_every_line_has_a_command_that_is_there():
    for one in claim.claims():
        assert one.command[0] == "-m"
        assert importlib.util.find_spec(one.command[1])
