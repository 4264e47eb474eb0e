"""The options of `run_type = "siammae"`: the keys of the setting `siammae`, with their defaults. No JAX here."""

from typing import NamedTuple

FEATURES = ("copying", "raw", "random", "trained")


class SiammaeOptions(NamedTuple):
    """How an encoder is trained in one place, and what its features are probed on.

    epochs, warmup_epochs: passes over the clips; 0 epochs: nothing is trained. batch: clips of a step. accumulate:
      parts that a batch is worked through in.
    learning_rate, per_256 (multiplied by batch / 256), min_rate, decay: of AdamW (.9, .95) along a half cosine.
    save_every: steps between checkpoints.
    davis: the folder of DAVIS to probe on; None: drawn clips. year, part: its list. sequences: at most so many.
    side: of frames, to which their shorter side is resized for the features; None is the task's size.
    features: of FEATURES, rows of the table; `raw` are patches of the model's size.
    layer: of the encoder, from 1; None is the last one.
    stride: pixels between places of the features' grid; None is the patch.
    top_k, radius, temperature, queue, centred: see `propagation.Propagation`; the radius is in places.
    """

    epochs: int = 50
    warmup_epochs: int = 2
    batch: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    per_256: bool = False
    min_rate: float = 0.0
    decay: float = 0.05
    save_every: int = 250
    davis: str | None = None
    year: str = "2016"
    part: str = "val"
    sequences: int = 20
    side: int | None = None
    features: tuple[str, ...] = FEATURES
    layer: int | None = None
    stride: int | None = None
    top_k: int = 7
    radius: float = 6.0
    temperature: float = 0.05
    queue: int = 5
    centred: bool = True
