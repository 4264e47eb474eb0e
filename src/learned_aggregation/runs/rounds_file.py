"""rounds.csv: what every seed of every method did, round by round."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.meta_testing.traffic import cohort_bytes, whole
from learned_aggregation.runs.csv_file import united, write_csv
from learned_aggregation.types import Traffic


class Record(NamedTuple):
    """The runs of one method on one task: one seed for each job of `curves`.

    traffic: bits per client per round. num_clients: K. alone: how many of the bits down are for one client alone; the
      others are a message for all of them. changes: where the traffic changes, (from which round on, what it is then);
      the first is of round 0.
    """

    optimizer: str
    task: str
    seeds: Sequence[int]
    curves: Curves
    traffic: Traffic
    num_clients: int
    alone: float = 0.0
    changes: Sequence[tuple[int, Traffic]] = ()


def write_rounds(path: Path, records: Sequence[Record]) -> None:
    """Writes all records: optimizer, task, seed, round, train_loss, evaluations, and what was sent up to that round.

    bytes_up and bytes_down are of the whole cohort, bits_up and bits_down of one client. Round 0 is the initial model:
    it has no training loss; a round without an evaluation, and a metric that the task does not have, is an empty cell.
    """
    evaluated = united({**record.curves.evaluated, **record.curves.probed} for record in records)
    sent = ["bytes_up", "bytes_down", "bits_up", "bits_down"]
    columns = ["optimizer", "task", "seed", "round", "train_loss", *evaluated, *sent]
    write_csv(path, columns, (row for record in records for row in _rows(record)))


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    curves = record.curves
    evaluation_at = {int(r): e for e, r in enumerate(curves.eval_rounds)}
    for job, seed in enumerate(record.seeds):
        for r in range(curves.train_loss.shape[1] + 1):
            row = {"optimizer": record.optimizer, "task": record.task, "seed": seed, "round": r}
            if r:
                row["train_loss"] = _text(curves.train_loss[job, r - 1])
            if r in evaluation_at:
                at = evaluation_at[r]
                row |= {n: _text(values[job, at]) for n, values in curves.evaluated.items()}
                probed = {n: values[job, at] for n, values in curves.probed.items()}
                row |= {n: _text(value) for n, value in probed.items() if not np.isnan(value)}
            yield row | {name: whole(amount) for name, amount in _sent(record, r).items()}


def _sent(record: Record, rounds: int) -> dict[str, float]:
    """In the first rounds: the cohort's bytes, and one client's bits."""
    changes = record.changes or ((0, record.traffic),)
    total = np.zeros(4)
    for (start, traffic), (end, _) in zip(changes, (*changes[1:], (rounds, None)), strict=True):
        count = max(0, min(end, rounds) - start)
        bytes_up, bytes_down = cohort_bytes(traffic, record.num_clients)
        bytes_down += (record.num_clients - 1) * record.alone / 8
        total += count * np.array([bytes_up, bytes_down, traffic.up, traffic.down])
    return dict(zip(("bytes_up", "bytes_down", "bits_up", "bits_down"), total.tolist(), strict=True))


def _text(value: np.floating) -> str:
    """The shortest text that reads back as the same float32."""
    return str(np.float32(value))
