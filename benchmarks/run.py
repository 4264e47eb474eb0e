"""`make bench`: every benchmark in a process of its own, a table, and benchmarks/out/results.json.

python -m benchmarks.run                           all
python -m benchmarks.run outer_step/b fedavg/digits  some
python -m benchmarks.run families                  every family of models, 20 rounds
python -m benchmarks.run outer_step --set num_grads=16 --set task=mlp64_digits_8   a workload of your own
"""

import argparse
import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.families import ENTRANTS, FAMILIES
from benchmarks.local_training import FAMILIES as CLIENTS
from benchmarks.mixture import NAMES as MIXTURES
from benchmarks.outer_step import WORKLOADS

OUT = Path(__file__).parent / "out" / "results.json"
SERVERS = ("server/k8", "server/k64", "server/k512")
REPEATS = {"outer_step/a": 3, "outer_step/b_h64": 3, "aggregator/10m": 5, "stream/digits": 21}
REPEATS |= dict.fromkeys(SERVERS, 1) | dict.fromkeys(MIXTURES, 3)
KINDS = (
    *("outer_step", "aggregator", "aggregator_set", "sweep", "fedavg", "stream", "server"),
    *("scaling", "families", "local_training", "mixture"),
)
SCALING = {
    "num_grads": (2, 64),
    "num_local_steps": (1, 64),
    "num_tasks": (1, 64),
    "task": ("mlp128_digits_8", "mlp512_digits_8"),
}
"""Each beside workload b, which has 8 clients, 4 local steps, 8 problems and 32 hidden units."""


def names() -> list[str]:
    """Of all benchmarks, in the order they run."""
    scaling = [f"scaling/{setting}/{value}" for setting, values in SCALING.items() for value in values]
    return [
        *(f"outer_step/{workload}" for workload in WORKLOADS),
        "aggregator/100k",
        "aggregator/1m",
        "aggregator/10m",
        *(f"aggregator_set/{size}{kind}" for kind in ("", "/k64", "/avx2") for size in ("100k", "1m", "10m")),
        "sweep/44",
        "fedavg/digits",
        "stream/digits",
        "stream/glyphs",
        "stream/glyphs_augmented",
        *SERVERS,
        *(f"local_training/{family}" for family in CLIENTS),
        *scaling,
    ]


def families() -> list[str]:
    """Benchmarks that run only when they are asked for, as those of MIXTURES do, which compile for a minute."""
    return [f"families/{family}/{entrant}" for family in FAMILIES for entrant in ENTRANTS]


def measure(name: str, overrides: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """Runs one benchmark in this process."""
    kind, _, rest = name.partition("/")
    if kind == "scaling":
        setting, value = rest.split("/")
        known = WORKLOADS["b"] | {setting: value if setting == "task" else int(value)}
        return [
            r | {"name": name}
            for r in importlib.import_module("benchmarks.outer_step").measure(rest, known, 3)
        ]
    if kind == "outer_step":
        settings = WORKLOADS.get(rest, WORKLOADS["b"]) | overrides
        return importlib.import_module("benchmarks.outer_step").measure(rest or "own", settings, repeats)
    return importlib.import_module(f"benchmarks.{kind}").measure(name, repeats)


def in_own_process(name: str, overrides: list[str], repeats: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.run", "--here", name, "--repeats", str(repeats)]
    for override in overrides:
        command += ["--set", override]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: expected a result, got exit status {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


def parse_override(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def show(row: dict[str, Any]) -> None:
    """One line: the median with its spread, and what else there is."""
    rest = {
        k: v for k, v in row.items() if k not in ("name", "devices", "median_s", "min_s", "max_s", "repeats")
    }
    more = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rest.items())
    spread = f"{row['median_s']:.4f} s [{row['min_s']:.4f}, {row['max_s']:.4f}]"
    print(f"{row['name']:<28} {row.get('devices', 1)} dev  {spread}  {more}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("names", nargs="*", help=f"of {', '.join(names())}")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--repeats", type=int)
    arguments.add_argument("--here", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.here:
        overrides = dict(parse_override(text) for text in given.set)
        print(json.dumps(measure(given.here, overrides, given.repeats)))
        return
    rows = []
    asked = [one for name in given.names for one in (families() if name == "families" else [name])]
    for name in asked or names():
        if name.split("/")[0] not in KINDS:
            raise SystemExit(f"benchmark: expected one of {', '.join(names())}, got {name!r}.")
        repeats = given.repeats or REPEATS.get(name) or (1 if name in families() else 7)
        for row in in_own_process(name, given.set, repeats):
            rows.append(row)
            show(row)
    OUT.parent.mkdir(exist_ok=True)
    measured = {row["name"] for row in rows}
    before = json.loads(OUT.read_text()) if OUT.is_file() else []
    OUT.write_text(json.dumps([r for r in before if r["name"] not in measured] + rows, indent=1) + "\n")
    print(f"written: {OUT}")


if __name__ == "__main__":
    main()
