"""ESC-50's folder: meta/esc50.csv and audio/*.wav; embedded by the frozen random network where no encoder is there."""

import csv
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from learned_aggregation.atomic import from_home
from learned_aggregation.errors import UserError
from learned_aggregation.generators.stand_ins import embedded
from learned_aggregation.generators.store import Store

TEST_FOLD = 5
LOWEST_RATE = 1000
"""Samples per second that a spectrogram needs."""
COLUMNS = ("filename", "fold", "target", "category")


def esc50(folder: str, say: Callable[[str], None]) -> Store:
    """2,000 environmental sounds of 50 classes; the folds 1 to 4 are the natural clients, fold 5 is the test.

    Raises:
      UserError: no such folder, a csv without its columns, a sound that is missing or no 16-bit wav file.
    References:
      Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015.
    """
    place = from_home(folder)
    rows = _rows(place / "meta" / "esc50.csv")
    say(
        f"{folder}: no encoder of sounds is here: embeddings are log-mel frames through a frozen random network, "
        "conditions are drawn characters. Stand-ins, not CLIP's or an audio model's."
    )
    names = {int(row["target"]): row["category"] for row in rows}
    targets = sorted(names)
    label = np.array([targets.index(int(row["target"])) for row in rows], np.int32)
    fold = np.array([int(row["fold"]) for row in rows])
    clips, rates = zip(*(read_wav(place / "audio" / row["filename"]) for row in rows), strict=True)
    if len(set(rates)) > 1:
        raise UserError(
            f"store_path: expected sounds of one sampling rate, got {sorted(set(rates))} in {folder!r}. Resample them."
        )
    is_test = fold == TEST_FOLD
    if is_test.all() or not is_test.any():
        raise UserError(
            f"store_path: expected folds 1 to 5 in esc50.csv, got {sorted(set(fold.tolist()))}. Use the whole set."
        )
    return embedded(list(clips), rates[0], label, fold - 1, is_test, [names[t] for t in targets])


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            missing = [name for name in COLUMNS if not row.get(name)]
            if missing or not (row["fold"].isdecimal() and row["target"].isdecimal()):
                raise ValueError(f"a row without {', '.join(missing) or 'whole fold and target'}")
        if not rows:
            raise ValueError("no rows")
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"store_path: expected ESC-50's folder, with meta/esc50.csv of {', '.join(COLUMNS)}, got {str(path)!r} "
            f"({error}). Name the folder that holds meta/ and audio/."
        ) from None
    return rows


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """(samples in [-1, 1], samples per second) of a 16-bit wav file; of several channels the mean.

    Raises:
      UserError: there is none, or it is of another kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, rate, width = file.getnchannels(), file.getframerate(), file.getsampwidth()
            content = file.readframes(file.getnframes())
        if width != 2 or not content or rate < LOWEST_RATE:
            raise wave.Error(f"{8 * width} bits, {len(content)} bytes, {rate} samples per second")
        samples = np.frombuffer(content, "<i2").reshape(-1, channels).mean(axis=1) / 2**15
    except (OSError, EOFError, ValueError, wave.Error) as error:
        raise UserError(
            f"store_path: expected a 16-bit wav file, got {str(path)!r} ({error}). Put the set's files there."
        ) from None
    return samples, rate
