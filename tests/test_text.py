"""Text: the standard library's sources, lm1b through TFDS and seqio, and the task of language modelling."""

import csv
import importlib.machinery
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import prepare_tfds

from learned_aggregation.cli import main
from learned_aggregation.data import DataOptions, describe, lm1b, load_dataset, pytext
from learned_aggregation.data.partitions import partition, split_labels
from learned_aggregation.data.text import windows
from learned_aggregation.errors import UserError
from learned_aggregation.tasks import make_task
from learned_aggregation.tasks.objectives.language_modelling import language_modelling
from learned_aggregation.types import SPLITS, Dataset, Split

SENTENCES = [f"This is sentence number {number}, naïve but honest." for number in range(50)]


@pytest.fixture(scope="module")
def python_text():
    return load_dataset("pytext", 16)


def test_windows_predict_every_token_once():
    tokens = np.arange(12)
    assert windows(tokens, 4).tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]
    assert windows(tokens[:9], 4).tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]
    assert windows(tokens, 11).shape == (1, 12)
    assert windows(tokens, 12).shape == windows(tokens[:0], 12).shape == (0, 13)


def test_the_sources_are_text_of_bounded_size_with_modules_as_clients(python_text):
    assert tuple(python_text.splits) == SPLITS
    assert python_text.num_classes == 128
    for name, split in python_text.splits.items():
        tokens = split.examples["tokens"]
        assert tokens.dtype == np.uint8
        assert tokens.shape[1] == 17
        assert tokens.max() < 128
        wanted = pytext.LENGTHS[name]
        assert 0.9 * wanted < 16 * len(tokens) < wanted + 1.1 * pytext.LONGEST_MODULE
        assert sorted(set(split.clients)) == list(range(max(split.clients) + 1))
        assert len(split.clients) == len(tokens)
        assert np.all(np.diff(split.clients) >= 0)
    assert max(python_text.splits["train"].clients) > 100
    text = bytes(python_text.splits["train"].examples["tokens"][:, :-1].reshape(-1))
    assert text.count(b"\ndef ") > 500
    assert text.count(b"self.") > 2000


def test_a_clients_windows_are_one_modules_text(python_text):
    split = python_text.splits["test"]
    first = split.examples["tokens"][split.clients == 0]
    assert np.array_equal(first[1:, 0], first[:-1, -1])
    module = pytext._modules(pytext._library())[0].read_bytes()
    assert module.startswith(bytes(first[:, :-1].reshape(-1)))


def test_the_split_is_the_same_every_time(python_text):
    again = load_dataset("pytext", 16, DataOptions(seed=3))
    for name in SPLITS:
        ours, theirs = python_text.splits[name], again.splits[name]
        assert np.array_equal(ours.examples["tokens"], theirs.examples["tokens"])
        assert np.array_equal(ours.clients, theirs.clients)


def test_modules_are_handed_out_once(monkeypatch, tmp_path):
    for number in range(40):
        (tmp_path / f"m{number}.py").write_text(f"x{number:02} = 1\n" * 20)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "left_out.py").write_text("y = 1\n" * 20)
    (tmp_path / "utf8.py").write_text("naïve")
    monkeypatch.setattr(pytext, "_library", lambda: tmp_path)
    monkeypatch.setattr(pytext, "LENGTHS", dict.fromkeys(pytext.LENGTHS, 1000))
    data = load_dataset("pytext", 5)
    seen = [bytes(row[:3]) for split in data.splits.values() for row in split.examples["tokens"]]
    modules = [
        {bytes(row)[:3] for row in split.examples["tokens"][np.unique(split.clients, return_index=True)[1]]}
        for split in data.splits.values()
    ]
    assert sum(map(len, modules)) == len(set.union(*modules)) >= 20
    assert not any(row.startswith(b"y =") for row in seen)
    assert bytes(pytext._tokens(tmp_path / "utf8.py")) == b"na??ve"


def test_a_python_without_sources_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pytext, "_library", lambda: tmp_path)
    with pytest.raises(
        UserError, match=r"pytext: expected modules of more than 16 characters in /.*got"
    ) as caught:
        load_dataset("pytext", 16)
    assert "\n" not in str(caught.value)


def test_text_can_be_divided_by_module_or_in_equal_shares(python_text):
    train = python_text.splits["train"]
    labels = split_labels(train)
    assert set(labels) == {0}
    natural = partition("natural", labels, train.clients, 20, 0)
    for name in ("shared", "iid", "dirichlet"):
        rows = partition(name, labels, train.clients, 1 if name == "shared" else 5, 0)
        assert sum(map(len, rows)) == len(labels)
    assert len(natural) == 20
    assert not set(train.clients[natural[0]]) & set(train.clients[natural[1]])
    label = np.array([3, 1])
    assert split_labels(Split({"image": np.zeros((2, 4, 4, 1)), "label": label})) is label


class Echo:
    """A model that is sure that the next token is the current one plus one."""

    def init(self, key, x, train):
        assert x.shape == (1, 4)
        assert x.dtype == jnp.int32
        return {"params": {"w": jnp.ones(())}}

    def apply(self, variables, x, train, mutable=False):
        logits = 50.0 * variables["params"]["w"] * jax.nn.one_hot((x + 1) % 10, 10)
        return (logits, {}) if mutable is not False else logits


def test_the_loss_is_the_mean_over_tokens_of_the_next_one():
    tokens = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 0, 1]], np.uint8)
    dataset = Dataset("toy", {"train": Split({"tokens": tokens})}, 10)
    task = language_modelling("toy", Echo(), dataset)
    params, state = task.init(jax.random.key(0))
    metrics = task.evaluate(params, state, jax.random.key(0), {"tokens": tokens})
    np.testing.assert_allclose(metrics["accuracy"], [1, 0.75])
    np.testing.assert_allclose(metrics["loss"], [0, 50 / 4], atol=1e-5)
    loss, (_, training) = task.loss(params, state, jax.random.key(0), {"tokens": tokens})
    np.testing.assert_allclose(loss, 50 / 8, atol=1e-5)
    np.testing.assert_allclose(training["accuracy"], 7 / 8)
    assert task.loss_cap == pytest.approx(1.5 * np.log(10))


# lm1b, on a small set in TFDS's own format.


def prepare_lm1b(data_dir):
    tfds = pytest.importorskip("tensorflow_datasets")

    class SmallText(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.1.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(SENTENCES),
                "test": self._generate_examples(SENTENCES[:4]),
            }

        def _generate_examples(self, sentences):
            for number, sentence in enumerate(sentences):
                yield number, {"text": sentence}

    SmallText.name = "lm1b"
    prepare_tfds(SmallText, data_dir)


class Bytes:
    """What lm1b.py asks of seqio's ByteVocabulary (the real one: tests at the end)."""

    vocab_size = 259
    eos_id = 1

    def encode(self, text):
        return [byte + 3 for byte in text.encode()]


@pytest.fixture
def fake_seqio(monkeypatch):
    module = types.ModuleType("seqio")
    module.__spec__ = importlib.machinery.ModuleSpec("seqio", None)
    module.ByteVocabulary = Bytes

    def no_model(path):
        raise OSError(f"Not found: {path}\nmore")

    module.SentencePieceVocabulary = no_model
    monkeypatch.setitem(sys.modules, "seqio", module)


def decode(split):
    """The text of a split's windows, with sentence ends as |."""
    tokens = np.append(split.examples["tokens"][:, :-1].reshape(-1), split.examples["tokens"][-1, -1])
    return b"".join(b"|" if token == 1 else bytes([token - 3]) for token in tokens).decode(errors="ignore")


def test_lm1b_reads_sentences_in_the_parts_of_the_splits(tmp_path, fake_seqio):
    prepare_lm1b(tmp_path)
    data = load_dataset("lm1b", 8, DataOptions(tfds_data_dir=str(tmp_path)))
    assert data.num_classes == lm1b.BYTES == 259
    texts = {name: decode(split) for name, split in data.splits.items()}
    assert all(split.examples["tokens"].dtype == np.uint16 for split in data.splits.values())
    counts = {name: text.count("This is sentence") for name, text in texts.items()}
    assert counts == {"train": 40, "inner_valid": 5, "outer_valid": 5, "test": 4}
    assert "naïve but honest.|This is" in texts["train"]
    sentences = [set(text.split("|")[:-1]) for name, text in texts.items() if name != "test"]
    assert set.union(*sentences) <= set(SENTENCES)
    assert sum(map(len, sentences)) == len(set.union(*sentences))


def test_lm1b_reads_no_more_than_fits(tmp_path, fake_seqio, monkeypatch):
    prepare_lm1b(tmp_path)
    monkeypatch.setitem(lm1b.PARTS, "train", ("train[:80%]", 100))
    data = load_dataset("lm1b", 8, DataOptions(tfds_data_dir=str(tmp_path)))
    assert decode(data.splits["train"]).count("|") <= 3


def test_lm1b_missing_data_or_package_or_vocabulary_says_what_to_do(tmp_path, monkeypatch, fake_seqio):
    options = DataOptions(tfds_data_dir=str(tmp_path / "none"))
    with pytest.raises(
        UserError, match=r"lm1b: expected TFDS data in .*/none.*tfds build lm1b.*transformer32_pytext_8"
    ):
        make_task("transformer32_lm", options)
    with pytest.raises(
        UserError, match=r"vocabulary: expected a SentencePiece model, got '/no.model' \(Not found"
    ) as caught:
        make_task("transformer32_lm", options._replace(vocabulary="/no.model"))
    assert "\n" not in str(caught.value)
    prepare_lm1b(tmp_path)
    monkeypatch.delitem(sys.modules, "seqio")
    monkeypatch.setattr(lm1b.importlib.util, "find_spec", lambda name: None if name == "seqio" else name)
    with pytest.raises(UserError, match=r"lm1b: expected the package seqio .* `pip install seqio`"):
        make_task("transformer32_lm", DataOptions(tfds_data_dir=str(tmp_path)))


@pytest.mark.extras
def test_lm1b_with_the_real_byte_vocabulary(tmp_path):
    seqio = pytest.importorskip("seqio")
    real = seqio.ByteVocabulary()
    assert (real.vocab_size, real.eos_id) == (Bytes.vocab_size, Bytes.eos_id)
    assert list(real.encode("naïve")) == Bytes().encode("naïve")
    prepare_lm1b(tmp_path)
    data = load_dataset("lm1b", 8, DataOptions(tfds_data_dir=str(tmp_path)))
    assert "naïve but honest.|This is" in decode(data.splits["train"])


@pytest.mark.extras
def test_a_language_model_is_tested_on_lm1b_from_the_command_line(tmp_path):
    pytest.importorskip("seqio")
    prepare_lm1b(tmp_path / "data")
    sizes = "--num_grads 2 --num_local_steps 2 --local_batch_size 4 --num_inner_steps 3 --num_runs 1"
    paths = f"--tfds_data_dir {tmp_path}/data --run_dir {tmp_path}/run"
    command = f"--run_type benchmark --optimizer fedavg --task transformer32_lm {sizes} {paths}"
    assert main(command.split()) == 0
    with open(tmp_path / "run/rounds.csv", newline="") as file:
        losses = [float(row["test_loss"]) for row in csv.DictReader(file) if row["test_loss"]]
    assert losses[-1] < losses[0] < 2 * np.log(lm1b.BYTES)


@pytest.mark.extras
def test_lm1b_with_a_sentencepiece_model(tmp_path):
    seqio = pytest.importorskip("seqio")
    import sentencepiece

    corpus, model = tmp_path / "corpus.txt", tmp_path / "small.model"
    corpus.write_text("\n".join(SENTENCES))
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    prefix = str(model.with_suffix(""))
    sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=prefix, vocab_size=36, **ids)
    prepare_lm1b(tmp_path)
    options = DataOptions(tfds_data_dir=str(tmp_path), vocabulary=str(model))
    data = load_dataset("lm1b", 8, options)
    assert data.num_classes == describe("lm1b", 8, options).num_classes == 36
    tokens = data.splits["test"].examples["tokens"][:, :-1].reshape(-1).tolist()
    first = seqio.SentencePieceVocabulary(str(model)).decode(tokens[: tokens.index(1)])
    assert first in SENTENCES[:4]
    with pytest.raises(UserError, match=r"vocabulary: expected a SentencePiece model, got '.*corpus\.txt'"):
        describe("lm1b", 8, options._replace(vocabulary=str(corpus)))
