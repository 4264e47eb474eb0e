"""Runs of run_type split: files, skipping, resuming bit for bit, and bad input, each in one line."""

import csv
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from learned_aggregation import cli
from learned_aggregation.build.data import Loader
from learned_aggregation.build.split import _other, check_case, digests, split_cases
from learned_aggregation.config.resolve import load_config
from learned_aggregation.config.split_options import SPLIT
from learned_aggregation.errors import UserError
from learned_aggregation.split.finetuning import Budget, evaluation_rounds
from learned_aggregation.split.model import split_model
from learned_aggregation.split.options import SplitOptions

CONFIG = """
run_type = "split"
task = "vit_p4_h8_m8_nh2_nl2_digits_8"
optimizer = "fedavg"
num_grads = 2
num_clients = 3
partition = "dirichlet"
local_learning_rate = 0.1
local_batch_size = 4
num_local_steps = 1
num_inner_steps = 4
eval_every = 2
num_runs = 1
save_iter = 2
eval_examples = 20
compilation_cache = False
cache_dir = "cache"
run_dir = "run"
"""
OPTIONS = "split_layer=1, bottleneck='linear', latent_dim=2, ae_epochs=2, ae_proportion=0.2"
CASES = """cases=[
    dict(label="one", ae_frozen=False),
    dict(label="each", ae_training="distributed", decoders="own"),
]"""


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_file(options=OPTIONS, *lines):
    with open("config.py", "w") as file:
        file.write("\n".join([CONFIG, *lines, f"split = dict({options})"]))
    return ["--config", "config.py"]


def run(argv, capsys):
    """(exit status, what was said)."""
    status = cli.main(argv)
    return status, capsys.readouterr().err


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_its_files_and_how_it_goes_on(place, capsys, monkeypatch):
    """All in one, as compiling is dear: a run, started again, killed and resumed, its autoencoder loaded."""
    argv = config_file(f"{OPTIONS}, {CASES}")
    status, said = run(argv, capsys)
    assert status == 0
    assert said.count("autoencoder: using downstream dataset (option 2)") == 2
    assert said.count("autoencoder: trained checkpoints/ae/linear_z2_digits_") == 2
    table = {row["entrant"]: row for row in rows("run/table.csv")}
    assert table.keys() == {"one", "each"}
    numbers = 8 + 4 * 2  # a class token whole, four patches of two numbers
    assert (
        int(table["one"]["bytes_cut_per_round"]) == 2 * 4 * 2 * 4 * numbers
    )  # 2 clients, B 4, both ways, 4 bytes
    clients = rows("run/clients.csv")
    assert len(clients) == 6
    assert {"own_accuracy", "test_accuracy", "reconstruction_own", "reconstruction_others"} <= clients[
        3
    ].keys()
    assert len(rows("run/rounds.csv")) == 2 * 5
    page = (place / "run/report.html").read_text()
    for text in (
        "At the cut",
        "Clients",
        "each, seed 0: autoencoder trained checkpoints/ae/",
        "Accuracy by bytes",
    ):
        assert text.lower() in page.lower(), text
    first = {path.name: json.loads(path.read_text()) for path in (place / "run/cases").iterdir()}

    status, said = run(argv, capsys)  # again: nothing is run
    assert status == 0
    assert said.count("finished before, skipped") == 2
    assert "autoencoder: " not in said

    # Stopped after its first checkpoint and started again it ends equal; the autoencoder is loaded.
    (place / "run/cases/00_one_seed0.json").unlink()
    shutil.rmtree(place / "run/checkpoints/00_one_seed0")
    stop_at_the_first_evaluation(monkeypatch)
    status, said = run(argv, capsys)
    assert status == 128 + signal.SIGTERM
    assert "stopped, saved; go on with the same command" in said
    monkeypatch.undo()
    monkeypatch.chdir(place)
    status, said = run(argv, capsys)
    assert status == 0
    assert "autoencoder: loaded checkpoints/ae/linear_z2_digits_" in said
    assert "trained" not in said
    again = json.loads((place / "run/cases/00_one_seed0.json").read_text())
    assert again["autoencoder"].pop("origin") == "loaded"
    assert first["00_one_seed0.json"]["autoencoder"].pop("origin") == "trained"
    assert again.pop("sha256") != first["00_one_seed0.json"].pop("sha256")
    assert again == first["00_one_seed0.json"]
    assert np.isfinite(again["losses"]).all()

    # A result that is cut off is made again, from the last checkpoint.
    where = place / "run/cases/01_each_seed0.json"
    where.write_text(where.read_text()[:99])
    status, said = run(argv, capsys)
    assert status == 0
    assert "expected a result, got JSONDecodeError; run again" in said


def stop_at_the_first_evaluation(monkeypatch):
    from learned_aggregation.runs.progress import ProgressBar

    def update(self, done, figures):
        if "seed" in self._what:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ProgressBar, "update", update)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "split_layer=2",
            "split_layer: expected a whole number from 1 to 1 (vit_p4_h8_m8_nh2_nl2_digits_8 has 2",
        ),
        ("split_layer=0", "split.split_layer: expected a whole number of at least 1, got 0."),
        ("latent_dim=0", "split.latent_dim: expected a whole number of at least 1, got 0."),
        ("latent_dims=2", "split: expected a known key, got 'latent_dims'. Did you mean 'latent_dim'?"),
        (
            "bottleneck='mlp'",
            "split.bottleneck: expected one of identity, linear, mlp1, mlp2, mlp3, conv, got 'mlp'.",
        ),
        ("ae_dataset='digit'", "split.ae_dataset: expected one of"),
        ("ae_proportion=0", "split.ae_proportion: expected a number above 0 and at most 1, got 0."),
        ("bottleneck='conv', class_token='through'", "split.class_token: expected 'whole' or 'quantised'"),
        (
            "ae_learning_rate=1e-5",
            "split.ae_learning_rate_end: expected at most ae_learning_rate, 1e-05, got 0.0001.",
        ),
        ("latent_compressor=dict(type='qsgd', bits=9)", "split.latent_compressor: qsgd: expected bits"),
        (
            "gradient_compressor=dict(type='qsgd', error_feedback='ef14')",
            "split.gradient_compressor: expected a compressor without memory, got 'error_feedback'.",
        ),
        (
            "ae_path='a', ae_training='distributed'",
            "split.ae_path: expected None with ae_training 'distributed'",
        ),
        ("ae_path='nowhere'", "ae_path: expected the autoencoder of this run, got 'nowhere', incomplete"),
        (
            "base_path='nowhere'",
            "base_path: expected the weights of vit_p4_h8_m8_nh2_nl2_digits_8, got 'nowhere'",
        ),
        ("cases=[dict(latent_dim=3)]", "split.cases[0].label: expected a text"),
        (
            "cases=[dict(label='a'), dict(label='a')]",
            "split.cases[1].label: expected a label that no other case has",
        ),
        ("cases=[dict(label='a', latent_dim=-1)]", "split.cases[0].latent_dim: expected a whole number"),
        (
            "cases=[dict(label='a', num_runs=2)]",
            "split.cases[0].num_runs: expected a setting that may vary here",
        ),
        ("cases=3", "split.cases: expected a list of dicts, got 3."),
        (
            "ae_dataset='glyphsrgb'",
            "split.ae_dataset: expected a data set with inputs like the downstream one's",
        ),
    ],
)
def test_bad_input_is_one_line(place, capsys, options, message):
    given = options if "split_layer" in options else f"split_layer=1, {options}"
    status, said = run(config_file(given), capsys)
    assert status == 2
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in said


def test_the_data_of_all_stages_and_cases_tells_a_run_from_another(place):
    def found(seed):
        draw = np.random.default_rng(seed)
        for name in ("mine", "other"):
            image = draw.integers(0, 255, (60, 8, 8, 1)).astype(np.uint8)
            np.savez(f"{name}.npz", image=image, label=np.arange(60) % 2)
        cases = 'cases=[dict(label="a", ae_dataset="mine"), dict(label="b", base_dataset="other")]'
        types = 'datasets = dict(mine=dict(type="npz", path="mine.npz"), other=dict(type="npz", path="other.npz"))'
        return digests(split_cases(load_config(config_file(f"{OPTIONS}, {cases}", types))), Loader())

    first = found(0)
    assert first["vit_p4_h8_m8_nh2_nl2_digits_8"] is None
    assert first == found(0)
    changed = found(1)
    assert [name for name in changed if changed[name] != first[name]] == ["mine", "other"]


def test_what_is_no_split_run_is_refused(place, capsys):
    for argv, message in (
        (["--run_type", "split"], "run_type: expected split with run_type 'split'"),
        (
            [*config_file(), "--task", "mlp8_digits_8"],
            "task: expected a model in blocks to cut (vit, transformer)",
        ),
        (
            [*config_file(), "--run_type", "benchmark"],
            "split: expected run_type 'split' with split, got 'benchmark'",
        ),
    ):
        status, said = run(argv, capsys)
        assert status == 2
        assert message in said


def test_the_options_are_those_of_the_setting(place):
    assert (*SPLIT, "cases") == SplitOptions._fields
    config = load_config(
        [*config_file(), "--cfg-options", "split.ae_force_retrain=True", "split.latent_dim=3"]
    )
    options = SplitOptions(**config.split)
    assert (options.ae_force_retrain, options.latent_dim, options.ae_epochs) == (True, 3, 2)
    assert load_config(["--optimizer", "fedavg"]).split == {}


def test_evaluations_come_at_the_start_and_the_end():
    assert evaluation_rounds(Budget(5, 2, 1)).tolist() == [0, 2, 4, 5]
    assert evaluation_rounds(Budget(4, 2, 1)).tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", ["two_stage_centralised", "two_stage_distributed", "scenarios"])
def test_the_configs_load(name):
    from pathlib import Path

    config = load_config(["--config", str(Path(__file__).parent.parent / f"config/split/{name}.py")])
    assert config.run_type == "split"
    assert len(config.split["cases"]) == (8 if name == "scenarios" else 0)


def test_data_sets_of_the_user_s_are_cut_and_trained_on(place):
    """By names with underscores, as the run's set, the base's and the autoencoder's; nothing is trained here."""
    rows = np.arange(200)
    np.savez("mine.npz", image=np.full((200, 8, 8), 7, np.uint8), label=rows % 3)
    lines = [
        'datasets = dict(my_set=dict(type="npz", path="mine.npz"))',
        'task = "vit_p4_h8_m8_nh2_nl2_my_set_8"',
    ]
    config = load_config(config_file(f"{OPTIONS}, ae_dataset='digits', base_dataset='my_set'", *lines))
    [case] = split_cases(config)
    loader = Loader()
    check_case(case, loader)
    loaded = loader.load(config, config.task)
    model = split_model(config.task, loaded.dataset, 1)
    assert jax.eval_shape(model.init, jax.random.key(0))["head"]["kernel"].shape == (8, 3)
    other, dataset = _other(case.config, model, loaded, "digits")
    assert (other.name, dataset.name) == ("vit_p4_h8_m8_nh2_nl2_digits_8", "digits")
    back, mine = _other(case.config, other, loader.load(config, other.name), "my_set")
    assert (back.name, mine.num_classes) == (config.task, 3)
    with pytest.raises(
        UserError, match=r"split.cases\[0\].ae_dataset: expected one of my_set, .* got 'my_sett'"
    ):
        load_config(config_file(f"{OPTIONS}, cases=[dict(label='a', ae_dataset='my_sett')]", *lines))
