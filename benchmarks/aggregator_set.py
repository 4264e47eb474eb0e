"""The set rule's update alone, on one core: nanoseconds per parameter, against XLA's program and the core's peak.

python -m benchmarks.aggregator_set 1m    at K 8 and K 64: what each further client costs
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peak
from benchmarks.aggregator import WIDTHS, Rounds, mlp_params, temporary_mb
from benchmarks.timing import interleaved, paired_ratio, row
from learned_aggregation import ClientUpdate, get_aggregator
from learned_aggregation.aggregators.learned import set_rule
from learned_aggregation.aggregators.learned.set_features import NUM_FEATURES
from learned_aggregation.kernels.compiled import FLAGS

HIDDEN = 32
FLOPS = 2 * HIDDEN * (NUM_FEATURES + HIDDEN + 2)
"""Of the network, for a parameter."""
ROUNDS = {"100k": 20, "1m": 4, "10m": 2}
"""Updates in one timed call: a loop with the state as carry, as in training."""


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """`aggregator_set/SIZE[/k64 | /avx2]`: fedlagg-set with 32 hidden units.

    Returns:
      the row, with ns_per_param, temp_mb, gflops (of the network), peak_gflops (multiply-adds in registers, measured
      before each update: the most), share_of_peak; without /k64 or /avx2 xla_ns_per_param and speedup_over_xla;
      reading_ns, what it takes to read the deltas alone; instructions, huge_pages, processor, load.
    """
    _, size, *kind = name.split("/")
    peak.one_core()
    if "avx2" in kind:
        peak.take_instructions(peak.AVX2)
    clients = 64 if "k64" in kind else 8
    params, rounds = mlp_params(WIDTHS[size]), ROUNDS[size]
    count = sum(leaf.size for leaf in params.values())
    delta = jax.tree.map(lambda w: 0.01 * jax.random.normal(jax.random.key(1), (clients, *w.shape)), params)
    rule = get_aggregator("fedlagg-set", hidden_size=HIDDEN)
    theta = rule.init_theta(jax.random.key(0))

    def update(inputs, state, params):
        theta, delta = inputs
        cohort = ClientUpdate(delta, (), jnp.zeros(clients), jnp.ones(clients))
        return rule.update(theta, cohort, state, params)

    arguments = ((theta, delta), rule.init(theta, params), params)
    timed: dict[str, Any] = {"set": Rounds(update, rounds, *arguments)}
    memory = temporary_mb(update, *arguments)
    if not kind:  # for K 64 it is slow; it takes AVX-512 where the kernel is told not to
        with mock.patch.object(set_rule, "fits", return_value=False):
            timed["xla"] = Rounds(update, rounds, *arguments)
    flat = [np.asarray(leaf) for leaf in jax.tree.leaves(delta)]
    timed["reading"] = lambda: [peak.read(leaf) for leaf in flat]
    peaks: list[float] = []
    timed = {"peak": lambda: peaks.append(peak.multiply_adds())} | timed
    seconds = interleaved(timed, repeats)
    ours = [s / rounds / count * 1e9 for s in seconds["set"]]
    result = row(name, [s / rounds for s in seconds["set"]], devices=1, parameters=count, clients=clients)
    result |= {
        "ns_per_param": float(np.median(ours)),
        "temp_mb": memory,
        "gflops": float(FLOPS / np.median(ours)),
        "peak_gflops": max(peaks) / 1e9,
        "share_of_peak": float(FLOPS * 1e9 / np.median(ours) / max(peaks)),
        "reading_ns": float(np.median(seconds["reading"]) / count * 1e9),
    }
    if "xla" in seconds:
        result["xla_ns_per_param"] = float(np.median(seconds["xla"]) / rounds / count * 1e9)
        result["speedup_over_xla"] = paired_ratio(seconds["xla"], seconds["set"])
    result["instructions"] = (
        "avx2" if "avx2" in kind else next(f for f in FLAGS if f.startswith("-march="))[7:]
    )
    result["huge_pages"] = "glibc.malloc.hugetlb=1" in os.environ.get("GLIBC_TUNABLES", "")
    return [result | {"processor": processor(), "load": os.getloadavg()[0]}]


def processor() -> str:
    """Its name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = [
        line.split(":")[1].strip()
        for line in lines
        if line.startswith(("model name", "cpu family", "model\t"))
    ]
    return "{2}, family {0}, model {1}".format(*found) if len(found) > 2 else platform.processor()


def main(size: str) -> None:
    """The rows at K 8 and K 64, one after the other, as one line of JSON."""
    rows = {}
    for key, kind in (("k8", ""), ("k64", "/k64")):
        name = f"aggregator_set/{size}{kind}"
        command = [sys.executable, "-m", "benchmarks.run", "--here", name, "--repeats", "7"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        [rows[key]] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1])
