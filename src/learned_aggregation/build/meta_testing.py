"""A config's meta-test: the setting that many seeds and rates share, and its data."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Array

from learned_aggregation.build.data import TaskData, train_data
from learned_aggregation.build.parts import later_phases, make_parts, round_sizes
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.streaming import evaluation_examples
from learned_aggregation.errors import UserError
from learned_aggregation.meta_testing.evaluation import chunked
from learned_aggregation.meta_testing.program import Probe, Setting, Shared
from learned_aggregation.problems.inner_problem import population
from learned_aggregation.ssl.probes import ProbeData, Sizes, check_probes, probe_data, run_probes
from learned_aggregation.types import FederatedData, Key, ModelState, Params, Task, Theta


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
    if not isinstance(shared.train, FederatedData) and any(phase.stored for phase in later):
        raise UserError(
            "freezing.store_features: expected data that lies on the device whole, got a stream. Raise device_data_mb, "
            "or leave store_features (or augment) out."
        )
    return Setting(sizes, make_parts(config, loaded), later, _probe(config, loaded)), shared


def _probe(config: Config, loaded: TaskData) -> Probe | None:
    """The config's probes of one task; None where there are none."""
    if not config.probes:
        return None
    check_probes(loaded.task, loaded.dataset)

    def held_out(split: str) -> Mapping[str, Any]:
        return evaluation_examples(
            split, loaded.dataset.splits[split], config.eval_examples, config.device_data_mb
        )

    sizes = Sizes(loaded.dataset.num_classes, config.eval_chunk)
    data = probe_data(loaded.dataset, config.probe_examples, held_out)

    def probe(
        task: Task, params: Params, model_state: ModelState, key: Key, data: ProbeData
    ) -> dict[str, Array]:
        return run_probes(config.probes, sizes, data, task, params, model_state, key)

    return Probe(probe, data)
