"""FLOPs of a gradient step with frozen layers, as XLA counts them in the compiled program."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.aggregators.masking import without
from learned_aggregation.problems.freezeout import (
    Change,
    FreezeOut,
    changes,
    formula_cost,
    layer_indices,
    phased_cost,
)
from learned_aggregation.problems.freezing import whole
from learned_aggregation.problems.phases import frozen_mask
from learned_aggregation.ssl.encoder import Encoder, encode, init_encoder
from learned_aggregation.ssl.localmim import Options, init_params, make_localmim, measure
from learned_aggregation.ssl.masks import draw_mask
from learned_aggregation.tasks.models.vit import VisionTransformer

ROUNDS, LOCAL_STEPS, BATCH = 1000, 4, 4
HIDDEN, SIDE = 256, 32
"""Wide enough that matrices are nearly all of the work, as in the sizes that are used."""


def counted(layers: int) -> dict[str, Any]:
    """Of a model of so many blocks: the formula, the run's phases by the formula, and by XLA's count."""
    plan = FreezeOut()
    found = changes(plan, layers, ROUNDS, LOCAL_STEPS)
    encoder = [flops(layers, change.frozen, decoders=False) for change in found]
    every = [flops(layers, change.frozen, decoders=True) for change in found]
    return {
        "formula": formula_cost(plan, layers),
        "phases": phased_cost(found, layers, ROUNDS),
        "encoder": _ratio(found, encoder),
        "with_decoders": _ratio(found, every),
        "flops": encoder,
        "changes": [list(change) for change in found],
    }


def _ratio(found: tuple[Change, ...], by_phase: list[float]) -> float:
    """What the run's phases cost against as many rounds of the first."""
    ends = [change.round for change in found[1:]] + [ROUNDS]
    lengths = [end - change.round for change, end in zip(found, ends, strict=True)]
    return sum(length * cost for length, cost in zip(lengths, by_phase, strict=True)) / (ROUNDS * by_phase[0])


def flops(layers: int, frozen: int, decoders: bool) -> float:
    """Of one gradient on a batch with the layers below `frozen` frozen: of LocalMIM's loss, or of the encoder alone."""
    step, params = gradient(layers, frozen, decoders)
    analysis: Any = step.lower(*params).compile().cost_analysis()
    return float(analysis["flops"])


def gradient(layers: int, frozen: int, decoders: bool) -> tuple[Any, tuple[Any, ...]]:
    """(the jitted gradient, its arguments)."""
    model = VisionTransformer(4, HIDDEN, 4 * HIDDEN, 4, layers, 1)
    mim = make_localmim("cost", model, (SIDE, SIDE, 3), Options())
    sizes: Encoder = mim.sizes
    key = jax.random.key(0)
    params = init_params(mim, key) if decoders else init_encoder(key, sizes)
    mask = frozen_mask(layer_indices(params, FreezeOut())[0], frozen)
    moving, still = without(mask, params), without(jax.tree.map(lambda hidden: not hidden, mask), params)
    images = jax.random.uniform(key, (BATCH, SIDE, SIDE, 3))
    weights = jnp.ones(len(mim.stages))

    def loss(moving: Any, still: Any, images: Any) -> Any:
        all_of_them = whole(moving, still)
        if decoders:
            return jnp.mean(measure(mim, all_of_them, weights, key, images)["loss"])
        outputs = encode(all_of_them, sizes, images, draw_mask(key, BATCH, sizes.patches, 0.75))
        return jnp.mean(outputs[-1] ** 2)

    return jax.jit(jax.grad(loss)), (moving, still, images)


def timed(layers: int, frozen: tuple[int, ...], rounds: int = 15) -> dict[str, Any]:
    """Of LocalMIM's whole gradient, decoders too: the median seconds over those of none frozen, and the FLOPs."""
    made = [gradient(layers, count, decoders=True) for count in frozen]
    compiled = [step.lower(*arguments).compile() for step, arguments in made]
    seconds = np.zeros((rounds, len(made)))
    for turn in range(-1, rounds):  # the first warms up
        for i, (step, (_, arguments)) in enumerate(zip(compiled, made, strict=True)):
            start = time.perf_counter()
            jax.block_until_ready(step(*arguments))
            if turn >= 0:
                seconds[turn, i] = time.perf_counter() - start
    analyses: list[Any] = [step.cost_analysis() for step in compiled]
    counts = [float(analysis["flops"]) for analysis in analyses]
    return {
        "frozen": list(frozen),
        "ratio": np.median(seconds / seconds[:, :1], axis=0).tolist(),
        "flops": [count / counts[0] for count in counts],
    }
