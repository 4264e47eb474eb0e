"""Encoders in safetensors files: ours, written and read by the names of their parameters, and ViTs of timm's names."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.checksum import read_safetensors
from learned_aggregation.pretrained.theta_file import named_leaves
from learned_aggregation.ssl.encoder import ENCODER
from learned_aggregation.types import Params

_DENSE = {"attn.proj": "out", "mlp.fc1": "mlp_1", "mlp.fc2": "mlp_2"}
_NORMS = {"norm1": "norm_1", "norm2": "norm_2"}


def encoder_leaves(params: Params) -> dict[str, np.ndarray]:
    """An encoder's parameters by path, "layers/layer_0/query/kernel"; others (decoders, a head) are left out."""
    kept = {name: params[name] for name in ENCODER}
    return {name: np.asarray(leaf) for name, leaf in named_leaves(jax.device_get(kept)).items()}
