"""FedAvg on digits: rounds/s of the one federated round against a straightforward NumPy loop."""

from typing import Any

import numpy as np

from benchmarks.timing import interleaved, paired_ratio, row

CLIENTS, STEPS, BATCH, RATE, ROUNDS = 8, 4, 32, 0.5, 500


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    from learned_aggregation.devices.parallel import use_devices

    use_devices(1)
    import jax

    from learned_aggregation import build
    from learned_aggregation.config.resolve import Config
    from learned_aggregation.devices.parallel import job_mesh
    from learned_aggregation.meta_testing.program import Budget, Program

    config = Config(run_type="benchmark", optimizer="fedavg", task="mlp32_digits_8", local_batch_size=BATCH)
    loaded = build.load_task(config, "mlp32_digits_8")
    setting, shared = build.meta_test(config, loaded, (), ("test",))
    program = Program(setting, Budget(ROUNDS, ROUNDS), job_mesh(1, 1))
    params, _ = loaded.task.init(jax.random.key(0))
    train = loaded.dataset.splits["train"].examples
    images = train["image"].reshape(len(train["label"]), -1).astype(np.float32) / 16
    start = [np.asarray(params[f"Dense_{i}"][leaf]) for i in range(2) for leaf in ("kernel", "bias")]
    runs = {
        "ours": lambda: program.run(shared, {"local_learning_rate": np.array([RATE])}, np.zeros(1, int)),
        "numpy": lambda: numpy_fedavg(images, train["label"], start, np.random.default_rng(0)),
    }
    seconds = interleaved(runs, repeats)
    found = row(name, seconds["ours"], devices=1, rounds_per_s=ROUNDS / float(np.median(seconds["ours"])))
    found["numpy_rounds_per_s"] = ROUNDS / float(np.median(seconds["numpy"]))
    found["speed_up_over_numpy"] = paired_ratio(seconds["numpy"], seconds["ours"])
    return [found]


def numpy_fedavg(
    images: np.ndarray, labels: np.ndarray, params: list[np.ndarray], rng: Any
) -> list[np.ndarray]:
    """FedAvg by loops over clients and local steps."""
    for _ in range(ROUNDS):
        locals_ = []
        for _ in range(CLIENTS):
            local = [p.copy() for p in params]
            for _ in range(STEPS):
                rows = rng.integers(len(labels), size=BATCH)
                for p, g in zip(local, gradient(local, images[rows], labels[rows]), strict=True):
                    p -= RATE * g
            locals_.append(local)
        params = [np.mean(leaves, axis=0) for leaves in zip(*locals_, strict=True)]
    return params


def gradient(params: list[np.ndarray], x: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Of the mean cross-entropy of an MLP with one hidden layer."""
    w0, b0, w1, b1 = params
    hidden = np.maximum(x @ w0 + b0, 0)
    logits = hidden @ w1 + b1
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ w1.T) * (hidden > 0)
    return [x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
