"""The files in config/: what the published experiments' ones say, and that each test's checkpoint is some command's."""

import re
import shlex
from pathlib import Path

import pytest

from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.config.config_file import load_file
from learned_aggregation.config.resolve import load_config, meta_train_name
from learned_aggregation.pretrained.names import pretrained_names
from learned_aggregation.tasks.listing import parameter_count
from learned_aggregation.tasks.names import MIXES, expand_task

ROOT = Path(__file__).resolve().parent.parent
PAPER = "config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py"
META_TEST = sorted((ROOT / "config/meta_test").glob("*.py"))
PROBLEMS = sorted(path.stem for path in (ROOT / "config/_base_/problems").glob("*.py"))
CLASSICAL = {
    "fedavg",
    "fedavgm",
    "fedavg-slowmo",
    "diloco",
    "nesterov-decay",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "sgd",
    "adam",
}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def checkpoints(file):
    """The names of the meta-training runs whose checkpoints a config tests."""
    config = load_config(["--config", str(file)])
    entrants = [config.test_checkpoint, *(entrant.get("test_checkpoint") for entrant in config.entrants)]
    paths = [Path(path).parts for path in entrants if path and path.startswith("checkpoints/")]
    return {name for _, name, *_ in paths}


def meta_trained(file, rule="fedlagg-adafac"):
    """The names of the runs that the commands in a config's header make; RULE stands for `rule`."""
    header = file.read_text().replace("RULE", rule)
    commands = re.findall(r"config/meta_train/\S+\.py(?: --\w+ [^\s-]\S*)*", header)
    return {meta_train_name(load_config(["--config", *shlex.split(command)])) for command in commands}


@pytest.mark.parametrize("file", META_TEST, ids=lambda path: path.stem)
def test_a_tested_checkpoint_is_made_by_a_command_of_the_header(file):
    assert checkpoints(file) <= meta_trained(file)


def test_every_config_that_a_text_names_is_there():
    patterns = ["*.md", "Makefile", "docs/*.md", "config/**/*.py", "tests/*.py", "benchmarks/*.py"]
    patterns += ["checkpoints/pretrained/*/README.md", "checkpoints/pretrained/*/card.json"]
    texts = [text for pattern in patterns for text in ROOT.glob(pattern)]
    named = {name for text in texts for name in re.findall(r"\bconfig/[\w/:.-]+\.py\b", text.read_text())}
    missing = {name for name in named if "/" in name[7:] and not (ROOT / name).is_file()}
    assert missing == {"config/meta_test/PROBLEM.py", "config/results/FILE.py"}  # placeholders
    assert len(named) > 60


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_optimizer_starts_at_its_row_of_the_problem(problem):
    file = ROOT / f"config/meta_test/{problem}.py"
    table = load_file(str(file), "test")["by_optimizer"]
    assert set(table) == set(AGGREGATORS)
    for optimizer, row in table.items():
        config = load_config(["--config", str(file), "--optimizer", optimizer])
        assert {name: getattr(config, name) for name in row} == row
        if optimizer in CLASSICAL:
            assert config.test_checkpoint is None
        else:
            name = config.test_checkpoint.removeprefix("checkpoints/")
            made = meta_trained(file, optimizer) | set(pretrained_names())
            assert name in made


@pytest.mark.parametrize("rule", ["fedlagg-adafac", "fedlopt-adafac"])
@pytest.mark.parametrize(
    ("suffix", "clients", "steps"), [("H8", 8, 8), ("H16", 8, 16), ("K16", 16, 4), ("K32", 32, 4)]
)
def test_the_published_settings(rule, suffix, clients, steps):
    config = load_config(["--config", f"config/meta_train/{rule}_image-mlp-fmst_{suffix}.py"])
    assert (config.optimizer, config.num_grads, config.num_local_steps) == (rule, clients, steps)
    assert (config.task, config.num_outer_steps, config.local_batch_size) == ("image-mlp-fmst", 10_000, 128)
    tested = load_config(["--config", f"config/meta_test/compare_image-mlp-fmst_{suffix}.py"])
    assert (tested.num_grads, tested.num_local_steps) == (clients, steps)
    adam = next(entrant for entrant in tested.entrants if entrant["optimizer"] == "adam")
    assert adam["local_batch_size"] == steps * 128


def test_the_published_tasks_are_reached_by_a_flag():
    header = (ROOT / PAPER).read_text()
    for task in (*MIXES, "conv-c10", "mlp128x128_imagenet_32"):
        assert task in header
        config = load_config(["--config", PAPER, "--task", task])
        assert (config.tasks, config.num_outer_steps) == (expand_task(task), 10_000)


def test_meta_generalisation_goes_wider_deeper_and_to_every_family():
    file = ROOT / "config/meta_test/generalise.py"
    flags = re.findall(r"^#   (--task .*?)  +\w", file.read_text(), re.MULTILINE)
    configs = [load_config(["--config", str(file), *line.split()]) for line in flags]
    assert {config.task: parameter_count(config.task) for config in configs} == {
        "mlp128x128_imagenet_64": 1_718_504,
        "mlp512x512x512_imagenet_32": 2_611_688,
        "mlp128_pow6_imagenet_32": 604_904,
        "mlp128_pow12_imagenet_32": 703_976,
        "conv_imagenet_32": 121_320,
        "resnet50_imagenet_64": 25_557_032,
        "vit_p16_h128_m512_nh4_nl10_imagenet_32": 2_211_176,
        "deit_small_imagenet_64": 21_981_544,
        "transformer32_lm": 67_459,
        "transformer192_lm": 7_214_851,
    }
    large = {config.task for config in configs if config.remat}
    assert large == {"resnet50_imagenet_64", "deit_small_imagenet_64", "transformer192_lm"}
    assert all((config.tasks_per_chunk, config.eval_chunk) == (1, 250) for config in configs if config.remat)


def test_every_family_has_a_small_test_on_embedded_data():
    files = [file for file in META_TEST if file.stem.startswith("families_")]
    configs = [load_config(["--config", str(file)]) for file in files]
    assert len(configs) == 6
    assert all("_digits_" in config.task or "_pytext_" in config.task for config in configs)
    assert {config.num_inner_steps for config in configs} == {20}
