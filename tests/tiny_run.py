"""The smallest meta-training run there is, through the command line in this process, and what it left."""

import csv
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation import build, cli
from learned_aggregation.config.resolve import Config, config_text
from learned_aggregation.devices import parallel
from learned_aggregation.runs.checkpoint import Checkpointer

NAME = "tiny"
SIZES = {
    "task": "mlp4_digits_8",
    "optimizer": "fedlagg",
    "hidden_size": 4,
    "num_grads": 2,
    "num_local_steps": 1,
    "local_batch_size": 4,
    "num_tasks": 2,
    "num_inner_steps": 20,
    "truncation_length": 5,
    "truncation_schedule_min_length": 5,
}
FLAGS = [f"--{name}={value}" for name, value in SIZES.items()] + [f"--name={NAME}"]

CHECKPOINTS, RUN = Path("checkpoints") / NAME, Path("runs") / NAME
"""Relative to the directory that a run was started in."""

_build = build.meta_training
_NOT_BUILT_FROM = {
    "name": None,
    "run_dir": None,
    "checkpoints_dir": "checkpoints",
    "num_outer_steps": 1,
    "save_iter": 1,
    "from_checkpoint": False,
    "auto_resume": False,
}


_built: dict[str, build.MetaTraining] = {}


def training_of(config: Config) -> build.MetaTraining:
    """`build.meta_training`, compiled once a process for equal settings. The outer step donates its state."""
    same = replace(config, **_NOT_BUILT_FROM)
    key = config_text(same)
    if key not in _built:
        _built[key] = _build(same)
    return _built[key]._replace(state=jax.tree.map(jnp.copy, _built[key].state))


def run_here(monkeypatch, directory: Path) -> None:
    """Makes `cli.main` run in `directory` with programs that are kept between runs."""
    monkeypatch.chdir(directory)
    # The number of devices is settled once in a process.
    monkeypatch.setattr(parallel, "use_devices", lambda num_devices: None)
    monkeypatch.setattr(build, "meta_training", training_of)


def meta_train(*flags: str) -> int:
    """The exit status of the tiny run, started in the working directory."""
    return cli.main([*FLAGS, *flags])


def files_below(directory: Path) -> dict[str, bytes]:
    """The content of every file, by relative path."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def saved_state(directory: Path = Path(".")) -> dict[str, bytes]:
    """The bits of every leaf of the newest checkpoint: theta, optimizer, estimators, key and step."""
    template = training_of(Config(**SIZES)).state
    state = Checkpointer(directory / CHECKPOINTS, keep=1).restore(template)
    state = state._replace(key=jax.random.key_data(state.key))
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def metrics(directory: Path = Path(".")) -> list[dict[str, str]]:
    """The rows of metrics.csv as text, without the columns that tell the time."""
    with open(directory / RUN / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    timed = ("outer_steps_per_s", "rounds_per_s", "elapsed_s")
    return [{name: cell for name, cell in row.items() if name not in timed} for row in rows]
