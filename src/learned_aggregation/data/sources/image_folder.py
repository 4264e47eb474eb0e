"""`type="image_folder"`: a folder for each class, as torchvision's ImageFolder has it."""

from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation.atomic import from_home
from learned_aggregation.data.sources import WHOLE, Entry, Parts
from learned_aggregation.data.sources.splits import NAMES
from learned_aggregation.data.sources.stored import Encoded
from learned_aggregation.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def read(where: str, entry: Entry, options: Any) -> Parts:
    """path/[PART/][CLIENT/]CLASS/image.png: parts where all folders in path are called like parts.

    With `clients="folder"` the folders above the classes are the clients. Images are read in the mode of the first one:
    grey or RGB.

    Raises:
      UserError: no such folder, no images in it, folders at another depth.
    """
    root = from_home(entry.path)
    if not root.is_dir():
        raise UserError(
            f"{where}: expected a folder of images, got {entry.path!r}, which is none. Check the path."
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    in_parts = folders and all(path.name.lower() in NAMES for path in folders)
    parts = {path.name: path for path in folders} if in_parts else {WHOLE: root}
    if entry.clients not in (None, "folder"):
        raise UserError(
            f"{where}.clients: expected 'folder' for a folder of images, got {entry.clients!r}. Write clients='folder'."
        )
    return {part: _columns(where, path, entry.clients is not None) for part, path in parts.items()}


def _columns(where: str, root: Path, by_client: bool) -> dict[str, Any]:
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    form = "CLIENT/CLASS/image" if by_client else "CLASS/image"
    if not files:
        raise UserError(f"{where}: expected images as {root}/{form}.png, got none. Check the path.")
    depth = 3 if by_client else 2
    for path in files:
        if len(path.relative_to(root).parts) != depth:
            raise UserError(
                f"{where}: expected {root}/{form}, got {path}. Move it, or set or leave out clients='folder'."
            )
    columns: dict[str, Any] = {
        "image": Encoded(len(files), _decoder(files), lambda number: str(files[number])),
        "label": np.array([path.parent.name for path in files]),
    }
    if by_client:
        columns["folder"] = np.array([path.parent.parent.name for path in files])
    return columns


def _decoder(files: list[Path]):
    mode: list[str] = []  # of the first image, found when one is asked for

    def decode(number: int) -> np.ndarray:
        from PIL import Image

        if not mode:
            try:
                with Image.open(files[0]) as first:
                    mode.append("L" if first.mode in ("L", "1", "I", "I;16", "LA") else "RGB")
            except Exception as error:  # of the first image, whichever is asked for
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise UserError(
                    f"{files[0]}: expected an image that can be decoded, got {reason}. Repair or remove it."
                ) from error
        with Image.open(files[number]) as image:
            return np.asarray(image.convert(mode[0]))

    return decode
