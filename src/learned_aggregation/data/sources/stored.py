"""Images and clips that stay on disk, decoded when they are taken."""

from collections.abc import Callable
from typing import Any

import numpy as np

from learned_aggregation.data.images import crop_square, resize
from learned_aggregation.errors import UserError


class Encoded:
    """A column of images on disk.

    Args:
      count: N.
      decode: number -> uint8 [h, w, channels], of any size, of one number of channels.
      told: number -> what the image is called in messages.
    """

    def __init__(
        self, count: int, decode: Callable[[int], np.ndarray], told: Callable[[int], str] = "image {}".format
    ):
        self._count, self._decode, self._told = count, decode, told

    def __len__(self) -> int:
        return self._count

    def image(self, number: int) -> np.ndarray:
        """Image `number`.

        Raises:
          UserError: it cannot be read.
        """
        try:
            image = np.asarray(self._decode(int(number)))
        except UserError:
            raise
        except Exception as error:  # whatever the decoders raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"{self._told(number)}: expected an image that can be decoded, got {reason}. Repair or remove it."
            ) from error
        return image if image.ndim == 3 else image[..., None]


class StoredImages:
    """Some images of a column, cropped to their middle square and resized: uint8 [n, size, size, channels].

    It is read by arrays of numbers and by slices, as the streams do.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, column: Encoded, ids: np.ndarray, size: int):
        self._column, self._ids = column, ids
        self.shape = (len(ids), size, size, column.image(ids[0]).shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        numbers = self._ids[rows]
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for image, number in zip(images, numbers, strict=True):
            found = self._column.image(number)
            if found.shape[-1] != self.shape[-1]:
                raise UserError(
                    f"image {number}: expected {self.shape[-1]} channels as the first one has, got {found.shape[-1]}. "
                    "Convert the images to one mode."
                )
            image[...] = resize(crop_square(found)[None], self.shape[1])[0]
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


class StoredClips:
    """Some clips of a folder, as streams read them: uint8 [n, frames, size, size, 3].

    Args:
      starts: (video, first frame) of each clip.
      read: (video, first frame, frames) -> uint8 [frames, h, w, 3].
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        starts: list[tuple[int, int]],
        read: Callable[[int, int, int], np.ndarray],
        frames: int,
        size: int | None = None,
    ):
        self._starts, self._read, self._frames, self._size = starts, read, frames, size

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def shape(self) -> tuple[int, ...]:
        size = self._size or 0  # before `at` says it
        return (len(self._starts), self._frames, size, size, 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def at(self, ids: np.ndarray, size: int) -> "StoredClips":
        """The clips of these numbers, their middle squares resized."""
        return StoredClips([self._starts[int(i)] for i in ids], self._read, self._frames, size)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        clips = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for clip, number in zip(clips, numbers, strict=True):
            frames = self._read(self._starts[number][0], self._starts[number][1], self._frames)
            clip[...] = resize(np.stack([crop_square(frame) for frame in frames]), self.shape[2])
        return clips

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def fitted(where: str, column: Any, ids: np.ndarray, size: int, whole_mb: int | None) -> Any:
    """The images `ids` of a column at the size of the task.

    Args:
      column: `Encoded`, or an array [N, h, w] or [N, h, w, c] of `forms`: uint8, or floats that are the model's inputs
        already.
      whole_mb: images on disk with more megabytes than this stay there; None reads all.
    Returns:
      [n, size, size, c]: an array, or StoredImages.
    Raises:
      UserError: floats of another size.
    """
    if isinstance(column, Encoded):
        stored = StoredImages(column, ids, size)
        large = whole_mb is not None and stored.nbytes > whole_mb * 2**20
        return stored if large else np.asarray(stored)
    images = column[ids]
    images = images[..., None] if images.ndim == 3 else images
    is_float = np.issubdtype(images.dtype, np.floating)
    if images.shape[1:3] == (size, size):
        return images.astype(np.float32) if is_float else images
    if is_float or images.shape[-1] not in (1, 3):
        raise UserError(
            f"{where}: expected images of {size} x {size}, as the task's name says, got {images.shape[1]} x "
            f"{images.shape[2]}; only uint8 images of 1 or 3 channels are resized. Change the size in the name."
        )
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(images[:, top : top + side, left : left + side], size)


def fitted_clips(where: str, column: Any, ids: np.ndarray, size: int, whole_mb: int | None) -> Any:
    """The clips `ids` of a column at the size of the task, uint8 [n, frames, size, size, 3]; see `fitted`.

    Raises:
      UserError: an array of another form or size.
    """
    if isinstance(column, StoredClips):
        stored = column.at(ids, size)
        large = whole_mb is not None and stored.nbytes > whole_mb * 2**20
        return stored if large else np.asarray(stored)
    if column.ndim != 5 or column.dtype != np.uint8 or column.shape[2:] != (size, size, 3):
        raise UserError(
            f"{where}: expected videos as uint8 [N, frames, {size}, {size}, 3], got {column.dtype} "
            f"{list(column.shape)}. Convert them, or change the size in the task's name."
        )
    return column[ids]
