"""Frames and annotations as files: read, checked and refused by name."""

import itertools
from pathlib import Path

import numpy as np

from learned_aggregation.errors import UserError

FRAMES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg")


def read_frame(path: Path) -> np.ndarray:
    """A frame: uint8 [h, w, 3].

    Raises:
      UserError: a file that cannot be read, or a palette image, which is an annotation and no frame.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode == "P":
                raise UserError(
                    f"{path}: expected a colour frame, got a palette image, as annotations are. "
                    "Convert it to RGB, or check the folder."
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(path, "a frame", error) from error


def read_annotation(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The number of the object at each pixel, 0 for none: uint8 [h, w].

    A palette image holds the numbers themselves; a grey one that holds 0 and 255 alone marks one object, another grey
    one holds numbers.

    Args:
      shape: (height, width) of the frame that it belongs to.
    Raises:
      UserError: a file that is not there or cannot be read, colours in the place of numbers, another size.
    """
    from PIL import Image

    if not path.is_file():
        raise UserError(f"{path}: expected an annotation of the frame of that name, got no file. Add it.")
    try:
        with Image.open(path) as image:
            mode, marks = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(path, "an annotation", error) from error
    if mode not in ("P", "L", "1"):
        raise UserError(
            f"{path}: expected an annotation as a palette or grey image, got one of mode {mode}. "
            "Save the objects' numbers, not their colours."
        )
    if shape is not None and marks.shape != shape:
        raise UserError(
            f"{path}: expected an annotation of {shape[0]} x {shape[1]} pixels, as its frame, got "
            f"{marks.shape[0]} x {marks.shape[1]}. Take both from the same resolution."
        )
    marks = marks.astype(np.uint8)
    is_switch = mode != "P" and set(np.unique(marks)) <= {0, 255}
    return (marks > 0).astype(np.uint8) if is_switch else marks


def _unreadable(path: Path, what: str, error: Exception) -> UserError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(f"{path}: expected {what} that can be decoded, got {reason}. Repair or remove it.")


def frame_files(folder: Path) -> list[Path]:
    """The frames in a folder, in the order of their names; [] where there are none."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in FRAMES and path.is_file())


def checked_frames(folder: Path) -> list[Path]:
    """`frame_files` of a sequence.

    Raises:
      UserError: fewer than two: nothing can be propagated in one frame.
    """
    files = frame_files(folder) if folder.is_dir() else []
    if len(files) < 2:
        raise UserError(
            f"{folder}: expected a sequence of at least 2 frames, got {len(files)}. Add frames, or leave it out."
        )
    return files


def read_video(path: Path, start: int = 0, count: int | None = None) -> np.ndarray:
    """Frames of a video file, uint8 [T, h, w, 3]: all of them, or `count` from `start` on; no further ones are decoded.

    Raises:
      UserError: PyAV is not there (`pip install av`), it cannot decode the file, the file has one frame or none.
    """
    try:
        from av import open as open_video  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise UserError(
            f"{path}: expected the library av (PyAV) to decode videos, got none. "
            "Install it: pip install 'learned-aggregation[video]'; folders of frames need nothing."
        ) from error
    stop = None if count is None else start + count
    try:
        with open_video(str(path)) as container:
            decoded = itertools.islice(container.decode(video=0), start, stop)
            frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
    except (OSError, ValueError, IndexError) as error:  # PyAV's errors are of these
        raise _unreadable(path, "a video", error) from error
    if len(frames) < 2:
        raise UserError(f"{path}: expected a video of at least 2 frames, got {len(frames)}. Leave it out.")
    return np.stack(frames)
