"""rounds.csv: what every seed of every optimizer did, round by round."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.meta_testing.program import Curves


class Record(NamedTuple):
    """The runs of one optimizer on one task: one seed a job of `curves`.

    bytes_up, bytes_down: a round's traffic: K deltas to the server, one model back.
    """

    optimizer: str
    task: str
    seeds: Sequence[int]
    curves: Curves
    bytes_up: int
    bytes_down: int


def write_rounds(path: Path, records: Sequence[Record]) -> None:
    """Writes all records: optimizer, task, seed, round, train_loss, evaluations, cumulative bytes.

    Round 0 is the initial model: it has no training loss; a round without an evaluation has empty cells.
    """
    columns = list(dict.fromkeys(name for record in records for name in record.curves.evaluated))
    head = ["optimizer", "task", "seed", "round", "train_loss", *columns, "bytes_up", "bytes_down"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for record in records:
        writer.writerows(_rows(record, columns))
    write_atomic(path, text.getvalue())


def _rows(record: Record, columns: Sequence[str]) -> Iterator[list]:
    curves = record.curves
    evaluation_at = {int(r): e for e, r in enumerate(curves.eval_rounds)}
    for job, seed in enumerate(record.seeds):
        for r in range(curves.train_loss.shape[1] + 1):
            train = _cell(curves.train_loss[job, r - 1]) if r else ""
            e = evaluation_at.get(r)
            found = [
                "" if e is None or name not in curves.evaluated else _cell(curves.evaluated[name][job, e])
                for name in columns
            ]
            traffic = [r * record.bytes_up, r * record.bytes_down]
            yield [record.optimizer, record.task, seed, r, train, *found, *traffic]


def _cell(value: np.floating) -> str:
    """The shortest text that reads back as the same float32."""
    return str(np.float32(value))
