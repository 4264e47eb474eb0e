"""Feature masking: what a frozen prefix makes of each image is computed once, kept, and masked afterwards.

For LocalMIM with `mask_after`: the first blocks see the whole image and the mask is applied to what they give. Once
they are frozen, that depends on the image alone. Kept on the device, or on disk under the hash of the weights.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.split.array_file import cached, short_hash, tree_hash
from learned_aggregation.ssl.localmim import LocalMIM, kept_blocks, stored_outputs
from learned_aggregation.types import Params

FIRST = ("embed", "class_token", "positions")


def prefix_of(mim: LocalMIM, params: Params) -> Params:
    """The parameters that the features depend on.

    Raises:
      UserError: a model without `mask_after`, whose first blocks see the visible patches only.
    """
    after = mim.options.mask_after
    if not after:
        raise UserError(
            "feature masking: expected mask_after of at least 1, the blocks that see the whole image, got 0. Set it to "
            "how many blocks are frozen."
        )
    layers = {f"layer_{i}": params["layers"][f"layer_{i}"] for i in range(after)}
    return {**{name: params[name] for name in FIRST}, "layers": layers}


def stored_features(
    mim: LocalMIM,
    params: Params,
    images: Any,
    inputs: Callable[[Mapping[str, Array]], Array],
    directory: Path | None = None,
    chunk: int = 256,
    say: Callable[[str], None] = print,
) -> Float[Array, "N taps 1+N D"]:
    """The features of all images, on the device; in `directory` they are kept for the next run.

    A file's name and content carry the hash of the prefix's weights and of the images: others are computed anew.

    Args:
      images: [N, h, w, c] as the data set stores them; `inputs` makes a model's inputs of {"image": ...}.
    Raises:
      RunError: the disk refused.
    """
    prefix = prefix_of(mim, params)
    compute = jax.jit(lambda prefix, part: stored_outputs(mim, prefix, inputs({"image": part})))

    def build() -> dict[str, np.ndarray]:
        parts = [
            np.asarray(compute(prefix, jnp.asarray(images[start : start + chunk])))
            for start in range(0, len(images), chunk)
        ]
        return {"features": np.concatenate(parts)}

    if directory is None:
        return jnp.asarray(build()["features"])
    sizes = mim.sizes
    about = {
        "weights": tree_hash(prefix),
        "images": tree_hash({"image": np.asarray(images)}),
        "blocks": mim.options.mask_after,
    }
    shape = (len(images), len(kept_blocks(mim)), sizes.patches + 1, sizes.hidden)
    template = {"features": jax.ShapeDtypeStruct(shape, jnp.float32)}
    path = directory / f"features_{short_hash(about)}.safetensors"
    return jnp.asarray(cached(path, about, template, build, say)["features"])
