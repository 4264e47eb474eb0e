"""A config's meta-test: the setting that many seeds and rates share, and its data."""

from collections.abc import Sequence

from learned_aggregation.build.data import TaskData, train_data
from learned_aggregation.build.parts import later_phases, make_parts, round_sizes
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.streaming import evaluation_examples
from learned_aggregation.meta_testing.evaluation import chunked
from learned_aggregation.meta_testing.program import Setting, Shared
from learned_aggregation.problems.inner_problem import population
from learned_aggregation.types import FederatedData, Theta


def meta_test(
    config: Config, loaded: TaskData, theta: Theta, splits: Sequence[str]
) -> tuple[Setting, Shared]:
    """The meta-test of the config's optimizer on one loaded task, evaluated on `splits`."""
    evaluation = {}
    for split in splits:
        held_out = loaded.dataset.splits[split]
        examples = evaluation_examples(split, held_out, config.eval_examples, config.device_data_mb)
        evaluation[split] = chunked(examples, config.eval_chunk)
    shared = Shared(theta, train_data(config, loaded), evaluation)
    sizes = round_sizes(config)
    clients = population(shared.train, sizes.num_grads) if isinstance(shared.train, FederatedData) else 0
    later = later_phases(config, loaded, clients or config.num_clients or sizes.num_grads)
    return Setting(sizes, make_parts(config, loaded), later), shared
