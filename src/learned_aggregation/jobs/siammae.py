"""`run_type = "siammae"`: an encoder trained in one place, then probed by propagating masks through sequences."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from learned_aggregation import build
from learned_aggregation.build.siammae import (
    chosen_features,
    model_inputs,
    propagation_of,
    recipe_of,
    reconstructions,
    sequences,
    siamese_sizes,
    siammae_options,
)
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.data.digest import data_digest
from learned_aggregation.data.videos.davis import Sequence
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.report.siammae import Shown, write_siammae_report
from learned_aggregation.runs.csv_file import write_csv
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.run_directory import RunDirectory, same_run
from learned_aggregation.runs.same_data import check_same_data
from learned_aggregation.ssl.central import train
from learned_aggregation.ssl.features import Feature
from learned_aggregation.ssl.probing import Scores, judged, sequence_scores, table_row
from learned_aggregation.ssl.propagation import Propagation
from learned_aggregation.ssl.segmentation import statistics

SHOWN = 6
"""Sequences in the report."""


def run(config: Config, command: str) -> Finished:
    """Trains (started again with the same config it goes on), probes, writes table.csv, objects.csv and report.html.

    Returns:
      The status is 128 + a signal's number when SIGINT or SIGTERM stopped the training (after saving).
    Raises:
      UserError: a directory that holds another run, sequences that cannot be read, options that do not fit the model.
    """
    options, sizes = siammae_options(config), siamese_sizes(config)
    chosen_features(options, sizes, None, config.seed)  # what does not fit is said before anything is trained
    first = next(sequences(config, options))
    with same_run(run_dir(config), config_text(config), explicit=config.run_dir is not None) as path:
        loaded = build.load_task(config, config.tasks[0]) if options.epochs else None
        if loaded is not None:
            check_same_data(path, {config.tasks[0]: data_digest(loaded.dataset)})
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        directory = RunDirectory(path, config_text(config), facts)
        params, losses, rebuilt = None, np.zeros(0), None
        if loaded is not None:
            data = build.train_data(config, loaded)
            recipe = recipe_of(options, sum(map(len, loaded.rows)))
            with StopRequest() as stop:
                found = train(
                    loaded.task,
                    data,
                    recipe,
                    config.seed,
                    path / "checkpoints",
                    options.save_every,
                    say,
                    lambda done: stop.signal is not None,
                )
            if stop.signal:
                say(f"stopped, saved; go on with the same command: {path}")
                return Finished(stop.exit_status, path)
            params, losses = found.theta, np.asarray(found.losses)
            rebuilt = reconstructions(config, loaded, params, sizes)
        features = chosen_features(options, sizes, params, config.seed)
        side = options.side or min(first.frames.shape[1:3])
        scores: dict[str, list[Scores]] = defaultdict(list)
        shown: list[Shown] = []
        for sequence in sequences(config, options):
            inputs = model_inputs(sequence.frames, side, sizes.patch)
            masks = {"truth": sequence.masks}
            for name, feature in features.items():
                predicted, one = _probe(
                    sequence, feature, inputs, options.stride or sizes.patch, propagation_of(options)
                )
                scores[name] += one
                masks[name] = predicted
            say(f"{sequence.name}: probed")
            if len(shown) < SHOWN:
                shown.append(Shown(sequence.name, sequence.frames, masks))
        rows = [{"feature": name, **table_row(found)} for name, found in scores.items()]
        write_csv(path / "table.csv", list(rows[0]), rows)
        _write_objects(path / "objects.csv", scores)
        directory.finish()
        report = write_siammae_report(path / "report.html", path.name, rows, losses, shown, rebuilt)
        for row in rows:
            say(f"{row['feature']}: J&F {row['jf_mean']:.3f}, J {row['j_mean']:.3f}, F {row['f_mean']:.3f}")
        say(f"table: {path / 'table.csv'}  report: {report}")
        return Finished(0, path)


def _probe(
    sequence: Sequence, feature: Feature | None, inputs: Any, stride: int, how: Propagation
) -> tuple[np.ndarray, list[Scores]]:
    """(predicted masks, the scores of every object) of one sequence."""
    masks = jnp.asarray(sequence.masks)
    predicted, j, f = sequence_scores(feature, inputs, masks, sequence.labels, stride, how)
    found = judged(sequence.masks[None], np.asarray(j)[None], np.asarray(f)[None], [sequence.name])
    return np.asarray(predicted), found


def _write_objects(path: Path, scores: dict[str, list[Scores]]) -> None:
    """A row for every feature, sequence and object: DAVIS's statistics."""
    rows = []
    for name, found in scores.items():
        for one in found:
            row: dict[str, Any] = {"feature": name, "sequence": one.sequence, "object": one.object}
            for measure in ("j", "f"):
                values = statistics(getattr(one, measure))._asdict()
                row |= {f"{measure}_{part}": value for part, value in values.items()}
            rows.append(row)
    write_csv(path, list(rows[0]), rows)
