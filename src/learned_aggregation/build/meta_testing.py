"""A config's meta-test: the setting that many seeds and rates share, and its data."""

from collections.abc import Sequence

from learned_aggregation.build.data import TaskData, train_data
from learned_aggregation.build.parts import make_parts, round_sizes
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.streaming import evaluation_examples
from learned_aggregation.meta_testing.evaluation import chunked
from learned_aggregation.meta_testing.program import Setting, Shared
from learned_aggregation.types import Theta


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
    return Setting(round_sizes(config), make_parts(config, loaded)), shared
