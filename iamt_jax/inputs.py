"""What users give to be judged, images and tone curves: checked, fitted, and cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from iamt_jax.data.image import Picture, square
from iamt_jax.errors import InputError

SHAPES = (1, 8, 32, 128)
"""Batches that programs are compiled for: smaller ones are filled up, larger ones cut."""

Curve = Float[Array, "..."] | float
"""n or beta: a number, or an array that broadcasts to (image, attribute, channel)."""

Pictures = Picture | Sequence[Picture]
"""One image or several, each of any size: arrays (height, width, 3), uint8 or float in [0, 1]
units, or Pillow images; or one array (image, height, width, 3)."""


class Fitted(NamedTuple):
    """Images at the network's size."""

    pictures: UInt8[np.ndarray, "image size size 3"] | Float[np.ndarray, "image size size 3"]
    single: bool
    """A single image was given, not a list of one."""


def fit(images: Pictures, size: int) -> Fitted:
    """Images at the network's size, in one array.

    Raises:
      InputError: names the image, what it is, and what it may be.
    """
    # NumPy would load a Pillow image to count its dimensions.
    single = isinstance(images, Image.Image) or (
        not isinstance(images, (list, tuple)) and np.ndim(images) != 4
    )
    several = [images] if single else list(images)
    if not several:
        raise InputError("images: none were given; give one at least")
    squares = [square(x, size, f"images[{i}]") for i, x in enumerate(several)]
    if len({x.dtype for x in squares}) > 1:
        squares = [x / np.float32(255) if x.dtype == np.uint8 else x for x in squares]
    return Fitted(np.stack(squares), single)


def curve(name: str, value: Curve, largest: float, shape: tuple[int, ...]) -> np.ndarray:
    """n or beta as float32.

    Raises:
      InputError: it is no number, out of [0, largest], or does not broadcast to `shape`.
    """
    try:
        if np.asarray(value).dtype.kind not in "fiu":
            raise TypeError
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name}: found {value!r}, expected numbers") from None
    if not ((numbers >= 0) & (numbers <= largest) & np.isfinite(numbers)).all():
        raise InputError(f"{name}: found {value!r}, expected numbers from 0 to {largest:,.10g}")
    try:
        np.broadcast_to(numbers, shape)
    except ValueError:
        kind = "(image, attribute, channel) = " if shape else "a single number, "
        raise InputError(
            f"{name}: its shape is {numbers.shape}, expected one that broadcasts to {kind}{shape}"
        ) from None
    return numbers


def of_rows(curve: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of a curve that has one an image."""
    return curve[rows] if curve.ndim == 3 and len(curve) > 1 else curve


def batched(answer: Callable, fitted: Fitted, devices: int = 1) -> Any:
    """The answer, an array or a tree of arrays with the image first, batch by batch.

    Args:
      answer: (pictures, their rows) -> answer of a batch.
      fitted: the images; for a single one the answer has no image axis.
      devices: which a batch must divide by.
    """
    pictures, single = fitted
    parts = []
    for start in range(0, len(pictures), SHAPES[-1]):
        count = min(len(pictures) - start, SHAPES[-1])
        shape = next(shape for shape in SHAPES if shape >= count)
        shape = -(-shape // devices) * devices
        rows = np.minimum(start + np.arange(shape), len(pictures) - 1)
        cut = lambda x, count=count: np.asarray(x)[:count]  # noqa: E731
        parts.append(jax.tree.map(cut, answer(pictures[rows], rows)))
    if single:
        return jax.tree.map(lambda x: x[0], parts[0])
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)
