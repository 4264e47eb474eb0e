"""Stores that are made from data at hand: digits as sounds, spoken digits. Their encoder is a frozen random network."""

import numpy as np
from jaxtyping import Float

from learned_aggregation.data import DataOptions
from learned_aggregation.data.fsdd import RATE, read_clips
from learned_aggregation.errors import UserError
from learned_aggregation.generators.features import log_mel, random_network
from learned_aggregation.generators.store import Store, held_out

AUDIO, CLIP, SEQUENCE = 512, 768, 4
AUDIO_SEED, CLIP_SEED = 20, 21
"""Of the frozen networks."""
MOMENTS, BANDS = 16, 24
"""Of a log-mel spectrogram: four moments in each of the four vectors."""
GLYPHS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def glyph_conditions(count: int) -> Float[np.ndarray, "count 768"]:
    """An embedding of a drawn character for each class, in the place of a picture's.

    Raises:
      UserError: more classes than there are characters, 62.
    """
    from learned_aggregation.data.glyphs import draw_characters

    if count > len(GLYPHS):
        raise UserError(
            f"store_path: expected at most {len(GLYPHS)} classes where drawn characters are the conditions, got "
            f"{count}. Leave some out, or make an .npz with conditions and set store to npz."
        )
    drawn = draw_characters(GLYPHS[: max(count, 2)], 16).mean(axis=0)
    return random_network(drawn.reshape(len(drawn), -1), CLIP, CLIP_SEED)[:count]


def digits() -> Store:
    """scikit-learn's 1,797 digits as sounds of four moments, two columns of pixels each; it needs nothing else.

    Five clients, example after example.
    """
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    columns = np.asarray(pixels).reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, SEQUENCE, 16)
    label = np.asarray(target, np.int32)
    client = np.arange(len(label)) % 5
    return _store(columns, label, client, held_out(label, client), [str(d) for d in range(10)])


def spoken_digits(options: DataOptions) -> Store:
    """The Free Spoken Digit Dataset; its speakers are the natural clients, its test is the set's.

    Raises:
      UserError: no file is named, or it is no such file.
    """
    clips, label, speaker, is_test = read_clips(options)
    frames = np.stack([log_mel(clip, RATE, MOMENTS, BANDS) for clip in clips])
    return _store(
        frames.reshape(len(clips), SEQUENCE, -1),
        label.astype(np.int32),
        speaker.astype(int),
        is_test,
        [str(d) for d in range(10)],
    )


def _store(
    frames: np.ndarray, label: np.ndarray, client: np.ndarray, is_test: np.ndarray, classes: list[str]
) -> Store:
    """frames: [N, 4, numbers of a moment]."""
    audio = random_network(frames, AUDIO, AUDIO_SEED)
    return Store(audio, glyph_conditions(len(classes))[label], label, client, is_test, tuple(classes))


def embedded(
    clips: list[np.ndarray],
    rate: int,
    label: np.ndarray,
    client: np.ndarray,
    is_test: np.ndarray,
    classes: list[str],
) -> Store:
    """A store of sounds by the frozen network, with glyphs as conditions: where no encoder is there."""
    frames = np.stack([log_mel(clip, rate, MOMENTS, BANDS) for clip in clips])
    return _store(frames.reshape(len(clips), SEQUENCE, -1), label, client, is_test, classes)
