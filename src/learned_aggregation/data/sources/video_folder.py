"""`type="video_folder"`: a folder for each video with its frames, or video files; clips are read when taken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation.atomic import from_home
from learned_aggregation.data.sources import WHOLE, Entry, Parts
from learned_aggregation.data.sources.splits import NAMES
from learned_aggregation.data.sources.stored import StoredClips
from learned_aggregation.data.videos.frames import VIDEOS, checked_frames, frame_files, read_frame, read_video
from learned_aggregation.errors import UserError

CLIP = 49
"""Frames of a clip: the longest gap of the paper, 48, and the first frame."""


def read(where: str, entry: Entry, options: Any) -> Parts:
    """path/[PART/][CLIENT/]VIDEO/frame.jpg, or path/[PART/][CLIENT/]video.mp4: parts where all folders are called like
    parts. A video is cut into clips of `entry.frames` frames (49 where it says none), one behind the other.

    Raises:
      UserError: no such folder, no videos in it, a video with one frame, none that is as long as a clip.
    """
    root = from_home(entry.path)
    if not root.is_dir():
        raise UserError(
            f"{where}: expected a folder of videos, got {entry.path!r}, which is none. Check the path."
        )
    if entry.clients not in (None, "folder"):
        raise UserError(
            f"{where}.clients: expected 'folder' for a folder of videos, got {entry.clients!r}. Write clients='folder'."
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    in_parts = folders and all(path.name.lower() in NAMES for path in folders)
    parts = {path.name: path for path in folders} if in_parts else {WHOLE: root}
    return {part: _columns(where, path, entry) for part, path in parts.items()}


def _columns(where: str, root: Path, entry: Entry) -> dict[str, Any]:
    depth = 2 if entry.clients else 1
    videos = sorted(_videos(root, depth))
    if not videos:
        raise UserError(
            f"{where}: expected videos as {root}/{'CLIENT/' if entry.clients else ''}VIDEO/frame.jpg or .mp4, got "
            "none. Check the path."
        )
    length = entry.frames or CLIP
    lengths = [_length(path) for path in videos]
    starts = [
        (number, start)
        for number, frames in enumerate(lengths)
        for start in range(0, frames - length + 1, length)
    ]
    if not starts:
        raise UserError(
            f"{where}: expected a video of at least {length} frames in {root}, the longest has {max(lengths)}. "
            f"Lower frames, and the gap with it."
        )
    columns: dict[str, Any] = {"video": StoredClips(starts, _reader(videos), length)}
    if entry.clients:
        columns["folder"] = np.array([videos[number].parent.name for number, _ in starts])
    return columns


def _videos(root: Path, depth: int) -> list[Path]:
    inside = sorted(root.iterdir())
    if depth > 1:
        return [video for path in inside if path.is_dir() for video in _videos(path, depth - 1)]
    return [p for p in inside if (p.is_dir() and frame_files(p)) or p.suffix.lower() in VIDEOS]


def _length(path: Path) -> int:
    return len(checked_frames(path)) if path.is_dir() else len(read_video(path))


def _reader(videos: list[Path]) -> Callable[[int, int, int], np.ndarray]:
    def read_clip(video: int, start: int, frames: int) -> np.ndarray:
        path = videos[video]
        if not path.is_dir():
            return read_video(path, start, frames)
        found = [read_frame(file) for file in checked_frames(path)[start : start + frames]]
        return np.stack([_alike(path, frame, found[0]) for frame in found])

    return read_clip


def _alike(path: Path, frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    if frame.shape != first.shape:
        raise UserError(
            f"{path}: expected frames of one size, got {frame.shape[:2]} after {first.shape[:2]}. Make them alike."
        )
    return frame
