"""The files of a run with generators: rounds.csv, table.csv, generators.csv, quality.csv, samples.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_aggregation.build.generators import Held
from learned_aggregation.generators.client import GeneratorClient
from learned_aggregation.generators.quality import LOW_COSINE, components, quality
from learned_aggregation.generators.rounds import State, classes_of
from learned_aggregation.generators.samples import generate
from learned_aggregation.jobs.split_files import by_case
from learned_aggregation.meta_testing.comparison import interval
from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.meta_testing.traffic import cohort_bytes, whole
from learned_aggregation.runs.csv_file import united, write_csv
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.rounds_file import Record, write_rounds
from learned_aggregation.types import Traffic

JUDGED = 200
"""Samples per class that the quality is measured on."""
SHOWN = 40
"""Points per class and kind in a plot."""

Results = Sequence[Mapping[str, Any]]


def judged(held: Held, clients: Mapping[int, GeneratorClient]) -> list[dict[str, Any]]:
    """A row for each client and class: how its samples are to the embeddings that the client trains on.

    Says so where the cosine is low.
    """
    rows: list[dict[str, Any]] = []
    for client in clients.values():
        for label in classes_of(held.rows, held.store.label, [client.client_id]):
            samples, real = both(held, client, label)
            ids = _ids(held, client.client_id, label)
            batch = {
                "audio": real.reshape(len(real), *held.store.audio.shape[1:]),
                "clip": held.store.clip[ids],
            }
            nats = client.kind.generator.kl(client.state.params, jax.tree.map(np.asarray, batch))
            found = quality(samples, real)
            name = held.store.classes[label]
            if not found.cosine >= LOW_COSINE:
                say(
                    f"warning: client {client.client_id}, class {name}: cosine of samples and data {found.cosine:.2f}, "
                    f"below {LOW_COSINE}. Train the generator longer."
                )
            row = {"client": client.client_id, "class": name, "examples": len(real), **found._asdict()}
            rows.append(row | {"kl": None if nats is None else float(nats)})
    return rows


def both(held: Held, client: GeneratorClient, label: int) -> tuple[np.ndarray, np.ndarray]:
    """(samples, real embeddings) of a class, flattened; the samples are the same every time."""
    key = jax.random.fold_in(jax.random.key(0), client.client_id)
    outputs = {label: held.conditions[label]}
    made = generate(client.kind.generator, client.state.params, outputs, JUDGED, key)[label]
    real = held.store.audio[_ids(held, client.client_id, label)]
    return made.reshape(len(made), -1), real.reshape(len(real), -1)


def _ids(held: Held, client: int, label: int) -> np.ndarray:
    rows = held.rows[client]
    return rows[held.store.label[rows] == label]


def result_of(
    label: str, seed: int, clients: int, state: State, held: Held, traffic: Traffic
) -> dict[str, Any]:
    """All that is kept of the rounds, as JSON."""
    per_class = {n: np.asarray(v) for n, v in state.evaluated.items() if v.ndim == 2}
    evaluated = {n: np.asarray(v).tolist() for n, v in state.evaluated.items() if v.ndim == 1}
    if held.left:
        evaluated |= {
            name.replace("class_accuracy", "left_accuracy"): np.nanmean(v[:, held.left], axis=1).tolist()
            for name, v in per_class.items()
        }
    return {
        "label": label,
        "seed": seed,
        "num_grads": clients,
        "losses": np.asarray(state.losses).tolist(),
        "evaluated": evaluated,
        "class_accuracy": per_class["test_class_accuracy"][-1].tolist(),
        "generator_losses": np.asarray(state.generator_losses).tolist(),
        "left": [held.store.classes[c] for c in held.left],
        "traffic": list(traffic),
    }


def write_files(path: Path, results: Results, task: str) -> None:
    """All CSV files of a run."""
    write_curves(path / "rounds.csv", results, task)
    write_summary(path / "table.csv", results, task)
    losses = [
        {"entrant": run["label"], "seed": run["seed"], "round": number + 1, "client": client, "loss": loss}
        for run in results
        for number, row in enumerate(run["generator_losses"])
        for client, loss in enumerate(row)
        if np.isfinite(loss)
    ]
    if losses:
        write_csv(path / "generators.csv", list(losses[0]), losses)
    qualities = [
        {"entrant": run["label"], "seed": run["seed"], **row} for run in results for row in run["quality"]
    ]
    if qualities:
        write_csv(path / "quality.csv", list(qualities[0]), qualities)


def write_points(path: Path, held: Held, clients: Mapping[int, GeneratorClient]) -> None:
    """samples.csv: real embeddings and samples of the clients' classes by the first two components of the real ones."""
    _, sequence, dim = held.store.audio.shape
    every = np.concatenate([held.rows[client] for client in clients])
    mean, axes = components(held.store.audio[every].reshape(len(every), sequence * dim))
    rows = []
    for client in clients.values():
        for label in classes_of(held.rows, held.store.label, [client.client_id]):
            samples, real = both(held, client, label)
            for kind, many in (("real", real), ("sample", samples)):
                for x, y in ((many[:SHOWN] - mean) @ axes.T).tolist():
                    rows.append(
                        {
                            "client": client.client_id,
                            "class": held.store.classes[label],
                            "kind": kind,
                            "x": f"{x:.5g}",
                            "y": f"{y:.5g}",
                        }
                    )
    write_csv(path, ["client", "class", "kind", "x", "y"], rows)


def write_curves(path: Path, results: Results, task: str) -> None:
    """rounds.csv, the cases in the place of optimizers."""
    records = []
    for label, runs in by_case(results).items():
        curves = Curves(
            np.array([run["losses"] for run in runs]),
            np.arange(len(runs[0]["losses"]) + 1),
            {name: np.array([run["evaluated"][name] for run in runs]) for name in runs[0]["evaluated"]},
        )
        seeds = [run["seed"] for run in runs]
        records.append(Record(label, task, seeds, curves, Traffic(*runs[0]["traffic"]), runs[0]["num_grads"]))
    write_rounds(path, records)


def write_summary(path: Path, results: Results, task: str) -> None:
    """table.csv: a row for each case: its last test metrics, its samples and bytes of a round of all clients."""
    rows = []
    for label, runs in by_case(results).items():
        row: dict[str, Any] = {"entrant": label, "task": task, "seeds": len(runs)}
        for name in runs[0]["evaluated"]:
            if name.startswith("test_"):
                last = np.array([run["evaluated"][name][-1] for run in runs])
                row |= {name: float(np.mean(last)), f"{name}_ci95": interval(last)}
        up, down = cohort_bytes(Traffic(*runs[0]["traffic"]), runs[0]["num_grads"])
        row |= {
            "samples": sum(runs[0]["samples"].values()),
            "bytes_up_per_round": whole(up),
            "bytes_down_per_round": whole(down),
        }
        rows.append(row)
    write_csv(path, united(rows), rows)
