"""Split learning: fewer bytes, a pretrained bottleneck, aggregated decoders, any aggregator; what is kept, refused."""

from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.claims import Claim, Verdict

TITLE = "Split learning through a bottleneck"
FEWER = 5.0
"""Times fewer bytes of activations and gradients than with the identity bottleneck."""
LOST = 1.0
"""Points of accuracy that may be lost for them."""
GAINED = 5.0
"""Points that pretraining must add at a harsh latent dimension."""
SEEDS = 3


def _data() -> str:
    here = (ROOT.parent / "shared/data/tfds/fashion_mnist").is_dir()
    kept = (ROOT / "runs/split").is_dir()
    return "" if here or kept else f"Fashion-MNIST in {Path('../shared/data/tfds')}"


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    table = ("-m", "benchmarks.split")
    suite = ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q")
    return [
        Claim(
            "bytes",
            f"1. at least {FEWER:g}x fewer bytes of activations and gradients for at most {LOST:g} point of accuracy; "
            "the curve over at least five (type, z), 8 and 4 bits",
            (*table, "curve"),
            _bytes,
            _data,
        ),
        Claim(
            "harsh",
            f"2. at a harsh z a pretrained frozen autoencoder is at least {GAINED:g} points above a random frozen one",
            (*table, "harsh"),
            _harsh,
            _data,
        ),
        Claim(
            "decoders",
            "3. aggregating decoders lowers the mean error on the other clients' data and changes the weights",
            (*table, "decoders"),
            _decoders,
            _data,
        ),
        Claim(
            "aggregators",
            "4. FedAvg, tuned Nesterov, lagg-set and its network off: rounds and bytes to FedAvg's last accuracy",
            (*table, "aggregators"),
            _aggregators,
            _data,
        ),
        Claim(
            "equal",
            "with an identity bottleneck and one client it is training the whole model; counts are nbytes",
            (*suite, "tests/test_split.py"),
            _passed,
            fresh=True,
        ),
        Claim(
            "kept",
            "5. loaded at the second run, forced, refused by signature; a stopped run resumes equal; 6. bad input",
            (*suite, "-m", "slow or not slow", "tests/test_split_stage_one.py", "tests/test_split_runs.py"),
            _passed,
            fresh=True,
        ),
    ]


def _text(one: Any, digits: int = 1) -> str:
    return f"{one['mean']:.{digits}f} ± {one['std']:.{digits}f}"


def _bytes(found: Any) -> Verdict:
    whole = [case for case in found if case["case"] == "identity"]
    others = [case for case in found if case["case"] != "identity"]
    cheap = [case for case in others if case["fewer"] >= FEWER]
    best = min(cheap, key=lambda case: case["lost"]["mean"])
    plain = [case for case in others if not case["quantised"]]
    figure = f"{best['case']}: {best['fewer']:.1f}x fewer, {_text(best['lost'])} points lost"
    spread = f"identity {_text(whole[0]['accuracy'])} %; " + "; ".join(
        f"{case['case']} {case['fewer']:.1f}x, {_text(case['accuracy'])} %" for case in others
    )
    complete = len(plain) >= 5 and len(others) - len(plain) >= 2 and best["lost"]["seeds"] >= SEEDS
    return Verdict(figure, spread, complete and best["lost"]["mean"] <= LOST)


def _harsh(found: Any) -> Verdict:
    gained = found["pretraining"]
    figure = f"{_text(gained)} points; training it along adds {_text(found['along'])}"
    spread = "; ".join(f"{label} {_text(value)} %" for label, value in found["accuracy"].items())
    return Verdict(figure, spread, gained["mean"] >= GAINED and gained["seeds"] >= SEEDS)


def _decoders(found: Any) -> Verdict:
    others = found["others"]
    figure = "; ".join(f"{label} {_text(value, 4)}" for label, value in others.items())
    lowered = found["lowered"]
    each = "; ".join(
        f"{label}, by client: {', '.join(f'{error:.3f}' for error in errors)}"
        for label, errors in found["clients"].items()
    )
    spread = f"lower by {100 * lowered['mean']:.1f} ± {100 * lowered['std']:.1f} %; {each}"
    met = found["changed"] and lowered["mean"] > 0 and lowered["seeds"] >= SEEDS
    return Verdict(figure, spread, met)


def _aggregators(found: Any) -> Verdict:
    """Met if the evidence is whole; who wins is said, not asked."""
    methods = found["methods"]

    def reached(one: Any) -> str:
        if one["rounds"] is None:
            return "not reached"
        return f"{one['rounds']} rounds, {one['megabytes']:.2f} MB"

    figure = "; ".join(f"{method} {reached(one)}" for method, one in methods.items())
    spread = f"target {found['target']:.1f} %; " + "; ".join(
        f"{method} ({one['case']}) {_text(one['accuracy'])} %" for method, one in methods.items()
    )
    whole = len(methods) == 4 and all(one["accuracy"]["seeds"] >= SEEDS for one in methods.values())
    return Verdict(figure, spread, whole)


def _passed(found: Any) -> Verdict:
    bad = found["failures"] + found["errors"] + found["skipped"]
    met = found["status"] == 0 and bad == 0 and found["tests"] > 0
    return Verdict(f"{found['tests'] - bad} of {found['tests']} tests pass", f"{found['seconds']:.0f} s", met)
