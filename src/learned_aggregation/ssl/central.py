"""Training in one place: the schedule, the optimizer and the loop of the papers, resumed where it was stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from learned_aggregation.data.sampling import sample_batch
from learned_aggregation.data.streaming import Data, windows_of
from learned_aggregation.devices.parallel import compiler_options, everywhere, job_mesh
from learned_aggregation.errors import RunError
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.types import FederatedData, Key, ModelState, Params, Task


class Recipe(NamedTuple):
    """How a task is trained in one place.

    steps: of the optimizer. warmup: the first of them, in which the rate rises from 0.
    batch: examples of a step. accumulate: parts that a batch is worked through in, one after the other.
    learning_rate: at the peak. per_256: whether it is for 256 examples, and is multiplied by batch / 256.
    min_rate: at the end of the half cosine.
    betas, decay: of AdamW; tensors of rank 0 and 1 are not decayed.
    """

    steps: int
    warmup: int
    batch: int
    accumulate: int = 1
    learning_rate: float = 1.5e-4
    per_256: bool = False
    min_rate: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    decay: float = 0.05

    @property
    def peak(self) -> float:
        """The highest rate."""
        return self.learning_rate * (self.batch / 256 if self.per_256 else 1.0)


class Training(NamedTuple):
    """The whole state; `theta` is the model's parameters, by the name that checkpoints know."""

    theta: Params
    model_state: ModelState
    opt_state: Any
    key: Key
    losses: Float[Array, "steps"]


def rate_at(recipe: Recipe, step: Float[Array, ""] | int) -> Float[Array, ""]:
    """Linear from 0 to the peak over the warm-up, then half a cosine to min_rate.

    Example:
      >>> recipe = Recipe(steps=100, warmup=10, batch=256, learning_rate=1.0, min_rate=0.1)
      >>> [round(float(rate_at(recipe, step)), 3) for step in (0, 5, 10, 55, 100)]
      [0.0, 0.5, 1.0, 0.55, 0.1]
    """
    step = jnp.asarray(step, jnp.float32)
    done = jnp.clip((step - recipe.warmup) / max(1, recipe.steps - recipe.warmup), 0, 1)
    falling = recipe.min_rate + (recipe.peak - recipe.min_rate) * 0.5 * (1 + jnp.cos(jnp.pi * done))
    return jnp.where(step < recipe.warmup, recipe.peak * step / max(1, recipe.warmup), falling)


def adamw(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW along `rate_at`; the decay is on tensors of rank above 1."""

    def of_rank(params: Params) -> Any:
        return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)

    beta1, beta2 = recipe.betas
    return optax.adamw(
        lambda step: rate_at(recipe, jnp.asarray(step)),
        b1=beta1,
        b2=beta2,
        weight_decay=recipe.decay,
        mask=of_rank,
    )


def start(task: Task, recipe: Recipe, seed: int) -> Training:
    """Before the first step."""
    key, init_key = jax.random.split(jax.random.key(seed))
    params, model_state = task.init(init_key)
    return Training(params, model_state, adamw(recipe).init(params), key, jnp.zeros(recipe.steps))


Step = Callable[[FederatedData, Training, Array], Training]


def make_step(task: Task, recipe: Recipe) -> Step:
    """(data, training, step) -> training: one step on a batch drawn from the whole split.

    The gradient is the mean over `accumulate` parts of the batch, which are worked through one after the other.
    """
    optimizer, parts = adamw(recipe), recipe.accumulate
    gradient = jax.value_and_grad(task.loss, has_aux=True)

    def one(data: FederatedData, training: Training, step: Array) -> Training:
        def part(carry: tuple[Any, ModelState], key: Key):
            total, model_state = carry
            draw, use = jax.random.split(key)
            batch = sample_batch(data, draw, recipe.batch // parts)
            (loss, (model_state, _)), found = gradient(training.theta, model_state, use, batch)
            return (jax.tree.map(jnp.add, total, found), model_state), loss

        keys = jax.random.split(jax.random.fold_in(training.key, step), parts)
        zeros = jax.tree.map(jnp.zeros_like, training.theta)
        (total, model_state), losses = jax.lax.scan(part, (zeros, training.model_state), keys)
        mean = jax.tree.map(lambda leaf: leaf / parts, total)
        updates, opt_state = optimizer.update(mean, training.opt_state, training.theta)
        params = optax.apply_updates(training.theta, updates)
        kept = training.losses.at[step].set(jnp.mean(losses))
        return Training(params, model_state, opt_state, training.key, kept)

    return jax.jit(one, donate_argnums=1, compiler_options=compiler_options())


def train(
    task: Task,
    data: Data,
    recipe: Recipe,
    seed: int,
    directory: Path,
    save_every: int = 500,
    say: Callable[[str], None] = print,
    stopped: Callable[[int], bool] = lambda step: False,
    step: Step | None = None,
) -> Training:
    """Trains from the newest checkpoint in `directory`, or from the start; a run that was killed goes on bit for bit.

    Args:
      data: on the device, or a stream, whose next window is taken every `save_every` steps.
      stopped: steps done -> whether to save and return now.
      step: of `make_step`, where it is there already: seeds share a compiled program.
    Raises:
      RunError: a loss that is not finite; nothing is saved over the last good checkpoint.
    """
    saved = Checkpointer(directory, keep=1)
    training, done = start(task, recipe, seed), saved.latest_step() or 0
    if done:
        training = cast(Training, saved.restore(cast(Any, training)))
    step = step or make_step(task, recipe)
    with windows_of(data, everywhere(job_mesh(1)), done // save_every) as windows:
        while done < recipe.steps:
            window, since = next(windows), done
            while done < min(recipe.steps, (since // save_every + 1) * save_every) and not (
                done > since and stopped(done)
            ):
                training = step(window, training, jnp.int32(done))
                done += 1
            recent = float(np.mean(np.asarray(training.losses[since:done])))
            if not np.isfinite(recent):
                raise RunError(
                    f"{directory}: expected a finite loss, got {recent} before step {done}. Lower the learning rate; "
                    "--jax_debug_nans True shows where it first arises."
                )
            saved.save(done, cast(Any, training), str(recipe))
            say(f"{directory.name}: step {done} of {recipe.steps}, loss {recent:.4f}")
            if stopped(done):
                break
    return training
