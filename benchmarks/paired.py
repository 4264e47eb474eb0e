"""A benchmark on this checkout and on another revision, in turn: `python -m benchmarks.paired NAME --against REV`.

python -m benchmarks.paired b --against 92bf4a2 -n 10           outer_step/b, ten pairs
python -m benchmarks.paired sweep/44 --against 92bf4a2
python -m benchmarks.paired lagg_set --against 92bf4a2          mixture/lagg_set: its outer step and compilation
python -m benchmarks.paired help --against 92bf4a2 -n 30        the seconds of `python src/main.py --help`

Each measurement is a process of its own, before and now in turn, on the same cores; a checkout's benchmarks run on its
package, and a benchmark that it has not yet is taken from this checkout. Prints now / before pair by pair, the median
with its quartiles, then one line of JSON. With --partial FILE each pair is kept there once it is measured: killed, the
same command goes on after it. The file is removed at the end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checkout import BEFORE, ROOT, commit_of, environment, files_of, run_json, source_hash
from benchmarks.mixture import NAMES as MIXTURES
from benchmarks.outer_step import WORKLOADS
from benchmarks.run import REPEATS, names
from learned_aggregation.atomic import write_atomic

HELP = "help"
PAIRS = {HELP: 30, "outer_step/a": 3, **dict.fromkeys(MIXTURES, 3)}
"""Where it is not six."""

Pair = dict[str, tuple[float, float]]
"""What was timed -> seconds before and now."""


def full_name(name: str) -> str:
    """`b` is outer_step/b, `lagg_set` is mixture/lagg_set.

    Raises:
      SystemExit: there is no such benchmark.
    """
    short = {whole.partition("/")[2]: whole for whole in (*(f"outer_step/{w}" for w in WORKLOADS), *MIXTURES)}
    full = short.get(name, name)
    if full not in (HELP, *names(), *MIXTURES):
        known = ", ".join((HELP, *short, *names(), *MIXTURES))
        raise SystemExit(f"benchmark: expected one of {known}, got {name!r}.")
    return full


def seconds(name: str, tree: Path, repeats: int) -> dict[str, float]:
    """What a checkout takes, by the number of devices; the median of `repeats`, in a process of their own."""
    if name == HELP:
        _help(tree)  # compiles and reads what the counted ones find ready
        return {HELP: statistics.median(_help(tree) for _ in range(repeats))}
    command = ["-m", "benchmarks.run", "--here", name, "--repeats", str(repeats)]
    rows = json.loads(run_json(command, tree, tree if _has(tree, name) else ROOT))
    return {f"{row['name']}, {row.get('devices', 1)} device(s)": row["median_s"] for row in rows}


def _has(tree: Path, name: str) -> bool:
    """Whether a checkout has the file of a benchmark."""
    return (tree / "benchmarks" / f"{name.partition('/')[0]}.py").is_file()


def _help(tree: Path) -> float:
    start = time.perf_counter()
    command = [sys.executable, str(tree / "src" / "main.py"), "--help"]
    subprocess.run(command, cwd=tree, env=environment(tree), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def pairs_in_turn(
    measure: Callable[[Path], Mapping[str, float]],
    before: Path,
    now: Path,
    found: list[Pair],
    number: int,
    keep: Callable[[list[Pair]], None],
) -> list[Pair]:
    """Measures before, now, before, now until there are `number` pairs; `keep` gets them after each pair."""
    for n in range(len(found) + 1, number + 1):
        old, new = measure(before), measure(now)
        found = [*found, {label: (old[label], new[label]) for label in old if label in new}]
        keep(found)
        for label, (a, b) in found[-1].items():
            print(f"pair {n}: {label}: {a:.4f} s, {b:.4f} s, {b / a:.3f}", file=sys.stderr, flush=True)
    return found


def ratios(pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Of each thing that was timed: now / before pair by pair, their median and quartiles, the median seconds."""
    found = {}
    for label in pairs[0]:
        times = np.array([pair[label] for pair in pairs])
        ratio = times[:, 1] / times[:, 0]
        low, middle, high = (float(np.quantile(ratio, q)) for q in (0.25, 0.5, 0.75))
        old, new = (float(np.median(times[:, i])) for i in (0, 1))
        found[label] = {"ratios": ratio.tolist(), "median": middle, "q1": low, "q3": high}
        found[label] |= {"before_s": old, "now_s": new}
    return found


def kept(path: Path | None, what: Mapping[str, Any]) -> list[Pair]:
    """The pairs in a file that were measured on the same things; none of another file or a damaged one."""
    if path is None or not path.is_file():
        return []
    try:
        content = json.loads(path.read_text())
        if {name: content[name] for name in what} != dict(what):
            return []
        return [{label: (float(a), float(b)) for label, (a, b) in pair.items()} for pair in content["pairs"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help=f"{HELP}, {', '.join(WORKLOADS)}, or one of python -m benchmarks.run")
    parser.add_argument("--against", metavar="REV", default=BEFORE, help=f"default {BEFORE}")
    parser.add_argument("-n", "--pairs", type=int)
    parser.add_argument("--repeats", type=int, help="repetitions in a process, of which the median counts")
    parser.add_argument("--cores", help="the cores of all processes, such as 0,1; the ones there are")
    parser.add_argument("--partial", type=Path, metavar="FILE", help="keeps the pairs until the end")
    asked = parser.parse_args(argv)
    name = full_name(asked.name)
    number = asked.pairs or PAIRS.get(name, 6)
    repeats = asked.repeats or REPEATS.get(name, 7)
    if asked.cores:
        os.sched_setaffinity(0, [int(core) for core in asked.cores.split(",")])
    cores = sorted(os.sched_getaffinity(0))
    what = {
        "name": name,
        "against": commit_of(asked.against),
        "now": source_hash(ROOT),
        "repeats": repeats,
        "cores": cores,
    }

    def keep(pairs: list[Pair]) -> None:
        if asked.partial:
            write_atomic(asked.partial, json.dumps(what | {"pairs": pairs}, indent=1) + "\n")

    with files_of(asked.against) as before:
        for tree in (before, ROOT):  # neither may fall back to XLA's program, nor compile while it is timed
            run_json(["-m", "learned_aggregation.kernels"], tree)
        found = pairs_in_turn(
            lambda tree: seconds(name, tree, repeats), before, ROOT, kept(asked.partial, what), number, keep
        )
    table = ratios(found)
    for label, one in table.items():
        listed = " ".join(f"{ratio:.3f}" for ratio in one["ratios"])
        print(f"{label}: {one['before_s']:.4f} s before, {one['now_s']:.4f} s now; now / before {listed}")
        print(f"  median {one['median']:.3f}, quartiles {one['q1']:.3f} and {one['q3']:.3f}")
    print(json.dumps(what | {"timed": table}))
    if asked.partial:
        asked.partial.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
