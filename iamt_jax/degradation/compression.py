"""Large pixels and JPEG, by Pillow: pixels are rounded to 8 bits first."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image

_Images = Float[np.ndarray, "batch height width 3"]


def pixelate(images: _Images, fraction: float) -> _Images:
    """Shrinks images to `fraction` of each side and back, by Pillow's BOX filter."""

    def shrink(image: Image.Image) -> Image.Image:
        small = [max(1, int(side * fraction)) for side in image.size]
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _by_pillow(images, shrink)


def jpeg_compression(images: _Images, quality: int) -> _Images:
    """Saves images as JPEG of `quality` 1 to 100, chroma halved, and reads them again."""

    def compress(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(images, compress)


def _by_pillow(images: _Images, change: Callable[[Image.Image], Image.Image]) -> _Images:
    levels = (images * 255).round().clip(0, 255).astype(np.uint8)
    changed = [np.asarray(change(Image.fromarray(image))) for image in levels]
    return np.array(changed, np.float32) / np.float32(255)
