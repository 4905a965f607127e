"""Decodes images and crops them to a square of pixels."""

from __future__ import annotations

import io
import math
import os

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from iamt_jax.data.image_metadata import (
    read_orientation,
    turn_upright,
    warn_damaged,
    without_metadata,
)
from iamt_jax.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats of photographs; some of Pillow's others start external programs."""

DECODE_THREADS = max(4, os.cpu_count() or 1)
"""Threads that decode; decoding releases Python's global lock."""

MAX_PIXELS = 50_000_000
"""Limit of an image's size; a small malicious file can otherwise decode to gigabytes."""

DecodedImage = (
    UInt8[np.ndarray, "height width 3"] | Float[np.ndarray, "height width 3"] | Image.Image
)
"""An image that is already decoded; floats are in [0, 1], which noise may leave."""

_EXPECTED = "expected height x width x 3, uint8 or float in [0, 1]"

_LARGEST_FLOAT = 20.0
"""Floats beyond this are taken for pixels of 0 to 255 given by mistake, not for noise."""

_DARKEST = -0.05
"""Parts of an image with a mean below this are darker than black, if noise does not explain it."""


def decode(data: bytes, size: int, name: str) -> UInt8[np.ndarray, "size size 3"]:
    """Decodes an image, turns it upright, crops the centred square, and resizes it.

    The result is sRGB as stored, in a writable array, resized by Pillow's antialiased bicubic
    filter. Transparency is composited on white; 16 bits are reduced to 8. `square` of the decoded
    image gives the same pixels. Messages contain `name`.

    Raises:
      InputError: truncated, damaged, of another format, or larger than `MAX_PIXELS`.
    """
    try:
        image = _upright(_opened(data, name), name)
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files.
        raise _refusal(data, name, error) from error
    return np.array(_resized(image, size))


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of an image that can be decoded, pixels, as stored."""
    return _opened(data, name).size


def check_header(data: bytes, name: str) -> None:
    """Checks that an image begins as one of `FORMATS` does, without decoding its pixels.

    Raises:
      InputError: it does not, or it is larger than `MAX_PIXELS`.
    """
    try:
        _headed(data)
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files.
        raise _refusal(data, name, error) from error


def square(
    picture: DecodedImage, size: int, name: str
) -> UInt8[np.ndarray, "size size 3"] | Float[np.ndarray, "size size 3"]:
    """Crops the centred square of a decoded image and resizes it, as `decode` does.

    Uint8 and Pillow images give uint8. Floats of the right size become float32 and keep their
    values. Floats of another size are rounded to 8 bits first, as in a file, if all lie in [0, 1];
    with values outside, as after noise, they are resized without rounding.

    Raises:
      InputError: the shape, the type or the range is wrong; the message names the image.
    """
    if isinstance(picture, Image.Image):
        name = f"{name} ({file})" if (file := getattr(picture, "filename", "")) else name
        try:
            return np.array(_resized(_upright(picture, name), size))
        except Exception as error:  # Pillow reads the pixels only now.
            raise InputError(
                f"{name}: cannot be decoded as an image ({' '.join(str(error).split())}): restore "
                "it from the original"
            ) from error
    pixels = np.asarray(picture)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        hint = _shape_hint(pixels.shape)
        raise InputError(f"{name}: its shape is {pixels.shape}, {_EXPECTED}{hint}")
    floats = np.issubdtype(pixels.dtype, np.floating)
    if not floats and pixels.dtype != np.uint8:
        hint = "; convert values of 0 to 255 to uint8"
        raise InputError(f"{name}: its type is {pixels.dtype}, {_EXPECTED}{hint}")
    if floats:
        pixels = pixels.astype(np.float32)
        if fault := _values_fault(pixels):
            raise InputError(f"{name}: has {fault}")
    if pixels.shape[:2] == (size, size):
        return pixels
    if floats and pixels.min() >= 0 and pixels.max() <= 1:
        pixels = (pixels * 255).round().astype(np.uint8)
    if pixels.dtype == np.uint8:
        return np.array(_resized(Image.fromarray(pixels), size))
    planes = [_resized(Image.fromarray(plane), size) for plane in np.moveaxis(pixels, -1, 0)]
    return np.stack(planes, axis=-1)


def _shape_hint(shape: tuple[int, ...]) -> str:
    """The remedy for an image with other channels, or with its channels first."""
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] == 1):
        return "; it is grey: repeat its channel, numpy.repeat(x.reshape(*x.shape[:2], 1), 3, 2)"
    if len(shape) == 3 and shape[-1] == 4:
        return "; drop its fourth channel, x[..., :3], or give a Pillow image, composited on white"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; its channels come first: give x.transpose(1, 2, 0), in PyTorch x.permute(1, 2, 0)"
    return ""


def _values_fault(pixels: Float[np.ndarray, "height width 3"]) -> str:
    """Describes values that are no image in [0, 1] with noise, and the remedy; "" if they are."""
    if count := pixels.size - np.count_nonzero(np.isfinite(pixels)):
        return f"{count:,} values that are nan or infinite, {_EXPECTED}; replace them"
    found = f"values from {pixels.min():g} to {pixels.max():g}, {_EXPECTED}"
    if abs(pixels).max() > _LARGEST_FLOAT:
        return f"{found}; divide by 255, or give uint8"
    if _is_below_black(pixels):
        return f"{found}; undo the normalisation: (x + 1) / 2 for [-1, 1], or x * std + mean"
    return ""


def _is_below_black(pixels: Float[np.ndarray, "height width 3"]) -> bool:
    """True if a sixteenth of the image has a negative mean that noise does not explain.

    Noise, whose mean is 0, may make pixels negative, but hardly the mean of many. Images that were
    normalised to [-1, 1], or by a mean and a standard deviation, have such dark parts.
    """
    for rows in np.array_split(pixels, 4):
        for part in np.array_split(rows, 4, axis=1):
            # Six standard errors; the pixels of dark parts themselves vary little.
            if part.size and part.mean() < _DARKEST - 6 * part.std() / math.sqrt(part.size):
                return True
    return False


def _opened(data: bytes, name: str) -> Image.Image:
    """Loads an image; if only its metadata is damaged, without the metadata."""
    try:
        return _loaded(data)
    except Exception as error:
        pixels = without_metadata(data)
        if pixels is None:
            raise
        try:
            image = _loaded(pixels)
        except Exception:
            raise error from None  # The pixels are damaged.
        warn_damaged(name, error)
        return image


def _loaded(data: bytes) -> Image.Image:
    image = _headed(data)
    image.load()
    return image


def _headed(data: bytes) -> Image.Image:
    """Reads the header of an image."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ValueError(f"it has {pixels:,} pixels, more than {MAX_PIXELS:,}")
    return image


def _refusal(data: bytes, name: str, error: Exception) -> InputError:
    return InputError(
        f"{name}: cannot be decoded as an image ({_reason(data, error)}): restore it from "
        "the original, or take it off the lists"
    )


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Converts the whole image to RGB and turns it upright, as EXIF says."""
    turn = read_orientation(image, name)  # Before the conversion, which may drop it.
    return turn_upright(_rgb(image), turn)


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Crops the centred square, the extra pixel of an odd margin right or below; resizes it."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = left, top, left + side, top + side
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _reason(data: bytes, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"its {len(data):,} bytes are none of {', '.join(FORMATS)}"
    return " ".join(str(error).split())


def _rgb(image: Image.Image) -> Image.Image:
    """Converts any mode to RGB; Pillow itself would clip 16 bits and drop transparency."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow may widen to 32
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
