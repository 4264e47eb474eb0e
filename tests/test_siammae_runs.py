"""`siammae` through configs: a federated run, one that trains, probes and reports, the paper's size, refusals."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from learned_aggregation.build.siammae import model_inputs, recipe_of, siamese_sizes, siammae_options
from learned_aggregation.config.resolve import load_config
from learned_aggregation.data.videos.scenes import draw_clips
from learned_aggregation.errors import UserError
from learned_aggregation.jobs import run
from learned_aggregation.ssl import features
from learned_aggregation.ssl.features import dense_features, raw_patches, siamese_features, vit_features
from learned_aggregation.ssl.probing import clip_scores, sequence_scores
from learned_aggregation.ssl.propagation import Propagation
from learned_aggregation.ssl.siamese import init_siamese, siammae
from learned_aggregation.ssl.siamese_objective import OBJECTIVE
from learned_aggregation.tasks.models.vit import vit
from learned_aggregation.types import Dataset, Split

TASK = "siammae_p4_h16_m32_nh2_nl2_dh16_dnh2_dnl1_mine_16"


@pytest.fixture(scope="module")
def drawn():
    """16 clips of 6 frames in an npz file's columns."""
    clips, families = draw_clips(0, "train", 16, 16, 6)
    return {"video": np.stack([clip.video for clip in clips]), "family": families}


@pytest.fixture
def config(tmp_path, drawn):
    """A config file over these clips, with further lines."""
    np.savez(tmp_path / "mine.npz", **drawn)

    def write(*lines):
        path = tmp_path / "config.py"
        start = [
            f"task = {TASK!r}",
            "objective = 'siammae'",
            "objective_options = dict(shortest_gap=1, longest_gap=3, epsilon=0.16)",
            f"_mine = dict(type='npz', path={str(tmp_path / 'mine.npz')!r}, clients='family')",
            "datasets = dict(mine=dict(**_mine, fractions=(0.5, 0.25, 0.25)))  # two clips at least in each split",
            f"run_dir = {str(tmp_path / 'run')!r}",
        ]
        path.write_text("\n".join([*start, *lines]) + "\n")
        return load_config(["--config", str(path)])

    return write


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_clients_with_videos_train_in_the_ordinary_round(config, tmp_path):
    lines = "run_type='benchmark' optimizer='fedavg' num_grads=4 num_local_steps=2 local_batch_size=2 num_inner_steps=2"
    lines += " eval_every=2 num_runs=1 local_optimizer='adamw' local_learning_rate=3e-3 partition='iid' num_clients=4"
    task = f"task={TASK.replace('nl2', 'nl1')!r}"  # less to compile
    assert run(config(*lines.split(), task), "test") == 0
    last = rows_of(tmp_path / "run" / "rounds.csv")[-1]
    assert 0 < float(last["test_loss"]) < 2
    assert {"test_loss_of_another_clip", "test_loss_without_first_frame"} <= last.keys()


def test_a_run_trains_probes_and_reports_and_goes_on_where_it_was(config, tmp_path):
    lines = (
        "run_type='siammae' siammae=dict(epochs=2,warmup_epochs=0,batch=4,sequences=2,stride=2,save_every=2)"
    )
    made = config(*lines.split())
    assert run(made, "test") == 0
    table = rows_of(tmp_path / "run" / "table.csv")
    assert [row["feature"] for row in table] == ["copying", "raw", "random", "trained"]
    assert all(0 < float(row["jf_mean"]) < 1 for row in table)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("data:image/png") == 4  # the loss, reconstructions, two sequences
    assert "f1, masked f2, prediction, f2" in page
    objects = rows_of(tmp_path / "run" / "objects.csv")
    assert {row["sequence"] for row in objects} == {"clip 0", "clip 1"}
    (tmp_path / "run" / "table.csv").unlink()
    assert run(made, "test") == 0
    assert rows_of(tmp_path / "run" / "table.csv") == table


def test_a_davis_folder_runs_without_training(config, tmp_path):
    clips, _ = draw_clips(3, "test", 2, 24, 5)
    for name, clip in zip(("a", "b"), clips, strict=True):
        for kind in ("JPEGImages", "Annotations"):
            (tmp_path / "davis" / kind / "480p" / name).mkdir(parents=True)
        for t in range(5):
            Image.fromarray(clip.video[t]).save(tmp_path / f"davis/JPEGImages/480p/{name}/{t:05d}.jpg")
            Image.fromarray(clip.masks[t]).save(tmp_path / f"davis/Annotations/480p/{name}/{t:05d}.png")
    (tmp_path / "davis/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "davis/ImageSets/2017/val.txt").write_text("a\nb\n")
    made = config(
        "run_type='siammae'",
        f"siammae=dict(epochs=0,warmup_epochs=0,davis={str(tmp_path / 'davis')!r},year='2017',side=16,"
        "features=['copying','raw'])",
    )
    assert run(made, "test") == 0
    assert [row["feature"] for row in rows_of(tmp_path / "run" / "table.csv")] == ["copying", "raw"]
    (tmp_path / "davis/Annotations/480p/b/00003.png").unlink()
    with pytest.raises(UserError, match=r"b/00003.png: expected an annotation"):
        run(made, "test")


def test_the_papers_size_has_its_shapes():
    """ViT-S/16: 196 tokens of 384, 9 of them seen; no frame is read."""
    config = load_config(["--config", "config/ssl/siammae_vits16_224.py"])
    sizes = siamese_sizes(config)
    assert sizes == (16, 384, 1536, 6, 12, 256, 8, 4)
    frames = np.broadcast_to(np.uint8(0), (10, 49, 224, 224, 3))
    dataset = Dataset("none", {"train": Split({"video": frames})}, 0)
    task = OBJECTIVE.make("siammae", sizes, dataset, **config.objective_options)
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    assert params["decoder"]["head"]["kernel"].shape == (256, 768)
    encoder = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params["encoder"]))
    assert encoder == 768 * 384 + 384 + 12 * (4 * 384 * 385 + 2 * 384 * 1536 + 1536 + 384 + 4 * 384) + 2 * 384
    batch = {"video": jax.ShapeDtypeStruct((2, 49, 224, 224, 3), np.uint8)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    loss, _ = jax.eval_shape(task.loss, params, (), key, batch)
    assert loss.shape == ()
    recipe = recipe_of(siammae_options(config), 240_000)
    assert recipe.peak == pytest.approx(1.2e-3)
    assert (recipe.steps, recipe.warmup) == (2000 * 118, 40 * 118)


@pytest.mark.parametrize("name", ["drawn", "aggregators", "davis"])
def test_configs_are_whole(name):
    assert load_config(["--config", f"config/ssl/siammae_{name}.py"]).objective == "siammae"


def test_what_does_not_fit_is_refused(config):
    with pytest.raises(UserError, match=r"siammae: expected .*epoch"):
        config("run_type='siammae'", "siammae=dict(epoch=3)")
    with pytest.raises(
        UserError, match=r"siammae.accumulate: expected parts that divide the batch of 4, got 3"
    ):
        config("run_type='siammae'", "siammae=dict(batch=4, accumulate=3)")
    with pytest.raises(UserError, match=r"objective_options"):
        config("run_type='siammae'", "siammae=dict(epochs=2)", "objective_options=dict(gap=3)")
    with pytest.raises(UserError, match=r"siammae.layer: expected a layer from 1 to 2, got 3"):
        run(config("run_type='siammae'", "siammae=dict(epochs=0, warmup_epochs=0, layer=3)"), "test")
    lines = "objective_options=dict(shortest_gap=9) run_type='benchmark' optimizer='fedavg' num_inner_steps=1"
    made = config(*lines.split())
    with pytest.raises(
        UserError, match=r"shortest gap of at most 5 frames, since the longest clip has 6, got 9"
    ):
        run(made, "test")


def test_passes_interleave_to_a_finer_grid():
    """A feature that is the patch's mean: each place is the mean of the patch around it."""
    images = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    mean = raw_patches(4)._replace(encode=lambda _, x: raw_patches(4).encode((), x).mean(-1, keepdims=True))
    fine = dense_features(mean, images, 2)[..., 0]
    padded = np.pad(images, ((0, 0), (1, 3), (1, 3), (0, 0)), mode="edge")
    for y in range(4):
        for x in range(6):
            expected = padded[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4].mean((1, 2, 3))
            np.testing.assert_allclose(fine[:, y, x], expected, rtol=1e-5)
    np.testing.assert_allclose(
        dense_features(mean, images, 4)[..., 0].reshape(2, -1), mean.encode((), images)[..., 0]
    )


def test_models_of_one_size_share_the_program_of_their_features():
    """Whatever they are called: compiling takes longer than the features of a clip."""
    sizes = siammae("_p4_h16_m32_nh2_nl2_dh16_dnh2_dnl1", 3)
    images = jnp.zeros((2, 16, 16, 3))
    first, second = (
        siamese_features(name, init_siamese(jax.random.key(seed), sizes, 3), sizes)[0]
        for seed, name in enumerate(("first", "second"))
    )
    made = dense_features(first, images, 2)
    programs = features._on_grid._cache_size()
    assert not np.array_equal(made, dense_features(second, images, 2))
    assert features._on_grid._cache_size() == programs


def test_every_encoder_has_features():
    """Those of a supervised ViT are what its module computes."""
    images = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    module = vit("_p4_h16_m32_nh2_nl2", 5)
    params = module.init(jax.random.key(1), images, train=False)["params"]
    found = vit_features("vit", params, 4, 2)
    assert [one.name for one in found] == ["vit, block 1", "vit, block 2"]
    assert found[1].encode(params, images).shape == (2, 16, 16)
    _, kept = module.apply({"params": params}, images, train=False, capture_intermediates=True)
    tokens = np.asarray(kept["intermediates"]["layers"]["__call__"][0])
    expected = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found[1].encode(params, images), expected[:, 1:], atol=1e-4)
    sizes = siammae("_p4_h16_m32_nh2_nl2_dh16_dnh2_dnl1", 3)
    of_blocks = siamese_features("siam", init_siamese(jax.random.key(0), sizes, 3), sizes)
    assert [one.name for one in of_blocks] == [
        "siam, block 1", "siam, block 2", "siam, decoder memory", "siam, decoder key 1", "siam, decoder block 1"
    ]  # fmt: skip
    assert all(one.encode(one.params, images).shape == (2, 16, 16) for one in of_blocks)


def test_settings_share_a_program_and_are_those_of_one_sequence(drawn):
    clips, _ = draw_clips(1, "test", 2, 16, 5)
    frames = jnp.asarray(np.stack([clip.video for clip in clips]), jnp.float32) / 255
    masks = jnp.asarray(np.stack([clip.masks for clip in clips]))
    hows = [Propagation(radius=1.0, centred=False), Propagation(radius=3.0, temperature=0.3)]
    predicted, j, f = clip_scores(raw_patches(4), frames, masks, 4, 2, hows)
    for setting, how in enumerate(hows):
        one, of_j, of_f = sequence_scores(raw_patches(4), frames[1], masks[1], 4, 2, how)
        assert (predicted[setting, 1] == one).mean() > 0.99
        np.testing.assert_allclose(j[setting, 1], of_j, atol=0.02)
        np.testing.assert_allclose(f[setting, 1], of_f, atol=0.02)
    assert not np.array_equal(j[0], j[1])


def test_frames_become_whole_patches():
    inputs = model_inputs(np.zeros((2, 30, 50, 3), np.uint8), 16, 4)
    assert inputs.shape == (2, 16, 28, 3)
    np.testing.assert_allclose(inputs, -2)
