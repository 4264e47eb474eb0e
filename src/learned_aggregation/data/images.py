"""Resizing of image arrays on the host."""

import numpy as np


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
