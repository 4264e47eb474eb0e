"""`run_type = "meta-train"`."""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import jax

from learned_aggregation import build
from learned_aggregation.config.resolve import Config, config_text, meta_train_name, run_dir
from learned_aggregation.config.resumed import resumed_lines, resumed_text
from learned_aggregation.devices.distributed import any_process, is_main, runtime_error
from learned_aggregation.errors import UserError
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.meta_training.loop import Saving, meta_train
from learned_aggregation.meta_training.outer_step import abstract, place
from learned_aggregation.pretrained.trained import TRAINED, trained_text
from learned_aggregation.report.files import read_json
from learned_aggregation.report.html import write_report
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.lock import lock
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.run_directory import RunDirectory, make_writable
from learned_aggregation.runs.trackers import make_tracker


def run(config: Config, command: str) -> Finished:
    """Meta-trains an aggregator, from the start or from its latest checkpoint.

    Returns:
      The status is 128 + a signal's number when SIGINT or SIGTERM stopped it (after saving).
    Raises:
      UserError: a directory that holds another run, or that another process holds; an unwritable one; a checkpoint
        that does not fit.
    """
    name, path = meta_train_name(config), run_dir(config)
    checkpointer = Checkpointer(Path(config.checkpoints_dir) / name, keep=config.checkpoints_to_keep)
    with contextlib.ExitStack() as held:
        resume = _hold(config, checkpointer, path, held)
        return _meta_train(config, command, checkpointer, path, resume)


def _hold(config: Config, checkpointer: Checkpointer, path: Path, held: contextlib.ExitStack) -> bool:
    """Makes the run's two directories, holds them, and says whether to resume.

    What is there is held before it is looked at; nothing is made for a run that is refused.
    """
    directories = {d.resolve(): d for d in (checkpointer.directory, path)}.values()
    there = [directory for directory in directories if directory.is_dir()]
    _lock_all(there, held)
    resume = _resumes(config, checkpointer)
    _check_run_directory(path, meta_train_name(config), resume)
    for directory in directories:
        make_writable(directory)
    _lock_all([directory for directory in directories if directory not in there], held)
    return _resumes(config, checkpointer)  # another run may have come and gone before they were held


def _lock_all(directories: Iterable[Path], held: contextlib.ExitStack) -> None:
    """The main process holds them for all processes of the run, which stop together where it cannot."""
    refusal = None
    try:
        for directory in directories if is_main() else ():
            held.enter_context(lock(directory))
    except UserError as error:
        refusal = error
    if any_process(refusal is not None):
        raise refusal or UserError(
            "run: expected process 0 to hold the run's directories, got none. See its message."
        )


def _meta_train(
    config: Config, command: str, checkpointer: Checkpointer, path: Path, resume: bool
) -> Finished:
    name = meta_train_name(config)
    # A resumed run has its theta: what it started from may be gone.
    training = build.meta_training(replace(config, start_checkpoint=None) if resume else config)
    state = training.state
    settings = build.theta_settings(config) | {"num_tasks": config.num_tasks}
    trained = {TRAINED: trained_text(build.trained_on(config))}
    mesh, text, changed = build.meta_mesh(config), config_text(config), ""
    if resume:
        state = place(checkpointer.restore(abstract(state), settings=settings), mesh)
        before = (checkpointer.existing() / "config.py").read_text(encoding="utf-8", errors="replace")
        text, changed = resumed_text(before, text, int(state.step))
    start = int(state.step)
    if start >= config.num_outer_steps:
        _say(
            f"{name}: nothing to do, outer step {start} of {config.num_outer_steps} is done; "
            "raise --num_outer_steps to go on"
        )
        if (path / "metrics.csv").is_file():
            write_report(path)  # a kill after the last checkpoint leaves none
        return Finished(0, path)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    facts = {"run_type": config.run_type, "name": name, "command": command, "device": device}
    if changed:
        _say(f"{name}: goes on from outer step {start} with {changed}")
    directory = RunDirectory(path, text, facts) if is_main() else None
    tracker = make_tracker(
        ("csv", *config.tracker) if is_main() else (),
        path,
        resume_step=start if resume else None,
        config={"name": name, **settings},
        wandb_dir=config.wandb_dir,
        project=config.test_project,
        name=name,
    )
    where = f"{mesh.size} device{'s' if mesh.size > 1 else ''}"
    _say(
        f"{name}: outer steps {start} to {config.num_outer_steps} on {where}, checkpoints in {checkpointer.directory}"
    )
    try:
        state, status = meta_train(
            training.outer_step,
            state,
            training.datas,
            num_outer_steps=config.num_outer_steps,
            rounds_per_step=training.rounds_per_step,
            mesh=mesh,
            checkpointer=checkpointer,
            saving=Saving(config.save_iter, text, settings | trained),
            tracker=tracker,
            log_every=config.log_every,
            validation=training.validation,
        )
    except jax.errors.JaxRuntimeError as error:
        raise runtime_error(error) from error
    finally:
        tracker.close()
    if directory is None:
        return Finished(status, path)
    directory.finish(
        notes=[f"{int(state.step)} of {config.num_outer_steps} outer steps", *resumed_lines(text)]
    )
    report = write_report(path)
    if status:
        _say(
            f"stopped at outer step {int(state.step)}, saved; go on with the same command and --from_checkpoint"
        )
    elif int(state.step) < config.num_outer_steps:
        _say(
            f"stopped early at outer step {int(state.step)}: "
            f"no better theta in {config.meta_valid_patience} validations"
        )
    if (checkpointer.directory / "best.safetensors").is_file():
        _say(f"best theta: {checkpointer.directory}/best.safetensors")
    _say(f"theta: {checkpointer.directory}/global_step{int(state.step)}.safetensors  report: {report}")
    return Finished(status, path)


def _resumes(config: Config, checkpointer: Checkpointer) -> bool:
    """Whether to resume; refuses to start over a run that is there, and to resume one that is not."""
    if config.from_checkpoint:
        checkpointer.existing()
        return True
    steps = checkpointer.steps()
    if steps and not config.auto_resume:
        raise UserError(
            f"{checkpointer.directory}: expected no checkpoints of a new run, got global_step{steps[-1]}. "
            "Resume it with --from_checkpoint, or choose a --name_suffix."
        )
    return bool(steps) or checkpointer.latest_step() is not None


def _check_run_directory(path: Path, name: str, resume: bool) -> None:
    """Refuses to write over the metrics of another run."""
    metrics = path / "metrics.csv"
    # Without a row it is of a run killed before its first checkpoint: nothing to lose, nothing to resume.
    if not metrics.is_file() or metrics.stat().st_size == 0:
        return
    owner = read_json(path / "run.json").get("name", name)
    if not resume or owner != name:
        raise UserError(
            f"{path}: expected an unused run directory, got one with the run {owner!r} in it. "
            "Choose another --run_dir or --name_suffix."
        )


def _say(text: str) -> None:
    if is_main():
        say(text)
