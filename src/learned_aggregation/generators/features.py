"""Embeddings without an encoder: log-mel frames through a frozen network of random weights. Stand-ins, said plainly."""

import numpy as np
from jaxtyping import Float

WINDOW_SECONDS = 0.032
DECIBELS = 80.0
"""What is kept below a clip's loudest point."""


def log_mel(clip: np.ndarray, rate: int, moments: int, bands: int) -> Float[np.ndarray, "moments bands"]:
    """A clip's mel spectrogram in decibels, from 0 (80 dB below the loudest point) to 1, at moments spread evenly.

    Args:
      rate: samples per second.
    Example:
      >>> log_mel(np.sin(np.arange(4000)), 8000, 8, 16).shape
      (8, 16)
    """
    window = int(rate * WINDOW_SECONDS)
    padded = np.pad(clip.astype(np.float64), window // 2 + 1)
    starts = np.round(np.linspace(0, len(clip), moments)).astype(int)
    frames = padded[starts[:, None] + np.arange(window)] * np.hanning(window)
    bins = 1 << (4 * window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, bins)) ** 2 @ _mel_bands(rate, bins, bands).T
    loudness = 10 * np.log10(np.maximum(power, 1e-10))
    return np.clip(1 + (loudness - loudness.max()) / DECIBELS, 0, 1)


def _mel_bands(rate: int, bins: int, count: int) -> Float[np.ndarray, "count bins"]:
    """Triangles whose corners lie evenly on the mel scale, 2595 log10(1 + f/700); each sums to 1."""
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, count + 2) / 2595) - 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    hertz = np.fft.rfftfreq(bins, 1 / rate)
    bands = np.maximum(0, np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
    bands += np.abs(hertz - middle) == np.abs(hertz - middle).min(axis=1, keepdims=True)  # none is empty
    return bands / bands.sum(axis=1, keepdims=True)


def random_network(x: Float[np.ndarray, "... D"], outputs: int, seed: int) -> Float[np.ndarray, "... O"]:
    """tanh(W2 tanh(W1 (x - mean))) with frozen normal weights of a seed; float32.

    Example:
      >>> random_network(np.eye(3), 5, 0).shape
      (3, 5)
    """
    random = np.random.default_rng(seed)
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    flat = (flat - flat.mean(axis=0)) / max(float(flat.std()), 1e-12)
    first = random.standard_normal((flat.shape[1], outputs)) / np.sqrt(flat.shape[1])
    second = random.standard_normal((outputs, outputs)) / np.sqrt(outputs)
    made = np.tanh(1.5 * np.tanh(flat @ first) @ second)
    return made.reshape(*x.shape[:-1], outputs).astype(np.float32)
