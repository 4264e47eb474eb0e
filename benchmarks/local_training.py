"""Local training of a cohort whose models are no MLPs, beside plain PyTorch on the same work, on one core.

python -m benchmarks.run local_training/conv          a row for each width
python -m benchmarks.run local_training/conv/128      one width

One row: K clients, H local steps each, from the server's model to the deltas. PyTorch is that of the environment of
`make bench-frameworks`; without it a row has no figures of PyTorch. Both run on the same core, in turn, from the same
parameters on the same batches, and must find the same losses.
"""

import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import matrix_peak, paired_ratio, row

FRAMEWORKS = Path(__file__).parent.parent / ".venv-frameworks" / "bin" / "python"
FAMILIES = ("conv", "resnet", "vit", "transformer")
WIDTHS = (32, 64, 128, 256)
SIDE, CHANNELS, CLASSES = 32, 3, 10
LENGTH, VOCABULARY = 64, 256
TOLERANCE = 2e-3
"""The largest relative difference of a client's mean loss, ours and PyTorch's, that is called the same work."""


def missing() -> str:
    """What is missing to run beside PyTorch; "" where nothing is."""
    return "" if FRAMEWORKS.exists() else "the environment of make bench-frameworks"


class Work(NamedTuple):
    """K clients, H steps, B examples a step; the model's sizes. forward: FLOP of a forward pass over one example,
    first: of these, the products whose inputs are data, which need no gradient."""

    family: str
    width: int
    K: int
    H: int
    B: int
    optimizer: str
    rate: float
    forward: float
    first: float
    heads: int = 1
    layers: int = 1
    patch: int = 4

    @property
    def flop(self) -> float:
        """Of a round: a product's gradients with respect to both of its operands are two more of its size."""
        return self.K * self.H * self.B * (3 * self.forward - self.first)


def work_of(family: str, width: int) -> Work:
    """The row's work: fewer clients and steps where the model is large."""
    many = {32: (4, 4), 64: (4, 4), 128: (4, 2), 256: (2, 2)}[width]
    return {"conv": _conv, "resnet": _resnet, "vit": _vit, "transformer": _transformer}[family](width, *many)


def _conv(width: int, K: int, H: int) -> Work:
    pixels = (SIDE // 2) ** 2
    first = 2 * pixels * 9 * CHANNELS * width
    forward = first + 2 * 2 * pixels * 9 * width**2 + 2 * width * CLASSES
    return Work("conv", width, K, H, 32, "sgd", 0.05, forward, first)


def _resnet(width: int, K: int, H: int) -> Work:
    first = 2 * (SIDE // 2) ** 2 * 49 * CHANNELS * width
    # At 256 without its last two stages, which would make it 179 M parameters, 0.7 GB for each of many copies.
    stages = 4 if width < 256 else 2
    forward, before, side = first + 2 * 2 ** (stages - 1) * width * CLASSES, width, SIDE // 4
    for stage in range(stages):
        channels = width * 2**stage
        side = side if stage == 0 else side // 2
        shortcut = before * channels if stage else 0
        forward += 2 * side**2 * (9 * before * channels + 3 * 9 * channels**2 + shortcut)
        before = channels
    # At a larger rate its losses after a step differ by a rounding, after four by a hundredth: no check of anything.
    return Work("resnet", width, K, H, 32, "sgd", 1e-3, forward, first, layers=stages)


def _blocks(width: int, length: int, layers: int, inner: int) -> float:
    """Of pre-norm blocks with MLPs of 4 times the width, `inner` = heads * head size."""
    products = 2 * width * (4 * inner + 8 * width)
    return layers * length * (products + 4 * length * inner)


def _vit(width: int, K: int, H: int) -> Work:
    patch, layers, heads = 4, 4, max(2, width // 32)
    patches = (SIDE // patch) ** 2
    first = 2 * patches * patch**2 * CHANNELS * width
    forward = first + _blocks(width, patches + 1, layers, width) + 2 * width * CLASSES
    return Work("vit", width, K, H, 32, "adamw", 1e-3, forward, first, heads, layers, patch)


def _transformer(width: int, K: int, H: int) -> Work:
    layers, heads = 2, max(4, width // 32)  # transformer32: 4 heads of 32, as published
    forward = _blocks(width, LENGTH, layers, 32 * heads) + 2 * LENGTH * width * VOCABULARY
    return Work("transformer", width, K, H, 16, "adamw", 1e-3, forward, 0.0, heads, layers)


def task_of(work: Work) -> Any:
    """The zoo's model of this width as a Task on {"inputs", "labels"}."""
    import jax.numpy as jnp

    from learned_aggregation.tasks.flax_task import cross_entropy, flax_task
    from learned_aggregation.tasks.models.conv import ConvNet
    from learned_aggregation.tasks.models.resnet import DEPTHS, ResNet
    from learned_aggregation.tasks.models.transformer import Transformer
    from learned_aggregation.tasks.models.vit import VisionTransformer

    width, heads, layers = work.width, work.heads, work.layers
    model = {
        "conv": lambda: ConvNet((width,) * 3, CLASSES),
        "resnet": lambda: ResNet(DEPTHS["18"]._replace(blocks=(2,) * layers), False, CLASSES, width=width),
        "vit": lambda: VisionTransformer(work.patch, width, 4 * width, heads, layers, CLASSES),
        "transformer": lambda: Transformer(width, 4 * width, heads, layers, VOCABULARY),
    }[work.family]()
    text = work.family == "transformer"
    example = jnp.zeros((1, LENGTH), jnp.int32) if text else jnp.zeros((1, SIDE, SIDE, CHANNELS))

    def measure(logits, batch):
        found = cross_entropy(logits, batch["labels"])
        return {name: jnp.mean(values, axis=-1) for name, values in found.items()} if text else found

    return flax_task(work.family, model, example, lambda batch: batch["inputs"], measure)


def start_of(work: Work) -> tuple[Any, Any]:
    """(params, model_state): normal kernels of variance 1 / fan-in, scales and variances 1, the rest 0.

    Not the task's own, which takes longer to compile than to train, and whose ViT starts with a head of zeros, which
    hides what comes before it from the first step.
    """
    import jax

    rng = np.random.default_rng(1)

    def one(path: Any, shape: Any) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return np.ones(shape.shape, np.float32)
        if len(shape.shape) < 2:
            return np.zeros(shape.shape, np.float32)
        return (rng.normal(size=shape.shape) / math.sqrt(math.prod(shape.shape[:-1]))).astype(np.float32)

    return jax.tree_util.tree_map_with_path(one, jax.eval_shape(task_of(work).init, jax.random.key(0)))


def batches_of(work: Work) -> dict[str, np.ndarray]:
    """Random inputs and labels [K, H, B, ...], in float32 and int32."""
    rng, lead = np.random.default_rng(0), (work.K, work.H, work.B)
    if work.family == "transformer":
        tokens = rng.integers(VOCABULARY, size=(*lead, LENGTH + 1)).astype(np.int32)
        return {"inputs": tokens[..., :-1], "labels": tokens[..., 1:]}
    images = rng.normal(size=(*lead, SIDE, SIDE, CHANNELS)).astype(np.float32)
    return {"inputs": images, "labels": rng.integers(CLASSES, size=lead).astype(np.int32)}


def ours(work: Work, params: Any, model_state: Any, batches: dict[str, Any]) -> Callable[[], np.ndarray]:
    """() -> each client's mean loss, after a round of local training as every program of the package runs it."""
    import jax

    from learned_aggregation.devices.parallel import compiler_options
    from learned_aggregation.federated.client_work import independently
    from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
    from learned_aggregation.federated.local_training import local_training
    from learned_aggregation.types import Server

    clients = independently(local_training(task_of(work), LOCAL_OPTIMIZERS[work.optimizer](work.rate)))
    server = Server(params, model_state, (), (), (), ())

    @jax.jit
    def cohort(server, batches, key):
        weight = jax.numpy.ones(work.K)
        update, _ = clients.run(server, batches, weight, (), key)
        return update

    compiled = cohort.lower(server, batches, jax.random.key(0)).compile(compiler_options())

    def run() -> np.ndarray:
        update = jax.block_until_ready(compiled(server, batches, jax.random.key(0)))
        return np.asarray(update.loss)

    return run


class Torch:
    """The worker in the frameworks' environment."""

    def __init__(self, work: Work, params: Any, batches: dict[str, np.ndarray], directory: str):
        path = Path(directory, "work.npz")
        flat = {f"params/{name}": leaf for name, leaf in _named(params)}
        np.savez(path, sizes=json.dumps(work._asdict()), **flat, **batches)
        command = [str(FRAMEWORKS), "-m", "benchmarks.torch_clients", str(path)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.about = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"torch: expected a line of JSON, got exit status {self.process.wait()}.")
        return json.loads(line)

    def __call__(self) -> dict[str, Any]:
        """{"seconds", "losses"} of a round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def _named(params: Any) -> Iterator[tuple[str, np.ndarray]]:
    import jax

    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield "/".join(part.key for part in path), np.asarray(leaf)


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """A row for each width, or for the one that the name ends with."""
    if hasattr(os, "sched_setaffinity"):  # before jax starts its threads, which inherit it
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _, family, *width = name.split("/")
    peak = matrix_peak()
    return [_measure(work_of(family, w), repeats, peak) for w in (map(int, width) if width else WIDTHS)]


def _measure(work: Work, repeats: int, peak: float) -> dict[str, Any]:
    import jax

    from learned_aggregation.devices.parallel import use_devices

    use_devices(1)
    params, model_state = start_of(work)
    batches = batches_of(work)
    with tempfile.TemporaryDirectory() as directory:
        torch = Torch(work, params, batches, directory) if FRAMEWORKS.exists() else None
        start = time.perf_counter()
        run = ours(work, *jax.device_put((params, model_state, batches)))
        compile_s = time.perf_counter() - start
        losses = run()
        seconds: dict[str, list[float]] = {"ours": [], "torch": []}
        if torch is not None:
            _check(work, losses, np.array(torch()["losses"]))
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds["ours"].append(time.perf_counter() - start)
            if torch is not None:
                seconds["torch"].append(torch()["seconds"])
        if torch is not None:
            torch.close()
    found = row(
        f"local_training/{work.family}/{work.width}",
        seconds["ours"],
        clients=work.K,
        steps=work.H,
        batch=work.B,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        gflop=work.flop / 1e9,
        gflops=work.flop / 1e9 / float(np.median(seconds["ours"])),
        peak_gflops=peak / 1e9,
        share_of_peak=work.flop / peak / float(np.median(seconds["ours"])),
        compile_s=compile_s,
        load=os.getloadavg()[0],
    )
    if torch is not None:
        found["torch_s"] = float(np.median(seconds["torch"]))
        found["torch_gflops"] = work.flop / 1e9 / found["torch_s"]
        found["speed_up_over_torch"] = paired_ratio(seconds["torch"], seconds["ours"])
        found["torch"] = f"{torch.about['version']}, {torch.about['way']}"
    return found


def _check(work: Work, losses: np.ndarray, theirs: np.ndarray) -> None:
    apart = float(np.max(np.abs(losses - theirs) / np.abs(theirs)))
    if not apart <= TOLERANCE:
        raise SystemExit(
            f"local_training/{work.family}/{work.width}: expected PyTorch's losses {theirs}, got {losses}. "
            "The two do not do the same work."
        )
