"""From encoded bytes to a square of pixels."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from iamt_jax.data.metadata import orientation, tell_damaged, turned, without_metadata
from iamt_jax.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Photographs only: Pillow also knows formats that start other programs."""

MAX_PIXELS = 50_000_000
"""More than any camera's face; a small file may unfold to more, to exhaust the memory."""


Picture = UInt8[np.ndarray, "height width 3"] | Float[np.ndarray, "height width 3"] | Image.Image
"""An image that is already decoded; floats are in [0, 1] units, and noise may leave that range."""

LARGEST_FLOAT = 20.0
"""Floats beyond this are 0 to 255 taken for [0, 1], not noise."""


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
        image, extent = _opened(data, size, name)
        turn = orientation(image, name)
        image = _rgb(image)
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files.
        raise InputError(
            f"{name}: cannot be decoded as an image ({_reason(data, error)}): restore it from "
            "the original, or take it off the lists"
        ) from error
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=_centre(extent, size))
    return np.array(turned(square, turn))


def square(
    picture: Picture, size: int, name: str
) -> UInt8[np.ndarray, "size size 3"] | Float[np.ndarray, "size size 3"]:
    """Crops the centred square of a decoded image and resizes it, as `decode` does.

    Uint8 and Pillow images stay uint8; floats become float32, and are not cut or rounded.

    Raises:
      InputError: names the image, what it is, and what it may be.
    """
    if isinstance(picture, Image.Image):
        name = f"{name} ({file})" if (file := getattr(picture, "filename", "")) else name
        pixels = np.asarray(_rgb(turned(picture, orientation(picture, name))))
    else:
        pixels = np.asarray(picture)
    expected = "expected height x width x 3, uint8 or float in [0, 1]"
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        raise InputError(f"{name}: its shape is {pixels.shape}, {expected}")
    floats = np.issubdtype(pixels.dtype, np.floating)
    if not floats and pixels.dtype != np.uint8:
        raise InputError(f"{name}: its type is {pixels.dtype}, {expected}")
    if floats:
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all() or abs(pixels).max() > LARGEST_FLOAT:
            found = f"values from {pixels.min():g} to {pixels.max():g}"
            raise InputError(f"{name}: has {found}, {expected}; divide by 255, or give uint8")
    if pixels.shape[:2] == (size, size):
        return pixels
    box = _centre(pixels.shape[1::-1], size)
    planes = np.moveaxis(pixels, -1, 0) if floats else [pixels]
    resized = [
        Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC, box=box)
        for plane in planes
    ]
    return np.stack(resized, axis=-1) if floats else np.array(resized[0])


def _opened(data: bytes, size: int, name: str) -> tuple[Image.Image, tuple[float, float]]:
    """The loaded image and `_load`'s extent; without its metadata, if that is what is damaged."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        return image, _load(image, size)
    except Exception as error:
        pixels = without_metadata(data)
        if pixels is None:
            raise
        try:
            image = Image.open(io.BytesIO(pixels), formats=FORMATS)
            extent = _load(image, size)
        except Exception:
            raise error from None  # It is not the metadata.
        tell_damaged(name, error)
        return image, extent


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
