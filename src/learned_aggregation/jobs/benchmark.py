"""`run_type = "benchmark"`."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_aggregation import build
from learned_aggregation.atomic import write_atomic
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.data.digest import data_digest
from learned_aggregation.errors import UserError
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.jobs.groups import GroupRunner, write_partition
from learned_aggregation.jobs.measures import SPLITS, measured_by, with_probes
from learned_aggregation.jobs.range_notes import RangeNotes
from learned_aggregation.meta_testing.program import Saved, Saving
from learned_aggregation.problems.phases import all_params
from learned_aggregation.report.html import write_report
from learned_aggregation.report.pictures import picture_grid, picture_png
from learned_aggregation.report.plots.plot import slug
from learned_aggregation.report.terminal import print_rounds_table
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.runs.messages import say, shown
from learned_aggregation.runs.rounds_file import Record, write_rounds
from learned_aggregation.runs.run_directory import RunDirectory, metric_facts, same_run, unused
from learned_aggregation.runs.same_data import check_same_data
from learned_aggregation.ssl.vit_files import write_encoder
from learned_aggregation.streams import to_stdout
from learned_aggregation.types import Server, Task

SHOWN_IMAGES = 8
"""Test images whose pictures are kept."""


class _State(NamedTuple):
    """What a checkpoint holds, see `Saved`; theta is what a Checkpointer asks for, a benchmark changes none."""

    theta: tuple
    state: Any
    losses: Any
    evaluated: Any


def run(config: Config, command: str) -> Finished:
    """Runs `num_runs` seeds of `num_inner_steps` rounds on each task; writes rounds.csv and the report.

    With `auto_resume` it keeps checkpoints, and the same command goes on from them. Encoders, the models of tasks with
    features, are written to encoders/, one for each seed, and what the first one makes of SHOWN_IMAGES test images to
    pictures/.

    Returns:
      The status is 128 + a signal's number when SIGINT or SIGTERM stopped it, with `auto_resume` after saving.
    """
    theta = build.learned_theta(config)
    loader = build.Loader()
    loaded = {task: loader.load(config, task) for task in config.tasks}
    with contextlib.ExitStack() as held:
        path, stop = _place(config, held)
        if config.auto_resume:
            check_same_data(path, {task: data_digest(data.dataset) for task, data in loaded.items()})
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        facts |= {"metrics": metric_facts(with_probes(measured_by(loaded), config.probes))}
        directory = RunDirectory(path, config_text(config), facts)
        seeds = range(config.seed, config.seed + config.num_runs)
        write_partition(path, loaded[config.tasks[0]])
        records, ranges, names = [], RangeNotes(), file_names(config.tasks)
        for task, data in loaded.items():
            ranges.check(config.optimizer, [config], data.task)
            runner = GroupRunner(config, data, theta, SPLITS)
            saving = (
                None
                if stop is None
                else _saving(config, path / "checkpoints" / names[task], task, stop, runner.streams)
            )

            def keep(found: Task, servers: Server, task: str = task, data: build.TaskData = data) -> None:
                if found.features is not None:
                    _write_encoders(path / "encoders", names[task], seeds, servers)
                if data.task.pictures is not None:
                    _write_pictures(path / "pictures" / f"{names[task]}.png", data, servers)

            found = runner.run_saved([{}], seeds, f"{config.optimizer} on {task}", saving, keep)
            if found is None:
                say(f"stopped, saved; go on with the same command: {path}")
                return Finished(0 if stop is None else stop.exit_status, path)
            sent = build.traffic_changes(config, data)
            records.append(
                Record(config.optimizer, task, seeds, found[0], sent[0][1], config.num_grads, changes=sent)
            )
        write_rounds(path / "rounds.csv", records)
        directory.finish(notes=[build.examples_note(config), *ranges.notes])
        report = write_report(path)
        if shown():
            with to_stdout():
                print_rounds_table(path)
        say(f"report: {report}")
        return Finished(0, path)


def _place(config: Config, held: contextlib.ExitStack) -> tuple[Path, StopRequest | None]:
    """The run's directory, and the request to stop of a run that can go on later."""
    explicit = config.run_dir is not None
    if not config.auto_resume:
        return held.enter_context(unused(run_dir(config), explicit=explicit)), None
    path = held.enter_context(same_run(run_dir(config), config_text(config), explicit=explicit))
    return path, held.enter_context(StopRequest())


def _saving(config: Config, path: Path, task: str, stop: StopRequest, streams: bool) -> Saving:
    """Every `save_iter` rounds, at the end and when it is stopped, into `path`.

    Raises:
      UserError: data that is a stream, which could not go on where it was.
    """
    if streams:
        raise UserError(
            f"auto_resume: expected data that lies on the device whole, got a stream for {task}. "
            "Raise device_data_mb, or leave auto_resume out."
        )
    kept = Checkpointer(path, keep=config.checkpoints_to_keep)
    settings = {"task": task, "optimizer": config.optimizer}
    saved = kept.latest_step() or 0

    def load(shapes: Any) -> Saved | None:
        done = kept.latest_step()
        if done is None:
            return None
        template: Any = _State((), *shapes(done)[1:])
        found: Any = kept.restore(template, settings=settings)
        return Saved(done, *found[1:])

    def save(found: Saved) -> None:
        nonlocal saved
        last = found.done == config.num_inner_steps
        if found.done // config.save_iter > saved // config.save_iter or stop.signal or last:
            state: Any = _State((), *found[1:])
            kept.save(found.done, state, config_text(config), settings)
            saved = found.done

    return Saving(load, save, lambda: stop.signal is not None)


def file_names(tasks: Sequence[str]) -> dict[str, str]:
    """What files of each task are called: tasks that differ by a capital alone have names of their own.

    Example:
      >>> file_names(["mlp4_mine_3", "mlp4_Mine_3"])
      {'mlp4_mine_3': 'mlp4_mine_3', 'mlp4_Mine_3': 'mlp4_mine_3_2'}
    """
    found: dict[str, str] = {}
    for task in tasks:
        number, name = 1, slug(task)
        while name in found.values():
            number += 1
            name = f"{slug(task)}_{number}"
        found[task] = name
    return found


def _write_encoders(path: Path, name: str, seeds: Sequence[int], servers: Server) -> None:
    for index, seed in enumerate(seeds):
        server = jax.tree.map(lambda leaf, i=index: leaf[i], servers)
        write_encoder(path / f"{name}_seed{seed}.safetensors", all_params(server))


def _write_pictures(path: Path, data: build.TaskData, servers: Server) -> None:
    """A picture, by the first seed's model: a row for each of the first test images."""
    first = jax.tree.map(lambda leaf: leaf[0], servers)
    examples = data.dataset.splits["test"].examples
    batch = {name: jnp.asarray(array[:SHOWN_IMAGES]) for name, array in examples.items()}
    assert data.task.pictures is not None
    drawn = data.task.pictures(all_params(first), jax.random.key(0), batch)
    write_atomic(path, picture_png(picture_grid(drawn)))
