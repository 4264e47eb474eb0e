"""Encoders in safetensors files: ours, by the names of their parameters, and those with timm's names of a ViT."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.checksum import CHECKSUM, check_checksum, checksum, read_safetensors
from learned_aggregation.pretrained.theta_file import named_leaves, ordered
from learned_aggregation.ssl.encoder import ENCODER, Encoder
from learned_aggregation.types import Params

_BLOCK = re.compile(r"blocks\.(\d+)\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)")
_NAMES = {
    "norm1": "norm_1",
    "norm2": "norm_2",
    "attn.proj": "out",
    "mlp.fc1": "mlp_1",
    "mlp.fc2": "mlp_2",
}


def write_encoder(path: Path, params: Params) -> None:
    """Writes an encoder's parameters by path, "layers/layer_0/query/kernel"; decoders and heads are left out.

    Raises:
      RunError: the disk refused.
    """
    import safetensors.numpy

    kept = jax.device_get({name: params[name] for name in ENCODER})
    leaves = {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(kept).items()}
    text = {"format": "learned_aggregation.encoder.1"}
    content = safetensors.numpy.save(leaves, metadata=text | {CHECKSUM: checksum(leaves, text)})
    write_atomic(path, ordered(content))


def read_encoder(path: Path, template: Params, sizes: Encoder) -> Params:
    """The encoder in a file, of our names or timm's ("blocks.0.attn.qkv.weight"); what is no encoder's is left out.

    Args:
      template: of the encoder, arrays or shapes.
    Raises:
      UserError: no such file, a damaged one, a tensor that is missing or of another shape.
    """
    where = f"encoder {str(path)!r}"
    try:
        leaves, metadata = read_safetensors(path.read_bytes())
        check_checksum(leaves, metadata, required=False)
    except OSError as error:
        raise UserError(
            f"{where}: expected a safetensors file, got {error.strerror!r}. Check the path."
        ) from None
    except Exception as error:  # whatever the library raises
        raise UserError(
            f"{where}: expected a whole safetensors file, got a damaged one ({error}). Fetch it again."
        ) from None
    if "patch_embed.proj.weight" in leaves:
        leaves = from_timm(leaves, sizes)
    wanted = named_leaves(template)
    for name, leaf in wanted.items():
        got = leaves[name].shape if name in leaves else "none"
        if got != tuple(leaf.shape):
            raise UserError(
                f"{where}: expected {name} of shape {tuple(leaf.shape)}, got {got}. Name the model whose encoder it is."
            )
    structure = jax.tree.structure(template)
    return jax.tree.unflatten(structure, [leaves[name].astype(np.float32) for name in wanted])


def from_timm(leaves: Mapping[str, np.ndarray], sizes: Encoder) -> dict[str, Any]:
    """timm's tensors by our names: kernels are transposed, q, k and v are cut apart, the patches' pixels go row by row.

    Raises:
      UserError: a convolution or a position table that is not this encoder's.
    """
    d = sizes.hidden
    patch = leaves["patch_embed.proj.weight"]  # [D, c, p, p]
    found = {
        "embed/kernel": patch.transpose(2, 3, 1, 0).reshape(-1, patch.shape[0]),
        "embed/bias": leaves["patch_embed.proj.bias"],
        "class_token": leaves["cls_token"],
        "positions": leaves["pos_embed"],
        "norm/scale": leaves["norm.weight"],
        "norm/bias": leaves["norm.bias"],
    }
    for name, leaf in leaves.items():
        if (match := _BLOCK.fullmatch(name)) is None:
            continue
        index, part, kind = match.groups()
        layer = f"layers/layer_{index}"
        if part == "attn.qkv":
            for i, ours in enumerate(("query", "key", "value")):
                piece = leaf[i * d : (i + 1) * d]
                found[f"{layer}/{ours}/{'bias' if kind == 'bias' else 'kernel'}"] = piece.T
        elif part.startswith("norm"):
            found[f"{layer}/{_NAMES[part]}/{'bias' if kind == 'bias' else 'scale'}"] = leaf
        else:
            found[f"{layer}/{_NAMES[part]}/{'bias' if kind == 'bias' else 'kernel'}"] = leaf.T
    return found
