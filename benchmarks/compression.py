"""Methods under compression: `python -m benchmarks.compression NAME`, a problem of config/compression/.

Runs the problem's two comparisons where runs/compression/ has no table of them yet, writes docs/claims/compression.md
of all that are there, and prints as JSON whether this problem's evidence is whole and how often lagg-set meta-trained
under compression beats the plain one.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.checkout import ROOT
from benchmarks.results import SURE, Curves, paired, read_setting, standard_error, verdict
from learned_aggregation.atomic import write_atomic

RUNS = ROOT / "runs" / "compression"
PAGE = ROOT / "docs" / "claims" / "compression.md"
PROBLEMS = {
    "digits_noniid": "digits, Dirichlet 0.1, 8 of 64 clients, MLP 64-32-10",
    "glyphs": "glyphs of 14x14, MLP 196-64-10",
    "text": "pytext, a transformer of width 32",
}
"""The comparisons' names and titles."""
COMPRESSIONS = ("8 bits", "4 bits", "2 bits", "top 1.56 %")
METHODS = ("FedAvg", "Nesterov", "lagg-set")
PLAIN, TRAINED = "lagg-set", "lagg-set-compressed"
UNSEEN = "sparseloco"
"""What lagg-set-compressed was not meta-trained under."""
BASELINE = "FedAvg, 32 bits"


class Found(NamedTuple):
    """A problem's methods by label; those of its comparison with the meta-trained rule included."""

    title: str
    methods: dict[str, Curves]


def labels(method: str) -> list[str]:
    """A method's rows, as config/_base_/compression.py names them."""
    under = [f"{method}, {c}{feedback}" for c in COMPRESSIONS for feedback in ("", ", feedback")]
    return [f"{method}, 32 bits", *under, f"{method}, {UNSEEN}"]


def run_missing(name: str) -> None:
    """Runs those of the problem's comparisons that have no table yet."""
    for comparison in (name, f"{name}_meta_trained"):
        directory = RUNS / comparison
        if not (directory / "table.csv").is_file():
            command = ["src/main.py", "--config", f"config/compression/{comparison}.py"]
            subprocess.run([sys.executable, *command, "--run_dir", str(directory)], check=True, cwd=ROOT)


def read(name: str) -> Found:
    """The problem's finished comparisons."""
    methods: dict[str, Curves] = {}
    for comparison in (f"{name}_meta_trained", name):  # the second one's baseline stays
        if (RUNS / comparison / "table.csv").is_file():
            methods |= read_setting(comparison, PROBLEMS[name], RUNS / comparison).methods
    return Found(PROBLEMS[name], methods)


def mean_loss(curves: Curves) -> np.ndarray:
    """The mean test loss of each seed over all evaluations but the first, made before training: [S]."""
    return curves.loss[:, 1:].mean(axis=1)


def against_plain(found: Found) -> dict[str, Counter]:
    """win, tie or loss in mean loss of the rule meta-trained under compression: what it has seen, and what not."""
    counts: dict[str, Counter] = {"seen": Counter(), "not seen": Counter()}
    for trained, plain in zip(labels(TRAINED), labels(PLAIN), strict=True):
        _, errors = paired(mean_loss(found.methods[trained]), mean_loss(found.methods[plain]))
        counts["not seen" if UNSEEN in trained else "seen"][verdict(errors)] += 1
    return counts


def megabits_to(curves: Curves, target: float) -> str:
    """Millions of bits that a client sends until the mean loss over seeds is at `target`; "-" where it is never."""
    reached = np.flatnonzero(curves.loss.mean(axis=0) <= target)
    if not len(reached):
        return "-"
    return f"{curves.rounds[reached[0]] * float(curves.row['bits_up_per_client']) / 1e6:.3g}"


def table(found: Found) -> list[str]:
    """A row for each method under each compression."""
    target = float(found.methods[BASELINE].loss[:, -1].mean())
    lines = [
        f"## {found.title}",
        "",
        f"Target: the last loss of FedAvg at 32 bits, {target:.4f}.",
        "",
        "| method | kbit up, per client per round | last test loss | mean test loss | rounds to target | Mbit up |",
        "|---|---|---|---|---|---|",
    ]
    for method in (*METHODS, TRAINED):
        for label in labels(method):
            if (curves := found.methods.get(label)) is None:
                continue
            last, mean = curves.loss[:, -1], mean_loss(curves)
            reached = np.flatnonzero(curves.loss.mean(axis=0) <= target)
            lines.append(
                f"| {label} | {float(curves.row['bits_up_per_client']) / 1e3:.3g} "
                f"| {last.mean():.4f} ± {standard_error(last):.4f} | {mean.mean():.4f} ± {standard_error(mean):.4f} "
                f"| {curves.rounds[reached[0]] if len(reached) else '-'} | {megabits_to(curves, target)} |"
            )
    return [*lines, ""]


def page(problems: dict[str, Found]) -> str:
    """docs/claims/compression.md."""
    lines = [
        "# Under compression",
        "",
        "Written by `python -m benchmarks.compression` (`make claims CLAIM=round`); configs in config/compression/.",
        "Each method is tuned under its own compression by its mean outer_valid loss; 10 seeds, the same for all,",
        "± standard error. Only what goes up is compressed. Feedback is EF14; sparseloco has it too.",
        "lagg-set-compressed was meta-trained under qsgd at 8, 4 and 2 bits, top 1.56 % and signs",
        "(config/meta_train/lagg_set_compressed.py), never under sparseloco. A difference of",
        f"{SURE:g} paired standard errors counts as won or lost.",
        "",
    ]
    for found in problems.values():
        lines += table(found)
        if set(labels(TRAINED)) <= found.methods.keys():
            counts = against_plain(found)
            told = "; ".join(f"{what}: {dict(count)}" for what, count in counts.items())
            lines += [f"lagg-set-compressed against lagg-set, mean loss, by compressions {told}.", ""]
    return "\n".join(lines)


def main(name: str) -> int:
    if name not in PROBLEMS:
        print(
            f"benchmarks.compression: expected one of {', '.join(PROBLEMS)}, got {name!r}.", file=sys.stderr
        )
        return 2
    run_missing(name)
    finished = {each: read(each) for each in PROBLEMS if (RUNS / each / "table.csv").is_file()}
    Path(PAGE).parent.mkdir(exist_ok=True)
    write_atomic(PAGE, page(finished))
    found = finished[name]
    asked = [label for method in (*METHODS, TRAINED) for label in labels(method)]
    print(
        json.dumps(
            {
                "asked": len(asked),
                "methods": len(found.methods.keys() & set(asked)),
                "seeds": min(len(curves.loss) for curves in found.methods.values()),
                "meta_trained": against_plain(found),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
