"""A rule whose float option no other rule has."""

from additions import Addition, Edit

RULE = '''"""`damped`."""

import jax

from learned_aggregation.aggregators.classical import check_positive, classical
from learned_aggregation.types import Aggregator, Params


def damped(*, damping: float = 1.0) -> Aggregator:
    """FedAvg with a step that is shorter the larger its entries are.

    params <- params - g / (1 + damping*|g|), with g = -mean(delta).

    Args:
      damping: above 0.
    Raises:
      UserError: damping not above 0.
    """
    check_positive("damped", "damping", damping)

    def rule(g: Params, state: tuple):
        return jax.tree.map(lambda x: -x / (1.0 + damping * abs(x)), g), state

    return classical(lambda params: (), rule)
'''

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np
import learned_aggregation
from learned_aggregation import cli, get_aggregator
from learned_aggregation.errors import UserError
from learned_aggregation.types import ClientUpdate

assert learned_aggregation.__path__ == [sys.argv[1]]
params = {"w": jnp.arange(3.0)}
delta = {"w": jnp.array([[0.5, -1.0, 2.0], [1.5, -3.0, 2.0]])}
update = ClientUpdate(delta, (), jnp.zeros(2), jnp.ones(2))

@jax.jit
@jax.vmap
def steps(damping):  # traced: a sweep over it is one program
    rule = get_aggregator("damped", damping=damping)
    return rule.update((), update, rule.init((), params), params)[0]["w"]

mean = np.array([1.0, -2.0, 2.0])
expected = np.array([mean / (1 + damping * abs(mean)) for damping in (0.5, 2.0)])
np.testing.assert_allclose(steps(jnp.array([0.5, 2.0])), expected, rtol=1e-6)
try:
    get_aggregator("damped", damping=-1.0)
except UserError as error:
    assert "damping" in str(error)
else:
    raise AssertionError("a damping below 0 was taken")

sizes = ["--num_grads=2", "--num_local_steps=1", "--local_batch_size=4", "--num_inner_steps=2", "--num_runs=1"]
assert cli.main(["--run_type=benchmark", "--optimizer=damped", "--task=mlp4_digits_8", *sizes]) == 0
"""

ADDITION = Addition(
    files={"aggregators/damped.py": RULE},
    edits=(
        Edit(
            "aggregators/__init__.py",
            after='"fedavgm": f"{_HERE}.fedavgm:fedavgm",',
            line='"damped": f"{_HERE}.damped:damped",',
        ),
    ),
    script=SCRIPT,
)
