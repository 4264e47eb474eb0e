"""A compressor with an option of its own."""

from additions import Addition, Edit

COMPRESSOR = '''"""`rounded`."""

import jax.numpy as jnp

from learned_aggregation.federated.compressors.base import Field, TensorCode, per_tensor
from learned_aggregation.types import Compressor


def rounded(*, step: float) -> Compressor:
    """C(x) = step * round(x / step), as whole numbers of 16 bits."""

    def encode(x, state, key):
        return Field(jnp.round(x / step).astype(jnp.int16), 16), state

    def decode(sent, shape, key):
        return sent.values.astype(jnp.float32) * step

    return per_tensor(TensorCode(encode, decode))
'''

SCRIPT = """
import csv, sys
import jax, jax.numpy as jnp, numpy as np
import learned_aggregation
from learned_aggregation import cli, get_compressor

assert learned_aggregation.__path__ == [sys.argv[1]]
compressor, delta = get_compressor("rounded", step=0.5, error_feedback="ef14"), {"w": jnp.array([0.3, -1.1, 2.0])}
message, feedback = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
np.testing.assert_allclose(compressor.decode(message)["w"], [0.5, -1.0, 2.0])
assert compressor.bits(delta) == 48

sizes = ["--num_grads=2", "--num_local_steps=1", "--local_batch_size=4", "--num_inner_steps=2", "--num_runs=1"]
which = ["--task=mlp4_digits_8", "--optimizer=fedavg", "--compressor=rounded", "--run_dir=run"]
options = ["--cfg-options", "compressor_options.step=0.001", "compressor_options.error_feedback=ef21"]
assert cli.main(["--run_type=benchmark", *which, *sizes, *options]) == 0
"""

ADDITION = Addition(
    files={"federated/compressors/rounded.py": COMPRESSOR},
    edits=(
        Edit(
            "federated/compressors/__init__.py",
            after='"qsgd": f"{_HERE}.qsgd:qsgd",',
            line='"rounded": f"{_HERE}.rounded:rounded",',
        ),
    ),
    script=SCRIPT,
)
