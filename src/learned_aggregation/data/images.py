"""Resizing of image arrays on the host, and whether they fit there."""

import os

import numpy as np

from learned_aggregation.errors import UserError


def check_fits(name: str, size: int, count: int, channels: int) -> None:
    """Refuses images that this machine's memory cannot hold, of which a process dies without a word.

    Args:
      count: of images of `size` pixels along the side, a byte for each channel.
    Raises:
      UserError: they take more than all of it.
    """
    needed, there = count * channels * size**2, _memory()
    if there is not None and needed > there:
        raise UserError(
            f"{name}: expected images that fit into this machine's {there / 2**30:.3g} GiB of memory, got size {size}, "
            f"with which they take {needed / 2**30:.3g} GiB. Choose a smaller size."
        )


def _memory() -> int | None:
    """Bytes of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes square images with Pillow's antialiased bilinear filter.

    Args:
      images: uint8 [N, side, side, channels], channels 1 or 3.
      size: the new side in pixels.
    Returns:
      uint8 [N, size, size, channels]; `images` itself where the side is `size` already.
    """
    from PIL import Image

    count, side, _, channels = images.shape
    if side == size:
        return images
    out = np.empty((count, size, size, channels), np.uint8)
    for source, target in zip(images, out, strict=True):
        picture = Image.fromarray(source[..., 0] if channels == 1 else source)
        resized = picture.resize((size, size), Image.Resampling.BILINEAR)
        target[...] = np.asarray(resized).reshape(size, size, channels)
    return out


def crop_square(image: np.ndarray) -> np.ndarray:
    """The middle square of an image [h, w, channels]; `image` itself where it is square."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
