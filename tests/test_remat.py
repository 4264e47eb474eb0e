"""`remat`: less memory for the same gradients."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.devices.parallel import compiler_options
from learned_aggregation.errors import RunError
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.jobs.groups import GroupRunner
from learned_aggregation.tasks import make_model
from learned_aggregation.tasks.flax_task import flax_task
from learned_aggregation.tasks.models.mlp import mlp
from learned_aggregation.tasks.models.resnet import ResNet, _Depth
from learned_aggregation.tasks.models.transformer import transformer

TOKENS, IMAGES = jnp.zeros((64, 16), jnp.int32), jnp.ones((64, 16, 16, 3))


def classify(model, inputs):
    """A task that gives every input the label 0, and a batch of it."""

    def measure(logits, batch):
        return {"loss": jnp.mean(-jax.nn.log_softmax(logits)[..., 0], axis=tuple(range(1, logits.ndim - 1)))}

    return flax_task("test", model, inputs[:1], lambda batch: batch["x"], measure), {"x": inputs}


def run(function, *arguments):
    """(result, bytes of temporaries) of a compiled function."""
    compiled = jax.jit(function, compiler_options=compiler_options()).lower(*arguments).compile()
    return compiled(*arguments), compiled.memory_analysis().temp_size_in_bytes


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_clients_gradient_needs_half_the_memory():
    model = transformer("_h16_m64_nh2_nl8", 4)
    results = []
    for remat in (False, True):
        task, batch = classify(model.clone(remat=remat), TOKENS)
        params, state = jax.jit(task.init)(jax.random.key(0))
        gradient = jax.grad(
            lambda p, task=task, batch=batch, state=state: task.loss(p, state, None, batch)[0]
        )
        results.append(run(gradient, params))
    (kept, much), (again, little) = results
    assert little < 0.5 * much
    jax.tree.map(close, kept, again)


def test_blocks_with_running_statistics_are_the_same():
    """XLA's CPU backend keeps activations outside of loops whatever it is asked; the program asks."""
    results, programs = [], []
    for remat in (False, True):
        task, batch = classify(ResNet(_Depth((1, 0, 0, 0), False), False, 4, remat), IMAGES[:4])
        params, state = jax.jit(task.init)(jax.random.key(0))
        gradient = jax.value_and_grad(functools.partial(task.loss, key=None, batch=batch), has_aux=True)
        results.append(jax.jit(gradient)(params, state))
        programs.append(str(jax.make_jaxpr(gradient)(params, state)))
    jax.tree.map(close, *results)
    assert programs[1].count("remat2") == programs[0].count("remat2") + 1


def test_a_gradient_through_local_training_needs_half_the_memory():
    task, batch = classify(mlp("32x32x32", 4), IMAGES[:, :4, :4])
    batches = {"x": jnp.broadcast_to(batch["x"], (8, *batch["x"].shape))}
    params, state = jax.jit(task.init)(jax.random.key(0))
    results = []
    for remat in (False, True):
        local = local_training(task, optax.sgd(0.1), remat=remat)

        def after(params, local=local):
            delta = local.run(params, state, (), jax.random.key(0), batches)[0]
            return optax.tree.norm(optax.tree.add(params, delta))

        results.append(run(jax.grad(after), params))
    (kept, much), (again, little) = results
    assert little < 0.5 * much
    jax.tree.map(close, kept, again)


@pytest.mark.parametrize("remat", [False, True])
def test_the_setting_reaches_models_and_local_training(remat):
    config = Config(task="vit_p4_h8_m8_nh2_nl1_digits_8", remat=remat, num_grads=1, num_local_steps=1)
    task = build.load_task(config, config.tasks[0]).task
    params, state = jax.eval_shape(task.init, jax.random.key(0))
    batch = {"image": jnp.zeros((1, 1, 8, 8, 1), jnp.uint8), "label": jnp.zeros((1, 1), jnp.int32)}
    local = build.make_local_training(config, task, build.rates_of(config))
    program = str(jax.make_jaxpr(local.run)(params, state, (), jax.random.key(0), batch))
    assert program.count("remat2") == 2 * remat
    model, _ = make_model("mlp8_digits_8", remat=remat)
    assert not hasattr(model, "remat")


def test_out_of_memory_names_the_settings_that_help():
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")

    runner = object.__new__(GroupRunner)
    runner._program, runner._shared, runner._rounds = SimpleNamespace(run=fail), None, 1
    runner._config = Config(optimizer="fedavg")
    with pytest.raises(
        RunError, match=r"9 bytes.*tasks_per_chunk.*remat.*local_batch_size.*eval_chunk"
    ) as caught:
        runner.run([{}], [0], "test")
    assert "\n" not in str(caught.value)
