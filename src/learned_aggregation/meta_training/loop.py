"""The meta-training loop around the outer step: log, save, stop, go on."""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from learned_aggregation.data.streaming import Data, windows_of_all
from learned_aggregation.devices.distributed import any_process, is_main, replicated
from learned_aggregation.devices.parallel import everywhere
from learned_aggregation.errors import RunError
from learned_aggregation.meta_training.outer_step import OuterStep
from learned_aggregation.meta_training.validation import SCORE, Validation
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.runs.progress import ProgressBar
from learned_aggregation.runs.trackers import Tracker
from learned_aggregation.types import MetaState, Metrics

LAG = 2
"""Outer steps in flight before their metrics are read, so that reading never makes the device wait."""


class Saving(NamedTuple):
    """When and with what checkpoints are written; see Checkpointer.save."""

    every: int
    config_text: str
    settings: Mapping[str, Any]


def meta_train(
    outer_step: OuterStep,
    state: MetaState,
    datas: Sequence[Mapping[str, Data]],
    *,
    num_outer_steps: int,
    rounds_per_step: int,
    mesh: Mesh,
    checkpointer: Checkpointer,
    saving: Saving,
    tracker: Tracker,
    log_every: int = 1,
    validation: Validation | None = None,
) -> tuple[MetaState, int]:
    """Runs outer steps until `num_outer_steps`, a signal, or validations enough without a better theta.

    A checkpoint is saved at the start and at the end, and the best theta whenever there is a better one.

    Args:
      datas: for each task, its splits; of those that are streams each outer step gets the next window.
      rounds_per_step: federated rounds in an outer step, a window of every arm counted, for the rate.
      mesh: the devices that the state lies on.
      log_every: outer steps between rows of metrics; the others never leave the device.
      validation: None for none.
    Returns:
      (the last state, 0 or 128 + the signal's number).
    Raises:
      RunError: a non-finite meta-gradient; nothing is saved after it.
    """
    start = step = int(state.step)
    log = _Log(
        tracker, ProgressBar("meta-training", num_outer_steps, start, shown=is_main()), start, rounds_per_step
    )

    def save(state: MetaState, step: int) -> int:
        whole = replicated(state, mesh)
        if is_main():
            checkpointer.save(step, whole, saving.config_text, saving.settings)
        return step

    with StopRequest() as stop, windows_of_all(datas, everywhere(mesh), start) as windows:
        in_flight: deque[Metrics] = deque()
        try:
            # The first checkpoint shows at once that saving works, and keeps the untrained theta to compare with.
            saved = start if checkpointer.latest_step() == start else save(state, start)
            waited = int(state.validation.waited) if validation else 0
            while (
                step < num_outer_steps
                and not any_process(stop.signal is not None)
                and not (validation and 0 < validation.patience <= waited)
            ):
                window = next(windows)
                # Whatever the step needs is on the device already.
                with jax.transfer_guard("disallow"):
                    state, metrics = outer_step(state, window)
                step += 1
                in_flight.append(metrics)
                if len(in_flight) > LAG:  # no more windows than that are on the device
                    jax.block_until_ready(in_flight.popleft())
                validates = bool(validation and step % validation.every == 0)
                if validation and validates:
                    state, scores = validation.score(state)
                    metrics = metrics | scores
                if validates or step % log_every == 0 or step == num_outer_steps:
                    log.add(step, metrics)
                if validates:
                    log.drain()  # says so if theta is not finite
                    waited = int(state.validation.waited)
                    if waited == 0 and is_main():
                        score = float(state.validation.score)
                        checkpointer.save_best(step, state.theta, {**saving.settings, SCORE: score})
                if step % saving.every == 0:
                    log.drain()
                    saved = save(state, step)
            log.drain()
            if step > saved:
                save(state, step)
        finally:
            log.close()
    return state, stop.exit_status


class _Log:
    """Reads metrics `LAG` steps late and hands them to the tracker and the progress bar."""

    def __init__(self, tracker: Tracker, bar: ProgressBar, start: int, rounds_per_step: int):
        self._tracker, self._bar, self._start, self._rounds = tracker, bar, start, rounds_per_step
        self._pending: deque[tuple[int, Metrics]] = deque()
        self._began = self._previous = time.monotonic()
        self._previous_step = start

    def add(self, step: int, metrics: Metrics) -> None:
        self._pending.append((step, metrics))
        if len(self._pending) > LAG:
            self._write(*self._pending.popleft())

    def drain(self) -> None:
        while self._pending:
            self._write(*self._pending.popleft())

    def close(self) -> None:
        self._bar.close()

    def _write(self, step: int, metrics: Metrics) -> None:
        row = {name: float(value) for name, value in jax.device_get(metrics).items()}
        # A validation that is not finite is a bad score and no more.
        if not all(math.isfinite(value) for name, value in row.items() if not name.startswith(SCORE)):
            raise RunError(
                f"meta-train: expected finite metrics at outer step {step}, got {row}. Nothing was saved after "
                "it; lower schedule.peak_value or set schedule.clip, then resume with --from_checkpoint."
            )
        now = time.monotonic()
        steps_per_s = (step - self._previous_step) / max(1e-9, now - self._previous)
        self._previous, self._previous_step = now, step
        rates = {"outer_steps_per_s": steps_per_s, "rounds_per_s": steps_per_s * self._rounds}
        self._tracker.log(step, row | rates | {"elapsed_s": now - self._began})
        mean_rate = (step - self._start) / max(1e-9, now - self._began)
        self._bar.update(
            step,
            {
                "meta-loss": f"{row['meta_loss']:.4f}",
                "outer steps/s": f"{mean_rate:.2f}",
                "rounds/s": f"{mean_rate * self._rounds:.0f}",
            },
        )
