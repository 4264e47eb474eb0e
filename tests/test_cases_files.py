"""Files that are read back: of our own and damaged, or of others. One line, or made anew; never silence."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from helpers import fresh_pretrained

from learned_aggregation import export, load_aggregator
from learned_aggregation.data.cache import cached_arrays
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.card import STAGED, read_card
from learned_aggregation.pretrained.theta_file import load_theta, save_theta
from learned_aggregation.report.html import write_report
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.trackers.csv import CsvTracker

THETA = {"nn": {"w0": jnp.ones((2, 2)), "b0": jnp.zeros(2)}}


def _one_line(match: str):
    return pytest.raises(UserError, match=match)


def test_a_flipped_bit_anywhere_in_a_theta_is_refused(tmp_path):
    path = tmp_path / "global_step2.safetensors"
    save_theta(path, THETA, {"optimizer": "fedlagg", "base_learning_rate": 1.0})
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in (0x01, 0x40):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            with _one_line("safetensors: expected"):
                load_theta(path)
    path.write_bytes(whole)
    assert load_theta(path)[1] == {"optimizer": "fedlagg", "base_learning_rate": "1.0"}


def test_thetas_without_a_checksum_are_still_read(tmp_path):
    leaves = {"nn/w0": np.ones((2, 2), np.float32)}
    for metadata in ({"format": "learned_aggregation.theta.1"}, {"format": "pt"}, None):
        safetensors.numpy.save_file(leaves, tmp_path / "a.safetensors", metadata)
        assert load_theta(tmp_path / "a.safetensors")[0]["nn"]["w0"].tolist() == [[1, 1], [1, 1]]
    safetensors.numpy.save_file(leaves, tmp_path / "a.safetensors", {"format": "learned_aggregation.theta.9"})
    with _one_line("format learned_aggregation.theta.9, this version reads"):
        load_theta(tmp_path / "a.safetensors")


LATEST = [
    "../other/best",
    "global_step" + "9" * 300,
    "x" * 300,
    "global_step1\nx",
    "global_step01",
    "global_step-1",
    "",
]


@pytest.mark.parametrize("text", LATEST)
def test_latest_is_read_in_one_way(tmp_path, text):
    save_theta(tmp_path / "other/best.safetensors", THETA, {})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/latest").write_text(text)
    checkpointer = Checkpointer(tmp_path / "run", keep=1)
    for read in (lambda: load_theta(tmp_path / "run"), checkpointer.existing):
        with _one_line("run/latest: expected") as error:
            read()
        assert "\n" not in str(error.value)
    assert checkpointer.latest_step() is None


def test_latest_may_be_written_by_hand(tmp_path):
    save_theta(tmp_path / "global_step20.safetensors", THETA, {"a": 1})
    (tmp_path / "latest").write_text("global_step20\n")
    assert load_theta(tmp_path)[1] == {"a": "1"}


@pytest.fixture
def card(tmp_path, monkeypatch):
    return fresh_pretrained(monkeypatch, tmp_path, "theirs") / "card.json"


FOREIGN = {
    "deep": "[" * 100_000,
    "many digits": '{"a":' + "9" * 5000 + "}",
    "beyond float": '{"a": 1e999}',
    "no object": "3",
}
FIELDS = {
    "meta_loss of one": {"meta_loss": [[1]]},
    "meta_loss of texts": {"meta_loss": [["a", "b"]]},
    "results of numbers": {"results": [1]},
    "a source that is no text": {"results": [{"source": [1]}]},
    "notes of dicts": {"notes": [{}]},
    "an option that is no number": {"options": {"base_momentum": float("nan")}},
    "a range without end": {"ranges": {"num_grads": [1, float("inf")]}},
}


@pytest.mark.parametrize("case", [*FOREIGN, *FIELDS])
def test_a_foreign_card_is_one_line(card, case):
    text = FOREIGN[case] if case in FOREIGN else json.dumps(json.loads(card.read_text()) | FIELDS[case])
    card.write_text(text)
    for use in (lambda: load_aggregator("theirs"), lambda: export.change_card(card.parent, notes=["x"])):
        with _one_line(r"card\.json: expected"):
            use()
    assert card.read_text() == text


@pytest.mark.parametrize("name", ["run.json", "sweep.json"])
@pytest.mark.parametrize("case", [*FOREIGN, "fields"])
def test_a_report_leaves_out_what_cannot_be_read(tmp_path, name, case):
    fields = (
        "metric",
        "metrics",
        "winner",
        "notes",
        "parameters",
        "on_edge",
        "name",
        "command",
        "started",
        "versions",
    )
    texts = [json.dumps(dict.fromkeys(fields, value)) for value in (1, [1], {"a": [1]}, [[1]], "x", None)]
    (tmp_path / "sweep.csv").write_text("point,beta,seed,outer_valid_loss\n0,0.5,0,1.0\n")
    for text in texts if case == "fields" else [FOREIGN[case]]:
        (tmp_path / name).write_text(text)
        assert "outer valid loss" in write_report(tmp_path).read_text().lower()


METADATA = [
    ("num_grads", '"a"'),
    ("num_grads", "[1]"),
    ("num_grads", "-3"),
    ("base_learning_rate", '"x"'),
    ("hidden_size", "[" * 100_000),
    ("hidden_size", "32.5"),
    ("base", "3"),
]


@pytest.mark.parametrize(("key", "value"), METADATA)
def test_a_thetas_metadata_is_of_its_kind(tmp_path, key, value):
    path = tmp_path / "a.safetensors"
    metadata = {"optimizer": "fedlagg-set", "hidden_size": "4"} | {key: value}
    safetensors.numpy.save_file({"nn/w0": np.ones((1, 1), np.float32)}, path, metadata)
    with _one_line(f"metadata: expected {key} to be a"):
        load_aggregator(path)


def test_a_theta_of_others_is_finite_in_float32_and_a_tree(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"nn": np.ones(1, np.float32), "nn/w0": np.ones((1, 1), np.float32)}, path)
    with _one_line("a leaf within a leaf"):
        load_theta(path)
    safetensors.numpy.save_file({"nn/w0": np.full((1, 1), 1e300)}, path)
    with _one_line("expected finite floats in nn/w0, got NaN, infinity or numbers beyond float32"):
        load_theta(path)


@pytest.mark.parametrize("note", ["a\udcff", "fine"])
@pytest.mark.parametrize(
    "span", ["num_grads=1,1" + "0" * 400, "num_grads=1,Infinity", "num_grads=1,1e999", "num_grads=2,8"]
)
def test_a_card_is_checked_before_it_is_written(card, capsys, note, span):
    before = card.read_bytes()
    good = note == "fine" and span == "num_grads=2,8"
    status = export.main(["--name=theirs", f"--to={card.parent.parent}", f"--note={note}", f"--range={span}"])
    assert status == (0 if good else 2)
    assert capsys.readouterr().err.count("\n") == 1
    assert (card.read_bytes() == before) == (not good)
    assert export.main(["--name=theirs", f"--to={card.parent.parent}", "--note=later"]) == 0


@pytest.mark.parametrize("facts", [{"command": 'a "b'}, {"command": 5}, {"machine": "x"}, {"versions": 1}])
def test_run_json_is_a_file_of_others(tmp_path, facts):
    (tmp_path / "metrics.csv").write_text("step,meta_loss,elapsed_s\n1,2.0,3.0\n")
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert export._meta_train_command(tmp_path) == ""
    assert export._cost(tmp_path, 5.0)["machine"] == {"device": ""}


KILLED = {"theta beside": False, "card.json": False, "theta.safetensors": True, "README.md": True}
"""Before which write -> whether the new theta is the one."""


@pytest.mark.parametrize("killed", KILLED)
def test_an_export_killed_at_any_write_leaves_an_aggregator(card, monkeypatch, killed):
    """The old one or the new one: the card decides which theta is the one."""
    theta, new = load_theta("theirs")[0], KILLED[killed]
    changed = theta | {"nn": {name: leaf + 1 for name, leaf in theta["nn"].items()}}
    content = export.theta_bytes(changed, {"optimizer": "fedlagg"})
    digest = export.hashlib.sha256(content).hexdigest()
    exported = export.replace(read_card(card.parent), theta_sha256=digest)
    rename = os.replace

    def dying(source, target):
        name = Path(target).name
        if name == killed or (killed == "theta beside" and name.startswith(".theta")):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            export._write(card.parent, exported, content)
    found, expected = load_theta("theirs")[0], changed if new else theta
    assert float(found["nn"]["b0"][0]) == float(expected["nn"]["b0"][0])
    assert load_aggregator("theirs").name == "theirs"
    export._write(card.parent, exported, content)
    assert not list(card.parent.glob(STAGED))
    assert float(load_theta("theirs")[0]["nn"]["b0"][0]) == float(changed["nn"]["b0"][0])


def _arrays():
    return {"train_image": np.arange(12, dtype=np.uint8).reshape(3, 4), "train_label": np.arange(3)}


def _huge(path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**45,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_image.npy", header.getvalue())


OTHERS = {
    "another npz": lambda path: np.savez(path, a=np.ones(3)),
    "other shapes": lambda path: np.savez(path, **{n: a[:1] for n, a in _arrays().items()}),
    "no checksum": lambda path: np.savez(path, **_arrays()),
    "a header of 2^45 bytes": _huge,
    "no zip": lambda path: path.write_bytes(b"x"),
    "a directory": lambda path: (path.unlink(), path.mkdir(), shutil.rmtree(path)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_any_other_file_in_the_cache_is_built_again(tmp_path, case):
    path = tmp_path / "a.npz"
    cached_arrays(path, _arrays)
    OTHERS[case](path)
    _assert_built_again(path)


def _assert_built_again(path: Path) -> None:
    built = []
    for times in (1, 1):  # and the second time it is read
        found = cached_arrays(path, lambda: built.append(1) or _arrays())
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in _arrays().items()
        }
        assert len(built) == times


def test_a_flipped_bit_in_the_cache_is_built_again_or_of_no_meaning(tmp_path):
    path = tmp_path / "a.npz"
    cached_arrays(path, _arrays)
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        found = cached_arrays(path, _arrays)
        assert found["train_image"].tolist() == _arrays()["train_image"].tolist()


ROWS = {
    "a carriage return": ("1,2.0\n", "1,2\r.0\n"),
    "a null": ("1,2.0\n", "1,2.0\0\n"),
    "a quote": ("1,2.0\n", '1,"2.0\n'),
    "no number": ("1,2.0\n", "1,two\n"),
    "no step": ("1,2.0\n", "x,2.0\n"),
    "digits without end": ("1,2.0\n", "9" * 5000 + ",2.0\n"),
    "another heading": ("step,", "round,"),
    "an empty heading": ("step,meta_loss\n", "\n"),
}


@pytest.mark.parametrize("case", ROWS)
def test_metrics_of_another_kind_are_one_line(tmp_path, case):
    path = tmp_path / "metrics.csv"
    text = "step,meta_loss\n1,2.0\n2,1.5\n"
    path.write_text(text.replace(*ROWS[case]), newline="")
    before = path.read_bytes()
    with _one_line("expected the metrics of the run to resume, got a file of another kind"):
        CsvTracker(path, resume_step=2)
    assert path.read_bytes() == before
