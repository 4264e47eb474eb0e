"""Embeddings stores: their files, ESC-50's folder, spoken digits, and their division over clients."""

import wave
from typing import Any

import numpy as np
import pytest
from embeddings import data

from learned_aggregation.data import DataOptions
from learned_aggregation.errors import UserError
from learned_aggregation.generators.esc50 import esc50
from learned_aggregation.generators.stand_ins import glyph_conditions, spoken_digits
from learned_aggregation.generators.store import (
    Store,
    conditions,
    divided,
    read_store,
    standardised,
    trained_on,
    write_store,
)


def store_of(count=60, clients=3):
    audio, clip, label = data(count=count)
    client_of = np.arange(count) // 2 % clients
    return Store(audio, clip[label], label, client_of, np.arange(count) % 5 == 4, ("a", "b"))


def test_a_store_is_written_and_read(tmp_path):
    path, store = str(tmp_path / "store.npz"), store_of()
    write_store(path, store)
    found = read_store(path)
    for one, other in zip(store, found, strict=True):
        np.testing.assert_array_equal(one, other)
    scaled = standardised(found)
    assert np.mean(scaled.audio[~scaled.is_test] ** 2) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(conditions(found), data()[1], rtol=1e-6)


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "text",
        "no label",
        "lengths",
        "nan",
        "pickle",
        "array",
        "packed",
        "huge",
        "labels",
        "empty",
        "is_test",
    ],
)
def test_a_store_that_cannot_be_used_is_refused(how, tmp_path):
    path, store = tmp_path / "store.npz", store_of()._asdict()
    arrays: dict[str, Any] = {name: np.array(leaf) for name, leaf in store.items()}
    if how == "text":
        path.write_text("no npz")
    elif how != "missing":
        if how == "no label":
            del arrays["label"]
        elif how == "lengths":
            arrays["label"] = arrays["label"][:-1]
        elif how == "nan":
            arrays["audio"][3, 0, 0] = np.nan
        elif how == "huge":
            arrays["audio"] = arrays["audio"].astype(np.float64) * 1e300
        elif how == "labels":
            arrays["label"] = arrays["label"].astype(np.int64) + 2**31
            del arrays["classes"]
        elif how == "empty":
            arrays["audio"] = arrays["audio"][:, :, :0]
        elif how == "is_test":
            arrays["is_test"] = np.full(60, np.nan)
        elif how == "pickle":
            arrays["label"] = np.array([{}] * 60, object)
        if how == "array":
            path = tmp_path / "a.npy"
            np.save(path, arrays["audio"])
        else:
            np.savez_compressed(path, **arrays)
        if how == "packed":  # damaged among the packed numbers
            content = bytearray(path.read_bytes())
            content[200:600] = bytes(400)
            path.write_bytes(content)
    with pytest.raises(UserError, match=r"store_path: expected an \.npz"):
        read_store(str(path))


def test_large_embeddings_are_in_units_of_their_root_mean_square():
    """The square of 1e25 is more than a float32 holds."""
    store = store_of()
    large = standardised(store._replace(audio=store.audio * np.float32(1e25)))
    np.testing.assert_allclose(large.audio, standardised(store).audio, rtol=1e-5)


def test_more_classes_than_characters_are_refused_in_a_line():
    with pytest.raises(UserError, match=r"store_path: expected at most 62 classes .* got 63"):
        glyph_conditions(63)


def test_without_is_test_a_fifth_of_each_class_and_client_is_held_out(tmp_path):
    store = store_of()._asdict()
    del store["is_test"]
    np.savez(tmp_path / "store.npz", **store)
    found = read_store(str(tmp_path / "store.npz"))
    assert found.is_test.sum() == 12
    train, valid = trained_on(found)
    assert not set(train.tolist()) & set(valid.tolist())
    assert sorted([*train, *valid]) == np.flatnonzero(~found.is_test).tolist()


def test_clients_hold_classes_disjoint_shared_or_by_nature():
    store = store_of()
    train, _ = trained_on(store)
    disjoint = divided(store, train, "disjoint", 2)
    assert [set(store.label[rows].tolist()) for rows in disjoint] == [{0}, {1}]
    shared = divided(store, train, "shared", 3)
    assert all(set(store.label[rows].tolist()) == {0, 1} for rows in shared)
    natural = divided(store, train, "natural", 3)
    assert [set(store.client[rows].tolist()) for rows in natural] == [{0}, {1}, {2}]
    for rows in (disjoint, shared, natural):
        assert sorted(np.concatenate(rows).tolist()) == train.tolist()
    with pytest.raises(UserError, match="num_clients: expected 3"):
        divided(store, train, "natural", 2)
    with pytest.raises(UserError, match="num_clients: expected at most"):
        divided(store, train, "disjoint", 3)


def write_sound(path, pitch, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(4000)
        tone = 9000 * np.sin(2 * np.pi * pitch * np.arange(2000) / 4000)
        file.writeframes(tone.astype("<i2" if width == 2 else "<i4").tobytes())


def sounds(folder, width=2):
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, name in ((0, "dog"), (36, "vacuum_cleaner")):
            file = f"{fold}-{target}.wav"
            lines.append(f"{file},{fold},{target},{name},False,1,A")
            write_sound(folder / "audio" / file, 200 + 30 * target + 5 * fold, width)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")


def test_esc_50_s_folder_is_read_and_says_that_it_is_a_stand_in(tmp_path):
    sounds(tmp_path)
    said = []
    store = esc50(str(tmp_path), said.append)
    assert store.audio.shape == (10, 4, 512)
    assert store.clip.shape == (10, 768)
    assert store.classes == ("dog", "vacuum_cleaner")
    assert store.label.tolist() == [0, 1] * 5
    assert store.is_test.sum() == 2
    assert sorted(set(store.client.tolist())) == [0, 1, 2, 3, 4]
    assert "random network" in said[0]
    apart = np.linalg.norm(store.audio[0] - store.audio[1])
    assert apart > 2 * np.linalg.norm(store.audio[0] - store.audio[2])


def test_a_folder_that_is_not_esc_50_s_is_refused(tmp_path):
    with pytest.raises(UserError, match="store_path: expected ESC-50's folder"):
        esc50(str(tmp_path), print)
    sounds(tmp_path, width=4)
    with pytest.raises(UserError, match="16-bit wav"):
        esc50(str(tmp_path), lambda text: None)
    (tmp_path / "meta" / "esc50.csv").write_text("filename,fold\na.wav,1\n")
    with pytest.raises(UserError, match="a row without target, category"):
        esc50(str(tmp_path), print)


def test_spoken_digits_become_a_store(tmp_path):
    random = np.random.default_rng(0)
    lengths = random.integers(900, 1500, 12)
    np.savez(
        tmp_path / "fsdd.npz",
        x=random.integers(-2000, 2000, lengths.sum()).astype(np.int16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        y=np.arange(12) % 3,
        speaker=np.arange(12) // 6,
        is_test=np.arange(12) % 4 == 0,
    )
    store = spoken_digits(DataOptions()._replace(fsdd_file=str(tmp_path / "fsdd.npz")))
    assert store.audio.shape == (12, 4, 512)
    assert store.client.tolist() == [0] * 6 + [1] * 6
    assert store.is_test.sum() == 3
    assert len(store.classes) == 10
