"""The optional CPU kernel against the plain update, its oracle."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation import kernels
from learned_aggregation.aggregators.learned import fast, rules
from learned_aggregation.aggregators.learned.options import LearnedOptions
from learned_aggregation.errors import UserError
from learned_aggregation.kernels import compiled
from learned_aggregation.kernels import step as kernel_call

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
# Ranks 0 to 5, sizes 0 and 1, equal dimensions, factored dimensions first, last and apart; tiles of 64 with rests.
SHAPES = [(), (70,), (0, 3), (1, 1, 1), (65, 1), (7, 7), (3, 41), (3, 3, 5, 8), (9, 4, 2, 8), (2, 3, 1, 4, 3)]


@pytest.fixture(autouse=True, scope="module")
def built():
    compiled.build()
    kernels.available.cache_clear()
    assert kernels.available()


def both(inputs="all", num_grads=3, hidden_size=8, base="none"):
    options = LearnedOptions(num_grads, hidden_size, base)
    return fast.fast_adafac("a", inputs, options), rules.adafac_family("a", inputs, options)


def some_theta(aggregator):
    theta = aggregator.init_theta(jax.random.key(0))
    return jax.tree.map(lambda x, e: x + 0.01 * e, theta, random_tree(jax.random.key(1), theta))


def steps(aggregator, theta, params, clients=3, rounds=3, seed=0):
    state, update, made = aggregator.init(theta, params), jax.jit(aggregator.update), []
    for t in range(rounds):
        delta = random_tree(jax.random.key(10 + t + 100 * seed), params, (clients,), scale=0.02)
        step, state = update(theta, cohort(delta, jnp.arange(1.0, clients + 1.0)), state, params)
        made.append(step)
    return made


def tree(shapes, seed=2):
    return random_tree(jax.random.key(seed), [jnp.zeros(shape) for shape in shapes], scale=0.1)


def assert_close(ours, oracle, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(oracle), strict=True):
        assert a.shape == b.shape
        if b.size:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(("inputs", "hidden", "base"), [("all", 32, "none"), ("mean", 4, "momentum")])
def test_it_agrees_with_the_plain_update(inputs, hidden, base):
    ours, oracle = both(inputs, hidden_size=hidden, base=base)
    theta = some_theta(oracle)
    assert_close(steps(ours, theta, tree(SHAPES)), steps(oracle, theta, tree(SHAPES)))


@given(
    shape=st.lists(st.integers(1, 9), max_size=5).map(tuple),
    clients=st.integers(1, 17),
    seed=st.integers(0, 99),
)
@settings(max_examples=5, deadline=None)
def test_it_agrees_on_any_shape_and_number_of_clients(shape, clients, seed):
    """To 1e-5 of the largest step of this tensor or a vector of 70: that of one parameter may cancel to nothing."""
    ours, oracle = both(num_grads=clients)
    theta, params = some_theta(oracle), tree([shape, (70,)], seed)
    made, expected = (steps(a, theta, params, clients, 2, seed) for a in (ours, oracle))
    for a, b in zip(made, expected, strict=True):
        assert_close([jnp.concatenate([x.ravel() for x in a])], [jnp.concatenate([x.ravel() for x in b])])


def test_it_is_the_kernel_that_runs():
    """And not XLA's own program, which would agree as well."""
    ours, _ = both()
    theta, params = some_theta(ours), tree([(7, 7)])
    delta = random_tree(jax.random.key(3), params, (3,))
    arguments = (theta, cohort(delta, jnp.ones(3)), ours.init(theta, params), params)
    assert kernels.TARGET in jax.jit(ours.update).lower(*arguments).as_text()


def test_problems_and_arms_are_batches():
    """theta differs by arm, deltas by problem: vmapped twice, and each as if alone."""
    ours, _ = both()
    params = tree([(5, 9), (11,)])
    thetas = jax.tree.map(lambda x: jnp.stack([x, 1.1 * x]), some_theta(ours))
    deltas = random_tree(jax.random.key(3), params, (2, 3), scale=0.02)

    def one(theta, delta):
        return ours.update(theta, cohort(delta, jnp.ones(3)), ours.init(theta, params), params)[0]

    whole = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(thetas, deltas)
    for problem in range(2):
        for arm in range(2):
            alone = one(
                *(jax.tree.map(lambda x, i=i: x[i], y) for i, y in ((arm, thetas), (problem, deltas)))
            )
            assert_close(jax.tree.map(lambda x: x[problem, arm], whole), alone, 1e-6)  # noqa: B023


def test_a_delta_that_is_not_finite_gives_a_step_that_is_not():
    for aggregator in both():
        theta, params = some_theta(aggregator), tree([(5, 9)])
        delta = random_tree(jax.random.key(3), params, (3,))
        delta[0] = delta[0].at[1, 2, 3].set(jnp.nan)
        [step], _ = aggregator.update(
            theta, cohort(delta, jnp.ones(3)), aggregator.init(theta, params), params
        )
        assert jnp.isnan(step[2, 3])


def test_derivatives_are_those_of_the_plain_update():
    ours, oracle = both(base="momentum")
    params = tree([(5, 9), (11,)])

    def total(aggregator, theta):
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(steps(aggregator, theta, params, rounds=1)))

    theta = some_theta(oracle)
    for mode in (jax.grad, jax.jacfwd):
        derivatives = [jax.jit(mode(lambda t, a=a: total(a, t)))(theta) for a in (ours, oracle)]
        assert_close(*derivatives, tolerance=1e-4)


def test_other_dtypes_and_layouts_go_to_xla():
    tensor = fast.Tensor(*[jnp.zeros((1, 4))] * 6)
    assert kernel_call.fits(tensor, (1, 1, 1, 4, 1), jnp.zeros(8))
    assert not kernel_call.fits(tensor, (1, 2, 1, 2, 4), jnp.zeros(8))  # not along the last dimension
    assert not kernel_call.fits(tensor, (1, 1, 1, 4, 1), jnp.zeros(6))  # hidden units
    assert not kernel_call.fits(
        tensor._replace(param=jnp.zeros((1, 4), jnp.bfloat16)), (1, 1, 1, 4, 1), jnp.zeros(8)
    )
    assert not kernel_call.fits(tensor._replace(momentum=None), (1, 1, 1, 4, 1), jnp.zeros(8))


def test_without_it_nothing_changes(monkeypatch, tmp_path):
    """A cache without the kernel, or with a damaged one."""
    monkeypatch.setattr(kernels, "library_path", lambda: tmp_path / "none.so")
    assert not kernels.available.__wrapped__()
    (tmp_path / "damaged.so").write_bytes(b"not a library")
    monkeypatch.setattr(kernels, "library_path", lambda: tmp_path / "damaged.so")
    assert not kernels.available.__wrapped__()


def test_a_compiler_that_fails_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "library_path", lambda: tmp_path / "a.so")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(
        UserError, match=r"kernel: expected .*false to compile kernels/.*cc, got 'it said nothing'"
    ):
        compiled.build()
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import jax, jax.numpy as jnp
from learned_aggregation import get_aggregator, kernels
from learned_aggregation.devices.parallel import use_compilation_cache
from learned_aggregation.types import ClientUpdate
from pathlib import Path
import sys
use_compilation_cache(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
aggregator = get_aggregator("fedlopt-adafac", hidden_size=4)
theta, params = aggregator.init_theta(jax.random.key(0)), jnp.ones((5, 9))
update = ClientUpdate(jnp.ones((2, 5, 9)), (), jnp.zeros(2), jnp.ones(2))
step, _ = jax.jit(aggregator.update)(theta, update, aggregator.init(theta, params), params)
print(float(jnp.sum(step)), kernels.available())
"""


def test_a_program_with_it_comes_back_from_the_compilation_cache(tmp_path):
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert said[0].endswith("True\n")
    assert list(tmp_path.rglob("*"))


def test_an_installation_has_all_sources(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build_py", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    shipped = {path.name for path in (tmp_path / "learned_aggregation" / "kernels").iterdir()}
    assert {path.name for path in compiled.READ} <= shipped


def test_the_librarys_name_depends_on_every_file_that_is_compiled():
    included = {
        name for path in compiled.READ for name in re.findall(r'#include "(\w+\.h)"', path.read_text())
    }
    assert included == {path.name for path in compiled.READ if path.suffix == ".h"}
