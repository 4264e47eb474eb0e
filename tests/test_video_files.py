"""DAVIS's folder and folders of frames: read as they are, and one clear line for what cannot be."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from learned_aggregation.cli import main
from learned_aggregation.data import DataOptions, load_dataset
from learned_aggregation.data.videos.davis import Davis
from learned_aggregation.data.videos.frames import read_video
from learned_aggregation.errors import UserError

SHAPE = (12, 20)


def write(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array, "P" if palette else None)
    if palette:
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(path)


@pytest.fixture
def davis(tmp_path):
    """Two sequences of 4 frames: objects 1 and 2 as a palette, and 0/255 in grey."""
    rng = np.random.default_rng(0)
    for name in ("bear", "swan"):
        for t in range(4):
            frame = rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
            write(tmp_path / f"JPEGImages/480p/{name}/{t:05d}.jpg", frame)
            marks = np.zeros(SHAPE, np.uint8)
            marks[2:5, t : t + 4], marks[7:9, 10:15] = 1, 2
            file = tmp_path / f"Annotations/480p/{name}/{t:05d}.png"
            write(file, marks, True) if name == "bear" else write(file, (marks == 1) * np.uint8(255))
    for year in ("2016", "2017"):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
        (tmp_path / "ImageSets" / year / "val.txt").write_text("bear\nswan\n")
    return tmp_path


def test_objects_are_told_apart_in_2017_and_one_in_2016(davis):
    bear, swan = Davis(davis, "2017")
    assert (bear.frames.shape, bear.labels, swan.labels) == ((4, *SHAPE, 3), 3, 2)
    assert np.unique(bear.masks).tolist() == [0, 1, 2]
    assert np.unique(swan.masks).tolist() == [0, 1]
    one = Davis(davis, "2016").read("bear")
    np.testing.assert_array_equal(one.masks, bear.masks > 0)


def test_the_lists_of_2016_are_pairs_of_files(davis):
    (davis / "ImageSets/2016/val.txt").unlink()
    lines = [f"/JPEGImages/480p/swan/{t:05d}.jpg /Annotations/480p/swan/{t:05d}.png" for t in range(4)]
    (davis / "ImageSets/480p").mkdir()
    (davis / "ImageSets/480p/val.txt").write_text("\n".join(lines))
    assert Davis(davis, "2016").names == ["swan"]


def test_a_sequence_is_read_when_its_turn_comes(davis):
    (davis / "JPEGImages/480p/swan/00002.jpg").write_bytes(b"no image")
    sequences = iter(Davis(davis))
    assert next(sequences).name == "bear"
    with pytest.raises(UserError, match=r"swan/00002.jpg: expected a frame that can be decoded"):
        next(sequences)


def spoil_one_frame(root):
    for t in (1, 2, 3):
        (root / f"JPEGImages/480p/bear/{t:05d}.jpg").unlink()


def spoil_missing(root):
    (root / "Annotations/480p/bear/00002.png").unlink()


def spoil_size(root):
    write(root / "Annotations/480p/bear/00001.png", np.ones((5, 5), np.uint8), True)


def spoil_palette_frame(root):
    (root / "JPEGImages/480p/bear/00001.jpg").unlink()
    write(root / "JPEGImages/480p/bear/00001.png", np.ones(SHAPE, np.uint8), True)


def spoil_colours(root):
    write(root / "Annotations/480p/bear/00001.png", np.ones((*SHAPE, 3), np.uint8))


def spoil_frame_size(root):
    write(root / "JPEGImages/480p/bear/00003.jpg", np.ones((6, 6, 3), np.uint8))


def spoil_first(root):
    write(root / "Annotations/480p/bear/00000.png", np.zeros(SHAPE, np.uint8), True)


def spoil_frame(root):
    (root / "JPEGImages/480p/bear/00002.jpg").write_bytes(b"no image")


SPOILT = [
    (spoil_one_frame, r"480p/bear: expected a sequence of at least 2 frames, got 1\."),
    (spoil_missing, r"bear/00002.png: expected an annotation of the frame of that name, got no file"),
    (spoil_size, r"bear/00001.png: expected an annotation of 12 x 20 pixels, as its frame, got 5 x 5"),
    (spoil_palette_frame, r"bear/00001.png: expected a colour frame, got a palette image"),
    (
        spoil_colours,
        r"bear/00001.png: expected an annotation as a palette or grey image, got one of mode RGB",
    ),
    (spoil_frame_size, r"bear/00003.jpg: expected a frame of 12 x 20 pixels"),
    (spoil_first, r"bear/00000.png: expected an object in the first frame, got none"),
    (spoil_frame, r"bear/00002.jpg: expected a frame that can be decoded"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_is_wrong_is_named_in_one_line(davis, spoil, message):
    spoil(davis)
    with pytest.raises(UserError, match=message) as refused:
        Davis(davis).read("bear")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_the_command_refuses_it_before_it_trains(davis, spoil, message, capsys):
    spoil(davis)
    run = davis / "run"
    flags = ["--config", "config/ssl/siammae_davis.py", "--run_dir", str(run)]
    status = main([*flags, "--cfg-options", f"siammae.davis={davis}"])
    told = capsys.readouterr().err
    assert status == 2
    assert re.search(f"^error: .*{message}", told)
    assert told.count("\n") == 1
    assert not run.exists()


def test_a_gap_longer_than_every_clip_names_the_task(folder, capsys):
    """Of clips of 2 frames."""
    lines = [
        f"_base_ = {str(Path('config/_base_/siammae.py').resolve())!r}",
        f"datasets = dict(mine={entry(folder, 2)!r})",
        "task = 'siammae_p4_h16_m32_nh2_nl1_dh16_dnh2_dnl1_mine_8'",
        "objective_options = dict(shortest_gap=2)",
        "optimizer = 'fedavg'",
    ]
    (folder / "gap.py").write_text("\n".join(lines), encoding="utf-8")
    assert main(["--config", str(folder / "gap.py"), "--run_dir", str(folder / "run")]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"error: siammae_.*_mine_8: expected a shortest gap of at most 1 frames, since .* has 2, got 2\. .*\n",
        told,
    )


def test_a_folder_or_list_that_is_not_there(davis):
    with pytest.raises(UserError, match=r"nowhere/JPEGImages/480p: expected a folder of DAVIS"):
        Davis(davis / "nowhere")
    with pytest.raises(UserError, match=r"ImageSets/2017/train.txt: expected the list"):
        Davis(davis, part="train")


@pytest.fixture
def folder(tmp_path):
    """Two videos of 7 and 5 frames in the folders of two clients."""
    rng = np.random.default_rng(0)
    for client, count in (("anna", 7), ("bo", 5)):
        for t in range(count):
            frame = rng.integers(0, 255, (10, 14, 3), dtype=np.uint8)
            write(tmp_path / f"{client}/video/{t:03d}.png", frame)
    return tmp_path


def entry(folder, frames):
    return {"type": "video_folder", "path": str(folder), "clients": "folder", "frames": frames,
            "fractions": (0.4, 0.3, 0.3)}  # fmt: skip


def test_frames_become_clips_that_stay_on_disk(folder):
    options = DataOptions(datasets={"mine": entry(folder, 2)}, whole_mb=0)
    dataset = load_dataset("mine", 8, options)
    sizes = {split: part.examples["video"].shape for split, part in dataset.splits.items()}
    assert sum({split: shape[0] for split, shape in sizes.items() if split != "inner_valid"}.values()) >= 4
    train = dataset.splits["train"]
    assert train.examples["video"].shape[1:] == (2, 8, 8, 3)
    assert not isinstance(train.examples["video"], np.ndarray)
    whole = load_dataset("mine", 8, options._replace(whole_mb=None)).splits["train"]
    np.testing.assert_array_equal(train.examples["video"][np.array([0])], whole.examples["video"][:1])
    assert train.clients is not None
    assert set(train.clients.tolist()) <= {0, 1}


def test_no_video_as_long_as_a_clip(folder):
    options = DataOptions(datasets={"mine": entry(folder, 9)})
    with pytest.raises(UserError, match=r"expected a video of at least 9 frames in .*, the longest has 7"):
        load_dataset("mine", 8, options)


def test_a_video_file_needs_its_library_or_is_refused_by_name(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    options = DataOptions(datasets={"mine": {"type": "video_folder", "path": str(tmp_path), "frames": 2}})
    with pytest.raises(UserError, match=r"a.mp4: expected (the library av|a video that can be decoded)"):
        load_dataset("mine", 8, options)


@pytest.mark.extras
def test_a_video_file_is_read_frame_by_frame(tmp_path):
    """Frames of one grey each, written losslessly: the ones that are asked for, in their order."""
    av = pytest.importorskip("av")
    path = tmp_path / "a.mkv"
    greys = np.arange(10, 250, 10)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "bgr0"
        for grey in greys:
            frame = av.VideoFrame.from_ndarray(np.full((12, 16, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert read_video(path).shape == (24, 12, 16, 3)
    np.testing.assert_array_equal(read_video(path, start=3, count=2)[:, 5, 5, 0], greys[3:5])
    options = DataOptions(
        datasets={
            "mine": {"type": "video_folder", "path": str(tmp_path), "frames": 2, "fractions": (0.4, 0.3, 0.3)}
        }
    )
    video = load_dataset("mine", 8, options).splits["train"].examples["video"]
    assert video.shape[1:] == (2, 8, 8, 3)
    assert set(np.unique(np.asarray(video))) <= set(greys)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        UserError, match=r"a.mkv: expected a video (that can be decoded|of at least 2 frames)"
    ):
        read_video(path)
