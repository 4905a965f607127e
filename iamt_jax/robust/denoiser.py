"""A denoiser that knows the noise: Wiener filters in the principal components of patches.

What the images of a data set look like at each place is learnt from unlabelled images, in closed
form: the mean and the principal components of every patch of a grid (Muresan & Parks 2003, with
one Gaussian a place, as suits aligned faces). Knowing sigma, each coefficient is then shrunk to
its most probable value. All of it is a few matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BLOCK = 4
"""Side of a block, pixels; a patch is 2 x 2 blocks, and patches start at every block."""

VALUES = (2 * BLOCK) ** 2 * 3
"""Values of a patch."""

RANK = 64
"""Components kept of a patch's 192; what is outside has one variance."""


class PatchPrior(NamedTuple):
    """A Gaussian of the patches at each place: row x column of the grid of patches."""

    mean: Float[Array, "row column value"]
    basis: Float[Array, "row column value rank"]
    """Orthonormal principal components."""
    variance: Float[Array, "row column rank"]
    rest: Float[Array, "row column"]
    """Variance of each direction outside of the basis (Tipping & Bishop 1999)."""


def fit_prior(batches: Iterable[Float[np.ndarray, "batch height width 3"]]) -> PatchPrior:
    """Learns the prior from images in [0, 1] and their mirror images; float32, on the CPU's
    memory: 2 (size/4 - 1)^2 x 192^2 floats, whatever the number of images.

    Args:
      batches: stacks of one size, a multiple of `BLOCK`.
    """
    count, total, products = 0, 0.0, 0.0
    for images in batches:
        sums, outer = _moments(jnp.asarray(images, jnp.float32) - 0.5)
        count, total, products = count + len(images), total + sums, products + outer
    mean = np.asarray(total, np.float64) / count
    covariance = np.asarray(products, np.float64) / count - mean[..., None] * mean[..., None, :]
    # A mirrored image shows at a place what the other side of the face shows, mirrored.
    turned = _mirrored_values()
    other_mean = mean[:, ::-1][..., turned]
    other = covariance[:, ::-1][..., turned, :][..., turned]
    gap = (mean - other_mean) / 2
    covariance = (covariance + other) / 2 + gap[..., None] * gap[..., None, :]
    variance, basis = np.linalg.eigh(covariance.astype(np.float32))
    variance = np.maximum(variance, 0)
    return PatchPrior(
        ((mean + other_mean) / 2 + 0.5).astype(np.float32),
        np.ascontiguousarray(basis[..., : -RANK - 1 : -1]),
        np.ascontiguousarray(variance[..., : -RANK - 1 : -1]),
        variance[..., :-RANK].mean(-1),
    )


@jax.jit
def _moments(images: Array) -> tuple[Array, Array]:
    patches = to_patches(images)
    outer = jnp.einsum("rcbv,rcbw->rcvw", patches, patches, precision="highest")
    return patches.sum(2), outer


def _mirrored_values() -> np.ndarray:
    """Where each value of a mirrored patch comes from."""
    places = np.arange(VALUES).reshape(2, 2, BLOCK, BLOCK, 3)
    return places[:, ::-1, :, ::-1].ravel()


def to_patches(
    images: Float[Array, "batch height width 3"],
) -> Float[Array, "row column batch value"]:
    """Every patch of 2 x 2 blocks, by its place; values by block, then pixel, then colour."""
    batch, height, width, _ = images.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = images.reshape(batch, rows, BLOCK, columns, BLOCK, 3).transpose(1, 3, 0, 2, 4, 5)
    blocks = blocks.reshape(rows, columns, batch, BLOCK * BLOCK * 3)
    quarters = [blocks[i : rows - 1 + i, j : columns - 1 + j] for i in (0, 1) for j in (0, 1)]
    return jnp.concatenate(quarters, -1)


def from_patches(
    patches: Float[Array, "row column batch value"],
) -> Float[Array, "batch height width 3"]:
    """Images of overlapping patches, blended with a window that is largest in their middle."""
    rows, columns, batch, _ = patches.shape
    window = jnp.asarray(_window())

    def blended(values: Array) -> Array:
        quarters = jnp.split(values * window, 4, axis=-1)
        places = [(i, j) for i in (0, 1) for j in (0, 1)]
        around = ((0, 0), (0, 0))
        return sum(
            jnp.pad(quarter, ((i, 1 - i), (j, 1 - j), *around))
            for quarter, (i, j) in zip(quarters, places, strict=True)
        )

    weights = blended(jnp.ones((rows, columns, 1, window.size), patches.dtype))
    blocks = (blended(patches) / weights).reshape(rows + 1, columns + 1, batch, BLOCK, BLOCK, 3)
    images = blocks.transpose(2, 0, 3, 1, 4, 5)
    return images.reshape(batch, (rows + 1) * BLOCK, (columns + 1) * BLOCK, 3)


def _window() -> Float[np.ndarray, " value"]:
    """Weights of a patch's values: a raised cosine each way."""
    side = np.hanning(2 * BLOCK + 2)[1:-1].reshape(2, BLOCK)
    window = side[:, None, :, None, None] * side[:, None, :, None]
    return np.repeat(window, 3, -1).ravel().astype(np.float32)


def denoise(
    images: Float[Array, "batch height width 3"],
    sigma: Float[Array, " batch"],
    prior: PatchPrior,
) -> Float[Array, "batch height width 3"]:
    r"""The images without most of their white noise, float32; with sigma 0, themselves.

    .. math::
      \hat{x} = \mu + \sum_i \frac{\lambda_i}{\lambda_i + \sigma^2} v_i v_i^T (y - \mu)

    for every patch y, with the prior's variances :math:`\lambda_i`; then once more with the
    squared coefficients of the first result in their place, as BM3D does (Dabov et al. 2007).

    Args:
      images: [0, 1] pixel units; noise may leave that range. Height and width as the prior's.
      sigma: of the noise, one an image.
      prior: of `fit_prior`.
    """
    power = jnp.square(sigma)[:, None]
    centred = to_patches(images) - prior.mean[:, :, None]
    coefficients = jnp.einsum("rcbv,rcvk->rcbk", centred, prior.basis)
    outside = prior.rest[:, :, None]
    safe = jnp.where(power > 0, power, 1.0)

    def gain(variance: Array) -> Array:
        return jnp.where(power > 0, variance / (variance + safe), 1.0)

    def estimate(gains: Array) -> Array:
        """Patches with every coefficient times its gain, and what is outside times its own."""
        kept = gain(outside[..., None])
        inside = jnp.einsum("rcbk,rcvk->rcbv", coefficients * (gains - kept), prior.basis)
        return inside + kept * centred + prior.mean[:, :, None]

    pilot = to_patches(from_patches(estimate(gain(prior.variance[:, :, None]))))
    pilot = jnp.einsum("rcbv,rcvk->rcbk", pilot - prior.mean[:, :, None], prior.basis)
    return from_patches(estimate(gain(jnp.square(pilot))))
