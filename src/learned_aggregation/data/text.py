"""Tokens to sequences."""

import numpy as np


def windows(tokens: np.ndarray, length: int) -> np.ndarray:
    """Cuts tokens [n] into sequences [(n - 1) // length, length + 1].

    Sequence i is tokens[i * length : (i + 1) * length + 1]: neighbours share one token, so that each token but
    the first is predicted once. What does not fill a sequence at the end is left out.
    """
    starts = np.arange(max(len(tokens) - 1, 0) // length) * length
    return tokens[starts[:, None] + np.arange(length + 1)]
