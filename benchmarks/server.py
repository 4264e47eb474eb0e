"""The memory of a server that adds one client at a time: `python -m benchmarks.server --clients 2 64 --parameters 10m`.

One round of fedlagg-set (hidden 32) through the drop-in: start, add for each client, finish. The deltas are made one at
a time. Each number of clients is a process of its own, which reads its largest resident memory before and after the
round: the difference is the round's, compilation (some 100 MB) included and imports not. Prints one line of JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT, environment
from benchmarks.timing import row

SIZES = {"1m": 1_000_000, "10m": 10_000_000, "100m": 100_000_000}
TENSORS, WIDTH = 4, 1000
"""The model: four matrices, 1,000 wide."""


def shapes(parameters: int) -> dict[str, tuple[int, int]]:
    """Of `parameters` in all, a multiple of 4,000."""
    return {f"kernel{i}": (parameters // TENSORS // WIDTH, WIDTH) for i in range(TENSORS)}


def peak_mb() -> float:
    """The largest resident memory of this process so far; ru_maxrss would begin with that of its parent."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def one_round(clients: int, parameters: int) -> dict[str, Any]:
    """peak_mb beyond the imports, import_mb, model_mb and the seconds of a round in this process."""
    import jax
    import jax.numpy as jnp

    from learned_aggregation import DropIn, get_aggregator

    options = {"hidden_size": 32}
    agg = DropIn(
        "fedlagg-set", get_aggregator("fedlagg-set", **options).init_theta(jax.random.key(0)), options=options
    )

    @jax.jit
    def delta_of(client):
        """In [-0.005, 0.005), cheap to make: the high bits of a multiplicative hash of the place."""

        def leaf(index, shape):
            place = jax.lax.iota(jnp.uint32, shape[0] * shape[1]).reshape(shape)
            bits = (place + 77_777 * client + jnp.uint32(index)) * jnp.uint32(2_654_435_761)
            return ((bits >> 8).astype(jnp.float32) * 2.0**-24 - 0.5) * 0.01

        return {name: leaf(i, shape) for i, (name, shape) in enumerate(shapes(parameters).items())}

    finish = jax.jit(agg.finish, donate_argnums=(0, 2))
    jax.block_until_ready(jnp.zeros(1) + 1.0)
    before = peak_mb()
    params = {name: jnp.zeros(shape) for name, shape in shapes(parameters).items()}
    state = agg.init(params)
    begun = time.perf_counter()
    partial = agg.start(params)
    for client in range(clients):
        delta = jax.block_until_ready(delta_of(jnp.uint32(client)))
        partial = agg.add(partial, delta, 1.0 + client)
        jax.block_until_ready(partial.weight)  # one delta at a time: JAX would make the next ones meanwhile
        del delta
    added = time.perf_counter()
    params, state = jax.block_until_ready(finish(params, partial, state))
    ended = time.perf_counter()
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in params.values())
    return {
        "clients": clients,
        "parameters": parameters,
        "peak_mb": peak_mb() - before,
        "import_mb": before,
        "model_mb": 4 * parameters / 2**20,
        "add_s": added - begun,
        "finish_s": ended - added,
    }


def in_a_process(clients: int, size: str) -> dict[str, Any]:
    """`one_round` in a process of its own.

    Raises:
      SystemExit: it failed.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.server",
        "--here",
        "--clients",
        str(clients),
        "--parameters",
        size,
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(ROOT), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"server: expected a round of {clients} clients, got exit status {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """`server/{k8,k64,k512}`: rows of 10 M and 100 M parameters; k512 of 10 M alone, 100 M take long.

    `server/k512/100m`: the row of one size of SIZES.
    """
    _, clients, *sizes = name.split("/")
    rows = []
    for size in sizes or (("10m",) if clients == "k512" else ("10m", "100m")):
        found = [in_a_process(int(clients.removeprefix("k")), size) for _ in range(repeats)]
        peak = max(one["peak_mb"] for one in found)
        seconds = [one["add_s"] + one["finish_s"] for one in found]
        whole = max(one["peak_mb"] + one["import_mb"] for one in found)
        more = {
            "peak_rss_mb": whole,
            "peak_mb": peak,
            "models": peak / found[0]["model_mb"],
            "parameters": found[0]["parameters"],
        }
        rows.append(row(f"server/{clients}/{size}", seconds, devices=1, **more))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[2, 64])
    parser.add_argument("--parameters", choices=SIZES, default="10m")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(one_round(asked.clients[0], SIZES[asked.parameters])))
        return
    rounds = []
    for clients in asked.clients:
        rounds.append(in_a_process(clients, asked.parameters))
        print(f"K {clients}: {rounds[-1]['peak_mb']:.0f} MB", file=sys.stderr, flush=True)
    print(json.dumps({"rounds": rounds}))


if __name__ == "__main__":
    main()
