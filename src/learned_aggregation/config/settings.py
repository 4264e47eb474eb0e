"""Config: the one table of settings. Names, defaults, checks, help and flags come from its fields."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from learned_aggregation.config.cross_checks import check_together
from learned_aggregation.config.feda2v_options import check_feda2v
from learned_aggregation.config.kinds import (
    Check,
    Kind,
    choice,
    file_name,
    fraction,
    interval,
    optional,
    path,
    positive,
    refuse,
    switch,
    whole,
)
from learned_aggregation.config.outside import check_custom_imports, check_datasets
from learned_aggregation.config.part_options import (
    OPTION_SETTINGS,
    check_freezing,
    check_option,
    check_options,
    check_parts,
    check_server_compressor,
    compressors,
    merged,
)
from learned_aggregation.config.registered import (
    check_augment,
    check_permute,
    check_probe_names,
    check_tasks,
    check_trackers,
    estimators,
    local_optimizers,
    objectives,
    optimizers,
    partitions,
)
from learned_aggregation.config.replaced import advice
from learned_aggregation.config.schedule import DEFAULT_SCHEDULE, check_schedule
from learned_aggregation.config.siammae_options import check_siammae
from learned_aggregation.config.split_options import check_split
from learned_aggregation.config.sweep_config import (
    CheckSetting,
    check_entrants,
    check_problems,
    check_sweep_config,
)

RUN_TYPES = ("meta-train", "benchmark", "sweep", "compare", "split", "siammae", "feda2v")
META_LOSS_SPLITS = ("same_data", "train", "inner_valid", "outer_valid", "test")


def setting(default: Any, kind: Kind, group: str, text: str, *, flag: bool = True) -> Any:
    """A field of Config: `kind` checks it, `text` is its help in the help's `group`."""
    metadata = {"default": default, "kind": kind, "group": group, "help": text, "flag": flag}
    return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)


def _varying(check: Callable[[str, Any, CheckSetting], Any], settings: Callable[[], Sequence[str]]) -> Check:
    """A check of settings within a setting: only `settings()`, known once the table is there, may vary in it."""
    return lambda where, value: check(where, value, functools.partial(_check_among, settings()))


RUN = "what to run"
RULE = "the aggregator"
INNER = "inner problem"
SPLIT = "split learning"
VIDEOS = "videos"
FEDA2V = "generators on clients"
META = "meta-training"
TEST = "meta-testing"
SAVE = "checkpoints"
DATA = "data"
TRACK = "tracking"
MACHINE = "machine"


@dataclass(frozen=True)
class Config:
    """All settings of a run. Constructing one checks every value and raises a UserError for a bad one."""

    custom_imports: Mapping[str, Any] = setting(
        {},
        Kind(check_custom_imports, "MODULE[,MODULE]", literal=False),
        RUN,
        "modules to import first, which register what is yours: dict(imports=['my_rules'])",
    )
    run_type: str = setting("meta-train", choice(lambda: RUN_TYPES), RUN, f"one of {', '.join(RUN_TYPES)}")
    optimizer: str = setting("fedlagg-adafac", choice(optimizers), RUN, "the aggregator's name")
    task: str | tuple[str, ...] = setting(
        "mlp32_digits_8",
        Kind(check_tasks, "NAME[,NAME]", literal=False),
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

    hidden_size: int = setting(32, whole(1, 32, 10_000), RULE, "width of a learned aggregator's network")
    learning_rate: float | None = setting(
        None, optional(positive(0.1)), RULE, "server rate of fedavgm, diloco, fedadam, ..., sgd, adam"
    )
    slowmo_learning_rate: float | None = setting(
        None, optional(positive(0.1)), RULE, "server rate of fedavg-slowmo"
    )
    beta: float = setting(0.9, fraction(0.9), RULE, "server momentum, in [0, 1)")
    base: str | None = setting(
        None,
        optional(choice(lambda: ("none", "mean", "momentum", "nesterov", "bank"))),
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
    rule_options: Mapping[str, Any] = setting(
        {},
        Kind(check_options, "DICT"),
        RULE,
        "any options of the aggregator, such as dict(beta1=0.9, tau=0.01) of fedadam; they go before the flags of "
        "the same name",
        flag=False,
    )
    test_checkpoint: str | None = setting(
        None,
        optional(path("a.safetensors")),
        RULE,
        "theta of a learned aggregator to test: a path, or a pretrained one's name, whose card gives its options",
    )

    objective: str | None = setting(
        None,
        optional(choice(objectives)),
        INNER,
        "what is learned from the data; None: by the data set's kind",
    )
    objective_options: Mapping[str, Any] = setting(
        {},
        Kind(check_options, "DICT"),
        INNER,
        "options of the objective, such as dict(mask_ratio=0.75, target='hog') of localmim; see docs/ssl.md",
        flag=False,
    )
    local_learning_rate: float = setting(0.5, positive(0.5), INNER, "the clients' rate, gamma")
    local_optimizer: str = setting("sgd", choice(local_optimizers), INNER, "the clients' optimizer")
    accum_iter: int = setting(
        1,
        whole(1, 2),
        INNER,
        "local steps whose mean gradient is one step of the clients' optimizer; in between nothing moves",
    )
    keep_local_state: bool = setting(
        False,
        switch(),
        INNER,
        "clients keep their optimizer's state over the rounds that they take part in, as DiLoCo's do",
    )
    compressor: str = setting(
        "none",
        choice(compressors),
        INNER,
        "what each client's delta is compressed by on its way to the server",
    )
    compressor_options: Mapping[str, Any] = setting(
        {},
        Kind(check_options, "DICT"),
        INNER,
        "options of the compressor, such as dict(fraction=0.01, error_feedback='ef14') of topk",
        flag=False,
    )
    server_compressor: Mapping[str, Any] = setting(
        {"type": "none"},
        Kind(check_server_compressor, "NAME", literal=False),
        INNER,
        "what the server's step is compressed by on its way to the clients: a name or dict(type='qsgd', bits=8)",
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
    freezing: Mapping[str, Any] = setting(
        {},
        Kind(check_freezing, "DICT"),
        INNER,
        "of a run on a vision transformer: its layers freeze in turn, dict(t0=0.8, power='cubic'); {}: none",
        flag=False,
    )
    partition: str = setting("shared", choice(partitions), INNER, "how the examples are divided over clients")
    num_clients: int | None = setting(
        None, optional(whole(1, 100)), INNER, "C, the clients that K are drawn from; None is K"
    )
    partition_alpha: float = setting(0.1, positive(0.1), INNER, "concentration of the dirichlet partition")
    classes_per_client: int = setting(2, whole(1, 2), INNER, "of the shards partition")
    dropout: float = setting(0.0, fraction(0.1), INNER, "probability that a client drops out of a round")

    split: Mapping[str, Any] = setting(
        {},
        Kind(_varying(check_split, lambda: [n for n in SWEPT if n not in ("task", "objective")]), "DICT"),
        SPLIT,
        "of run_type split: where the model is cut, its bottleneck, the autoencoder's training; see docs/split.md",
        flag=False,
    )

    siammae: Mapping[str, Any] = setting(
        {},
        Kind(check_siammae, "DICT"),
        VIDEOS,
        "of run_type siammae: training in one place and the probe of propagated masks; see docs/siammae.md",
        flag=False,
    )

    feda2v: Mapping[str, Any] = setting(
        {},
        Kind(check_feda2v, "DICT"),
        FEDA2V,
        "of run_type feda2v: adapters and generators on clients, run 1 and run 2; see docs/generators.md",
        flag=False,
    )

    num_outer_steps: int = setting(5000, whole(1, 5000), META, "updates of theta")
    start_checkpoint: str | None = setting(
        None,
        optional(path("a.safetensors")),
        META,
        "theta to start meta-training from, of the same rule and options: a path, or a pretrained one's name; without "
        "one theta is drawn",
    )
    num_tasks: int = setting(8, whole(1, 8, 100_000), META, "T, inner problems trained in parallel")
    truncation_length: int = setting(50, whole(1, 50), META, "L, rounds of a window")
    truncation_schedule_min_length: int = setting(100, whole(1, 100), META, "rounds of the shortest episode")
    episode_growth_steps: int = setting(
        0,
        whole(0, 1000),
        META,
        "outer steps over which the longest episode grows from the shortest to num_inner_steps, by a constant "
        "factor per step; 0: it is that long from the start",
    )
    problems: Sequence[Mapping[str, Any]] = setting(
        [],
        Kind(_varying(check_problems, lambda: PROBLEM), "LIST"),
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
        Kind(check_permute, "NAME[,NAME]", literal=False),
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
        Kind(_varying(check_problems, lambda: PROBLEM), "LIST"),
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
        8, whole(1, 8, 100_000), META, "episodes of each held-out problem, the same every time"
    )
    meta_valid_patience: int = setting(
        0, whole(0, 10), META, "validations without a better theta that end the run; 0: none do"
    )
    estimator: str = setting("pes", choice(estimators), META, "of the meta-gradient")
    perturbation_std: float = setting(
        0.01, positive(0.01), META, "standard deviation of theta's perturbations"
    )
    perturbation_std_end: float | None = setting(
        None,
        optional(positive(0.001)),
        META,
        "what perturbation_std moves to by a constant factor per step, within schedule.decay_steps; None: it stays",
    )
    meta_loss_split: str | None = setting(
        None,
        optional(choice(lambda: META_LOSS_SPLITS)),
        META,
        f"where the meta-loss is measured, after a round: {', '.join(META_LOSS_SPLITS)}; None: in training",
    )
    schedule: Mapping[str, Any] = setting(
        DEFAULT_SCHEDULE,
        Kind(check_schedule, "DICT"),
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

    num_runs: int = setting(
        10, whole(1, 10, 100_000), TEST, "seeds of a benchmark, of a sweep's point, of a comparison's method"
    )
    eval_every: int | None = setting(
        None, optional(whole(1, 10)), TEST, "rounds between evaluations; None is about 50 evaluations per run"
    )
    eval_examples: int | None = setting(
        None,
        optional(whole(1, 10000)),
        TEST,
        "examples of a split that are evaluated, the same in every run; None: all",
    )
    probes: tuple[str, ...] = setting(
        (),
        Kind(check_probe_names, "NAME[,NAME]", literal=False),
        TEST,
        "what is learned from an encoder's features, before and after a run: linear50, knn, ...; see docs/ssl.md",
    )
    probe_every: int | None = setting(
        None,
        optional(whole(1, 100)),
        TEST,
        "rounds between probes, where an evaluation is; None: at both ends",
    )
    probe_examples: int | None = setting(
        None,
        optional(whole(1, 5000)),
        TEST,
        "training examples whose labels probes may learn from; None: all",
    )
    eval_chunk: int = setting(1000, whole(1, 1000), TEST, "examples evaluated at once")
    sweep_config: Mapping[str, Any] | None = setting(
        None,
        Kind(_varying(check_sweep_config, lambda: SWEPT), "PATH", literal=False),
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
        "what a method's tuning minimises on outer_valid: the last loss, or the mean over all evaluations",
    )
    widen: int = setting(
        0,
        whole(0, 3),
        TEST,
        "how many times a method's grid grows by a value beyond an edge that its best point lies on",
    )
    tuning_seeds: int = setting(3, whole(1, 3), TEST, "seeds that a method of a comparison is tuned with")
    curves_dir: str | None = setting(
        None,
        optional(path("runs/curves")),
        TEST,
        "where a comparison keeps its runs' curves and takes those that are there: one that was killed, or has another "
        "method now, runs what is missing; None: nowhere",
    )
    entrants: Sequence[Mapping[str, Any]] = setting(
        [], Kind(_varying(check_entrants, lambda: METHOD), "LIST"), TEST, "who is compared", flag=False
    )

    checkpoints_dir: str = setting("checkpoints", path("checkpoints"), SAVE, "where checkpoints go")
    save_iter: int = setting(1000, whole(1, 1000), SAVE, "outer steps between checkpoints")
    checkpoints_to_keep: int = setting(10, whole(1, 10), SAVE, "the newest ones that are kept")
    from_checkpoint: bool = setting(False, switch(), SAVE, "resume from the latest checkpoint")
    auto_resume: bool = setting(
        False,
        switch(),
        SAVE,
        "resume if there is a checkpoint, else start; of a benchmark too, which keeps checkpoints only with it",
    )

    datasets: Mapping[str, Any] = setting(
        {},
        Kind(check_datasets, "DICT"),
        DATA,
        "data sets of yours by name: dict(mine=dict(type='npz', path='mine.npz', clients='writer')); then "
        "task='mlp64x64_mine_28'",
        flag=False,
    )
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
        Kind(check_augment, "NAME[,NAME]", literal=False),
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
    text_file: str | None = setting(
        None, optional(path("a.txt")), DATA, "the text that textfile is read from"
    )
    fsdd_file: str | None = setting(
        None, optional(path("a.npz")), DATA, "the spoken digits that fsdd is read from"
    )

    tracker: tuple[str, ...] = setting(
        (), Kind(check_trackers, "NAME[,NAME]", literal=False), TRACK, "trackers besides metrics.csv: wandb"
    )
    log_every: int = setting(1, whole(1, 1), TRACK, "outer steps between rows of metrics")
    test_project: str = setting(
        "learned-aggregation", file_name("learned-aggregation"), TRACK, "the wandb project"
    )
    wandb_dir: str | None = setting(
        None, optional(path("wandb")), TRACK, "where wandb's files go; None is run_dir"
    )

    num_devices: int | None = setting(
        None, optional(whole(1, 1, 1024)), MACHINE, "devices to use; None is all"
    )
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
    jax_disable_jit: bool = setting(
        False,
        switch(),
        MACHINE,
        "run operation by operation, so that prints and breakpoints see values; very slow",
    )
    jax_debug_nans: bool = setting(
        False, switch(), MACHINE, "stop with an error at the operation that first makes a NaN; slow"
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

    def changed(self, point: Mapping[str, Any]) -> "Config":
        """The config with a point's settings, dotted names (rule_options.tau) included."""
        return dataclasses.replace(self, **merged(vars(self), point))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task names, also where there is only one; mixes are expanded, and each task is there once."""
        from learned_aggregation.tasks.names import expand_task

        named = (self.task,) if isinstance(self.task, str) else self.task
        return tuple(dict.fromkeys(task for name in named for task in expand_task(name)))

    @property
    def inner_problems(self) -> "dict[str, Config]":
        """Of a meta-training run: label -> settings, of each of `problems`, else of each task."""
        problems = self.problems or [{"label": task, "task": task} for task in self.tasks]
        return {problem["label"]: dataclasses.replace(self, **_changes(problem)) for problem in problems}

    @property
    def valid_problems(self) -> "dict[str, Config]":
        """Of meta-validation: label -> settings, of each of `meta_valid_problems`, else of `inner_problems`."""
        if self.meta_valid_problems:
            problems = [{"meta_loss_split": "outer_valid", **problem} for problem in self.meta_valid_problems]
            return {problem["label"]: dataclasses.replace(self, **_changes(problem)) for problem in problems}
        trained = self.inner_problems.items()
        return {
            label: dataclasses.replace(config, meta_loss_split="outer_valid") for label, config in trained
        }


def _changes(problem: Mapping[str, Any]) -> dict[str, Any]:
    """What a problem of a mixture changes in the settings of the run."""
    changes = {name: value for name, value in problem.items() if name != "label"}
    return changes | {"problems": [], "meta_valid_problems": []}


class Setting(NamedTuple):
    """One row of the table: see `setting`."""

    name: str
    default: Any
    kind: Kind
    group: str
    help: str
    flag: bool


SETTINGS: dict[str, Setting] = {f.name: Setting(f.name, **f.metadata) for f in dataclasses.fields(Config)}
SWEPT: tuple[str, ...] = tuple(
    s.name for s in SETTINGS.values() if s.group in (RULE, INNER) or s.name in ("optimizer", "task")
)
"""What may differ between the points of a sweep."""
METHOD: tuple[str, ...] = (
    *(name for name in SWEPT if name not in ("task", "objective")),
    *("tune_by", "widen"),
)
"""What may differ between the methods (`entrants`) of a comparison."""
PROBLEM: tuple[str, ...] = (
    *(s.name for s in SETTINGS.values() if s.group == INNER),
    *("task", "local_learning_rate_range", "weight_scale_range", "permute", "meta_loss_split"),
    *("truncation_length", "truncation_schedule_min_length", "episode_growth_steps"),
)
"""What may differ between the inner problems of a mixture."""


def _check_among(allowed: Sequence[str], where: str, name: str, value: Any) -> Any:
    setting, dot, _ = name.partition(".")
    if dot and setting in allowed and setting in OPTION_SETTINGS:
        return check_option(where, value)
    if name not in allowed:
        refuse(where, "a setting that may vary here", name, advice(name, allowed))
    return SETTINGS[name].kind.check(where, value)


def check_point(where: str, point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of a sweep that comes from elsewhere: only settings that may be swept, each as its kind stores it.

    Raises:
      UserError: any other setting (where a run writes, what it uploads), or a value out of its range.
    """
    return {name: _check_among(SWEPT, f"{where}: {name}", name, value) for name, value in point.items()}


def check_all(values: Mapping[str, Any], where: Callable[[str], str]) -> dict[str, Any]:
    """The values, each as its kind stores it, after the checks of settings that depend on each other."""
    names = sorted(
        values, key=lambda name: name != "custom_imports"
    )  # what these register is looked up by the others
    found = {name: SETTINGS[name].kind.check(where(name), values[name]) for name in names}
    checked = {name: found[name] for name in values}
    check_together(checked, where)
    check_parts(checked, where)
    for mixture in ("problems", "meta_valid_problems"):
        for i, problem in enumerate(checked[mixture]):
            check_all(checked | _changes(problem), lambda name, mix=mixture, i=i: f"{where(mix)}[{i}].{name}")
    return checked
