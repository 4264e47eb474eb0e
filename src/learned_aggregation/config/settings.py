"""Config: the one table of settings. Names, defaults, checks, help and flags come from its fields.

Registries are imported when a name is checked and not before, so that `--help` comes at once.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from learned_aggregation.config.config_file import load_file
from learned_aggregation.errors import UserError
from learned_aggregation.config.kinds import (
    Kind,
    choice,
    file_name,
    fraction,
    interval,
    mapping,
    names,
    non_negative,
    optional,
    path,
    positive,
    refuse,
    switch,
    unknown,
    whole,
)
from learned_aggregation.registry import nearest
from learned_aggregation.config.sweep_config import check_entrants, check_problems, check_sweep

RUN_TYPES = ("meta-train", "benchmark", "sweep", "compare")
META_LOSS_SPLITS = ("same_data", "train", "inner_valid", "outer_valid", "test")

# Settings of the published research code that are not needed here, and what to do instead.
REPLACED = {
    "needs_state": "Remove it: a model's state is always carried.",
    "use_pmap": "Remove it: num_devices chooses the devices.",
    "pmap_across_devices": "Remove it: num_devices chooses the devices.",
    "steps_per_jit": "Remove it: a whole window (truncation_length rounds) is one compiled step.",
    "prefetch_batches": "Remove it: batches are drawn on the device.",
    "keep_batch_in_gpu_memory": "Remove it: the data stays on the device.",
    "gradient_accumulation_steps": "Remove it: tasks_per_chunk bounds the memory.",
    "wandb_checkpoint_id": "Use test_checkpoint with the checkpoint's path.",
    "train_project": "Use test_project, the wandb project of every run.",
    "lo_clip_grad": "Use schedule.clip.",
    "skip_test": "Remove it: testing is a run of its own, run_type='benchmark'.",
    "test_interval": "Use eval_every.",
    "start_from_test_ckpt": "Use from_checkpoint.",
    "weight_decay": "Remove it: the meta-optimizer is optax's AdamW.",
    "meta_optimizer": "Remove it: the meta-optimizer is AdamW.",
    "es_std": "Use perturbation_std.",
    "use_es": "Use estimator.",
    "gradient_estimator": "Use estimator.",
    "global_learning_rate": "Use learning_rate.",
    "number_clients": "Use num_clients.",
    "participation_rate": "Use num_grads (K) out of num_clients (C).",
    "use_adamw": "Remove it: the meta-optimizer is AdamW.",
}

SCHEDULE: dict[str, Kind] = {
    "init_value": non_negative(3e-10),
    "peak_value": positive(3e-3),
    "end_value": non_negative(1e-3),
    "warmup_steps": whole(0, such_as=100),
    "decay_steps": whole(1, such_as=4900),
    "exponent": positive(1.0),
    "clip": optional(positive(1.0)),
}
"""The keys of `schedule`."""

DEFAULT_SCHEDULE = {
    "init_value": 3e-10,
    "peak_value": 3e-3,
    "end_value": 1e-3,
    "warmup_steps": 100,
    "decay_steps": 4900,
    "exponent": 1.0,
    "clip": None,
}


def _optimizers():
    from learned_aggregation.aggregators import AGGREGATORS

    return AGGREGATORS


def _local_optimizers():
    from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS

    return LOCAL_OPTIMIZERS


def _estimators():
    from learned_aggregation.meta_training.estimators import ESTIMATORS

    return ESTIMATORS


def _partitions():
    from learned_aggregation.data.partitions import PARTITIONS

    return PARTITIONS


def _objectives():
    from learned_aggregation.tasks.objectives import OBJECTIVES

    return OBJECTIVES


def _trackers():
    from learned_aggregation.runs.trackers import TRACKERS

    return TRACKERS


def _check_task_name(where: str, value: str) -> str:
    from learned_aggregation.tasks.names import expand_task, parse_task_name

    try:
        for task in expand_task(value):
            parse_task_name(task)
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix('task: ')}") from None
    return value


def _check_tasks(where: str, value: Any) -> str | tuple[str, ...]:
    kind = names(_check_task_name, what="a task name or several", such_as="mlp32_digits_8")
    checked = kind.check(where, value)
    if not checked:
        refuse(where, "a task name or several", value, "Name a task such as 'mlp32_digits_8'.")
    return checked[0] if len(checked) == 1 else checked


def _check_trackers(where: str, value: Any) -> tuple[str, ...]:
    kind = names(choice(_trackers).check, what="names of trackers", such_as="wandb")
    return tuple(name for name in kind.check(where, () if value is None else value) if name != "csv")


def _check_augment(where: str, value: Any) -> tuple[str, ...]:
    from learned_aggregation.data.augment import AUGMENTATIONS

    kind = names(choice(lambda: AUGMENTATIONS).check, what="names of augmentations", such_as="crop,flip")
    return kind.check(where, () if value is None else value)


def _check_permute(where: str, value: Any) -> tuple[str, ...]:
    from learned_aggregation.problems.task_augmentation import PERMUTED

    kind = names(choice(lambda: PERMUTED).check, what="names of what is permuted", such_as="inputs,labels")
    return kind.check(where, () if value is None else value)


def _check_schedule(where: str, value: Any) -> dict[str, Any]:
    given = mapping(where, value, "dict(peak_value=3e-3, decay_steps=4900)")
    for key in given:
        if key not in SCHEDULE:
            unknown(where, key, SCHEDULE, REPLACED.get(key, ""))
    schedule = {
        key: SCHEDULE[key].check(f"{where}.{key}", given.get(key, default))
        for key, default in DEFAULT_SCHEDULE.items()
    }
    if schedule["decay_steps"] <= schedule["warmup_steps"]:
        refuse(
            f"{where}.decay_steps",
            f"more than the {schedule['warmup_steps']} warmup_steps, which it includes",
            schedule["decay_steps"],
            "Raise decay_steps or lower warmup_steps.",
        )
    return schedule


def _check_sweep_config(where: str, value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        found = load_file(value, where).get("sweep_config")
        if not isinstance(found, dict):
            refuse(f"{value}: sweep_config", "a dict", found, "Name a file such as those in config/sweeps.")
        where, value = f"{value}: sweep_config", found
    return check_sweep(where, value, functools.partial(_check_among, SWEPT)) if value else None


def _check_entrants(where: str, value: Any) -> list[dict[str, Any]]:
    own = (*(name for name in SWEPT if name not in ("task", "objective")), "tune_by", "widen")
    return check_entrants(where, value, functools.partial(_check_among, own))


def _check_problems(where: str, value: Any) -> list[dict[str, Any]]:
    problems = check_problems(where, value, functools.partial(_check_among, PROBLEM))
    for i, problem in enumerate(problems):
        task = problem.get("task", "")
        if not isinstance(task, str) or len(_expanded(task)) > 1:
            refuse(f"{where}[{i}].task", "one task", task, "Give each task a problem of its own.")
    return problems


def _expanded(task: str) -> list[str]:
    from learned_aggregation.tasks.names import expand_task

    return list(expand_task(task)) if task else []


def setting(default: Any, kind: Kind, group: str, text: str, *, flag: bool = True) -> Any:
    """A field of Config: `kind` checks it, `text` is its help in the help's `group`."""
    metadata = {"default": default, "kind": kind, "group": group, "help": text, "flag": flag}
    return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)


RUN = "what to run"
RULE = "the aggregator"
INNER = "inner problem"
META = "meta-training"
TEST = "meta-testing"
SAVE = "checkpoints"
DATA = "data"
TRACK = "tracking"
MACHINE = "machine"


@dataclass(frozen=True)
class Config:
    """All settings of a run. Constructing one checks every value and raises a UserError for a bad one."""

    run_type: str = setting("meta-train", choice(lambda: RUN_TYPES), RUN, f"one of {', '.join(RUN_TYPES)}")
    optimizer: str = setting("fedlagg-adafac", choice(_optimizers), RUN, "the aggregator's name")
    task: str | tuple[str, ...] = setting(
        "mlp32_digits_8",
        Kind(_check_tasks, "NAME[,NAME]", literal=False),
        RUN,
        "task names such as mlp128x128_glyphs_28, or a mix; several train or test on all of them; see "
        "--list_tasks",
    )
    name: str | None = setting(
        None, optional(file_name("my-run")), RUN, "the run's name; None builds it from the settings"
    )
    name_suffix: str = setting("", file_name("_b", may_be_empty=True), RUN, "ends the built name")
    run_dir: str | None = setting(
        None, optional(path("runs/a")), RUN, "where the run's files go; None is runs/NAME"
    )
    seed: int = setting(0, whole(0, 0), RUN, "of everything random")

    hidden_size: int = setting(32, whole(1, 32), RULE, "width of a learned aggregator's network")
    learning_rate: float | None = setting(
        None, optional(positive(0.1)), RULE, "server rate of fedavgm, diloco, fedadam, ..., sgd, adam"
    )
    slowmo_learning_rate: float | None = setting(
        None, optional(positive(0.1)), RULE, "server rate of fedavg-slowmo"
    )
    beta: float = setting(0.9, fraction(0.9), RULE, "server momentum, in [0, 1)")
    base: str | None = setting(
        None,
        optional(choice(lambda: ("none", "mean", "momentum", "nesterov"))),
        RULE,
        "the classical rule that a learned aggregator corrects; None is the aggregator's own choice (momentum for "
        "fedlagg-set, none for the published ones)",
    )
    base_learning_rate: float | None = setting(
        None, optional(positive(1.0)), RULE, "server rate of the base; None is the aggregator's own"
    )
    base_momentum: float | None = setting(
        None, optional(fraction(0.5)), RULE, "momentum of the base, in [0, 1); None is the aggregator's own"
    )
    test_checkpoint: str | None = setting(
        None,
        optional(path("a.safetensors")),
        RULE,
        "theta of a learned aggregator to test: a path, or a pretrained one's name, whose card gives its options",
    )

    objective: str | None = setting(
        None, optional(choice(_objectives)), INNER, "what is learned from the data; None: by the data set's kind"
    )
    local_learning_rate: float = setting(0.5, positive(0.5), INNER, "the clients' rate, gamma")
    local_optimizer: str = setting("sgd", choice(_local_optimizers), INNER, "the clients' optimizer")
    keep_local_state: bool = setting(
        False,
        switch(),
        INNER,
        "clients keep their optimizer's state over rounds, as DiLoCo's do; all must take part",
    )
    parametrization: str = setting(
        "standard",
        choice(lambda: ("standard", "mup")),
        INNER,
        "of the model and its rates: mup makes one aggregator and one set of rates fit every width (mlp, conv)",
    )
    mup_base_width: int = setting(
        32, whole(1, 32), INNER, "with mup: the layers' width at which it is the standard parametrization"
    )
    local_batch_size: int = setting(128, whole(1, 128), INNER, "B, examples of a local step")
    num_grads: int = setting(8, whole(1, 8), INNER, "K, clients of a round")
    num_local_steps: int = setting(4, whole(1, 4), INNER, "H, local steps of a round")
    num_inner_steps: int = setting(
        1000, whole(1, 1000), INNER, "rounds: of the longest episode when meta-training, else of each run"
    )
    partition: str = setting(
        "shared", choice(_partitions), INNER, "how the examples are divided over clients"
    )
    num_clients: int | None = setting(
        None, optional(whole(1, 100)), INNER, "C, the clients that K are drawn from; None is K"
    )
    partition_alpha: float = setting(0.1, positive(0.1), INNER, "concentration of the dirichlet partition")
    classes_per_client: int = setting(2, whole(1, 2), INNER, "of the shards partition")
    dropout: float = setting(0.0, fraction(0.1), INNER, "probability that a client drops out of a round")

    num_outer_steps: int = setting(5000, whole(1, 5000), META, "updates of theta")
    num_tasks: int = setting(8, whole(1, 8), META, "T, inner problems trained in parallel")
    truncation_length: int = setting(50, whole(1, 50), META, "L, rounds of a window")
    truncation_schedule_min_length: int = setting(100, whole(1, 100), META, "rounds of the shortest episode")
    episode_growth_steps: int = setting(
        0,
        whole(0, 1000),
        META,
        "outer steps over which the longest episode grows from the shortest to num_inner_steps, by a constant "
        "factor a step; 0: it is that long from the start",
    )
    problems: Sequence[Mapping[str, Any]] = setting(
        [],
        Kind(_check_problems, "LIST"),
        META,
        "a mixture of inner problems to meta-train on, each with num_tasks copies: a label and settings that "
        "differ from the run's own; [] is one for each task",
        flag=False,
    )
    problem_clip: float | None = setting(
        None,
        optional(positive(1.0)),
        META,
        "bounds the global norm of each problem's meta-gradient before their mean; far below the norms (1e-3), all "
        "problems weigh alike",
    )
    problem_reject: float | None = setting(
        None,
        optional(positive(1e3)),
        META,
        "a problem whose meta-gradient has this global norm or more counts as zero in the mean: it has exploded",
    )
    local_learning_rate_range: tuple[float, float] | None = setting(
        None,
        optional(interval((0.1, 1.0))),
        META,
        "each episode draws its clients' rate from here, log-uniformly; None: local_learning_rate",
    )
    weight_scale_range: tuple[float, float] | None = setting(
        None,
        optional(interval((0.3, 3.0))),
        META,
        "each episode draws a factor for each tensor of the model from here, log-uniformly, and trains the weights "
        "in units of it, which changes the tensors' rates; None: no factors",
    )
    permute: tuple[str, ...] = setting(
        (),
        Kind(_check_permute, "NAME[,NAME]", literal=False),
        META,
        "what each episode permutes: inputs (the pixels of images), labels",
    )
    meta_valid_every: int = setting(
        0,
        whole(0, 100),
        META,
        "outer steps between scores of theta on held-out problems; the best theta is kept as best.safetensors; 0: none",
    )
    meta_valid_problems: Sequence[Mapping[str, Any]] = setting(
        [],
        Kind(_check_problems, "LIST"),
        META,
        "the held-out problems, written as problems are; [] is those of meta-training; measured on outer_valid "
        "unless one gives its meta_loss_split",
        flag=False,
    )
    meta_valid_rounds: int = setting(
        100,
        whole(1, 100),
        META,
        "rounds of a validation's episodes; a score is the mean loss over all of them",
    )
    meta_valid_seeds: int = setting(
        8, whole(1, 8), META, "episodes of each held-out problem, the same every time"
    )
    meta_valid_patience: int = setting(
        0, whole(0, 10), META, "validations without a better theta that end the run; 0: none do"
    )
    estimator: str = setting("pes", choice(_estimators), META, "of the meta-gradient")
    perturbation_std: float = setting(
        0.01, positive(0.01), META, "standard deviation of theta's perturbations"
    )
    perturbation_std_end: float | None = setting(
        None,
        optional(positive(0.001)),
        META,
        "what perturbation_std moves to by a constant factor a step, within schedule.decay_steps; None: it stays",
    )
    meta_loss_split: str | None = setting(
        None,
        optional(choice(lambda: META_LOSS_SPLITS)),
        META,
        f"where the meta-loss is measured, after a round: {', '.join(META_LOSS_SPLITS)}; None: in training",
    )
    schedule: Mapping[str, Any] = setting(
        DEFAULT_SCHEDULE,
        Kind(_check_schedule, "DICT"),
        META,
        "meta-learning rate: linear warm-up, cosine decay; decay_steps includes the warm-up, clip bounds the "
        "gradient's global norm",
        flag=False,
    )
    tasks_per_chunk: int | None = setting(
        None,
        optional(whole(1, 2)),
        META,
        "inner problems held in memory at once; None is all, but 1 for large models on a CPU, where it is faster",
    )

    num_runs: int = setting(10, whole(1, 10), TEST, "seeds of a benchmark, of a sweep's point, of an entrant")
    eval_every: int | None = setting(
        None, optional(whole(1, 10)), TEST, "rounds between evaluations; None is about 50 evaluations a run"
    )
    eval_examples: int | None = setting(
        None,
        optional(whole(1, 10000)),
        TEST,
        "examples of a split that are evaluated, the same in every run; None: all",
    )
    eval_chunk: int = setting(1000, whole(1, 1000), TEST, "examples evaluated at once")
    sweep_config: Mapping[str, Any] | None = setting(
        None,
        Kind(_check_sweep_config, "PATH", literal=False),
        TEST,
        "a sweep in wandb's format, or the path of a config that has one",
    )
    sweep_engine: str = setting("local", choice(lambda: ("local", "wandb")), TEST, "what runs a sweep")
    sweep_id: str | None = setting(
        None, optional(file_name("ab12cd34")), TEST, "a sweep on a wandb server to join instead of making one"
    )
    tune_by: str = setting(
        "last",
        choice(lambda: ("last", "mean")),
        TEST,
        "what an entrant's tuning minimises on outer_valid: the last loss, or the mean over all evaluations",
    )
    widen: int = setting(
        0,
        whole(0, 3),
        TEST,
        "how many times an entrant's grid grows by a value beyond an edge that its best point lies on",
    )
    entrants: Sequence[Mapping[str, Any]] = setting(
        [], Kind(_check_entrants, "LIST"), TEST, "who is compared", flag=False
    )

    checkpoints_dir: str = setting("checkpoints", path("checkpoints"), SAVE, "where checkpoints go")
    save_iter: int = setting(1000, whole(1, 1000), SAVE, "outer steps between checkpoints")
    checkpoints_to_keep: int = setting(10, whole(1, 10), SAVE, "the newest ones that are kept")
    from_checkpoint: bool = setting(False, switch(), SAVE, "resume from the latest checkpoint")
    auto_resume: bool = setting(False, switch(), SAVE, "resume if there is a checkpoint, else start")

    stream: bool | None = setting(
        None,
        optional(switch()),
        DATA,
        "read the data in windows while the device works; None: where a split is above device_data_mb",
    )
    device_data_mb: int = setting(
        4096, whole(1, 4096), DATA, "megabytes that a split, or its windows, may take on a device"
    )
    stream_window: int = setting(
        4096, whole(1, 4096), DATA, "examples of each client in a window of a stream"
    )
    stream_fresh: int = setting(
        1024, whole(1, 1024), DATA, "how many of them are new at each outer step, or each evaluation"
    )
    stream_threads: int = setting(2, whole(1, 2), DATA, "threads that read ahead; they change no result")
    augment: tuple[str, ...] = setting(
        (),
        Kind(_check_augment, "NAME[,NAME]", literal=False),
        DATA,
        "of training images, while they are read: crop, flip",
    )
    tfds_data_dir: str | None = setting(
        None, optional(path("data")), DATA, "where TFDS data lies; None is TFDS's default"
    )
    tfds_download: bool = setting(False, switch(), DATA, "let TFDS fetch what is missing")
    cache_dir: str | None = setting(
        None,
        optional(path("cache")),
        DATA,
        "where generated data and compiled programs are kept; None is the user's cache",
    )
    vocabulary: str | None = setting(
        None, optional(path("a.model")), DATA, "SentencePiece model that lm1b is read with; None is bytes"
    )

    tracker: tuple[str, ...] = setting(
        (), Kind(_check_trackers, "NAME[,NAME]", literal=False), TRACK, "trackers besides metrics.csv: wandb"
    )
    log_every: int = setting(1, whole(1, 1), TRACK, "outer steps between rows of metrics")
    test_project: str = setting(
        "learned-aggregation", file_name("learned-aggregation"), TRACK, "the wandb project"
    )
    wandb_dir: str | None = setting(
        None, optional(path("wandb")), TRACK, "where wandb's files go; None is run_dir"
    )

    num_devices: int | None = setting(None, optional(whole(1, 1)), MACHINE, "devices to use; None is all")
    remat: bool = setting(
        False,
        switch(),
        MACHINE,
        "less memory for more time: gradients compute the activations of a model's blocks (resnet, vit, transformer) "
        "and of local steps again instead of keeping them",
    )
    compilation_cache: bool = setting(
        True, switch(), MACHINE, "keep compiled programs in cache_dir for the next run"
    )
    coordinator_address: str | None = setting(
        None,
        optional(path("10.0.0.1:1234")),
        MACHINE,
        "HOST:PORT of process 0 of a run of several processes; None takes JAX_COORDINATOR_ADDRESS, or SLURM's",
    )
    num_processes: int = setting(1, whole(1, 2), MACHINE, "processes of the run, with coordinator_address")
    process_id: int = setting(0, whole(0, 1), MACHINE, "which of them this one is, from 0")

    def __post_init__(self):
        for name, value in check_all(vars(self), lambda name: name).items():
            object.__setattr__(self, name, value)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task names, also where there is only one; mixes are expanded, and each task is there once."""
        from learned_aggregation.tasks.names import expand_task

        named = (self.task,) if isinstance(self.task, str) else self.task
        return tuple(dict.fromkeys(task for name in named for task in expand_task(name)))

    @property
    def inner_problems(self) -> "dict[str, Config]":
        """Of a meta-training run: label -> settings, of each of `problems`, else of each task."""
        given = self.problems or [{"label": task, "task": task} for task in self.tasks]
        return {each["label"]: dataclasses.replace(self, **_own(each)) for each in given}

    @property
    def valid_problems(self) -> "dict[str, Config]":
        """Of meta-validation: label -> settings, of each of `meta_valid_problems`, else of `inner_problems`."""
        if self.meta_valid_problems:
            given = [{"meta_loss_split": "outer_valid", **each} for each in self.meta_valid_problems]
            return {each["label"]: dataclasses.replace(self, **_own(each)) for each in given}
        problems = self.inner_problems.items()
        return {label: dataclasses.replace(own, meta_loss_split="outer_valid") for label, own in problems}


def _own(problem: Mapping[str, Any]) -> dict[str, Any]:
    """What a problem of a mixture changes in the settings of the run."""
    own = {name: value for name, value in problem.items() if name != "label"}
    return own | {"problems": [], "meta_valid_problems": []}


class Setting(NamedTuple):
    """One row of the table: see `setting`."""

    name: str
    default: Any
    kind: Kind
    group: str
    help: str
    flag: bool


SETTINGS = {f.name: Setting(f.name, **f.metadata) for f in dataclasses.fields(Config)}
SWEPT = tuple(
    s.name for s in SETTINGS.values() if s.group in (RULE, INNER) or s.name in ("optimizer", "task")
)
"""What may differ between the points of a sweep; an entrant may set these but for `task` and `objective`."""
PROBLEM = (
    *(s.name for s in SETTINGS.values() if s.group == INNER),
    *("task", "local_learning_rate_range", "weight_scale_range", "permute", "meta_loss_split"),
    *("truncation_length", "truncation_schedule_min_length", "episode_growth_steps"),
)
"""What may differ between the inner problems of a mixture."""


def _check_among(allowed: Sequence[str], where: str, name: str, value: Any) -> Any:
    if name not in allowed:
        refuse(where, "a setting that may vary here", name, advice(name, allowed))
    return SETTINGS[name].kind.check(where, value)


def advice(name: str, known: Sequence[str], prefix: str = "") -> str:
    """What to do about a setting that is not among `known`; `prefix` goes before each of them."""
    close = nearest(prefix + name, [prefix + each for each in known]).strip()
    return REPLACED.get(name) or close or "--help lists them all."


def check_all(values: Mapping[str, Any], where: Callable[[str], str]) -> dict[str, Any]:
    """The values, each as its kind stores it, after the checks of settings that depend on each other."""
    checked = {name: SETTINGS[name].kind.check(where(name), value) for name, value in values.items()}
    _check_sizes(checked, where)
    _check_stream(checked, where)
    _check_run_type(checked, where)
    _check_objective(checked, where)
    for mixture in ("problems", "meta_valid_problems"):
        for i, problem in enumerate(checked[mixture]):
            check_all(checked | _own(problem), lambda name, mix=mixture, i=i: f"{where(mix)}[{i}].{name}")
    return checked


def _check_sizes(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    longest = values["num_inner_steps"]
    if values["run_type"] == "meta-train":
        for name in ("truncation_schedule_min_length", "truncation_length"):
            if values[name] > longest:
                remedy = f"Lower {name} or raise num_inner_steps."
                refuse(where(name), f"at most num_inner_steps, {longest}", values[name], remedy)
    if values["num_clients"] is not None and values["num_clients"] < values["num_grads"]:
        expected = f"at least num_grads, {values['num_grads']}"
        refuse(where("num_clients"), expected, values["num_clients"], "Raise num_clients or lower num_grads.")
    sampled = values["num_clients"] not in (None, values["num_grads"])
    if values["keep_local_state"] and (
        sampled or (values["partition"] == "natural" and not values["num_clients"])
    ):
        expected = f"num_clients = num_grads, {values['num_grads']}, with keep_local_state"
        refuse(
            where("num_clients"), expected, values["num_clients"], "Clients that come and go keep no state."
        )
    trains = values["run_type"] == "meta-train"  # a meta-test's chunks are of its seeds and points
    if trains and values["tasks_per_chunk"] is not None and values["num_tasks"] % values["tasks_per_chunk"]:
        expected = f"a divisor of num_tasks, {values['num_tasks']}"
        refuse(where("tasks_per_chunk"), expected, values["tasks_per_chunk"], "Choose a divisor.")


def _check_stream(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    if values["stream_fresh"] > values["stream_window"]:
        remedy = "Lower stream_fresh or raise stream_window."
        expected = f"at most stream_window, {values['stream_window']}"
        refuse(where("stream_fresh"), expected, values["stream_fresh"], remedy)
    if values["augment"] and values["stream"] is False:
        remedy = "Leave stream out: images are augmented while they are read."
        refuse(where("stream"), "True or None with augment", False, remedy)


def _check_objective(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """It must read every task's data; where a mixture or a sweep names the tasks, these are checked there."""
    swept = (values["sweep_config"] or {}).get("parameters", {})
    if values["objective"] is None or values["problems"] or {"task", "objective"} & swept.keys():
        return
    from learned_aggregation.tasks.names import expand_task, parse_task_name
    from learned_aggregation.tasks.objectives import objective_name

    named = (values["task"],) if isinstance(values["task"], str) else values["task"]
    for task in (task for name in named for task in expand_task(name)):
        objective_name(parse_task_name(task).dataset, values["objective"], where("objective"))


def _check_run_type(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """A sweep needs a sweep_config and a comparison entrants; with another run_type they would go unused."""
    for run_type, name in (("sweep", "sweep_config"), ("compare", "entrants")):
        if values["run_type"] == run_type and not values[name]:
            refuse(where("run_type"), f"{name} with run_type {run_type!r}", values[name], f"Give {name}.")
        if values["run_type"] != run_type and values[name]:
            remedy = f"Add --run_type {run_type}, or leave {name} out."
            refuse(where(name), f"run_type {run_type!r} with {name}", values["run_type"], remedy)
