"""From encoded bytes to a square of pixels."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from iamt_jax.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Photographs only: Pillow also knows formats that start other programs."""

MAX_PIXELS = 50_000_000
"""More than any camera's face; a small file may unfold to more, to exhaust the memory."""


def decode(data: bytes, size: int, name: str) -> UInt8[np.ndarray, "size size 3"]:
    """Decodes an image, turns it upright, crops the centred square, and resizes it.

    The result is sRGB as stored, resized by Pillow's antialiased bicubic filter; transparency
    is laid on white, 16 bits are reduced to 8.

    Args:
      data: the encoded image, in one of `FORMATS`.
      size: height and width of the result, in pixels.
      name: how an error calls the image.

    Returns:
      Red, green and blue, 0 to 255, in a writable array.

    Raises:
      InputError: truncated, damaged, of another format, or larger than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        extent = _load(image, size)
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        image = _rgb(image)
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files.
        raise InputError(
            f"{name}: cannot be decoded as an image ({_reason(data, error)}): restore it from "
            "the original, or take it off the lists"
        ) from error
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=_centre(extent, size))
    square.info.clear()  # exif_transpose would write all of it anew, and may stumble over it.
    square.getexif()[ExifTags.Base.Orientation] = orientation
    return np.array(ImageOps.exif_transpose(square))


def _load(image: Image.Image, size: int) -> tuple[float, float]:
    """Decodes the pixels; returns the width and height of what they show, in pixels."""
    extent = image.size
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ValueError(f"it has {pixels:,} pixels, more than {MAX_PIXELS:,}")
    # A large JPEG is decoded at libjpeg's smallest scale that still covers `size`: for CelebA at
    # 64 pixels 1.7 times as fast, and it moves a pixel by 0.6 of 255, as Lanczos would.
    if drafted := image.draft(None, (size, size)):
        extent = drafted[1][2:]  # A fraction, where the last pixel is only partly covered.
    image.load()
    return extent


def _centre(extent: tuple[float, float], size: int) -> tuple[float, float, float, float]:
    side = min(extent)
    left, top = ((length - side) / 2 for length in extent)
    if side == size:  # Rather half a pixel off the centre than blurred for nothing.
        left, top = int(left), int(top)
    return left, top, left + side, top + side


def _reason(data: bytes, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"its {len(data):,} bytes are none of {', '.join(FORMATS)}"
    return " ".join(str(error).split())


def _rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB; Pillow alone would clip 16 bits and drop transparency."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow may widen to 32
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
