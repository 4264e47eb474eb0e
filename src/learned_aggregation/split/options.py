"""The options of split learning: the keys of the setting `split`, with their defaults. No JAX here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CENTRAL, DISTRIBUTED = "central", "distributed"
AGGREGATED, OWN = "aggregated", "own"
VAL_MODES = ("none", "early_saving", "early_stopping")
NO_COMPRESSOR: Mapping[str, Any] = {"type": "none"}


class SplitOptions(NamedTuple):
    """How a model is cut, what crosses, and how the bottleneck comes to be.

    split_layer: blocks of the client's half.
    bottleneck: of BOTTLENECKS. latent_dim: z, numbers of a latent.
    class_token: "whole" (crosses as d float32), "quantised" (d numbers through latent_compressor), "through" (goes
      through the bottleneck as other tokens).
    latent_compressor, gradient_compressor: dict(type=...) of each example's latents and of their gradient.
    labels_at: "server" (labels go up) or "client" (logits come down, their gradient goes up).
    server_learning_rate: of the server's half; None is local_learning_rate.
    base_path: the base model's weights; None makes them from the seed.
    base_steps: steps of Adam on the whole model, made before anything is cut; 0: none. base_dataset: on what, by name;
      None is the downstream set. base_learning_rate, base_batch_size: of these steps.
    ae_pretrain: whether stage 1 is done; False leaves the autoencoder at its random start.
    ae_frozen: whether it stays as stage 1 left it; False trains it along in stage 2.
    ae_dataset: None is the downstream set (option 2), another one by name (option 1).
    ae_proportion: of it that is used, in (0, 1].
    ae_training: "central" or "distributed". decoders, of distributed training: "aggregated" or "own".
    decoder_aggregator: what aggregates decoders in stage 1: "fedavg" (weights n_k/n) or "same", the run's own rule.
    ae_epochs: rounds of stage 1, of one pass over a client's data each. ae_batch_size, ae_learning_rate,
      ae_learning_rate_end: of Adam, its rate falling along a cosine.
    val_mode: "none", "early_saving" (the best round is kept), "early_stopping" (and `patience` rounds without a better
      one end it). val_split: share of a client's data held out for it.
    ae_path: a trained autoencoder's directory to load. ae_dir: where they are kept; None is CHECKPOINTS_DIR/ae.
    ae_force_retrain: train it also where it is there.
    cases: several runs to compare, of a label and what differs from the run's own settings and options.
    """

    split_layer: int = 1
    bottleneck: str = "mlp1"
    latent_dim: int = 8
    class_token: str = "whole"
    latent_compressor: Mapping[str, Any] = NO_COMPRESSOR
    gradient_compressor: Mapping[str, Any] = NO_COMPRESSOR
    labels_at: str = "server"
    server_learning_rate: float | None = None
    base_path: str | None = None
    base_steps: int = 0
    base_dataset: str | None = None
    base_learning_rate: float = 1e-3
    base_batch_size: int = 64
    ae_pretrain: bool = True
    ae_frozen: bool = True
    ae_dataset: str | None = None
    ae_proportion: float = 1.0
    ae_training: str = CENTRAL
    decoders: str = AGGREGATED
    decoder_aggregator: str = "fedavg"
    ae_epochs: int = 20
    ae_batch_size: int = 64
    ae_learning_rate: float = 1e-3
    ae_learning_rate_end: float = 1e-4
    val_mode: str = "early_saving"
    val_split: float = 0.1
    patience: int = 5
    ae_path: str | None = None
    ae_dir: str | None = None
    ae_force_retrain: bool = False
    cases: Sequence[Mapping[str, Any]] = ()

    @property
    def one_encoder(self) -> bool:
        """Whether all clients share an encoder: where it was not trained at each of them."""
        return self.ae_training == CENTRAL

    @property
    def one_decoder(self) -> bool:
        """Whether the server has one decoder for all clients."""
        return self.decoders == AGGREGATED
