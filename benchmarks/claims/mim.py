"""Label-free clients: what masked modelling learns, what freezing saves, any aggregator; what is exact."""

from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.claims import Claim, Verdict

TITLE = "Masked image modelling with progressive freezing"
GAINED = 8.0
"""Points of the 50-label probe above a random encoder's."""
COST = 0.87
"""Of a run with FreezeOut, cubic, t0 .8, against none."""
OFF = 0.01
"""How far the counted cost may be from the formula."""
LOST = 3.0
"""Points of the probe that freezing may lose."""
SEEDS = 3


def _data() -> str:
    here = (ROOT.parent / "shared/data/tfds/cifar10").is_dir()
    kept = (ROOT / "runs/mim/cifar_plain/rounds.csv").is_file()
    return "" if here or kept else f"CIFAR-10 in {Path('../shared/data/tfds')}"


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    table = ("-m", "benchmarks.mim")
    suite = ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q", "-m", "slow or not slow")
    return [
        Claim(
            "probes",
            f"1. the 50-label probe is at least {GAINED:g} points above a random encoder's; all labels; raw pixels; "
            "fine-tuned against from scratch",
            (*table, "probes"),
            _probes,
            _data,
        ),
        Claim(
            "cost",
            f"2. FreezeOut, cubic, t0 .8: at most {COST:g} of the FLOPs, within {100 * OFF:g} point of the formula",
            (*table, "cost"),
            _cost,
        ),
        Claim(
            "freezing",
            f"2. its probe loses at most {LOST:g} points against no freezing; stopping early at equal FLOPs",
            (*table, "freezing"),
            _freezing,
            _data,
        ),
        Claim(
            "early",
            "2. does supervision at every block let layers freeze sooner: t0 .5 to .9, four stages and all",
            (*table, "early"),
            _early,
        ),
        Claim(
            "seconds",
            "2. seconds of a gradient step with 0 to 5 of 6 blocks frozen, measured in turn",
            ("-m", "benchmarks.mim", "seconds"),
            _seconds,
        ),
        Claim(
            "features",
            "2. feature masking: a gradient step from stored features against one from images, measured in turn",
            (*table, "features"),
            _features,
        ),
        Claim(
            "bits",
            "3. bits up fall monotonically over phases; bits in all to a given probe accuracy",
            (*table, "bits"),
            _bits,
        ),
        Claim(
            "exact",
            "4. the schedule is the formula; frozen tensors are bit-equal under every rule and AdamW's decay; resumed "
            "across a boundary bit for bit",
            (*suite, "tests/test_freezeout.py", "tests/test_ssl_probes.py"),
            _passed,
            fresh=True,
        ),
        Claim(
            "aggregators",
            "5. FedAvg (lagg-set with its network off), Nesterov, lagg-set, lagg-bank; IID, a font per client, two "
            "classes per client: rounds to FedAvg's last masked loss, the probe after equal rounds",
            (*table, "aggregators"),
            _aggregators,
        ),
        Claim(
            "meta",
            "6. meta-training on a mixture of masked modelling and classification; the masked loss on held-out images",
            (*table, "meta"),
            _meta,
        ),
    ]


def _text(one: Any, digits: int = 1) -> str:
    return f"{one['mean']:.{digits}f} ± {one['std']:.{digits}f}"


def _probes(found: Any) -> Verdict:
    figure = "; ".join(f"{data}: {_text(one['gained'])} points above random" for data, one in found.items())
    spread = "; ".join(
        f"{data}: 50 labels {_text(one['trained']['linear50'])} % (random {_text(one['random']['linear50'])}, pixels "
        f"{_text(one['pixels50'])}), all labels {_text(one['trained']['linear'])} (random "
        f"{_text(one['random']['linear'])}), k-NN {_text(one['trained']['knn'])} (random "
        f"{_text(one['random']['knn'])}), fine-tuned {_text(one['trained']['finetune'])}, from scratch "
        f"{_text(one['scratch'])}"
        for data, one in found.items()
    )
    met = all(one["gained"]["mean"] >= GAINED and one["gained"]["seeds"] >= SEEDS for one in found.values())
    return Verdict(figure, spread, met and len(found) == 2)


def _cost(found: Any) -> Verdict:
    figure = "; ".join(f"L = {layers}: {one['encoder']:.3f} of the FLOPs" for layers, one in found.items())
    spread = "; ".join(
        f"L = {layers}: the phases by the formula {one['phases']:.3f}, a layer at a time {one['formula']:.3f}, with "
        f"decoders {one['with_decoders']:.3f}"
        for layers, one in found.items()
    )
    met = all(one["encoder"] <= COST and abs(one["encoder"] - one["phases"]) <= OFF for one in found.values())
    return Verdict(figure, spread, met)


def _freezing(found: Any) -> Verdict:
    figure = "; ".join(
        f"{data}: FreezeOut loses {_text(one['lost'])} points, stopping early {_text(one['lost_early'])}"
        for data, one in found.items()
    )
    spread = "; ".join(
        f"{data}: "
        + ", ".join(f"{case} {_text(value)} %" for case, value in one["probe"].items())
        + ", reconstruction "
        + ", ".join(f"{_text(value, 4)}" for value in one["reconstruction"].values())
        for data, one in found.items()
    )
    met = all(one["lost"]["mean"] <= LOST and one["lost"]["seeds"] >= SEEDS for one in found.values())
    return Verdict(figure, spread, met)


def _early(found: Any) -> Verdict:
    """Met if the evidence is whole; what it says is said."""
    figure = "; ".join(
        f"{label} stages: t0 .5 loses {curve['1.0']['mean'] - curve['0.5']['mean']:.1f} points"
        for label, curve in found.items()
    )
    spread = "; ".join(
        f"{label}: " + ", ".join(f"t0 {t0} {_text(value)} %" for t0, value in curve.items())
        for label, curve in found.items()
    )
    whole = all(
        len(curve) == 5 and all(v["seeds"] >= SEEDS for v in curve.values()) for curve in found.values()
    )
    return Verdict(figure, spread, whole)


def _seconds(found: Any) -> Verdict:
    figure = f"5 of 6 blocks frozen: {found['ratio'][-1]:.2f} of the seconds, {found['flops'][-1]:.2f} of the FLOPs"
    spread = ", ".join(
        f"{frozen} layers {ratio:.2f} ({flops:.2f} of the FLOPs)"
        for frozen, ratio, flops in zip(found["frozen"], found["ratio"], found["flops"], strict=True)
    )
    return Verdict(figure, spread, found["ratio"][-1] < 1)


def _features(found: Any) -> Verdict:
    """Met if storing saves against running the same prefix; whether `mask_after` pays is said."""

    def pays(share: float | None) -> str:
        return "never" if share is None else f"from {100 * share:.0f} % of a run on"

    figure = "; ".join(
        f"mask_after {after}: {one['seconds']['stored'] / one['seconds']['still']:.2f} of the seconds, "
        f"{one['flops']['stored'] / one['flops']['still']:.2f} of the FLOPs"
        for after, one in found.items()
    )
    spread = "over a mask before the first block: " + "; ".join(
        f"mask_after {after} {one[of]['moving']:.2f} of the {of} while it moves, {one[of]['still']:.2f} frozen, "
        f"{one[of]['stored']:.2f} stored, pays {pays(one[of]['pays'])}"
        for after, one in found.items()
        for of in ("seconds", "flops")
    )
    return Verdict(
        figure, spread, all(one["seconds"]["stored"] < one["seconds"]["still"] for one in found.values())
    )


def _bits(found: Any) -> Verdict:
    def reached(one: Any) -> str:
        return "not reached" if one["to_target"] is None else f"{one['to_target'] / 8e6:.2f} MB"

    frozen, plain = found["freezeout"], found["plain"]
    figure = f"to {found['target']:.1f} %: {reached(frozen)} with freezing, {reached(plain)} without"
    spread = f"bits up per round {', '.join(f'{bits:.0f}' for bits in frozen['by_phase'])}; in all "
    spread += f"{frozen['total'] / 8e6:.2f} against {plain['total'] / 8e6:.2f} MB per client"
    return Verdict(figure, spread, frozen["falls"] and len(frozen["by_phase"]) > 1)


def _aggregators(found: Any) -> Verdict:
    """Met if the evidence is whole; who wins is said, not asked."""

    def of(methods: Any) -> str:
        return ", ".join(
            f"{label} {'not reached' if one['rounds'] is None else one['rounds']} ({_text(one['probe'])} %)"
            for label, one in methods.items()
        )

    figure = "; ".join(f"{partition}: {of(methods)}" for partition, methods in found.items())
    spread = "; ".join(
        f"{partition}: " + ", ".join(f"{label} {_text(one['loss'], 4)}" for label, one in methods.items())
        for partition, methods in found.items()
    )
    whole = len(found) == 3 and all(
        len(methods) >= 5 and all(one["probe"]["seeds"] >= SEEDS for one in methods.values())
        for methods in found.values()
    )
    return Verdict(figure, spread, whole)


def _meta(found: Any) -> Verdict:
    learned = [sum(losses) / len(losses) for losses in found["learned"]]
    fedavg = sum(found["fedavg"]) / len(found["fedavg"])
    first, last = (sum(found["meta_loss"][at]) / SEEDS for at in ("first", "last"))
    figure = f"held-out masked loss {', '.join(f'{loss:.4f}' for loss in learned)}; FedAvg {fedavg:.4f}"
    spread = f"meta-loss {first:.4f} at first, {last:.4f} at the end; 3 meta-seeds, 3 seeds each"
    return Verdict(figure, spread, len(learned) == SEEDS and last < first)


def _passed(found: Any) -> Verdict:
    bad = found["failures"] + found["errors"] + found["skipped"]
    met = found["status"] == 0 and bad == 0 and found["tests"] > 0
    return Verdict(f"{found['tests'] - bad} of {found['tests']} tests pass", f"{found['seconds']:.0f} s", met)
