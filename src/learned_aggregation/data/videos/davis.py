"""DAVIS's folder, of 2016 and of 2017: one sequence at a time, nothing read before it is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learned_aggregation.data.videos.frames import checked_frames, read_annotation, read_frame
from learned_aggregation.errors import UserError


class Sequence(NamedTuple):
    """frames: uint8 [T, h, w, 3]. masks: uint8 [T, h, w], an object's number or 0. labels: objects and background."""

    name: str
    frames: np.ndarray
    masks: np.ndarray
    labels: int


class Davis:
    """The sequences of one list of a DAVIS folder.

    The folder holds JPEGImages/480p/NAME/00000.jpg, Annotations/480p/NAME/00000.png and ImageSets/YEAR/val.txt; 2016's
    lists, whose lines are pairs of files (ImageSets/480p/val.txt), are read as well.

    Args:
      root: the folder. year: "2016", where all that is marked is one object, or "2017", where objects are told apart.
      part: the list: "train", "val". resolution: the folder of the frames.
    Raises:
      UserError: no such folder or list.
    """

    def __init__(self, root: Path, year: str = "2017", part: str = "val", resolution: str = "480p"):
        self.root, self.year, self.resolution = Path(root), year, resolution
        if year not in ("2016", "2017"):
            raise UserError(f"davis: expected the year '2016' or '2017', got {year!r}. Choose one.")
        for folder in ("JPEGImages", "Annotations"):
            if not (self.root / folder / resolution).is_dir():
                raise UserError(
                    f"{self.root / folder / resolution}: expected a folder of DAVIS, got none. Check the path."
                )
        self.names = self._listed(part)

    def _listed(self, part: str) -> list[str]:
        lists = [self.root / "ImageSets" / folder / f"{part}.txt" for folder in (self.year, self.resolution)]
        found = next((path for path in lists if path.is_file()), None)
        if found is None:
            raise UserError(
                f"{lists[0]}: expected the list of sequences, got no file. Add it, one name a line."
            )
        lines = [line.split()[0] for line in found.read_text(encoding="utf-8").splitlines() if line.strip()]
        names = list(dict.fromkeys(Path(line).parent.name if "/" in line else line for line in lines))
        if not names:
            raise UserError(f"{found}: expected names of sequences, got an empty file. Add them.")
        return names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sequence]:
        """One sequence after the other, each read when its turn comes."""
        return (self.read(name) for name in self.names)

    def read(self, name: str) -> Sequence:
        """One sequence.

        Raises:
          UserError: one frame alone, a frame or annotation that cannot be read, is missing or of another size.
        """
        files = checked_frames(self.root / "JPEGImages" / self.resolution / name)
        frames = [read_frame(path) for path in files]
        shape = frames[0].shape[:2]
        for path, frame in zip(files, frames, strict=True):
            if frame.shape[:2] != shape:
                raise UserError(
                    f"{path}: expected a frame of {shape[0]} x {shape[1]} pixels, as the first, got "
                    f"{frame.shape[0]} x {frame.shape[1]}. Take all from one video."
                )
        folder = self.root / "Annotations" / self.resolution / name
        masks = np.stack([read_annotation(folder / f"{path.stem}.png", shape) for path in files])
        if self.year == "2016":
            masks = (masks > 0).astype(np.uint8)
        if not masks[0].any():
            raise UserError(
                f"{folder / (files[0].stem + '.png')}: expected an object in the first frame, got none. "
                "Leave the sequence out."
            )
        return Sequence(name, np.stack(frames), masks, int(masks[0].max()) + 1)
