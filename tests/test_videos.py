"""Drawn clips: deterministic, with true masks and true motion; splits share no pixel."""

import numpy as np
import pytest

from learned_aggregation.data.videos.motion import FAMILIES, centres, source
from learned_aggregation.data.videos.scenes import draw_clip, draw_clips
from learned_aggregation.data.videos.textures import COLUMNS, Texture, photographs


@pytest.fixture(scope="module")
def clips():
    return draw_clips(0, "test", 16, 32, 7)


def test_a_clip_depends_on_its_number_alone(clips):
    again, families = draw_clips(0, "test", 3, 32, 7)
    for one, other in zip(again, clips[0], strict=False):
        np.testing.assert_array_equal(one.video, other.video)
        np.testing.assert_array_equal(one.masks, other.masks)
    assert families.tolist() == [0, 1, 2]
    assert not np.array_equal(draw_clips(1, "test", 1, 32, 7)[0][0].video, clips[0][0].video)


def test_every_family_moves_something(clips):
    assert len(FAMILIES) == 8
    assert clips[1].tolist() == [*range(8), *range(8)]
    for clip in clips[0]:
        assert clip.masks.max() >= 1
        assert (clip.masks[0] != clip.masks[-1]).mean() > 0.005


def test_the_true_source_has_the_same_colour():
    """Without flicker a pixel and where it came from look alike; the same place in the other frame does not."""
    found, still = [], []
    for number, family in enumerate(FAMILIES):
        clip = draw_clip(np.random.default_rng(number), family, "train", 48, 9)
        points, seen = source(clip.motion, clip.masks, 8, 2)
        moved = np.abs(points - centres(48)).max(-1) > 4 / 48
        x, y = np.moveaxis(np.clip((points * 48).astype(int), 0, 47), -1, 0)
        now, then = _normal(clip.video[8]), _normal(clip.video[2])
        where = seen & moved
        found.append(np.abs(now - then[y, x])[where].mean())
        still.append(np.abs(now - then)[where].mean())
    assert np.mean(found) < 0.7 * np.mean(still)


def _normal(frame):
    frame = frame.astype(float)
    return (frame - frame.mean((0, 1))) / frame.std((0, 1))


def test_what_is_hidden_has_no_source():
    clip = next(c for c in draw_clips(0, "test", 16, 32, 7)[0] if c.masks.max() >= 2)
    points, seen = source(clip.motion, clip.masks, 6, 0)
    inside = ((points > 0) & (points < 1)).all(-1)
    assert (inside & ~seen).any()
    x, y = np.moveaxis((points[seen] * 32).astype(int), -1, 0)
    np.testing.assert_array_equal(clip.masks[0][y, x], clip.masks[6][seen])


def test_splits_share_no_columns():
    train, valid, test = COLUMNS["train"], COLUMNS["outer_valid"], COLUMNS["test"]
    assert train[1] < valid[0]
    assert valid[1] < test[0]
    rng = np.random.default_rng(0)
    texture = Texture(rng, "test", 64)
    width = photographs()[0].shape[1]
    assert texture._pixels.shape[1] == width - round(test[0] * width)


def test_light_changes_from_place_to_place():
    plain, lit = (draw_clip(np.random.default_rng(3), "camera", "test", 32, 4, light) for light in (0, 0.5))
    np.testing.assert_array_equal(plain.masks, lit.masks)
    ratio = lit.video.mean(-1) / np.maximum(plain.video.mean(-1), 1)
    assert ratio.std((1, 2)).mean() > 0.2
