"""The files of a split run: rounds.csv, table.csv, clients.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation.meta_testing.comparison import interval
from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.meta_testing.traffic import cohort_bytes, whole
from learned_aggregation.runs.csv_file import united, write_csv
from learned_aggregation.runs.rounds_file import Record, write_rounds
from learned_aggregation.types import Traffic

Results = Sequence[Mapping[str, Any]]


def by_case(results: Results) -> dict[str, list[Mapping[str, Any]]]:
    """Each case's results, one for each seed."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in results:
        found.setdefault(one["label"], []).append(one)
    return found


def write_curves(path: Path, results: Results, task: str) -> None:
    """rounds.csv, the cases in the place of optimizers."""
    records = []
    for label, runs in by_case(results).items():
        curves = Curves(
            np.array([run["losses"] for run in runs]),
            np.array(runs[0]["eval_rounds"]),
            {name: np.array([run["evaluated"][name] for run in runs]) for name in runs[0]["evaluated"]},
        )
        traffic, seeds = Traffic(*runs[0]["traffic"]), [run["seed"] for run in runs]
        alone = sum(runs[0]["crossed_down"].values())
        records.append(Record(label, task, seeds, curves, traffic, runs[0]["num_grads"], alone))
    write_rounds(path, records)


def write_summary(path: Path, results: Results, task: str, metrics: Sequence[str]) -> None:
    """table.csv: a row for each case.

    The last test metrics; the mean over clients of the reconstruction errors before stage 2, on the clients' own
    examples and on the others'; bytes of a round of all clients together, of what crosses at the cut (`cut`), of it all
    (up, down); bytes of all of stage 1.
    """
    rows = []
    for label, runs in by_case(results).items():
        row: dict[str, Any] = {"entrant": label, "task": task, "seeds": len(runs)}
        for metric in metrics:
            last = np.array([run["evaluated"][f"test_{metric}"][-1] for run in runs])
            row |= {f"test_{metric}": float(np.mean(last)), f"test_{metric}_ci95": interval(last)}
        for whose in ("own", "others"):
            errors = np.array([np.mean(run["autoencoder"][f"{whose}_error"]) for run in runs])
            row |= {
                f"reconstruction_{whose}": float(np.mean(errors)),
                f"reconstruction_{whose}_ci95": interval(errors),
            }
        clients = runs[0]["num_grads"]
        up, down = cohort_bytes(Traffic(*runs[0]["traffic"]), clients)
        row |= {
            "bytes_cut_per_round": whole(clients * cut_bits(runs[0]) / 8),
            "bytes_up_per_round": whole(up),
            "bytes_down_per_round": whole(down + (clients - 1) * sum(runs[0]["crossed_down"].values()) / 8),
            "bytes_stage_1": whole(float(np.mean([stage_one_bits(run) / 8 for run in runs]))),
            "autoencoder": ", ".join(dict.fromkeys(run["autoencoder"]["origin"] for run in runs)),
        }
        rows.append(row)
    write_csv(path, united(rows), rows)


def cut_bits(run: Mapping[str, Any]) -> float:
    """Bits of activations and their gradients, per client per round."""
    return run["crossed_up"]["latents"] + run["crossed_down"]["gradients"]


def stage_one_bits(run: Mapping[str, Any]) -> float:
    """Bits of all of stage 1, all clients together, both ways."""
    return len(run["clients"]["examples"]) * sum(run["autoencoder"]["bits_per_client"])


def write_clients(path: Path, results: Results) -> None:
    """clients.csv: a row for each client of each run."""
    rows = []
    for run in results:
        ae, clients = run["autoencoder"], run["clients"]
        for client in range(len(clients["examples"])):
            row = {"entrant": run["label"], "seed": run["seed"], "client": client}
            row |= {name: values[client] for name, values in clients.items()}
            row |= {
                "reconstruction_own": ae["own_error"][client],
                "reconstruction_others": ae["others_error"][client],
                "autoencoder": ae["origin"],
            }
            rows.append(row)
    write_csv(path, united(rows), rows)
