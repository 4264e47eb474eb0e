"""Curves of finished runs kept on disk (`curves_dir`), so that no comparison computes the same run twice."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.build import TaskData, card_strength
from learned_aggregation.config.resolve import Config, config_text
from learned_aggregation.data.digest import data_digest
from learned_aggregation.data.npz_file import Unreadable, read_npz
from learned_aggregation.jobs.groups import GroupRunner
from learned_aggregation.meta_testing.points import Point
from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.types import Theta

FORMAT = 1
OF_NO_EFFECT = (
    "run_dir",
    "name",
    "name_suffix",
    "curves_dir",
    "tune_by",
    "widen",
    "tuning_seeds",
    "num_runs",
)
"""Settings that a run with its seeds does not depend on."""
NEWER = ("start_checkpoint",)
"""Settings made after the format: at its default none is in a file's key, so that curves kept before it still count."""


def run_points(
    config: Config,
    points: Sequence[Point],
    seeds: Sequence[int],
    loaded: TaskData,
    theta: Theta,
    splits: Sequence[str],
    what: str,
) -> list[Curves]:
    """Points that differ in rates only, each with every seed, as `GroupRunner.run`; what is kept is not run again.

    A run is told from others by its settings, seeds, evaluated splits, theta and a user's data, not by the code that
    ran it.
    """
    data = data_digest(loaded.dataset) if config.curves_dir else None
    files = [_file(config, point, seeds, loaded.task.name, theta, splits, data) for point in points]
    found = {i: curves for i, file in enumerate(files) if (curves := _read(file)) is not None}
    missing = [i for i in range(len(points)) if i not in found]
    if missing:
        runner = GroupRunner(config, loaded, theta, splits)
        for i, curves in zip(missing, runner.run([points[i] for i in missing], seeds, what), strict=True):
            found[i] = curves
            _write(files[i], curves)
    return [found[i] for i in range(len(points))]


def _file(
    config: Config,
    point: Point,
    seeds: Sequence[int],
    task: str,
    theta: Theta,
    splits: Sequence[str],
    data: str | None,
) -> Path | None:
    if config.curves_dir is None:
        return None
    defaults = Config()
    whole = replace(config.changed(point), **{name: getattr(defaults, name) for name in OF_NO_EFFECT})
    leaves = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(theta))
    key = [FORMAT, _text(whole), task, list(seeds), list(splits), hashlib.sha256(leaves).hexdigest()]
    key += [extra for extra in (data, card_strength(config.changed(point))) if extra]
    return Path(config.curves_dir) / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npz"


def _text(config: Config) -> str:
    defaults = Config()
    left_out = {f"{name} = {getattr(defaults, name)!r}\n" for name in NEWER}
    return "".join(line for line in config_text(config).splitlines(keepends=True) if line not in left_out)


def _read(file: Path | None) -> Curves | None:
    """None where there is no file, or a damaged one, which is then written anew."""
    if file is None:
        return None
    try:
        stored = read_npz(file, ("train_loss", "eval_rounds"))
    except Unreadable:
        return None
    evaluated = {n.removeprefix("of_"): leaf for n, leaf in stored.items() if n.startswith("of_")}
    probed = {n.removeprefix("probe_"): leaf for n, leaf in stored.items() if n.startswith("probe_")}
    return Curves(stored["train_loss"], stored["eval_rounds"], evaluated, probed)


def _write(file: Path | None, curves: Curves) -> None:
    if file is None:
        return
    arrays = {f"of_{name}": values for name, values in curves.evaluated.items()}
    arrays |= {f"probe_{name}": values for name, values in curves.probed.items()}
    content = io.BytesIO()
    np.savez(
        content,
        allow_pickle=False,
        train_loss=curves.train_loss,
        eval_rounds=curves.eval_rounds,
        **arrays,
    )
    write_atomic(file, content.getvalue())
