"""Gaussian, defocus, motion and glass blur; each keeps the shape and the range of the images."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key
from scipy import ndimage

from iamt_jax.degradation.noise import draw

_Images = Float[Array, "batch height width 3"]

_EXACT = lax.Precision.HIGHEST
"""Full float32 products; by default a GPU may round their factors to TF32."""


def gaussian_blur(
    images: _Images, sigma: float, truncate: float = 4, mode: str = "nearest"
) -> _Images:
    """Applies a Gaussian blur of `sigma` pixels, by default with repeated borders.

    Equals `skimage.filters.gaussian` with the same arguments. Each of the two passes is a product
    with a matrix that includes the border.
    """
    down, across = (
        ndimage.gaussian_filter1d(np.eye(size), sigma, 0, mode=mode, truncate=truncate)
        for size in images.shape[1:3]
    )
    down, across = down.astype(np.float32), across.astype(np.float32)
    images = jnp.einsum("ij,bjwc->biwc", down, images, precision=_EXACT)
    return jnp.einsum("ij,bhjc->bhic", across, images, precision=_EXACT)


def defocus_blur(images: _Images, radius: int, alias_blur: float) -> _Images:
    """Averages over a disk of `radius` pixels, mirrored at the border, as a lens out of focus.

    A Gaussian of `alias_blur` pixels softens the edge of the disk. Equals ImageNet-C's `disk`
    applied by OpenCV's `filter2D`.
    """
    kernel = _disk(radius, alias_blur)
    side, reach = len(kernel), len(kernel) // 2
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    # One matrix product for each row of the disk; on a CPU this is faster than a convolution.
    rows = np.zeros((side, width, width + 2 * reach), np.float32)
    for column in range(width):
        rows[:, column, column : column + side] = kernel
    return sum(
        jnp.einsum("ij,bhjc->bhic", row, padded[:, top : top + height], precision=_EXACT)
        for top, row in enumerate(rows)
        if row.any()
    )


def _disk(radius: int, alias_blur: float) -> Float[np.ndarray, "side side"]:
    line = np.arange(-max(8, radius), max(8, radius) + 1)
    disk = _normalised((line[:, None] ** 2 + line**2 <= radius**2).astype(float))
    reach = 1 if radius <= 8 else 2
    soft = _normalised(np.exp(-0.5 * (np.arange(-reach, reach + 1) / alias_blur) ** 2))
    for axis in (0, 1):
        disk = ndimage.convolve1d(disk, soft, axis, mode="mirror")
    return disk.astype(np.float32)


def motion_blur(
    images: _Images, radius: int, sigma: float, angles: Float[Array, " batch"]
) -> _Images:
    """Smears each image along a one-sided Gaussian trail of 2 radius + 1 pixels.

        sum_i w_i x(p + round(i (cos angle, sin angle))), w_i ~ exp(-i^2 / 2 sigma^2), sum w = 1

    with p = (column, row) and angles in degrees, halves rounded down and the border repeated, as
    ImageMagick's MotionBlurImage does.
    """
    length = 2 * radius + 1
    step = jnp.arange(length, dtype=jnp.float32)
    weight = _normalised(np.exp(-0.5 * (np.arange(length) / sigma) ** 2)).astype(np.float32)
    angles = jnp.deg2rad(angles)
    # Shifts in whole pixels, counted from the corner of the padded image.
    down, right = (
        length - 1 + jnp.ceil(step[:, None] * slope - 0.5).astype(jnp.int32)
        for slope in (jnp.sin(angles), jnp.cos(angles))
    )
    border = ((0, 0), (length - 1, length - 1), (length - 1, length - 1), (0, 0))
    padded = jnp.pad(images, border, mode="edge")

    def add(blurred, tap):
        weight, down, right = tap
        shift = jax.vmap(lambda x, i, j: lax.dynamic_slice(x, (i, j, 0), images.shape[1:]))
        return blurred + weight * shift(padded, down, right), None

    return lax.scan(add, jnp.zeros_like(images), (jnp.asarray(weight), down, right))[0]


def random_angles(keys: Key[Array, " batch"], low: float, high: float) -> Float[Array, " batch"]:
    """Draws one angle an image, uniform over [low, high) degrees."""
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(keys)


def glass_blur(
    images: _Images, sigma: float, reach: int, rounds: int, keys: Key[Array, " batch"]
) -> _Images:
    """Blurs images, displaces each pixel at random `rounds` times, and blurs them again.

    In a round, pixels are visited from the last to the first, without those near the border. Each
    takes the colour that a pixel from -reach to reach - 1 rows and columns away has at that time.
    make_imagenet_c.py looks like an exchange of the two, but NumPy's views make it this copy; it
    also rounds pixels to 8 bits between the blurs.
    """
    count, height, width = images.shape[:3]
    step = functools.partial(jax.random.randint, minval=-reach, maxval=reach)
    steps = draw(step, (rounds, 2, height, width), keys, jnp.int32)
    row, column = np.mgrid[:height, :width]
    inside = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
    places = jnp.arange(height * width)
    pixels = gaussian_blur(images, sigma).reshape(count, -1, 3)
    for down, right in steps.transpose(1, 2, 0, 3, 4):
        moved = jnp.where(inside, down * width + right, 0).reshape(count, -1)
        pixels = jnp.take_along_axis(pixels, _origins(places + moved)[..., None], 1)
    return gaussian_blur(pixels.reshape(images.shape), sigma)


def _origins(sources: Int[Array, "batch pixel"]) -> Int[Array, "batch pixel"]:
    """Pixels whose colours arrive where each pixel copies from `sources`, the last pixel first.

    A source behind the pixel was already overwritten, so that the source of that one counts, and
    so on. Each pass of the loop doubles the number of copies that are followed.
    """

    def follow(state):
        sources, overwritten = state
        onward = jnp.take_along_axis(sources, sources, 1)
        still = overwritten & jnp.take_along_axis(overwritten, sources, 1)
        return jnp.where(overwritten, onward, sources), still

    state = sources, sources > jnp.arange(sources.shape[1])
    return lax.while_loop(lambda state: state[1].any(), follow, state)[0]


def _normalised(weights: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return weights / weights.sum()
