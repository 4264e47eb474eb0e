"""Siamese masked autoencoders: what they learn, the probe's table, federated training, a DAVIS folder, bad input."""

from typing import Any

from benchmarks.claims import Claim, Verdict
from benchmarks.siammae_models import MAIN, SMALL, is_trained

TITLE = "Siamese masked autoencoders and the correspondence they learn"
WORSE = 10.0
"""Per cent that the masked loss must be worse with a wrong first frame."""
TIMES = 2.0
"""How many times as often as the same place the decoder must look at the true source."""
ABOVE_COPYING = 0.25
ABOVE_RANDOM = 0.05
SEEDS = 3
SEQUENCES = 20


def _models() -> str:
    seeds = " ".join(f"'{name}:{seed}'" for name in (MAIN, SMALL) for seed in range(SEEDS))
    trained = all(is_trained(name, seed) for name in (MAIN, SMALL) for seed in range(SEEDS))
    return (
        ""
        if trained
        else f"trained models: nice python -m benchmarks.siammae_train {seeds}, minutes on two cores"
    )


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    measure = ("-m", "benchmarks.siammae")
    suite = ("-m", "benchmarks.suite", "python", "-m", "pytest", "-q")
    return [
        Claim(
            "loss",
            f"1. masked loss on held-out clips {WORSE:g} % worse at least with another clip's f1, with zeros; by gap",
            (*measure, "loss"),
            _loss,
            _models,
        ),
        Claim(
            "attention",
            "1. the decoder's cross-attention peaks within one patch of the true source at least "
            f"{TIMES:g}x as often as the same place in f1 is, where things move",
            (*measure, "attention"),
            _attention,
            _models,
        ),
        Claim(
            "table",
            f"2. the probe's table, one treatment for all: trained at least copying + {ABOVE_COPYING:g}; "
            "5. LocalMIM's encoder and a supervised one in it",
            (*measure, "table"),
            _table,
            _models,
        ),
        Claim(
            "beats",
            f"2. asked besides: trained above random by {ABOVE_RANDOM:g} and above raw patches where light changes",
            (*measure, "table"),
            _beats,
            _models,
            optional=True,
        ),
        Claim(
            "federated",
            "3. 8 clients, a family of motions each: FedAvg, Nesterov, lagg-set, its network off; central beside them",
            (*measure, "federated"),
            _federated,
        ),
        Claim(
            "davis",
            f"4. a DAVIS-2016 folder of {SEQUENCES} sequences through reader, probe and report in one command",
            (*measure, "davis"),
            _davis,
        ),
        Claim(
            "exact",
            "J and F against brute force, propagation against a loop, objective, resuming; 6. bad input",
            (
                *suite,
                *(
                    f"tests/test_{name}.py"
                    for name in ("segmentation", "propagation", "videos", "video_files")
                ),
                "tests/test_siammae.py",
                "tests/test_siammae_runs.py",
                "-m",
                "not extras",  # PyAV's, which .venv does not have
            ),
            _passed,
            fresh=True,
        ),
    ]


def _text(one: Any, digits: int = 3) -> str:
    return f"{one['mean']:.{digits}f} ± {one['std']:.{digits}f}"


def _loss(found: Any) -> Verdict:
    losses = found["losses"]
    another, none = (_text(found[name]["all"], 1) for name in ("another", "none"))
    figure = f"worse by {another} % (another clip's), {none} % (zeros)"
    by_gap = "; ".join(
        f"gap {group}: {_text(found['another'][group], 1)} %, {_text(found['none'][group], 1)} %"
        for group in found["another"]
        if group != "all"
    )
    tried = "".join(
        f"; tried, {name}: {_text(one['another']['all'], 1)} %, {_text(one['none']['all'], 1)} %"
        for name, one in found["tried"].items()
    )
    spread = (
        f"losses {', '.join(f'{name} {_text(value)}' for name, value in losses.items())}; {by_gap}{tried}"
    )
    met = min(found["another"]["all"]["mean"], found["none"]["all"]["mean"]) >= WORSE
    return Verdict(figure, spread, met and losses["right"]["seeds"] >= SEEDS)


def _attention(found: Any) -> Verdict:
    """Met by the main variant, or by another that has as many seeds."""
    variants = {MAIN: found, **found["tried"]}
    whole = {name: one for name, one in variants.items() if one["times"]["seeds"] >= SEEDS}
    met = any(one["times"]["mean"] >= TIMES for one in whole.values())
    return Verdict("; ".join(map(_looks, variants, variants.values())), _moved(variants), met)


def _looks(name: str, one: Any) -> str:
    return f"{name}: {_text(one['times'], 2)}x ({_text(one['source'])} against {_text(one['same_place'])} in place)"


def _moved(variants: Any) -> str:
    """Where things moved by more than a patch; what exhaustive search finds; what nothing can be above."""
    rows = (
        f"{name}, {one['hidden']:g} hidden, seeds {one['times']['seeds']}: source {_text(one['far_source'])}, in place "
        f"{_text(one['far_place'])}, by chance {one['chance']:.3f}; of the {one['patches']} that moved by half a patch "
        f"at least: {one['matching']:.2f}x by block matching, "
        f"{1 / one['same_place']['mean']:.2f}x if always right"
        for name, one in variants.items()
    )
    return f"where it moved by more than a patch: {'. '.join(rows)}"


def _rows(rows: Any) -> str:
    return "; ".join(f"{name} {_text(row['jf_mean'])}" for name, row in rows.items())


def _table(found: Any) -> Verdict:
    lit, plain = found["lit"], found["plain"]
    gains = {
        light: rows["trained"]["jf_mean"]["mean"] - rows["copying"]["jf_mean"]["mean"]
        for light, rows in found.items()
    }
    figure = "; ".join(f"{light}: copying + {gain:.3f}" for light, gain in gains.items())
    spread = f"J&F, light that changes: {_rows(lit)}. Plain: {_rows(plain)}"
    whole = all(
        "supervised on characters" in rows and "LocalMIM on frames" in rows for rows in found.values()
    )
    met = min(gains.values()) >= ABOVE_COPYING and lit["trained"]["jf_mean"]["seeds"] >= SEEDS
    return Verdict(figure, spread, met and whole)


def _beats(found: Any) -> Verdict:
    """The best trained encoder against the best random one, of whatever patches, and the best raw patches."""
    lit = found["lit"]
    raw = max(row["jf_mean"]["mean"] for name, row in lit.items() if "patches" in name)
    trained = {name: row["jf_mean"]["mean"] for name, row in lit.items() if name.startswith("trained")}
    best = max(trained, key=trained.__getitem__)
    random = max(row["jf_mean"]["mean"] for name, row in lit.items() if name.startswith("random"))
    figure = f"{best}: random {trained[best] - random:+.3f}, best raw {trained[best] - raw:+.3f}"
    spread = "; ".join(f"{name} {_text(lit[name]['jf_mean'])} ({lit[name]['chosen']})" for name in trained)
    above = trained[best] >= random + ABOVE_RANDOM and trained[best] > raw
    return Verdict(figure, spread, above and lit[best]["jf_mean"]["seeds"] >= SEEDS)


def _federated(found: Any) -> Verdict:
    """Met if the evidence is whole; who wins is said, not asked."""
    methods = found["methods"]

    def rounds(one: Any) -> str:
        return "not reached" if one["rounds"] is None else f"{one['rounds']} rounds"

    figure = "; ".join(f"{name} {rounds(one)}, J&F {_text(one['jf'])}" for name, one in methods.items())
    losses = "; ".join(f"{name} {_text(one['loss'])} ({one['settings']})" for name, one in methods.items())
    whole = len(methods) == 5 and all(one["loss"]["seeds"] >= SEEDS for one in methods.values())
    return Verdict(figure, f"to the masked loss {found['target']:.3f}; last losses: {losses}", whole)


def _davis(found: Any) -> Verdict:
    rows = found["rows"]
    figure = "; ".join(f"{name} J&F {row['jf_mean']:.3f}" for name, row in rows.items())
    spread = "; ".join(f"{name} J {row['j_mean']:.3f}, F {row['f_mean']:.3f}" for name, row in rows.items())
    met = (
        found["sequences"] == SEQUENCES
        and {"raw", "random", "trained"} <= rows.keys()
        and found["report"] > 0
    )
    return Verdict(figure, f"{found['sequences']} sequences; {spread}", met)


def _passed(found: Any) -> Verdict:
    bad = found["failures"] + found["errors"] + found["skipped"]
    met = found["status"] == 0 and bad == 0 and found["tests"] > 0
    return Verdict(f"{found['tests'] - bad} of {found['tests']} tests pass", f"{found['seconds']:.0f} s", met)
