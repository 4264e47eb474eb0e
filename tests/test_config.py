"""Settings: precedence, checks, the published commands, config files, the round trip to a file."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learned_aggregation.config import resolve as config_module
from learned_aggregation.config.resolve import Config, config_text, load_config, meta_train_name, run_dir
from learned_aggregation.config.settings import META_LOSS_SPLITS, RUN_TYPES, SETTINGS
from learned_aggregation.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(p for p in (ROOT / "config").glob("*/*.py") if p.parent.name != "_base_")
PAPER = "config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py"


@pytest.fixture
def write(tmp_path):
    def write_config(text, name="a.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_config


def refusal(argv):
    """The one line that refuses `argv`."""
    with pytest.raises(UserError) as caught:
        load_config(argv)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


@pytest.mark.parametrize("task", [None, "mlp128x128_glyphs_28"])
@pytest.mark.parametrize("steps", [4, 8, 16])
def test_the_documented_commands(monkeypatch, steps, task):
    monkeypatch.chdir(ROOT)
    flags = f"--num_local_steps {steps} --num_grads 8 --optimizer fedlagg-adafac --local_learning_rate 0.5"
    config = load_config(["--config", PAPER, *flags.split(), *(["--task", task] if task else [])])
    task = task or "image-mlp-fmst"
    assert (config.run_type, config.task, config.num_local_steps) == ("meta-train", task, steps)
    assert (config.num_tasks, config.truncation_length, config.perturbation_std) == (8, 50, 0.01)
    assert (config.truncation_schedule_min_length, config.num_inner_steps) == (100, 1000)
    assert (config.num_outer_steps, config.local_batch_size) == (10000, 128)
    assert config.schedule == {
        "init_value": 3e-10,
        "peak_value": 3e-3,
        "end_value": 1e-3,
        "warmup_steps": 100,
        "decay_steps": 10000,
        "exponent": 1.0,
        "clip": None,
    }
    assert meta_train_name(config) == f"fedlagg-adafac32_{task}_K8_H{steps}_0.5"


@pytest.mark.parametrize("file", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_config_file_loads_and_names_its_command(file):
    config = load_config(["--config", str(file)])
    expected = {
        "meta_train": ("meta-train",),
        "sweeps": ("sweep",),
        "meta_test": ("benchmark", "compare"),
        "results": ("compare",),
        "compression": ("compare",),
        "results_real": ("compare",),
        "split": ("split",),
        "ssl": ("benchmark", "compare", "meta-train", "siammae"),
    }
    assert config.run_type in expected[file.parent.name]
    header = "".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    for word in ("Source:", "Run:", "Expect:", f"--config {file.relative_to(ROOT)}"):
        assert word in header


def test_precedence_flags_options_file_defaults(write):
    file = write("num_grads = 3\nnum_local_steps = 5\nlocal_batch_size = 6\n")
    config = load_config(
        ["--config", file, "--cfg-options", "num_local_steps=7", "num_grads=9", "--num_grads", "11"]
    )
    assert (config.num_grads, config.num_local_steps, config.local_batch_size) == (11, 7, 6)
    assert config.hidden_size == SETTINGS["hidden_size"].default


RATES = """
optimizer = "fedavgm"
by_optimizer = {
    "fedavgm": dict(learning_rate=1, beta=0.7),
    "diloco": dict(learning_rate=0.7, local_optimizer="adamw", local_learning_rate=0.003),
    "fedlagg-set": dict(test_checkpoint="lagg-set"),
}
"""


def rates(file, *flags):
    config = load_config(["--config", file, *flags])
    return config.learning_rate, config.beta, config.local_optimizer, config.local_learning_rate


def test_an_optimizer_takes_its_row_whoever_names_it(write):
    file = write(RATES)
    assert rates(file) == (1.0, 0.7, "sgd", 0.5)
    assert rates(file, "--optimizer", "diloco") == (0.7, 0.9, "adamw", 0.003)
    assert rates(file, "--cfg-options", "optimizer=diloco") == (0.7, 0.9, "adamw", 0.003)
    assert rates(write("_base_ = 'a.py'\noptimizer = 'diloco'\n", "b.py")) == (0.7, 0.9, "adamw", 0.003)
    assert rates(file, "--optimizer", "fedavg") == (None, 0.9, "sgd", 0.5)


def test_a_row_is_below_what_is_set_for_all(write):
    file = write(RATES + "beta = 0.2\n")
    assert rates(file, "--learning_rate", "3") == (3.0, 0.2, "sgd", 0.5)
    assert rates(file, "--cfg-options", "learning_rate=2") == (2.0, 0.2, "sgd", 0.5)
    assert rates(file, "--cfg-options", "by_optimizer.fedavgm.learning_rate=5") == (5.0, 0.2, "sgd", 0.5)
    child = write("_base_ = 'a.py'\nby_optimizer = dict(fedavgm=dict(learning_rate=4.0))\n", "b.py")
    assert rates(child) == (4.0, 0.2, "sgd", 0.5)


def test_a_row_may_name_a_pretrained_aggregator_and_goes_over_its_options(write):
    file = write(RATES)
    config = load_config(["--config", file, "--optimizer", "fedlagg-set"])
    assert (config.test_checkpoint, config.base) == ("lagg-set", "mean")
    assert "by_optimizer" not in config_text(config)
    file = write("by_optimizer = {'fedlagg-set': dict(base='none')}\n")
    config = load_config(["--config", file, "--test_checkpoint", "lagg-set"])
    assert (config.optimizer, config.base) == ("fedlagg-set", "none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("by_optimizer = 3", "a.py: by_optimizer: expected a dict, got 3."),
        ("by_optimizer = dict(sgd=0.5)", "a.py: by_optimizer.sgd: expected a dict, got 0.5."),
        ("by_optimizer = dict(sdg=dict())", "got 'sdg'. Did you mean 'sgd'?"),
        ("by_optimizer = dict(sgd=dict(bete=0.5))", "by_optimizer.sgd: expected a setting that may depend"),
        ("by_optimizer = dict(sgd=dict(task='conv-c10'))", "got 'task'."),
        ("by_optimizer = dict(sgd=dict(num_runs=3))", "got 'num_runs'."),
        (
            "by_optimizer = dict(sgd=dict(beta=1))",
            "a.py: by_optimizer.sgd.beta: expected a number in [0, 1), got 1.",
        ),
        (
            "optimizer = 'sgd'; by_optimizer = dict(sgd=dict(num_clients=2))",
            "a.py: by_optimizer.sgd.num_clients: expected at least num_grads, 8, got 2.",
        ),
        ("optimizer = ['sgd']; by_optimizer = dict(sgd=dict())", "optimizer: expected one of"),
        ("by_optimiser = dict()", "got 'by_optimiser'. Did you mean 'by_optimizer'?"),
        (
            "run_type = 'compare'; entrants = [dict(label='A', optimizer='sgd')]; by_optimizer = dict(sgd=dict())",
            "a.py: by_optimizer: expected a run of one optimizer, got 'entrants'.",
        ),
        (
            "run_type = 'sweep'; by_optimizer = dict(sgd=dict())\n"
            "sweep_config = dict(method='grid', parameters=dict(optimizer=dict(values=['sgd', 'adam'])))",
            "a.py: by_optimizer: expected a run of one optimizer, got 'a sweep over optimizer'.",
        ),
    ],
)
def test_bad_rows(write, text, words):
    assert words in refusal(["--config", write(text)])


def test_rows_by_option_alone_name_the_option():
    argv = ["--cfg-options", "by_optimizer.sgd.beta=1"]
    assert "--cfg-options by_optimizer.sgd.beta: expected a number in [0, 1), got 1." in refusal(argv)


@pytest.mark.parametrize("name", ["from_checkpoint", "auto_resume", "tfds_download"])
def test_booleans(write, name):
    file = write(f"{name} = True\n")
    assert getattr(load_config(["--config", file]), name) is True
    assert getattr(load_config(["--config", file, "--seed", "1"]), name) is True
    assert getattr(load_config(["--config", file, f"--{name}", "False"]), name) is False
    assert getattr(load_config([f"--{name}"]), name) is True
    assert getattr(load_config([f"--{name}", "true", "--seed", "1"]), name) is True
    assert getattr(load_config(["--seed", "1"]), name) is False


def test_a_flag_at_its_default_still_overrides_the_file(write):
    assert load_config(["--config", write("num_grads = 3\n"), "--num_grads", "8"]).num_grads == 8


def test_options_reach_into_dicts_and_missing_schedule_keys_take_their_defaults(write):
    file = write("schedule = dict(peak_value=1e-2)\n")
    schedule = load_config(["--config", file, "--cfg-options", "schedule.clip=1"]).schedule
    assert schedule == SETTINGS["schedule"].default | {"peak_value": 1e-2, "clip": 1.0}


def test_base_files_and_a_colon_in_the_name(write):
    write("num_grads = 3\nschedule = dict(clip=2.0)\n", "base.py")
    file = write("_base_ = 'base.py'\nschedule = dict(peak_value=1)\n", "a_3e-3_d3:1.py")
    config = load_config(["--config", file])
    assert (config.num_grads, config.schedule["clip"], config.schedule["peak_value"]) == (3, 2.0, 1.0)


def test_names_with_an_underscore_are_the_files_own(write):
    assert load_config(["--config", write("_k = 3\nnum_grads = _k\n")]).num_grads == 3
    assert "got '_k'" in refusal(["--cfg-options", "_k=3"])


def test_whole_numbers_are_taken_for_floats_and_none_for_optional_ones():
    config = load_config(["--local_learning_rate", "1", "--learning_rate", "None", "--beta", "5e-1"])
    assert config.local_learning_rate == 1.0
    assert isinstance(config.local_learning_rate, float)
    assert (config.learning_rate, config.beta) == (None, 0.5)


def test_one_task_is_a_text_and_several_are_a_tuple(write):
    assert load_config(["--task", "mlp32_digits_8"]).tasks == ("mlp32_digits_8",)
    both = ("mlp32_digits_8", "conv-c10")
    file = write(f"task = {list(both)}\n")
    for config in (load_config(["--task", ",".join(both)]), load_config(["--config", file])):
        assert config.task == config.tasks == both
        assert meta_train_name(config) == "fedlagg-adafac32_mlp32_digits_8+conv-c10_K8_H4_0.5"


def test_trackers_besides_csv():
    assert load_config([]).tracker == ()
    assert load_config(["--tracker", "csv,wandb"]).tracker == ("wandb",)


def test_names_and_directories():
    config = Config(name_suffix="_d3:1")
    assert meta_train_name(config) == "fedlagg-adafac32_mlp32_digits_8_K8_H4_0.5_d3:1"
    assert run_dir(config) == Path("runs") / meta_train_name(config)
    benchmark = dataclasses.replace(config, run_type="benchmark")
    assert run_dir(benchmark) == Path("runs") / f"benchmark_{meta_train_name(config)}"
    assert meta_train_name(Config(name="mine")) == "mine"
    assert run_dir(Config(name="mine", run_type="benchmark")) == Path("runs/mine")
    assert run_dir(Config(name="mine", run_dir="here/it")) == Path("here/it")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--num_grads abc", "--num_grads: expected a whole number of at least 1, got 'abc'."),
        ("--num_grads 0", "--num_grads: expected a whole number of at least 1, got 0."),
        ("--num_grads 8.0", "--num_grads: expected a whole number of at least 1, got 8.0."),
        ("--num_grads 9999999999", "below 2^31, got 9999999999."),
        ("--num_grads None", "got None."),
        ("--local_batch_size -3", "--local_batch_size: expected a whole number of at least 1, got -3."),
        ("--local_learning_rate 0", "--local_learning_rate: expected a number above 0, got 0."),
        ("--learning_rate -0.1", "--learning_rate: expected a number above 0, got -0.1."),
        ("--local_learning_rate 1e999", "--local_learning_rate: expected a number above 0, got inf."),
        ("--beta 1", "--beta: expected a number in [0, 1), got 1."),
        ("--dropout 1.0", "--dropout: expected a number in [0, 1), got 1.0."),
        ("--seed -1", "--seed: expected a whole number of at least 0, got -1."),
        ("--from_checkpoint maybe", "--from_checkpoint: expected True or False, got 'maybe'."),
        ("--optimizer fedlag-adafac", "got 'fedlag-adafac'. Did you mean 'fedlagg-adafac'?"),
        ("--run_type metatrain", "got 'metatrain'. Did you mean 'meta-train'?"),
        ("--estimator pess", "got 'pess'. Did you mean 'pes'?"),
        ("--partition diriclet", "got 'diriclet'. Did you mean 'dirichlet'?"),
        ("--local_optimizer sdg", "--local_optimizer: expected one of sgd, "),
        ("--objective regresion", "got 'regresion'. Did you mean 'regression'?"),
        ("--objective regression", "--objective: expected one that reads the kind 'image' of the data set digits"),
        ("--tracker csv,wandbb", "got 'wandbb'. Did you mean 'wandb'?"),
        ("--meta_loss_split outer_vaild", "got 'outer_vaild'. Did you mean 'outer_valid'?"),
        ("--task mlp32_digit_8", "got 'digit'. Did you mean 'digits'?"),
        ("--task mlp32", "--task: expected model_dataset_size"),
        ("--task ,", "--task: expected a task name or several, got ','."),
        ("--task conv-c10,conv-c10", "each once"),
        ("--name a/b", "--name: expected a name of at most 200 bytes without slashes, got 'a/b'."),
        ("--name ..", "--name: expected a name"),
        ("--truncation_length 1001", "--truncation_length: expected at most num_inner_steps, 1000, got 1001."),
        ("--truncation_schedule_min_length 2000", "expected at most num_inner_steps, 1000, got 2000."),
        ("--num_clients 7", "--num_clients: expected at least num_grads, 8, got 7."),
        ("--tasks_per_chunk 3", "--tasks_per_chunk: expected a divisor of num_tasks, 8, got 3."),
        ("--run_type sweep", "--run_type: expected sweep_config with run_type 'sweep', got None."),
        ("--run_type compare", "expected entrants"),
        ("--num_grad 4", "command line: expected a flag that exists, got '--num_grad'. Did you mean '--num_grads'?"),
        ("--use_pmap", "got '--use_pmap'. Remove it: num_devices chooses the devices."),
        ("--schedule 3", "Set schedule in the config file or with --cfg-options."),
        ("--num_grads", "--num_grads: expected one argument."),
        ("stray", "command line: expected flags and their values only, got 'stray'."),
        ("--cfg-options nonsense", "--cfg-options: expected KEY=VALUE, got 'nonsense'."),
        ("--cfg-options entrants=[dict(a=1,b=2)]", "--cfg-options: expected a list of plain values, got"),
        (f"--cfg-options datasets{'.a' * 3000}=1", "--cfg-options: expected a key of a few parts, got 'datasets.a.a"),
        ("--cfg-options num_gards=1", "got 'num_gards'. Did you mean 'num_grads'?"),
        ("--cfg-options num_grads=x", "--cfg-options num_grads: expected a whole number of at least 1, got 'x'."),
        ("--cfg-options num_grads.x=1", "--cfg-options num_grads: expected a whole number"),
        ("--cfg-options schedule.peak=1", "--cfg-options schedule: expected a known key, got 'peak'."),
        ("--cfg-options schedule.peak_value=0", "--cfg-options schedule.peak_value: expected a number above 0"),
        ("--cfg-options schedule.decay_steps=100", "schedule.decay_steps: expected more than the 100 warmup_steps"),
        ("--cfg-options schedule=3", "schedule: expected a dict, got 3."),
        ("--config nowhere/a.py", "--config: expected a config file, got 'nowhere/a.py'."),
        ("--config .", "--config: expected a config file, got '.'."),
    ],
)  # fmt: skip
def test_bad_flags(argv, words):
    assert words in refusal(argv.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_grads = '8'", "a.py: num_grads: expected a whole number of at least 1, got '8'."),
        ("num_grads = True", "a.py: num_grads: expected a whole number of at least 1, got True."),
        ("num_local_steps = 4.0", "a.py: num_local_steps: expected a whole number"),
        ("from_checkpoint = 'yes'", "a.py: from_checkpoint: expected True or False, got 'yes'."),
        ("local_learning_rate = '0.5'", "a.py: local_learning_rate: expected a number above 0, got '0.5'."),
        ("optimizer = 3", "a.py: optimizer: expected one of"),
        ("task = [3]", "a.py: task: expected a task name or several, got [3]."),
        ("run_dir = ''", "a.py: run_dir: expected a path, got ''."),
        ("num_grad = 8", "a.py: expected a setting that exists, got 'num_grad'. Did you mean 'num_grads'?"),
        ("steps_per_jit = 10", "Remove it: a whole window (truncation_length rounds) is one compiled step."),
        ("es_std = 0.1", "got 'es_std'. Use perturbation_std."),
        ("schedule = dict(use_adamw=True)", "got 'use_adamw'. Remove it: the meta-optimizer is AdamW."),
        ("schedule = dict(warmup_step=1)", "Did you mean 'warmup_steps'?"),
        (
            "num_grads = (",
            "a.py: expected valid Python, also in its _base_ files, got \"'(' was never closed (line 1)\".",
        ),
        ("num_grads = 1 / 0", "expected a config that loads, got 'ZeroDivisionError: division by zero'."),
        ("_base_ = 'nothing.py'", "expected a config that loads, got"),
    ],
)
def test_bad_files(write, text, words):
    assert words in refusal(["--config", write(text)])


def test_a_file_with_a_near_name_is_suggested(write):
    file = write("", "digits_quickstart.py")
    assert file in refusal(["--config", file.replace("start", "star")]).partition("Did you mean")[2]


def test_a_config_is_checked_and_frozen_also_when_made_in_python():
    with pytest.raises(UserError, match=r"^num_grads: expected a whole number"):
        Config(num_grads=0)
    with pytest.raises(UserError, match=r"^beta: expected"):
        dataclasses.replace(Config(), beta=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().beta = 0.5


def test_choices_written_here_agree_with_where_they_are_defined():
    from learned_aggregation.jobs import JOBS
    from learned_aggregation.meta_training.optimizer import Schedule
    from learned_aggregation.problems.inner_problem import SAME_DATA
    from learned_aggregation.types import SPLITS

    assert (SAME_DATA, *SPLITS) == META_LOSS_SPLITS
    assert tuple(SETTINGS["schedule"].default) == Schedule._fields
    assert set(JOBS) <= set(RUN_TYPES)


TEXT = st.text(min_size=1, max_size=30).filter(lambda t: t.isprintable() and "/" not in t and t not in ". ..")
PATH = st.text(min_size=1, max_size=30).filter(lambda t: t.isprintable() and t[0] != "~") | st.just(
    "{{ fileBasename }} {{$HOME:x}}"
)
POSITIVE = st.floats(1e-300, 1e300)
CONFIGS = st.builds(
    Config,
    optimizer=st.sampled_from(["fedavg", "fedlagg-adafac"]),
    task=st.sampled_from(["conv-c10", ["conv-c10", "mlp32_digits_8"], "mlp3_digits_8,mlp5x5_glyphs26rgb_9"]),
    name=st.none() | TEXT,
    name_suffix=st.just("") | TEXT,
    run_dir=st.none() | PATH,
    seed=st.integers(0, 2**31 - 1),
    objective=st.sampled_from([None, "classification"]),
    learning_rate=st.none() | POSITIVE,
    local_learning_rate=POSITIVE,
    beta=st.floats(0, 1, exclude_max=True),
    auto_resume=st.booleans(),
    meta_loss_split=st.none() | st.sampled_from(META_LOSS_SPLITS),
    schedule=st.fixed_dictionaries({"clip": st.none() | POSITIVE}, optional={"exponent": POSITIVE}),
    tracker=st.sampled_from([None, "wandb", ["wandb"], "csv"]),
)
EXTRAS = st.sampled_from(
    [
        {},
        {
            "run_type": "sweep",
            "sweep_config": {"method": "grid", "parameters": {"beta": {"values": [0.9, 0.5]}}},
        },
        {"run_type": "compare", "entrants": [{"label": "a", "optimizer": "adam", "sweep": {"beta": (0.5,)}}]},
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=CONFIGS, extras=EXTRAS)
def test_the_resolved_config_loads_to_an_equal_one(tmp_path, config, extras):
    config = dataclasses.replace(config, **extras)
    file = tmp_path / "config.py"
    file.write_text(config_text(config), encoding="utf-8")
    assert load_config(["--config", str(file)]) == config


def test_public_names():
    for name in config_module.__all__:
        assert getattr(config_module, name).__doc__
