"""`run_type = "benchmark"`."""

from learned_aggregation import build
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.jobs.groups import GroupRunner, write_partition
from learned_aggregation.jobs.measures import SPLITS, measured_by
from learned_aggregation.report.html import write_report
from learned_aggregation.report.terminal import print_rounds_table
from learned_aggregation.runs.messages import say, shown
from learned_aggregation.runs.rounds_file import Record, write_rounds
from learned_aggregation.runs.run_directory import RunDirectory, metric_facts, unused
from learned_aggregation.streams import to_stdout


def run(config: Config, command: str) -> Finished:
    """Runs `num_runs` seeds of `num_inner_steps` rounds on each task; writes rounds.csv and the report."""
    theta = build.learned_theta(config)
    loader = build.Loader()
    loaded = {task: loader.load(config, task) for task in config.tasks}
    with unused(run_dir(config), explicit=config.run_dir is not None) as path:
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        facts |= {"metrics": metric_facts(measured_by(loaded))}
        directory = RunDirectory(path, config_text(config), facts)
        seeds = range(config.seed, config.seed + config.num_runs)
        write_partition(path, loaded[config.tasks[0]])
        records = []
        for task, data in loaded.items():
            what = f"{config.optimizer} on {task}"
            [curves] = GroupRunner(config, data, theta, SPLITS).run([{}], seeds, what)
            sent = build.traffic_changes(config, data)
            records.append(
                Record(config.optimizer, task, seeds, curves, sent[0][1], config.num_grads, changes=sent)
            )
        write_rounds(path / "rounds.csv", records)
        directory.finish(notes=[build.examples_note(config)])
        report = write_report(path)
        if shown():
            with to_stdout():
                print_rounds_table(path)
        say(f"report: {report}")
        return Finished(0, path)
