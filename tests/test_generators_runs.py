"""Runs of run_type feda2v: run 1, run 2, their files and messages, stops and kills, and bad input in one line."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from learned_aggregation import cli
from learned_aggregation.config.feda2v_options import FEDA2V
from learned_aggregation.config.resolve import load_config
from learned_aggregation.generators.options import FedA2VOptions
from learned_aggregation.generators.store import Store, write_store
from learned_aggregation.jobs import feda2v
from learned_aggregation.pretrained.latest import latest_step
from learned_aggregation.report.html import write_report
from learned_aggregation.runs.lock import lock

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "config/feda2v").glob("*.json"))
SETTINGS = {
    "run_type": "feda2v",
    "optimizer": "fedavg",
    "num_grads": 2,
    "num_local_steps": 4,
    "local_batch_size": 16,
    "local_learning_rate": 0.3,
    "num_inner_steps": 6,
    "num_runs": 1,
    "save_iter": 1,
    "compilation_cache": False,
    "cache_dir": "cache",
}
OPTIONS = {
    "store": "npz",
    "store_path": "store.npz",
    "generator_hidden_dim": 16,
    "generator_latent_dim": 2,
    "generator_training_epochs": 4,
    "generator_learning_rate": 1e-2,
    "adapter_hidden_dim": 8,
}
FIRST = {"generator_training_mode": True}
SECOND = {
    "use_pretrained_generators": True,
    "leaving_client": 0,
    "leaves_after_round": 2,
    "global_model_train_learning_rate": 0.02,
}


def make_store(path):
    draw = np.random.default_rng(0)
    means, clip = draw.standard_normal((4, 4, 6)), draw.standard_normal((4, 5)).astype(np.float32)
    label = np.arange(160) % 4
    audio = (means[label] + 0.3 * draw.standard_normal((160, 4, 6))).astype(np.float32)
    client = np.arange(160) // 4 % 2
    write_store(str(path), Store(audio, clip[label], label, client, np.arange(160) % 7 == 6, tuple("abcd")))


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "store.npz")
    return tmp_path


def config_file(name, options, **settings):
    content = SETTINGS | {"run_dir": name} | settings | {"feda2v": OPTIONS | options}
    Path(f"{name}.json").write_text(json.dumps(content))
    return ["--config", f"{name}.json"]


def run(argv, capsys):
    """(exit status, what was said)."""
    status = cli.main(argv)
    return status, capsys.readouterr().err


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def generators(folder="checkpoints/generators"):
    """Without what a kill left of a file that was being written, under a hidden name."""
    return {path.name: path.read_bytes() for path in Path(folder).glob("client_*")}


def curves(directory):
    return {path.name: json.loads(path.read_text()) for path in Path(directory, "cases").glob("*.json")}


@pytest.fixture
def no_report(monkeypatch):
    """Plots are dear: only the test of the report draws them."""
    monkeypatch.setattr(feda2v, "write_report", lambda path: path / "report.html")


@pytest.mark.slow
def test_run_1_and_run_2(place, capsys, monkeypatch, no_report):
    """All in one, as compiling is dear: run 1, stopped and resumed; both flags; run 2 with and without run 1."""
    second = config_file("second", SECOND)
    status, said = run([*second, "--run_dir", "early"], capsys)  # before run 1: warns and goes on
    assert status == 0
    for client in range(2):
        assert f"client {client}: no generator at checkpoints/generators/client_{client}_generator" in said
    assert "Run 1 (generator_training_mode) must come first" in said
    early = curves("early")
    with_none, without = (early[f"{case}_seed0.json"] for case in ("with_samples", "without_samples"))
    assert with_none["losses"] == without["losses"]
    assert with_none["samples"] == {}

    first = config_file("first", FIRST)
    status, said = run(first, capsys)
    assert status == 0
    expected = {
        f"client_{i}_generator{end}.safetensors" for i in range(2) for end in ("", "_round_5", "_round_6")
    }
    whole = generators()
    assert whole.keys() == expected
    for text in (
        "client 1: round 5, epoch 20: generator loss",
        "client 1: generator saved: checkpoints/generators/client_1_generator_round_5.safetensors",
    ):
        assert text in said, text
    metrics = rows("first/metrics.csv")
    assert len(metrics) == 6
    losses = [float(row["train/node_1/generator_loss"]) for row in metrics]
    assert losses[-1] < losses[0]
    assert len(rows("first/generators.csv")) == 12
    quality = rows("first/quality.csv")
    assert [row["class"] for row in quality] == ["a", "c", "b", "d"]
    assert {row["kind"] for row in rows("first/samples.csv")} == {"real", "sample"}
    page = write_report("first").read_text()
    for text in ("Generators", "Generator loss by rounds", "Samples and data", "Spread", "Nearest"):
        assert text in page, text
    undisturbed = curves("first")

    status, said = run(first, capsys)  # again: nothing is run
    assert status == 0
    assert "finished before, skipped" in said

    # Stopped in round 3 and started again it ends equal bit for bit: rounds, files and metrics.
    metrics = Path("first/metrics.csv").read_bytes()
    shutil.rmtree("first")
    shutil.rmtree("checkpoints")
    kept = feda2v._Case.keep

    def stopping(self, number, state, quiet=False):
        kept(self, number, state, quiet)
        if number == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(feda2v._Case, "keep", stopping)
    status, said = run(first, capsys)
    assert status == 128 + signal.SIGTERM
    assert "stopped, saved; go on with the same command" in said
    monkeypatch.setattr(feda2v._Case, "keep", kept)
    status, said = run(first, capsys)
    assert status == 0
    assert "round 3," not in said
    assert curves("first") == undisturbed
    assert generators() == whole
    assert Path("first/metrics.csv").read_bytes() == metrics

    status, said = run(second, capsys)
    assert status == 0
    for text in (
        "client 0: generator of round 6 loaded: checkpoints/generators/client_0_generator.safetensors",
        "client 0: generated 2 sets of [10, 4, 6]",
        "server: collected 40 samples of 2 clients, 4 classes; per class 0: 10, 1: 10, 2: 10, 3: 10",
    ):
        assert text in said, text
    assert said.count("client 0: generated") == 2  # it has left
    assert said.count("client 1: generated") == 6
    found = curves("second")
    with_samples, alone = (found[f"{case}_seed0.json"] for case in ("with_samples", "without_samples"))
    assert alone == without  # samples are really used: without them it is the run without generators
    assert with_samples["losses"] != alone["losses"]
    assert with_samples["left"] == ["a", "c"]
    last = [one["evaluated"]["test_left_accuracy"][-1] for one in (with_samples, alone)]
    assert last[0] > last[1] + 0.2
    # 2 classes of 10 samples and a label for each class, beside the adapter.
    assert with_samples["traffic"][0] - alone["traffic"][0] == 32 * (2 * 10 * 24 + 2)
    assert with_samples["traffic"][1] == alone["traffic"][1]
    metrics = rows("second/metrics.csv")
    assert {row["server/synthetic_samples_total"] for row in metrics} == {"40"}
    assert {row["server/synthetic_samples_classes"] for row in metrics} == {"4"}

    # With files in the place of memory, and everything in the window, the rounds are the same.
    status, _ = run([*config_file("files", SECOND | {"optimize_memory_usage": True})], capsys)
    assert status == 0
    assert curves("files")["with_samples_seed0.json"] == with_samples

    # Both flags: run 1 goes on from its files.
    status, said = run([*config_file("on", FIRST | {"use_pretrained_generators": True})], capsys)
    assert status == 0
    assert "client 1: generator of round 6 loaded" in said
    assert "client 1: round 1, epoch 28: generator loss" in said
    assert generators() != whole


def test_a_learned_aggregator_and_a_control_go_the_same_way(place, capsys, no_report):
    options = {"generator_type": "gaussian", "compare_without_samples": False}
    status, _ = run(config_file("first", FIRST | options, num_inner_steps=2), capsys)
    assert status == 0
    argv = config_file("second", SECOND | options, num_inner_steps=4)
    status, said = run([*argv, "--optimizer", "fedlagg-set", "--test_checkpoint", "lagg-set"], capsys)
    assert status == 0
    assert "collected 40 samples" in said
    [found] = curves("second").values()
    assert np.isfinite(found["losses"]).all()


@pytest.mark.slow
def test_killed_at_random_moments_run_1_ends_as_if_it_never_was(place):
    """SIGKILL after random rounds, somewhere in the next; files, rounds and metrics are those of a run left alone."""
    config_file("first", FIRST, num_inner_steps=20, save_iter=1)
    whole, broken = place / "whole", place / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        shutil.copy("store.npz", folder)
        shutil.copy("first.json", folder)
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, str(ROOT / "src" / "main.py"), "--config", "first.json"]

    def start(folder):
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=folder, env=os.environ | cache, stdout=quiet, stderr=quiet)

    assert start(whole).wait(300) == 0
    draw = random.Random(1)
    reached = broken / "first/checkpoints/generators_trained_seed0"
    for target in sorted(draw.sample(range(1, 19), 4)):
        process = start(broken)
        while (latest_step(reached) or 0) < target and process.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.wait()
    assert start(broken).wait(300) == 0
    os.chdir(whole)
    expected = (generators(), curves("first"), Path("first/metrics.csv").read_bytes())
    os.chdir(broken)
    assert (generators(), curves("first"), Path("first/metrics.csv").read_bytes()) == expected


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"generator_typ": "vae"}, {}, "feda2v: expected a known key, got 'generator_typ'. Did you mean"),
        ({"generator_type": "diffusion"}, {}, "feda2v.generator_type: expected one of vae, gan, gaussian"),
        ({"generator_training_epochs": 0}, {}, "feda2v.generator_training_epochs: expected a whole number"),
        ({"generator_augmentation_noise": 0}, {}, "feda2v.generator_augmentation_noise: expected"),
        (
            {"use_generator": False} | FIRST,
            {},
            "feda2v.generator_training_mode: expected False without use_gen",
        ),
        ({"store": "esc50", "store_path": None}, {}, "feda2v.store_path: expected the folder of ESC-50"),
        ({"store": "digits"}, {}, "feda2v.store_path: expected None with store 'digits'"),
        ({"store_path": "nowhere.npz"}, {}, "store_path: expected an .npz"),
        (
            {"client_classes": "natural"},
            {"num_grads": 3},
            "num_clients: expected 2 with client_classes 'natural'",
        ),
        ({"leaving_client": 2}, {}, "feda2v.leaving_client: expected a client below num_grads, 2"),
        (SECOND, {"dropout": 0.5}, "dropout: expected 0 with use_pretrained_generators, got 0.5"),
        ({}, {"num_clients": 5}, "num_clients: expected num_grads, 2, with run_type 'feda2v'"),
        (FIRST, {"run_type": "benchmark"}, "feda2v: expected run_type 'feda2v' with feda2v, got 'benchmark'"),
        (FIRST, {"optimizer": "fedlagg-set"}, "test_checkpoint: expected the path of a meta-trained theta"),
    ],
)
def test_bad_input_is_one_line(place, capsys, options, settings, message):
    status, said = run(config_file("bad", options, **settings), capsys)
    assert status == 2
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in said


def test_a_run_of_this_type_needs_its_section(place, capsys):
    status, said = run(["--run_type", "feda2v"], capsys)
    assert status == 2
    assert "run_type: expected feda2v with run_type 'feda2v'" in said


def test_the_options_are_those_of_the_setting():
    assert tuple(FEDA2V) == FedA2VOptions._fields


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_the_configs_that_people_start_load(file):
    config = load_config(["--config", str(file)])
    options = config.feda2v
    assert (config.run_type, options["generator_checkpoint_dir"]) == ("feda2v", "checkpoints/generators")
    assert options["generator_training_mode"] is (file.stem == "a2v_generator_training_mode")
    assert options["use_pretrained_generators"] is (file.stem == "a2v_use_pretrained_generators")
    defaults = FedA2VOptions()
    names = ("generator_training_epochs", "generator_augmentation_noise", "synthetic_samples_per_class")
    assert all(options[name] == getattr(defaults, name) for name in (*names, "global_model_train_epochs"))


def test_both_configs_are_there():
    assert len(SHIPPED) == 2


def test_two_runs_that_train_the_same_generators_do_not_overwrite_each_other(place, capsys):
    """Their run directories differ, their generators' files would not."""
    folder = Path("checkpoints/generators")
    folder.mkdir(parents=True)
    with lock(folder, ".generators.lock"):
        status, said = run(config_file("one", FIRST), capsys)
    assert status == 2
    assert f"error: {folder}: expected a directory that no other run writes, got one that is held by" in said
    assert generators() == {}


@pytest.mark.parametrize("claim", [None, "{", "[" * 100_000, "[]", '{"run": "one", "config": 3}'])
@pytest.mark.parametrize("file", ["client_0_generator.safetensors", "seed_1/client_0_generator_round_5.pt"])
def test_generators_of_an_unknown_run_are_not_replaced(place, capsys, claim, file):
    kept = Path("checkpoints/generators", file)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"a generator")
    if claim is not None:
        Path("checkpoints/generators/generators.json").write_text(claim)
    status, said = run(config_file("two", FIRST), capsys)
    assert status == 2
    assert (
        "generators: expected a directory without another run's generators, got some without a whole" in said
    )
    assert "Traceback" not in said
    assert kept.read_bytes() == b"a generator"
    assert not Path("two", "config.py").exists()


@pytest.mark.slow
def test_a_finished_run_s_generators_are_not_replaced_by_another_run(place, capsys, no_report):
    few = {"num_inner_steps": 2}
    assert run(config_file("one", FIRST, **few), capsys)[0] == 0
    kept = generators()
    status, said = run(config_file("two", FIRST | {"generator_training_epochs": 1}, **few), capsys)
    assert status == 2
    assert (
        "checkpoints/generators: expected a directory without another run's generators, got those of 'one'"
        in said
    )
    assert generators() == kept
    assert not Path("two", "config.py").exists()
    Path("checkpoints/generators/generators.json").write_text("{")
    assert run(config_file("one", FIRST, **few), capsys)[0] == 0  # its record is damaged: it has begun there
    assert generators() == kept
    assert run(config_file("again", FIRST, **few), capsys)[0] == 0  # the same run, in another place
    assert generators() == kept


@pytest.mark.slow
def test_a_store_that_has_changed_is_another_run(place, capsys, no_report):
    plain = config_file("plain", {}, num_inner_steps=2)
    assert run(plain, capsys)[0] == 0
    table = Path("plain/table.csv").read_bytes()
    with np.load("store.npz") as stored:
        changed = {name: stored[name] for name in stored.files}
    changed["audio"][0] += 1
    np.savez("store.npz", **changed)
    status, said = run(plain, capsys)
    assert status == 2
    assert "plain: expected the data that this run began with, got other content for a2v_npz" in said
    assert Path("plain/table.csv").read_bytes() == table
