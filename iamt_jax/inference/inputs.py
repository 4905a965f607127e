"""Checks and batches of user input: images of any size, and tone curves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from iamt_jax.config import LARGEST_N
from iamt_jax.data.decode import DecodedImage, decode, square
from iamt_jax.data.image_files import read_file
from iamt_jax.errors import InputError
from iamt_jax.files import expanded
from iamt_jax.robust.treatment import ToneCurve

SHAPES = (1, 8, 32, 128)
"""Batch sizes that programs are compiled for: smaller batches are padded, larger ones split."""

Curve = Float[Array, "..."] | float
"""n or beta: a number, or an array that broadcasts to (image, attribute, channel)."""


class ArrayLike(Protocol):
    """An array of NumPy, JAX or PyTorch."""

    ndim: int

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        """Its content as a NumPy array."""


ImageLike = str | os.PathLike[str] | DecodedImage | ArrayLike
"""An image of any size: the path of a file, a Pillow image, or an array (height, width, 3) of
NumPy, JAX or PyTorch, uint8 or float in [0, 1] units."""

ImagesLike = ImageLike | Sequence[ImageLike]
"""One image, or a list of images of any kinds and sizes, or one array (image, height, width, 3)."""


class Fitted(NamedTuple):
    """Images at the input size of the network."""

    pictures: UInt8[np.ndarray, "image size size 3"] | Float[np.ndarray, "image size size 3"]
    single: bool
    """True if a single image was given, not a list of one."""


def fit_images(images: ImagesLike, size: int) -> Fitted:
    """Reads, crops and resizes images to the input size of the network, in one array.

    Raises:
      InputError: there is no image, or one is invalid; the message names it and what is accepted.
    """
    # NumPy would load a Pillow image to count its dimensions. One dimension: a column of paths.
    single = isinstance(images, Image.Image) or (
        not isinstance(images, (list, tuple)) and np.ndim(images) not in (1, 4)
    )
    several = [images] if single else list(images)
    if not several:
        raise InputError("`images`: none were given; give one at least")
    squares = [_fit(x, size, f"images[{i}]") for i, x in enumerate(several)]
    if len({x.dtype for x in squares}) > 1:
        squares = [x / np.float32(255) if x.dtype == np.uint8 else x for x in squares]
    return Fitted(np.stack(squares), single)


def _fit(image: ImageLike, size: int, name: str) -> np.ndarray:
    """One image at the input size; a file gives the same pixels as its decoded image."""
    if isinstance(image, (str, os.PathLike)):
        path = expanded(image)
        if not os.path.exists(path):
            raise InputError(f"{path}: does not exist; name an image file, or give its pixels")
        if os.path.isdir(path):
            raise InputError(f"{path}: is a folder; name the image files in it, in a list")
        return decode(read_file(path), size, path)
    return square(image if isinstance(image, Image.Image) else _as_numpy(image, name), size, name)


def _as_numpy(image: ArrayLike, name: str) -> np.ndarray:
    """The array of any library as a NumPy array."""
    if hasattr(image, "detach"):  # A tensor of PyTorch: with gradients, or on another device.
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # NumPy has no bfloat16.
    try:
        pixels = np.asarray(image)
    except ValueError:  # Nested lists of different lengths.
        pixels = np.asarray(None)
    if pixels.dtype.name == "bfloat16":  # JAX's, which NumPy does not count as floating.
        pixels = pixels.astype(np.float32)
    if pixels.dtype.kind not in "biufc":
        raise InputError(
            f"{name}: found {type(image).__name__}, expected the path of a file, a Pillow image, "
            "or an array of height x width x 3"
        )
    return pixels


def curve_values(
    name: str, value: Curve, largest: float, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Converts an argument, n or beta, to float32.

    Args:
      name: of the argument.
      value: its value.
      largest: largest number that is allowed; the smallest is 0.
      shape: shape that it must broadcast to; () asks for a single number, None for nothing.

    Raises:
      InputError: it is not a number, not in [0, largest], or does not broadcast to `shape`.
    """
    try:
        if np.asarray(value).dtype.kind not in "fiu":
            raise TypeError
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"`{name}`: found {value!r}, expected numbers") from None
    if not ((numbers >= 0) & (numbers <= largest) & np.isfinite(numbers)).all():
        raise InputError(f"`{name}`: found {value!r}, expected numbers from 0 to {largest:,.10g}")
    if shape is None:
        return numbers
    try:
        np.broadcast_to(numbers, shape)
    except ValueError:
        kind = "(image, attribute, channel) = " if shape else "a single number, "
        raise InputError(
            f"`{name}`: its shape is {numbers.shape}, expected one that broadcasts to {kind}{shape}"
        ) from None
    return numbers


def grid_values(
    n_values: Sequence[float], beta_values: Sequence[float]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " beta"]]:
    """Checks the values of n and beta of a grid of tone curves; float32. A number is a list of one.

    Raises:
      InputError: as `curve_values`, or they are no list of numbers, or none.
    """

    def checked(name: str, values: Sequence[float], largest: float) -> np.ndarray:
        found = np.atleast_1d(curve_values(name, values, largest))
        if found.ndim != 1 or not found.size:
            raise InputError(
                f"`{name}`: its shape is {found.shape}, expected a list of one number at least"
            )
        return found

    return checked("n_values", n_values, LARGEST_N), checked("beta_values", beta_values, 1)


def curve_or_auto(
    n: Curve | None, beta: Curve | None, auto: bool, own_beta: float, shape: tuple[int, ...] = ()
) -> ToneCurve | None:
    """Checks the arguments `n`, `beta` and `auto`; returns the tone curve, None under `auto`.

    Where n or beta is None, the curve has the network's own value.

    Raises:
      InputError: as `curve_values`, or a curve was given together with `auto`.
    """
    if auto and (n is not None or beta is not None):
        raise InputError("`auto`: it chooses the curves itself; give n and beta, or auto")
    n, beta = ToneCurve(n, beta).completed(own_beta)
    curve = ToneCurve(curve_values("n", n, LARGEST_N, shape), curve_values("beta", beta, 1, shape))
    return None if auto else curve


def curve_of_rows(curve: ToneCurve, rows: np.ndarray) -> ToneCurve:
    """The tone curve of some images; n or beta may have a row for each image."""
    return ToneCurve(*(x[rows] if x.ndim == 3 and len(x) > 1 else x for x in curve))


def batched(answer: Callable, fitted: Fitted, devices: int = 1) -> Any:
    """Applies a function to the images in batches of `SHAPES`, so that few programs compile.

    Args:
      answer: (pictures, their rows) -> array or tree of arrays, image first.
      fitted: images; for a single one the result has no image axis.
      devices: each batch is a multiple of this number.
    """
    pictures, single = fitted
    found = by_rows(lambda rows: answer(pictures[rows], rows), len(pictures), SHAPES, devices)
    return jax.tree.map(lambda x: x[0], found) if single else found


def by_rows(
    answer: Callable[[Int[np.ndarray, " batch"]], Any],
    count: int,
    sizes: Sequence[int],
    devices: int = 1,
) -> Any:
    """Applies a function to all rows in batches; the last batch is padded with its last row.

    Args:
      answer: row numbers -> array or tree of arrays, row first.
      count: number of rows, above 0.
      sizes: allowed batch sizes, ascending; all batches but the last have the largest.
      devices: each batch is a multiple of this number.

    Returns:
      The results of all rows, concatenated, as NumPy arrays.
    """
    parts = []
    for start in range(0, count, sizes[-1]):
        real = min(count - start, sizes[-1])
        size = next(size for size in sizes if size >= real)
        size = -(-size // devices) * devices
        rows = np.minimum(start + np.arange(size), count - 1)
        parts.append(jax.tree.map(lambda x, real=real: np.asarray(x)[:real], answer(rows)))
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)
