"""FedAvg on digits in FedJAX and in pfl-research, beside the NumPy loop of `fedavg.py`: `make bench-frameworks`.

Run by the Python of an environment of its own (requirements-frameworks.txt), so nothing here imports our package. The
NumPy loop ties the two environments: `make bench BENCH=fedavg/digits` times it beside our own round. A framework that
is not installed is left out. All run on one core; on a busy machine, read the CPU time. Sizes and sampling are ours:
8 clients, each with 4 batches of 32 drawn anew every round, with replacement, from the 1000 images that they share;
equal weights; SGD; a server step of 1.

What differs from our round:
- The split is a plain permutation (ours is stratified); initial weights and draws are each framework's own.
- FedJAX and pfl draw in NumPy on the host and go through clients and steps in Python, dispatching every step (FedJAX)
  or every operation (pfl); in ours, the draw and all the rounds are one compiled program.
- Both do more than train: FedJAX also computes the norm of every client's delta, and pfl keeps metrics of every round
  (it evaluates its clients in its very first round only, which is in the warm-up here).
- Neither reports the clients' mean training loss, which our round does.
"""

import importlib.metadata
import importlib.util
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import fedavg
from benchmarks.fedavg import BATCH, CLIENTS, RATE, STEPS

OUT = Path(__file__).parent / "out" / "frameworks.json"
ROUNDS, REPEATS, LEARNED = 100, 7, 0.9
EXAMPLES = STEPS * BATCH  # of a client in a round


class Entrant(NamedTuple):
    """block: takes `rounds` rounds and returns when they are done; predict: images -> scores of the classes."""

    rounds: int
    block: Callable[[], None]
    predict: Callable[[np.ndarray], Any]


def in_numpy(x: np.ndarray, y: np.ndarray) -> Entrant:
    rng = np.random.default_rng(0)
    w0, w1 = (rng.normal(0, n**-0.5, (n, m)).astype(np.float32) for n, m in ((64, 32), (32, 10)))
    params = start = [w0, np.zeros(32, np.float32), w1, np.zeros(10, np.float32)]

    def block() -> None:
        nonlocal params
        params = fedavg.numpy_fedavg(x, y, start, rng)

    def predict(images: np.ndarray) -> np.ndarray:
        return np.maximum(images @ params[0] + params[1], 0) @ params[2] + params[3]

    return Entrant(fedavg.ROUNDS, block, predict)


def in_fedjax(x: np.ndarray, y: np.ndarray) -> Entrant:
    os.environ.setdefault("JAX_PLATFORM_NAME", "cpu")  # read when JAX is imported
    import fedjax
    import haiku as hk
    import jax
    from fedjax.algorithms.fed_avg import federated_averaging

    rng = np.random.default_rng(0)

    def clients():
        # FedJAX shuffles what a client has; clients made of one round's draw, not shuffled, sample as ours do.
        for client in itertools.count():
            rows = rng.integers(len(y), size=EXAMPLES)
            yield client, fedjax.ClientDataset({"x": x[rows], "y": y[rows]})

    def loss(batch, scores):
        return fedjax.metrics.unreduced_cross_entropy_loss(batch["y"], scores)

    network = hk.transform(lambda batch: hk.nets.MLP([32, 10])(batch["x"]))
    model = fedjax.create_model_from_haiku(network, {"x": x[:1], "y": y[:1]}, loss)
    sgd, batches = fedjax.optimizers.sgd, fedjax.ShuffleRepeatBatchHParams(BATCH, skip_shuffle=True)
    algorithm = federated_averaging(fedjax.model_grad(model), sgd(RATE), sgd(1.0), batches)
    sampler = fedjax.client_samplers.UniformShuffledClientSampler(clients(), CLIENTS)
    state = algorithm.init(model.init(jax.random.PRNGKey(0)))

    def block() -> None:
        nonlocal state
        for _ in range(ROUNDS):
            state, _ = algorithm.apply(state, sampler.sample())
        jax.block_until_ready(state.params)

    return Entrant(ROUNDS, block, lambda images: model.apply_for_eval(state.params, {"x": images}))


def in_pfl(x: np.ndarray, y: np.ndarray) -> Entrant:
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.federated_dataset import ArtificialFederatedDataset
    from pfl.data.sampling import get_data_sampler
    from pfl.hyperparam.base import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)

    class Network(torch.nn.Sequential):
        def loss(self, x, y):
            return torch.nn.functional.cross_entropy(self(x), y)

        def metrics(self, x, y):  # pfl asks for it; it would measure, and we only train
            return {}

    network = Network(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), lr=1.0))
    images, draw = [torch.from_numpy(x), torch.from_numpy(y)], get_data_sampler("random", len(y))
    clients = ArtificialFederatedDataset.from_slices(images, draw, lambda: EXAMPLES)
    backend = SimulatedBackend(clients, clients)
    local = NNTrainHyperParams(BATCH, None, RATE, local_num_steps=STEPS)
    algorithm, rounds = FederatedAveraging(), 0

    def block() -> None:
        nonlocal rounds
        rounds += ROUNDS  # the algorithm counts on from block to block
        server = NNAlgorithmParams(rounds, 10**9, train_cohort_size=CLIENTS, val_cohort_size=None)
        algorithm.run(server, backend, model, local, send_metrics_to_platform=False)

    return Entrant(ROUNDS, block, lambda images: network(torch.from_numpy(images)).detach())


ENTRANTS = {"numpy": in_numpy, "fedjax": in_fedjax, "pfl": in_pfl}


def measure() -> list[dict[str, Any]]:
    """Warms all up, checks that they learn, and times them in turn: what slows the machine then hits all alike."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    x, y = (pixels[order] / 16).astype(np.float32), labels[order]
    entrants, accuracy = {}, {}
    for name, make in ENTRANTS.items():
        if importlib.util.find_spec(name):
            entrants[name] = make(x[:1000], y[:1000])
            entrants[name].block()
            scores = np.asarray(entrants[name].predict(x[-297:]))
            accuracy[name] = float(np.mean(np.argmax(scores, axis=1) == y[-297:]))
            if (got := accuracy[name]) <= LEARNED:
                raise SystemExit(f"{name}: expected a test accuracy above {LEARNED}, got {got:.3f}.")
    seconds = {name: [] for name in entrants}
    for _ in range(REPEATS):
        for name, entrant in entrants.items():
            start = clocks()
            entrant.block()
            seconds[name].append(clocks() - start)
    rows = []
    for name, entrant in entrants.items():
        version = importlib.metadata.version(name)
        rows.append({"name": name, "version": version, "rounds": entrant.rounds, "accuracy": accuracy[name]})
        for clock, spent in zip(("cpu", "wall"), np.transpose(seconds[name]).tolist(), strict=True):
            median = float(np.median(spent))
            times = {"median_s": median, "min_s": min(spent), "max_s": max(spent)}
            rows[-1][clock] = times | {"rounds_per_s": entrant.rounds / median}
    return rows + [{"name": name, "installed": False} for name in ENTRANTS if name not in entrants]


def clocks() -> np.ndarray:
    return np.array([time.process_time(), time.perf_counter()])


def show(row: dict[str, Any]) -> str:
    if "cpu" not in row:
        return f"{row['name']:<7} not installed"
    spread = "{} {median_s:.3f} s [{min_s:.3f}, {max_s:.3f}] {rounds_per_s:.1f} rounds/s"
    times = "  ".join(spread.format(clock, **row[clock]) for clock in ("cpu", "wall"))
    return "{name:<7} {version:<7} {rounds} rounds  {}  accuracy {accuracy:.3f}".format(times, **row)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):  # before the frameworks start their threads, which inherit it
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = measure()
    print("\n".join(map(show, rows)))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written: {OUT}")


if __name__ == "__main__":
    main()
