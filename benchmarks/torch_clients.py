"""The clients of `benchmarks.local_training` in plain PyTorch: eager, one client after another, on one core.

Run by the Python of the frameworks' environment (requirements-frameworks.txt), so nothing here imports our package:
`python -m benchmarks.torch_clients WORK.npz`. WORK.npz holds the server's parameters, every client's batches and the
sizes. Each line on stdin is answered by one line of JSON: the seconds of one round of local training, and each client's
mean loss, by which both programs are seen to do the same work.

The networks are what a PyTorch user writes: nn.Conv2d, nn.LayerNorm, scaled_dot_product_attention, torch.optim. Of the
memory formats (contiguous, channels last) and of the optimizer's ways (for each tensor, foreach, fused) the fastest is
taken, in a trial of each before the first answer.

PyTorch pads a convolution of stride 2 alike on both sides, ours as TensorFlow does, more on the right: on mirrored
images with mirrored kernels the two are the same function, and so the images and kernels of WORK.npz are mirrored here.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Flat = Mapping[str, np.ndarray]
Batches = list[tuple[torch.Tensor, torch.Tensor]]
"""One client's, (inputs, labels) for each step."""
Round = Callable[[int, int], list[float]]
"""(clients, steps) -> each client's mean loss."""
OPTIMIZER_WAYS = ({"foreach": False}, {"foreach": True}, {"fused": True})


def _conv_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel[::-1, ::-1].transpose(3, 2, 0, 1)


class Weights:
    """Takes the flax model's parameters one after another into a torch module's, in the layouts of each."""

    def __init__(self, flat: Flat):
        self.flat, self.used = flat, set()

    def _take(self, name: str) -> np.ndarray:
        self.used.add(name)
        return self.flat[name]

    def _set(self, to: torch.Tensor, value: np.ndarray) -> None:
        with torch.no_grad():
            to.copy_(torch.from_numpy(np.ascontiguousarray(value)))

    def raw(self, name: str) -> nn.Parameter:
        return nn.Parameter(torch.from_numpy(self._take(name).copy()))

    def conv(self, name: str, stride: int, bias: bool) -> nn.Conv2d:
        kernel = _conv_kernel(self._take(f"{name}/kernel"))
        layer = nn.Conv2d(
            kernel.shape[1], kernel.shape[0], kernel.shape[2:], stride, kernel.shape[2] // 2, bias=bias
        )
        self._set(layer.weight, kernel)
        if layer.bias is not None:
            self._set(layer.bias, self._take(f"{name}/bias"))
        return layer

    def linear(self, name: str) -> nn.Linear:
        kernel = self._take(f"{name}/kernel").T
        layer = nn.Linear(kernel.shape[1], kernel.shape[0])
        self._set(layer.weight, kernel)
        self._set(layer.bias, self._take(f"{name}/bias"))
        return layer

    def norm(self, name: str, layer: Any) -> Any:
        self._set(layer.weight, self._take(f"{name}/scale"))
        self._set(layer.bias, self._take(f"{name}/bias"))
        return layer

    def batch_norm(self, name: str) -> nn.BatchNorm2d:
        return self.norm(name, nn.BatchNorm2d(len(self.flat[f"{name}/scale"])))

    def layer_norm(self, name: str) -> nn.LayerNorm:
        return self.norm(name, nn.LayerNorm(len(self.flat[f"{name}/scale"]), eps=1e-6))


class MeanOverImage(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def conv(weights: Weights, sizes: Mapping[str, int]) -> nn.Module:
    layers: list[nn.Module] = []
    for layer in range(3):
        layers += [weights.conv(f"Conv_{layer}", 2 if layer == 0 else 1, True), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, MeanOverImage(), weights.linear("Dense_0"))


class ResidualBlock(nn.Module):
    def __init__(self, weights: Weights, name: str, stride: int):
        super().__init__()
        self.conv1 = weights.conv(f"{name}/Conv_0", stride, False)
        self.norm1 = weights.batch_norm(f"{name}/BatchNorm_0")
        self.conv2 = weights.conv(f"{name}/Conv_1", 1, False)
        self.norm2 = weights.batch_norm(f"{name}/BatchNorm_1")
        self.shortcut, self.stride = None, stride
        if f"{name}/shortcut_conv/kernel" in weights.flat:
            shortcut = weights.conv(f"{name}/shortcut_conv", 1, False)
            self.shortcut = nn.Sequential(shortcut, weights.batch_norm(f"{name}/shortcut_norm"))

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)), inplace=True)
        h = self.norm2(self.conv2(h))
        if self.shortcut is not None:
            # A mirrored image's every other pixel, as ours takes them, begins at its second.
            first = self.stride - 1
            x = self.shortcut(x[:, :, first :: self.stride, first :: self.stride])
        return F.relu(h + x, inplace=True)


def resnet(weights: Weights, sizes: Mapping[str, int]) -> nn.Module:
    blocks = [
        ResidualBlock(weights, f"stage_{stage}_block_{block}", 2 if stage > 0 and block == 0 else 1)
        for stage in range(sizes["layers"])
        for block in range(2)
    ]
    stem = [weights.conv("stem_conv", 2, False), weights.batch_norm("stem_norm"), nn.ReLU(inplace=True)]
    pool = nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(*stem, pool, *blocks, MeanOverImage(), weights.linear("head"))


class TransformerBlock(nn.Module):
    def __init__(self, weights: Weights, name: str, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_1, self.norm_2 = (weights.layer_norm(f"{name}/norm_{i}") for i in (1, 2))
        self.query, self.key, self.value, self.out, self.mlp_1, self.mlp_2 = (
            weights.linear(f"{name}/{part}") for part in ("query", "key", "value", "out", "mlp_1", "mlp_2")
        )

    def forward(self, x):
        batch, length, _ = x.shape
        h = self.norm_1(x)
        q, k, v = (
            layer(h).view(batch, length, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return x + self.mlp_2(F.gelu(self.mlp_1(self.norm_2(x)), approximate="tanh"))


class Transformer(nn.Module):
    def __init__(self, weights: Weights, sizes: Mapping[str, int]):
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(weights.raw("embed/embedding").detach(), freeze=False)
        blocks = (
            TransformerBlock(weights, f"layers/layer_{i}", sizes["heads"], True)
            for i in range(sizes["layers"])
        )
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = weights.layer_norm("norm"), weights.linear("head")

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.embed(tokens))))


class VisionTransformer(nn.Module):
    def __init__(self, weights: Weights, sizes: Mapping[str, int]):
        super().__init__()
        self.patch = sizes["patch"]
        self.embed = weights.linear("embed")
        self.class_token, self.positions = weights.raw("class_token"), weights.raw("positions")
        blocks = (
            TransformerBlock(weights, f"layers/layer_{i}", sizes["heads"], False)
            for i in range(sizes["layers"])
        )
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = weights.layer_norm("norm"), weights.linear("head")

    def forward(self, x):  # [B, h, w, c]
        batch, height, width, channels = x.shape
        patch = self.patch
        x = x.view(batch, height // patch, patch, width // patch, patch, channels).transpose(2, 3)
        x = self.embed(x.reshape(batch, -1, patch * patch * channels))
        x = torch.cat([self.class_token.expand(batch, -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x)[:, 0]))


MODELS = {"conv": conv, "resnet": resnet, "vit": VisionTransformer, "transformer": Transformer}


def optimizer_of(name: str, rate: float, parameters: Iterator[nn.Parameter], way: dict[str, bool]) -> Any:
    if name == "adamw":
        return torch.optim.AdamW(parameters, rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, **way)
    return torch.optim.SGD(parameters, rate, **way)


def round_of(
    model: nn.Module,
    batches: list[Batches],
    make_optimizer: Callable[[Iterator[nn.Parameter]], Any],
) -> Round:
    """One round of local training."""
    server = [p.detach().clone() for p in model.parameters()]
    buffers = [b.detach().clone() for b in model.buffers()]

    def run(clients: int, steps: int) -> list[float]:
        losses, deltas = [], []
        for client in batches[:clients]:
            with torch.no_grad():
                torch._foreach_copy_(list(model.parameters()), server)
                for buffer, start in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(start)
            optimizer = make_optimizer(model.parameters())
            of_steps = []
            for x, y in client[:steps]:
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(model(x).flatten(0, -2), y.flatten())
                loss.backward()
                optimizer.step()
                of_steps.append(loss.detach())
            with torch.no_grad():
                deltas.append(torch._foreach_sub(list(model.parameters()), server))
            losses.append(torch.stack(of_steps).mean())
        return [float(loss) for loss in losses]

    return run


def candidates(family: str) -> dict[str, tuple[Any, dict[str, bool]]]:
    """name -> (memory format, the optimizer's way)."""
    formats = {"contiguous": torch.contiguous_format}
    if family in ("conv", "resnet"):
        formats["channels_last"] = torch.channels_last
    names = ("for each tensor", "foreach", "fused")
    return {
        f"{name}, {what}": (memory, way)
        for name, memory in formats.items()
        for what, way in zip(names, OPTIMIZER_WAYS, strict=True)
    }


def program(work: Any, sizes: dict[str, Any], memory: Any, way: dict[str, bool]) -> Round:
    """The clients of WORK.npz in a memory format, with an optimizer's way."""
    family = sizes["family"]
    weights = Weights({name[7:]: work[name] for name in work.files if name.startswith("params/")})
    model = MODELS[family](weights, sizes).train().to(memory_format=memory)
    if weights.used != set(weights.flat):
        raise SystemExit(f"torch: expected to use every parameter, left {set(weights.flat) - weights.used}.")
    inputs, labels = torch.from_numpy(work["inputs"]), torch.from_numpy(work["labels"]).long()
    if family in ("conv", "resnet"):
        inputs = inputs.flip(3, 4).permute(0, 1, 2, 5, 3, 4).contiguous()
    elif family == "transformer":
        inputs = inputs.long()
    batches = [
        [(x.contiguous(memory_format=memory) if x.ndim == 4 else x, y) for x, y in zip(*client, strict=True)]
        for client in zip(inputs, labels, strict=True)
    ]
    return round_of(
        model, batches, lambda parameters: optimizer_of(sizes["optimizer"], sizes["rate"], parameters, way)
    )


def timed(run: Round, clients: int, steps: int) -> tuple[float, list[float]]:
    start = time.perf_counter()
    losses = run(clients, steps)
    return time.perf_counter() - start, losses


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    work = np.load(Path(sys.argv[1]))
    sizes = json.loads(str(work["sizes"]))
    ways, trials = candidates(sizes["family"]), {}
    for name, way in ways.items():  # one in memory at a time
        run = program(work, sizes, *way)
        first, _ = timed(run, 1, 1)
        trials[name] = min(timed(run, 1, 1)[0] for _ in range(1 if first > 1 else 5))
        del run
    best = min(trials, key=lambda name: trials[name])
    run = program(work, sizes, *ways[best])
    print(json.dumps({"way": best, "version": torch.__version__}), flush=True)
    for _ in sys.stdin:
        seconds, losses = timed(run, *work["inputs"].shape[:2])
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
