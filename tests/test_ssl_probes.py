"""Probes, the optimizer's habits, encoders in files, and a benchmark that freezes, probes, is killed and resumes."""

import csv
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from learned_aggregation import build, cli
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.federated.clients.adamw_matrices import adamw_matrices, matrices
from learned_aggregation.federated.round import init_server
from learned_aggregation.ssl.encoder import Encoder, encode, init_encoder
from learned_aggregation.ssl.finetuning import finetuning_adamw, layer_rates
from learned_aggregation.ssl.habits import accumulated, base_rate
from learned_aggregation.ssl.probes import (
    PROBES,
    Labelled,
    ProbeData,
    Sizes,
    balanced,
    check_probes,
    in_chunks,
    run_probes,
)
from learned_aggregation.ssl.probes.linear import ridge
from learned_aggregation.ssl.vit_files import read_encoder, write_encoder
from learned_aggregation.tasks import make_task
from learned_aggregation.types import Task

ROOT = Path(__file__).parent.parent

SIZES = Encoder(patch=4, hidden=8, mlp=16, heads=2, layers=2, rows=2, columns=2, channels=3)


def clouds(key, count):
    """Three classes: points around three corners of a cube, as images of 1 x 1 with 6 channels, 3 of them noise."""
    label_key, noise_key = jax.random.split(key)
    labels = jax.random.randint(label_key, (count,), 0, 3)
    corners = jnp.concatenate([4 * jnp.eye(3), jnp.zeros((3, 3))], axis=1)
    images = corners[labels] + jax.random.normal(noise_key, (count, 6))
    return Labelled({"image": images.reshape(count, 1, 1, 6), "label": labels}, labels)


def unused(*_) -> Any:
    raise AssertionError


def task_of(features):
    """A task whose params are [6] factors of the pixels."""
    return Task("clouds", lambda key: (jnp.ones(6), ()), unused, unused, None, features=features)


def of_factors(params, state, batch):
    return batch["image"][:, 0, 0] * params


@pytest.fixture(scope="module")
def data():
    return ProbeData(*(clouds(jax.random.key(i), n) for i, n in enumerate((300, 100, 101))))


@pytest.fixture(scope="module")
def probed(data):
    """Accuracies of all probes with features that keep the classes, and with those that lose them."""

    @jax.jit
    def run(params):
        return run_probes(
            tuple(PROBES), Sizes(3, 64), data, task_of(of_factors), params, (), jax.random.key(0)
        )

    kept = run(jnp.ones(6))
    lost = run(jnp.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]))
    return {name: (float(kept[name]), float(lost[name])) for name in kept}


@pytest.mark.parametrize("name", ["linear50", "linear200", "linear", "knn"])
def test_a_probe_reads_what_the_features_hold(probed, name):
    kept, lost = probed[f"test_{name}"]
    assert kept > 0.95
    assert 0.15 < lost < 0.55


def test_few_examples_and_a_class_that_they_lack(data):
    """Fewer examples than neighbours, chunks larger than the data: the classes that are there are told apart."""
    rows = np.flatnonzero(np.asarray(data.train.labels) < 2)[:12]
    few = Labelled(jax.tree.map(lambda leaf: leaf[rows], data.train.batch), data.train.labels[rows])
    assert jnp.unique(few.labels).tolist() == [0, 1]

    def run(*names):
        some = data._replace(train=few)
        task = task_of(of_factors)
        return run_probes(names, Sizes(3, 1000), some, task, jnp.ones(6), (), jax.random.key(0))

    there = float(jnp.mean(data.test.labels < 2))
    for accuracy in jax.jit(lambda: run("knn", "linear"))().values():
        assert there - 0.06 < accuracy <= there + 1e-6
    for name, labels in (("linear50", 50), ("linear200", 200), ("pixels50", 50)):
        with pytest.raises(
            UserError, match=rf"at least {labels} training examples .* got 12\. Raise probe_examples"
        ):
            run(name)


def test_controls_do_not_depend_on_the_trained_features(probed):
    assert probed["test_pixels50"][0] == probed["test_pixels50"][1] > 0.95
    assert probed["test_scratch"][0] == probed["test_scratch"][1] > 0.9
    assert probed["test_finetune"][0] > 0.9


def test_ridge_is_the_same_from_rows_and_from_columns():
    x, y = jax.random.normal(jax.random.key(0), (20, 7)), jnp.arange(20) % 3
    other = jax.random.normal(jax.random.key(1), (5, 7))
    [few] = ridge(x[:6], y[:6], (other,), 3, 0.1)
    centred = np.asarray(x[:6] - x[:6].mean(0)) / np.asarray(x[:6].std(0))
    one_hot = np.eye(3)[np.asarray(y[:6])]
    weights = np.linalg.solve(centred.T @ centred + 0.6 * np.eye(7), centred.T @ (one_hot - one_hot.mean(0)))
    want = (np.asarray(other) - np.asarray(x[:6].mean(0))) / np.asarray(
        x[:6].std(0)
    ) @ weights + one_hot.mean(0)
    np.testing.assert_allclose(few, want, atol=1e-4)
    constant = jnp.concatenate([x, jnp.full((20, 1), 3.0)], axis=1)
    [with_it] = ridge(constant, y, (jnp.pad(other, ((0, 0), (0, 1)), constant_values=9.0),), 3, 0.1)
    np.testing.assert_allclose(with_it, ridge(x, y, (other,), 3, 0.1)[0], atol=1e-5)


def test_labels_are_drawn_evenly_and_differently_by_seed():
    labels = jnp.array([0] * 500 + [1] * 30 + [2] * 5)
    rows = [balanced(labels, 21, jax.random.key(seed)) for seed in (0, 1)]
    assert jnp.bincount(labels[rows[0]]).tolist() == [8, 8, 5]
    assert len(set(rows[0].tolist())) == 21
    assert set(rows[0].tolist()) != set(rows[1].tolist())
    seen = in_chunks(lambda batch: batch["image"] + 1, {"image": jnp.arange(7.0)}, 3)
    assert seen.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_probes_need_features_and_labels():
    task, dataset = make_task("mlp8_digits_8")
    with pytest.raises(UserError, match="objective localmim"):
        check_probes(task, dataset)
    with pytest.raises(UserError, match="labels"):
        check_probes(task._replace(features=of_factors), dataset._replace(num_classes=0))


def test_weight_decay_is_of_matrices_alone():
    params = init_encoder(jax.random.key(0), SIZES)
    flags = matrices(params)
    assert flags["embed"] == {"kernel": True, "bias": False}
    assert not flags["class_token"]
    assert flags["positions"]
    optimizer = adamw_matrices(0.1)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    for moves, update, leaf in zip(*map(jax.tree.leaves, (flags, updates, params)), strict=True):
        np.testing.assert_allclose(update, -0.1 * 0.05 * leaf if moves else jnp.zeros_like(leaf), rtol=1e-5)


def test_fine_tuning_has_rates_by_layer_and_clips():
    params = {**init_encoder(jax.random.key(0), SIZES), "head": jnp.ones((8, 3))}
    rates = layer_rates(params)
    assert rates["head"] == rates["norm"]["scale"] == 1.0
    assert rates["layers"]["layer_1"]["query"]["kernel"] == 0.75
    assert rates["embed"]["kernel"] == rates["positions"] == 0.75**3
    optimizer = finetuning_adamw(0.01)
    huge = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e6), params)
    state = optimizer.init(params)
    _, state = optimizer.update(huge, state, params)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (8, 3)]
    assert max(float(jnp.abs(leaf).max()) for leaf in moments) < 1


def test_gradients_are_accumulated_and_rates_are_of_256_examples():
    both, plain = accumulated(optax.adam(0.1), 2), optax.adam(0.1)
    params = jnp.array([1.0, 2.0])
    first, state = both.update(jnp.array([1.0, 0.0]), both.init(params), params)
    second, _ = both.update(jnp.array([3.0, 2.0]), state, params)
    np.testing.assert_array_equal(np.asarray(first), 0)
    mean, _ = plain.update(jnp.array([2.0, 1.0]), plain.init(params), params)
    np.testing.assert_allclose(np.asarray(second), np.asarray(mean), rtol=1e-6)
    assert base_rate(1e-3, 64, 2) == 5e-4


def test_a_run_accumulates_gradients():
    """Two local steps with accum_iter 2 are one on both batches; FedAvg's cohort of one is that client."""
    shared = {"task": "mlp4_digits_8", "optimizer": "fedavg", "num_grads": 1}
    config = Config(**shared, num_local_steps=2, accum_iter=2, local_learning_rate=0.5)
    loaded = build.load_task(config, "mlp4_digits_8")
    parts = build.make_parts(config, loaded)(build.rates_of(config))
    server = init_server((), parts, *parts.task.init(jax.random.key(0)), population=1)
    images = jax.random.randint(jax.random.key(1), (1, 2, 6, 8, 8, 1), 0, 17).astype(jnp.uint8)
    batches = {"image": images, "label": jnp.arange(12).reshape(1, 2, 6) % 10}
    update, _ = parts.clients.run(server, batches, jnp.ones(1), server.clients.work, jax.random.key(2))
    both = jax.tree.map(lambda leaf: leaf.reshape(12, *leaf.shape[3:]), batches)
    gradient = jax.grad(
        lambda params: parts.task.loss(params, server.model_state, jax.random.key(0), both)[0]
    )(server.params)
    jax.tree.map(
        lambda delta, g: np.testing.assert_allclose(delta[0], -0.5 * g, atol=1e-6), update.delta, gradient
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "--num_local_steps 3 --accum_iter 2",
            "accum_iter: expected a divisor of num_local_steps, 3, got 2.",
        ),
        (
            "--run_type benchmark --optimizer sgd --accum_iter 2",
            "accum_iter: expected 1 with optimizer 'sgd', whose clients take one step per round, got 2.",
        ),
        (
            f"--config {ROOT}/config/ssl/siammae_davis.py --accum_iter 2",
            "accum_iter: expected 1 with run_type 'siammae', got 2. Set siammae.accumulate.",
        ),
        (
            "--run_type benchmark --optimizer diloco --keep_local_state True --num_inner_steps 5 --accum_iter 21",
            "accum_iter: expected at most the local steps of a run, 20, got 21.",
        ),
    ],
)
def test_accumulation_that_would_lose_gradients_is_refused(capsys, argv, message):
    assert cli.main([*argv.split(), "--print_config"]) == 2
    assert message in capsys.readouterr().err


def test_points_of_a_comparison_are_checked_before_anything_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compare.py").write_text(
        'run_type = "compare"\n'
        'entrants = [dict(label="a", optimizer="fedavg", sweep=dict(accum_iter=[1, 3]))]\n'
    )
    assert cli.main(["--config", "compare.py", "--run_dir", "out", "--compilation_cache", "False"]) == 2
    assert "accum_iter: expected a divisor of num_local_steps, 4, got 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def timm_names(params):
    """The encoder under timm's names, written from timm's definition: rows of a Linear are outputs, qkv in one."""
    patch = np.asarray(params["embed"]["kernel"]).reshape(4, 4, 3, 8).transpose(3, 2, 0, 1)
    found = {
        "patch_embed.proj.weight": patch,
        "patch_embed.proj.bias": params["embed"]["bias"],
        "cls_token": params["class_token"],
        "pos_embed": params["positions"],
        "norm.weight": params["norm"]["scale"],
        "norm.bias": params["norm"]["bias"],
        "head.weight": np.zeros((10, 8)),
    }
    for i in range(2):
        layer, name = params["layers"][f"layer_{i}"], f"blocks.{i}"
        for kind, side in (("kernel", "weight"), ("bias", "bias")):
            qkv = [np.asarray(layer[part][kind]) for part in ("query", "key", "value")]
            found[f"{name}.attn.qkv.{side}"] = np.concatenate([part.T for part in qkv])
            for theirs, ours in (("attn.proj", "out"), ("mlp.fc1", "mlp_1"), ("mlp.fc2", "mlp_2")):
                found[f"{name}.{theirs}.{side}"] = np.asarray(layer[ours][kind]).T
        for theirs, ours in (("norm1", "norm_1"), ("norm2", "norm_2")):
            found[f"{name}.{theirs}.weight"] = layer[ours]["scale"]
            found[f"{name}.{theirs}.bias"] = layer[ours]["bias"]
    return {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in found.items()}


def test_an_encoder_comes_back_from_our_file_and_from_timm_s_names(tmp_path):
    params = jax.tree.map(lambda leaf: leaf + 0.1, init_encoder(jax.random.key(0), SIZES))
    template = jax.eval_shape(lambda: params)
    write_encoder(tmp_path / "ours.safetensors", {**params, "decoders": {"w": jnp.ones(3)}})
    safetensors.numpy.save_file(timm_names(params), tmp_path / "timm.safetensors")
    image = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
    for name in ("ours", "timm"):
        found = read_encoder(tmp_path / f"{name}.safetensors", template, SIZES)
        jax.tree.map(np.testing.assert_array_equal, found, params)
    # By hand: the patch's pixels of the convolution's weights, row by row and channel last.
    weight = timm_names(params)["patch_embed.proj.weight"]
    direct = np.einsum("hwc,dchw->d", image[0, :4, 4:], weight) + params["embed"]["bias"]
    tokens = np.asarray(image[0, :4, 4:]).reshape(-1) @ params["embed"]["kernel"] + params["embed"]["bias"]
    np.testing.assert_allclose(direct, tokens, rtol=1e-5)
    assert encode(params, SIZES, image)[-1].shape == (2, 5, 8)


def test_files_of_other_encoders_are_refused(tmp_path):
    params = init_encoder(jax.random.key(0), SIZES)
    path = tmp_path / "a.safetensors"
    write_encoder(path, params)
    wider = SIZES._replace(hidden=16)
    with pytest.raises(UserError, match=r"expected class_token of shape \(1, 1, 16\)"):
        read_encoder(path, jax.eval_shape(lambda: init_encoder(jax.random.key(0), wider)), wider)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        read_encoder(path, params, SIZES)
    with pytest.raises(UserError, match="No such file"):
        read_encoder(tmp_path / "none", params, SIZES)


def rows(path):
    with (path / "rounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


FLAGS = (
    "--run_type benchmark --optimizer diloco --learning_rate 0.9 --beta 0.5 --num_runs 1 --num_grads 2 "
    "--num_local_steps 1 --local_batch_size 4 --local_optimizer adamw-matrices --local_learning_rate 0.003 "
    "--num_inner_steps 6 --eval_every 3 --eval_examples 20 --probes knn --probe_examples 40 --save_iter 1 "
    "--cache_dir cache --compilation_cache False"
)
FREEZING = "--cfg-options freezing.t0=0.5 freezing.power=linear freezing.phases=1"


def benchmark(run_dir, *more):
    return cli.main([*FLAGS.split(), "--run_dir", str(run_dir), *" ".join(more).split()])


@pytest.mark.slow
def test_a_frozen_fine_tuning_is_killed_and_goes_on_equal_across_the_boundary(tmp_path, monkeypatch):
    """By flags: FreezeOut, checkpoints, probes at both ends, an encoder written and read by the next run."""
    monkeypatch.chdir(tmp_path)
    task = "--task vit_p4_h8_m8_nh2_nl2_digits_8 --objective finetuning --auto_resume"
    assert benchmark("whole", task, FREEZING) == 0
    found = rows(tmp_path / "whole")
    sent = [int(row["bits_up"]) for row in found]
    each = np.diff(sent)
    assert len(set(each.tolist())) == 2
    assert np.all(np.diff(each) <= 0)
    assert [row["round"] for row in found if row["test_knn"]] == ["0", "6"]
    evaluated = [row["round"] for row in found if row["test_loss"]]
    assert "5" in evaluated or "4" in evaluated  # the boundary
    # As a kill leaves it: checkpoints up to a round, nothing written at the end.
    shutil.copytree("whole", "killed")
    boundary = int(evaluated[2])
    where = tmp_path / "killed" / "checkpoints" / "vit_p4_h8_m8_nh2_nl2_digits_8"
    for step in (3, boundary, 6):
        if step > 3:
            shutil.rmtree(where / f"global_step{step}")
    (where / "latest").write_text("global_step3\n")
    text = (
        (tmp_path / "killed" / "config.py")
        .read_text()
        .replace("'whole'", "'killed'")
        .replace('"whole"', '"killed"')
    )
    (tmp_path / "killed" / "config.py").write_text(text)
    (tmp_path / "killed" / "rounds.csv").unlink()
    assert benchmark("killed", task, FREEZING) == 0
    assert rows(tmp_path / "killed") == found
    encoder = tmp_path / "whole" / "encoders" / "vit_p4_h8_m8_nh2_nl2_digits_8_seed0.safetensors"
    loaded, _ = make_task(
        "vit_p4_h8_m8_nh2_nl2_digits_8", objective="finetuning", objective_options={"encoder": str(encoder)}
    )
    first, second = (loaded.init(jax.random.key(seed))[0]["layers"] for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
