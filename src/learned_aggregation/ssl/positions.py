"""Fixed position embeddings of the patches of an image."""

import numpy as np

from learned_aggregation.errors import UserError


def grid_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Sine and cosine embeddings of a grid, float32 [rows columns, width], row by row.

    The first half of the width is of the column x, the second of the row y; each half is sin(x w_k), then cos(x w_k),
    with w_k = 10000^(-4 k / width), k < width / 4. As He et al., 2022, arXiv:2111.06377, have them.

    Raises:
      UserError: a width that 4 does not divide.

    Example:
      >>> grid_positions(2, 3, 8).shape, grid_positions(2, 3, 8)[0].tolist()
      ((6, 8), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    """
    if width % 4:
        raise UserError(
            f"positions: expected a width that 4 divides, got {width}. Choose another hidden size."
        )
    rates = 10000.0 ** (-np.arange(width // 4) / (width / 4))
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    halves = [place.reshape(-1, 1) * rates for place in (x, y)]
    waves = [wave(half) for half in halves for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1).astype(np.float32)
