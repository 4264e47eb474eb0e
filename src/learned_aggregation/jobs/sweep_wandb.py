"""A sweep handed to a wandb server: `sweep_engine = "wandb"`."""

from dataclasses import replace
from typing import Any

import numpy as np

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.config.settings import check_point
from learned_aggregation.errors import UserError
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.jobs.groups import GroupRunner
from learned_aggregation.jobs.measures import LOSSES, SPLITS, measured_by, sweep_metric, task_configs
from learned_aggregation.jobs.range_notes import RangeNotes
from learned_aggregation.meta_testing.points import listed, shown
from learned_aggregation.runs.messages import say


def run(config: Config) -> Finished:
    """Makes the sweep on the server (or joins `sweep_id`) and works on it until it is done.

    The same command with `--sweep_id` on other machines adds agents. Each point is a wandb run whose summary
    has the seeds' mean of every metric.

    Raises:
      UserError: no server is configured, several tasks in a point, a metric that a task does not have.
    """
    wandb, loader, ranges = _connected_wandb(), build.Loader(), RangeNotes()
    sweep_id = config.sweep_id
    if sweep_id is None:
        sweep_id = wandb.sweep(_with_goal(config, loader), project=config.test_project)
        say(f"sweep {sweep_id}: add agents on other machines with the same command and --sweep_id {sweep_id}")
    wandb.agent(sweep_id, function=lambda: _work(wandb, config, loader, ranges), project=config.test_project)
    return Finished(0, None)


def _with_goal(config: Config, loader: build.Loader) -> dict[str, Any]:
    """The sweep as wandb takes it: without a goal it would minimize."""
    sweep = dict(config.sweep_config or {})
    tasks = listed(sweep).get("task", [config.task])
    configs = task_configs(replace(config, task=task) for task in tasks)
    measured = measured_by({task: loader.load(first, task) for task, first in configs.items()})
    return sweep | {"metric": sweep_metric(sweep["metric"], measured)}


def _connected_wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError(
            "sweep_engine: expected wandb to be installed for 'wandb', got no such package. "
            "pip install wandb, or use --sweep_engine local."
        ) from None
    if not wandb.login(prompt=False):
        raise UserError(
            "sweep_engine: expected a wandb server to be logged in to for 'wandb', got none. Run `wandb login` "
            "(WANDB_BASE_URL names a server of your own), or use --sweep_engine local, which needs no server."
        )
    return wandb


def _work(wandb: Any, config: Config, loader: build.Loader, ranges: RangeNotes) -> None:
    """One point: the settings that the server chose, all seeds, the metrics' means logged."""
    with wandb.init(project=config.test_project, dir=config.wandb_dir) as run:
        point = check_point("the wandb sweep", dict(run.config))
        chosen = replace(config, run_type="benchmark", sweep_config=None).changed(point)
        [task] = chosen.tasks
        theta = build.learned_theta(chosen)
        seeds = range(config.seed, config.seed + config.num_runs)
        ranges.check(chosen.optimizer, [chosen], loader.load(chosen, task).task)
        runner = GroupRunner(chosen, loader.load(chosen, task), theta, SPLITS)
        [curves] = runner.run([{}], seeds, f"point {shown(point)}")
        # The server chooses by any metric: in a run that diverged none of them counts.
        finite = np.isfinite([curves.evaluated[name] for name in LOSSES if name in curves.evaluated]).all(
            axis=0
        )
        evaluated = {name: np.where(finite, values, np.nan) for name, values in curves.evaluated.items()}
        for e, r in enumerate(curves.eval_rounds):
            row = {"round": int(r)} | {n: float(v[:, e].mean()) for n, v in evaluated.items()}
            if r:
                row["train_loss"] = float(curves.train_loss[:, r - 1].mean())
            run.log(row)
