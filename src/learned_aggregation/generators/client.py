"""One client's generator as an object, with the operations under the names that people's scripts have."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_aggregation.errors import RunError, UserError
from learned_aggregation.generators import files
from learned_aggregation.generators.base import Generator, GeneratorState, Training, new_state, train
from learned_aggregation.generators.samples import Samples, generate, generate_to_files
from learned_aggregation.runs import messages
from learned_aggregation.types import Batch, Key


class Kind(NamedTuple):
    """What all clients' generators have in common.

    checkpoint_dir: of the generators' files. sample_dir: where samples go as they are made; None: into memory.
    """

    generator: Generator
    generator_type: str
    training: Training
    checkpoint_dir: Path
    samples_per_class: int = 10
    diffusion_type: str = "none"
    sample_dir: Path | None = None


class GeneratorClient:
    """A client that keeps a generator of its embeddings.

    Args:
      batches: what `train_node_generator` passes over, leaves [H, B, ...]; None where the rounds train it.
      key: of its start, its training and its samples.
      say: where its messages go.
    Example:
      >>> from learned_aggregation.generators.vae import ConditionedVAEGenerator
      >>> vae = ConditionedVAEGenerator(input_dim=3, hidden_dim=8, latent_dim=2, visual_dim=5)
      >>> client = GeneratorClient(0, Kind(vae, "vae", Training(), Path("g")), jax.random.key(0), say=lambda text: None)
      >>> client.generate_synthetic_samples({7: np.zeros(5)})[7].shape
      (10, 4, 3)
    """

    def __init__(
        self,
        client_id: int,
        kind: Kind,
        key: Key,
        batches: Batch | None = None,
        say: Callable[[str], None] = messages.say,
    ):
        self.client_id, self.kind, self.batches, self._key, self._say = client_id, kind, batches, key, say
        self._round = 0
        self.initialize_generators()

    def initialize_generators(self) -> None:
        """An untrained generator, the same for the same key."""
        self.state: GeneratorState = new_state(self.kind.generator, jax.random.fold_in(self._key, 0))

    def save_generator_checkpoint(self, round_num: int | None = None) -> Path:
        """Writes `client_{i}_generator`, and `client_{i}_generator_round_{n}` where a round is given.

        Returns:
          The path of the file of that round, else of the newest.
        Raises:
          RunError: the disk refused, or the generator is not finite; what was saved before is untouched.
        """
        state = jax.device_get(self.state)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
            raise RunError(
                f"client {self.client_id}: expected a finite generator, got NaN or infinity in round "
                f"{self._round if round_num is None else round_num}. Lower generator_learning_rate; it was not saved."
            )
        if round_num is not None:
            self._round = round_num
        about = files.About(self.client_id, self._round, self.kind.generator_type, self.kind.diffusion_type)
        path = files.write_generator(files.newest(self.kind.checkpoint_dir, self.client_id), about, state)
        if round_num is not None:
            of_round = files.numbered(self.kind.checkpoint_dir, self.client_id, round_num)
            path = files.write_generator(of_round, about, state)
        self._say(f"client {self.client_id}: generator saved: {path}")
        return path

    def load_generator_checkpoint(self, path: str | Path | None = None) -> bool:
        """Whether there was a file: by default this client's newest. Without one the generator stays, and says so.

        Raises:
          UserError: a file that cannot be used; where no path is given, one of another client.
        """
        wanted = Path(path) if path is not None else files.newest(self.kind.checkpoint_dir, self.client_id)
        there = files.found(wanted)
        if there is None:
            self._say(
                f"warning: client {self.client_id}: no generator at {files.with_suffix(wanted)}. Run 1 "
                "(generator_training_mode) must come first; going on without it."
            )
            return False
        template = jax.eval_shape(lambda key: new_state(self.kind.generator, key), self._key)
        state, about = files.read_generator(there, self.kind.generator, self.kind.generator_type, template)
        owner = about.get("client_id", self.client_id)
        if path is None and owner != self.client_id:
            raise UserError(
                f"generator_checkpoint_dir: expected the generator of client {self.client_id}, got {str(there)!r} of "
                f"client {owner}. Move the file away, or load it by its path."
            )
        self.state, self._round = state, about.get("round", 0)
        self._say(f"client {self.client_id}: generator of round {self._round} loaded: {there}")
        return True

    def train_node_generator(self) -> float:
        """The mean loss of the last of `generator_training_epochs` passes over the client's batches.

        Raises:
          UserError: the client has no batches.
        """
        if self.batches is None:
            raise UserError(
                "train_node_generator: expected a client with batches, got none. Give GeneratorClient its batches."
            )
        key = jax.random.fold_in(jax.random.fold_in(self._key, 1), int(self.state.epoch))
        self.state, loss = _train(self.kind.generator, self.kind.training, self.state, self.batches, key)
        self._say(
            f"client {self.client_id}: generator, epoch {int(self.state.epoch)}: loss {float(loss):.4g}"
        )
        return float(loss)

    def generate_synthetic_samples(
        self, class_outputs: Mapping[int, np.ndarray], key: Key | None = None
    ) -> Samples:
        """class -> samples_per_class samples under its condition, [V] or [S, V]."""
        key = jax.random.fold_in(self._key, 2) if key is None else key
        arguments = (self.kind.generator, self.state.params, class_outputs, self.kind.samples_per_class, key)
        if self.kind.sample_dir is None:
            made = generate(*arguments)
        else:
            made = generate_to_files(*arguments, self.kind.sample_dir / f"client_{self.client_id}")
        if made:
            shape = next(iter(made.values())).shape
            self._say(f"client {self.client_id}: generated {len(made)} sets of {list(shape)}")
        return made


@partial(jax.jit, static_argnums=(0, 1))
def _train(generator: Generator, training: Training, state: GeneratorState, batches: Batch, key: Key) -> Any:
    return train(generator, training, state, batches, key)
