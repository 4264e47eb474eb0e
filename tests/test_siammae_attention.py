"""Where a decoder looks, judged by the true motion: `benchmarks.siammae_attention`."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import siammae_attention as attention
from benchmarks.siammae_models import SIDE
from learned_aggregation.data.videos.scenes import draw_clips

GRID = SIDE // 8


def in_place(key, first, second):
    where = jnp.broadcast_to(jnp.arange(GRID**2), (1, 1, len(first), GRID**2))
    return where, jnp.ones(where.shape[2:], bool)


def test_looking_in_place_is_right_where_little_moved(monkeypatch):
    clips = draw_clips(0, "test", 2, SIDE, 13)[0]
    monkeypatch.setattr(attention, "held_out", lambda *_: clips)
    hits, stays, still = attention.looks(in_place, 8, "photoclips", "test")
    assert stays.all()
    assert 0 < still.mean() < 1
    np.testing.assert_array_equal(hits[0, 0], still)


def test_looking_at_each_clip_s_true_source_is_right(monkeypatch):
    """At the patch nearest to it, which differs from clip to clip and from pair to pair."""
    clips = draw_clips(0, "test", 2, SIDE, 13)[0]
    monkeypatch.setattr(attention, "held_out", lambda *_: clips)
    pairs = iter(attention.PAIRS)

    def at_the_source(key, first, second):
        before, after = next(pairs)
        found = [attention.source(clip.motion, clip.masks, after, before)[0][4::8, 4::8] for clip in clips]
        at = np.clip(np.floor(GRID * np.stack(found)), 0, GRID - 1).astype(int)
        where = (at[..., 1] * GRID + at[..., 0]).reshape(1, 1, len(clips), -1)
        return where, np.ones(where.shape[2:], bool)

    hits, stays, _ = attention.looks(at_the_source, 8, "photoclips", "test")
    assert hits.all()
    assert not stays.all()


def test_block_matching_finds_a_shift_of_the_whole_frame():
    first = jax.random.normal(jax.random.key(0), (2, SIDE, SIDE, 3))
    second = jnp.roll(first, (-8, 16), axis=(1, 2))
    where, hidden = attention.matching_peaks(8, 0.75)(jax.random.key(1), first, second)
    widest = np.asarray(where)[0, len(attention.WINDOWS) - 1]
    rows, columns = np.divmod(np.arange(GRID**2), GRID)
    inside = (rows < GRID - 1) & (columns >= 2)
    expected = (rows + 1) * GRID + columns - 2
    np.testing.assert_array_equal(widest[:, inside], np.stack([expected[inside]] * 2))
    assert hidden.sum() == 2 * 0.75 * GRID**2
