"""FLOPs (as XLA counts them in the compiled program) and seconds of a gradient step with frozen layers."""

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
from learned_aggregation.ssl.localmim import Options, init_params, make_localmim, measure, stored_outputs
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


def gradient(
    layers: int, frozen: int, decoders: bool, mask_after: int = 0, stored: bool = False
) -> tuple[Any, tuple[Any, ...]]:
    """(the jitted gradient, its arguments); with `stored`, of LocalMIM's loss from stored features."""
    model = VisionTransformer(4, HIDDEN, 4 * HIDDEN, 4, layers, 1)
    mim = make_localmim("cost", model, (SIDE, SIDE, 3), Options(mask_after=mask_after))
    sizes: Encoder = mim.sizes
    key = jax.random.key(0)
    params = init_params(mim, key) if decoders else init_encoder(key, sizes)
    mask = frozen_mask(layer_indices(params, FreezeOut())[0], frozen)
    moving, still = without(mask, params), without(jax.tree.map(lambda hidden: not hidden, mask), params)
    images = jax.random.uniform(key, (BATCH, SIDE, SIDE, 3))
    weights = jnp.ones(len(mim.stages))
    kept = stored_outputs(mim, params, images) if stored else None

    def loss(moving: Any, still: Any, images: Any, kept: Any) -> Any:
        all_of_them = whole(moving, still)
        if decoders:
            return jnp.mean(measure(mim, all_of_them, weights, key, images, kept)["loss"])
        outputs = encode(all_of_them, sizes, images, draw_mask(key, BATCH, sizes.patches, 0.75))
        return jnp.mean(outputs[-1] ** 2)

    return jax.jit(jax.grad(loss)), (moving, still, images, kept)


def timed(layers: int, frozen: tuple[int, ...], rounds: int = 15) -> dict[str, Any]:
    """Of LocalMIM's whole gradient, decoders too: the median seconds over those of none frozen, and the FLOPs."""
    ratio, flops = paired([gradient(layers, count, decoders=True) for count in frozen], rounds)
    return {"frozen": list(frozen), "ratio": ratio, "flops": flops}


def masked(layers: int, after: int, rounds: int = 15) -> dict[str, Any]:
    """Of LocalMIM's whole gradient, over that with the mask before the first block, measured in turn.

    moving: with `mask_after`, nothing frozen. still: the prefix is frozen, in both. stored: from stored features.
    pays: the share of a run for which the prefix must be frozen, so that `mask_after` and storing cost as much as
    masking first; None: it never does.
    """

    def ratios(frozen: int, others: tuple[bool, ...]) -> tuple[list[float], list[float]]:
        first = gradient(layers, frozen, decoders=True)
        return paired([first, *(gradient(layers, frozen, True, after, stored) for stored in others)], rounds)

    before, then = ratios(0, (False,)), ratios(after + 1, (False, True))
    found: dict[str, Any] = {"mask_after": after}
    for name, moving, (_, still, stored) in zip(
        ("seconds", "flops"), (one[1] for one in before), then, strict=True
    ):
        pays = (moving - 1) / (moving - stored) if stored < 1 else None
        found[name] = {"moving": moving, "still": still, "stored": stored, "pays": pays}
    return found


def paired(made: list[tuple[Any, tuple[Any, ...]]], rounds: int) -> tuple[list[float], list[float]]:
    """(median seconds, FLOPs) of steps that are run in turn, over the first's."""
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
    return np.median(seconds / seconds[:, :1], axis=0).tolist(), [count / counts[0] for count in counts]
