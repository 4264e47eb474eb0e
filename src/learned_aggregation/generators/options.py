"""The options of a run with generators: the keys of the setting `feda2v`, with their defaults. No JAX here."""

from typing import NamedTuple

STORES = ("digits", "fsdd", "esc50", "npz")
DIVISIONS = ("disjoint", "shared", "natural")


class FedA2VOptions(NamedTuple):
    """What the clients hold, their adapters and generators, and what the server does with the samples.

    use_generator: whether there are generators at all. generator_type: of GENERATORS.
    generator_training_mode: run 1, in which clients train their generators and save them.
    use_pretrained_generators: run 2, in which clients load them and send samples; with generator_training_mode it is
      run 1, going on from what was saved.
    generator_checkpoint_dir: where `client_{i}_generator` lies. generator_training_epochs: passes over a round's
      batches per round. generator_augmentation, generator_augmentation_noise: of the generators' inputs.
    generator_hidden_dim, generator_latent_dim, generator_learning_rate, generator_beta: of the networks.
    diffusion_type: a note in the generators' files.
    synthetic_samples_per_class: what a client sends per class per round.
    global_model_train: whether the server trains the global model on samples, global_model_train_epochs passes over
      them after each aggregation, batches of local_batch_size, Adam at global_model_train_learning_rate.
    global_model_train_from_nodes_adapters: it goes on from the aggregated adapters; False: from the server's model of
      the round before, to which adapters add nothing.
    optimize_memory_usage: samples wait in files, written a chunk at a time; a round's training sees a window of them.
    store: of STORES; store_path: of esc50's folder or an .npz. client_classes: of DIVISIONS.
    adapter_hidden_dim: of the adapters.
    leaving_client, leaves_after_round: a client that takes part in no later round; None: none leaves.
    compare_without_samples: run 2 does the same rounds without samples too, for comparison.
    """

    use_generator: bool = True
    generator_type: str = "vae"
    generator_training_mode: bool = False
    use_pretrained_generators: bool = False
    generator_checkpoint_dir: str = "checkpoints/generators"
    generator_training_epochs: int = 10
    generator_augmentation: bool = True
    generator_augmentation_noise: float = 0.1
    generator_hidden_dim: int = 1024
    generator_latent_dim: int = 256
    generator_learning_rate: float = 1e-3
    generator_beta: float = 1.0
    diffusion_type: str = "none"
    synthetic_samples_per_class: int = 10
    global_model_train: bool = True
    global_model_train_epochs: int = 5
    global_model_train_learning_rate: float = 1e-3
    global_model_train_from_nodes_adapters: bool = True
    optimize_memory_usage: bool = False
    store: str = "digits"
    store_path: str | None = None
    client_classes: str = "disjoint"
    adapter_hidden_dim: int = 256
    leaving_client: int | None = None
    leaves_after_round: int = 2
    compare_without_samples: bool = True

    @property
    def trains(self) -> bool:
        """Whether it is run 1."""
        return self.use_generator and self.generator_training_mode

    @property
    def sends(self) -> bool:
        """Whether it is run 2, in which samples are sent."""
        return self.use_generator and self.use_pretrained_generators and not self.generator_training_mode
