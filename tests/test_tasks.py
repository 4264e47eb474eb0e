"""Names of tasks: what resolves, to what, and what is said of a name that does not."""

import jax
import numpy as np
import pytest

from learned_aggregation.cli import main
from learned_aggregation.config.resolve import Config, load_config, meta_train_name
from learned_aggregation.data import DATASETS, TABLES, DataOptions, describe, glyphs, load_dataset
from learned_aggregation.errors import UserError
from learned_aggregation.tasks import listing, make_model, make_task
from learned_aggregation.tasks.names import ALIASES, MIXES, MODELS, expand_task, parse_task_name

_PUBLISHED = """
image-mlp-fmst image-mlp-fmst64x64 image-mlp-fmst32x32 small-image-mlp-fmst conv-fmst conv-c10 small-conv-c10
image-mlp-c10-128x128 conv_imagenet_32 conv32x32_imagenet_64 mlp128x128_imagenet_32 mlp128x128_imagenet_64
mlp128_pow6_imagenet_32 mlp128_pow12_imagenet_32 mlp512x512x512_imagenet_32 mlp128x128x128_imagenet_32
mlp128x128x128_imagenet_64 mlp128x128x128_imagenet_128 mlp128x128x128_c100_32
mlp32_fmnist_8 mlp32x32_fmnist_8 mlp32x32_fmnist_32 mlp64x64_fmnist_32 mlp128x128_fmnist_32 mlp128x128x128_fmnist_32
mlp32_c10_8 mlp32x32_c10_8 mlp32x32_c10_32 mlp64x64_c10_32 mlp128x128_c10_32 mlp128x128x128_c10_32
mlp32_imagenet_8 mlp32x32_imagenet_8 small_conv_fmnist_8 small_conv_c10_8 small_conv_imagenet_8
resnet18_imagenet_32 resnet18_imagenet_64 resnet18_imagenet_128
resnet50_imagenet_32 resnet50_imagenet_64 resnet50_imagenet_128
vit_p16_h128_m512_nh4_nl10_imagenet_32 deit_tiny_imagenet_64 deit_small_imagenet_64
tall16_imagenet_8 tall16_imagenet_32 tall16_imagenet_64 wide16_imagenet_8 wide16_imagenet_32 wide16_imagenet_64
transformer32_lm transformer192_lm
fmnist-conv-mlp-mix fmnist-mlp-mix dataset-mlp-mix cifar-fmnist-all cifar-fmnist-128x128
"""
PUBLISHED = _PUBLISHED.split()
"""The task names of the users' own configurations."""


def test_every_published_name_resolves_and_is_listed(capsys):
    assert main(["--list_tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines if line}
    assert set(PUBLISHED) <= set(listed)
    for name in PUBLISHED:
        for task in expand_task(name):
            assert parse_task_name(task).family in MODELS
    assert listed["resnet50_imagenet_64"].split()[1:] == ["25,557,032", "TFDS", "imagenet_resized/64x64"]
    assert listed["conv-c10"].endswith("TFDS cifar10; is conv32x64x64_c10_32")
    assert listed["cifar-fmnist-128x128"].endswith("2 tasks: mlp128x128_fmnist_32, mlp128x128_c10_32")
    assert "embedded" in listed["transformer32_pytext_8"]
    assert listed["mlp32_breast_30"].split()[1] == f"{31 * 32 + 33 * 2:,}"
    assert listed["mlp32_diabetes_10"].split()[1] == str(11 * 32 + 33)
    assert (
        "language_modelling (text), localmim (image), regression (regression), siammae (video)" in lines[-1]
    )


def test_every_family_has_an_embedded_task():
    assert {parse_task_name(name).family for name in listing.EMBEDDED} == set(MODELS)
    assert all("embedded" in make_model(name)[1].source for name in listing.EMBEDDED)


def test_aliases_presets_and_mixes_stand_for_names_that_parse():
    assert (
        parse_task_name("small_conv_c10_8")
        == parse_task_name("small-conv-c10")
        == ("conv", "16x32", "c10", 8)
    )
    assert parse_task_name("conv_imagenet_32")[:2] == ("conv", "32x64x64")
    assert parse_task_name("tall16_c10_32") == parse_task_name("vit_p16_h128_m512_nh4_nl10_c10_32")
    assert parse_task_name("transformer192_lm") == ("transformer", "_h192_m768_nh12_nl12", "lm1b", 16)
    assert [len(mix) for mix in MIXES.values()] == [3, 3, 3, 6, 2]
    for name in (*ALIASES.values(), *(task for mix in MIXES.values() for task in mix)):
        parse_task_name(name)


def test_a_mix_is_a_setting_that_stands_for_its_tasks():
    config = load_config(["--task", "fmnist-mlp-mix", "--optimizer", "fedavg"])
    assert config.task == "fmnist-mlp-mix"
    assert config.tasks == MIXES["fmnist-mlp-mix"]
    assert "_fmnist-mlp-mix_" in meta_train_name(config)
    both = Config(task=("mlp64x64_fmnist_32", "fmnist-mlp-mix"))
    assert both.tasks == ("mlp64x64_fmnist_32", "mlp128x128_fmnist_32", "mlp32x32_fmnist_32")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mpl32_digits_8", r"model: expected one of mlp, .*, got 'mpl32'"),
        (
            "deit_tinny_imagenet_64",
            r"model: expected one of .*, got 'deit_tinny'. Did you mean 'deit_tiny'\?",
        ),
        ("mlp32_imagnet_8", r"data set: expected one of .*, got 'imagnet'. Did you mean 'imagenet'\?"),
        ("mlp32_digits_2", "size: expected an image size from 4 to 1024 pixels at the end, got '2'"),
        ("mlp32_digits_big", "size: expected an image size .* got 'big'"),
        ("mlp32_digits_99999999", "size: expected an image size"),
        (
            "transformer32_pytext_1",
            "size: expected a sequence length from 2 to 65535 tokens at the end, got '1'",
        ),
        (
            "resnet18_pytext_8",
            r"model: expected one that reads text .* pytext \(transformer, gpt\), got 'resnet18'",
        ),
        ("mlp32_breast_31", "size: expected 30 features at the end, got '31'. For example mlp32_breast_30."),
        ("mlp32_diabetes_0", "size: expected 10 features at the end, got '0'"),
        (
            "conv_diabetes_10",
            r"model: expected one that reads table for the data set diabetes \(mlp\), got 'conv'. "
            "For example mlp32_diabetes_10.",
        ),
        ("transformer32_breast_30", r"expected one that reads table for the data set breast \(mlp\)"),
        ("transformer32_digits_8", "model: expected one that reads image for the data set digits"),
        (
            "transformer33_lm",
            "expected model_dataset_size .* got 'transformer33_lm'. Did you mean 'transformer32_lm'",
        ),
        ("fmnist-mlp-mic", r"Did you mean 'fmnist-mlp-mix'\?"),
    ],
)
def test_an_unknown_name_says_which_part_and_what_there_is(name, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_task_name(name)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp_digits_8", "expected mlp followed by widths joined by x"),
        ("mlp0_digits_8", "expected mlp followed by widths"),
        ("mlp8_pow0_digits_8", "expected mlp followed by widths"),
        ("mlp8_powx_digits_8", "expected mlp followed by widths"),
        ("resnet19_digits_8", "expected a depth of 18, 34, 50 .* got '19'"),
        ("resnet18bn_digits_8", "got '18bn'"),
        ("vit_p16_digits_8", "expected vit followed by sizes such as _p16_h128_m512_nh4_nl10, got '_p16'"),
        ("vit_p16_h128_m512_nh4_nl0_digits_8", "expected vit followed by sizes"),
        ("vit_p16_h128_m512_nh3_nl1_digits_8", "a number of heads that divides the hidden size 128, got 3"),
        (
            "transformer33_pytext_8",
            "transformer followed by sizes .* or take one of transformer32, transformer192",
        ),
    ],
)
def test_a_models_sizes_are_checked_before_data_is_loaded(name, message, monkeypatch):
    monkeypatch.setattr("learned_aggregation.tasks.load_dataset", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UserError, match=message) as caught:
        make_task(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits", "glyphs", "glyphs62rgb", "pytext", *TABLES])
def test_a_description_is_true(name, tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "SIZES", dict.fromkeys(glyphs.SIZES, 70))
    size = TABLES.get(name, 12)
    about, data = describe(name, size), load_dataset(name, size, DataOptions(cache_dir=str(tmp_path)))
    for split in data.splits.values():
        if about.kind == "text":
            assert split.examples["tokens"].shape[1] == about.shape[0] + 1
        elif name in TABLES:
            assert split.examples["features"].shape[1:] == about.shape
            assert about.kind == ("table" if "label" in split.examples else "regression")
            assert about.num_targets == split.examples.get("target", np.zeros((1, 0))).shape[1]
        else:
            assert split.examples["image"].shape[1:] == about.shape
    assert data.num_classes == about.num_classes


def test_descriptions_need_no_data(tmp_path):
    options = DataOptions(tfds_data_dir=str(tmp_path), cache_dir=str(tmp_path))
    sources = {name: describe(name, TABLES.get(name, 32), options).source for name in DATASETS}
    assert all(source.startswith(("TFDS ", "embedded: ", "a file: ")) for source in sources.values())
    assert describe("imagenet", 20).source == "TFDS imagenet_resized/32x32"
    assert describe("imagenet", 65).source == "TFDS imagenet2012"
    assert not list(tmp_path.iterdir())


def test_a_task_starts_from_finite_numbers_and_a_uniform_guess():
    task, dataset = make_task("mlp4_digits_8")
    params, state = jax.jit(task.init)(jax.random.key(0))
    batch = {name: leaf[:5] for name, leaf in dataset.splits["test"].examples.items()}
    metrics = task.evaluate(params, state, jax.random.key(0), batch)
    loss, (after, training) = task.loss(params, state, jax.random.key(0), batch)
    assert metrics["loss"].shape == metrics["accuracy"].shape == (5,)
    np.testing.assert_allclose(loss, np.mean(metrics["loss"]), rtol=1e-6)
    np.testing.assert_allclose(training["accuracy"], np.mean(metrics["accuracy"]), rtol=1e-6)
    assert after == state == {}
    assert abs(float(loss) - np.log(10)) < 1
