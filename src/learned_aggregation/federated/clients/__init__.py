"""The registry of local optimizers: one file each, one line here."""

from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.federated.clients"

LOCAL_OPTIMIZERS = Registry(
    "local_optimizer",
    {
        "sgd": f"{_HERE}.sgd:sgd",
        "momentum": f"{_HERE}.momentum:momentum",
        "adamw": f"{_HERE}.adamw:adamw",
        "adamw-matrices": f"{_HERE}.adamw_matrices:adamw_matrices",
        "adamw-finetuning": "learned_aggregation.ssl.finetuning:finetuning_adamw",
        "muon": f"{_HERE}.muon:muon",
    },
)
"""name -> (learning_rate, may be traced) -> optax.GradientTransformation."""

ADAPTIVE = ("adamw", "adamw-matrices", "adamw-finetuning", "muon")
"""Those whose updates do not grow with the gradient, which matters to muP; a new one of this kind adds its name."""

DATA_PARALLEL = ("sgd", "adam")
"""Aggregators of clients that take one step per round, whose mean gradient is their input: one local step of rate 1."""
