"""A denoiser for known sigma: Wiener filters in the principal components of patches.

The mean and the principal components of every patch of a grid are fitted to unlabelled images, in
closed form (Muresan & Parks 2003, with one Gaussian for each position, as suits aligned faces).
Each coefficient of a noisy patch is then shrunk to its most probable value given sigma. Fitting
and denoising are a few matrix products.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BLOCK = 4
"""Side of a block, pixels. A patch is 2 x 2 blocks, and a patch starts at every block."""

VALUES = (2 * BLOCK) ** 2 * 3
"""Numbers in a patch."""

RANK = 64
"""Principal components kept of a patch's 192; the others share one variance."""


class PatchPrior(NamedTuple):
    """A Gaussian distribution of the patches at each row and column of the grid."""

    mean: Float[Array, "row column value"]
    basis: Float[Array, "row column value rank"]
    """Orthonormal principal components."""
    variance: Float[Array, "row column rank"]
    rest: Float[Array, "row column"]
    """Variance of each direction outside the basis (Tipping & Bishop 1999)."""


def fit_prior(batches: Iterable[Float[np.ndarray, "batch height width 3"]]) -> PatchPrior:
    """Fits the prior to images and their mirror images, float32.

    It takes some 10 (size/4 - 1)^2 x 192^2 floats of host memory, whatever the number of images.

    Args:
      batches: images in [0, 1], all of one size, a multiple of `BLOCK`.
    """
    count, total, products = 0, 0.0, 0.0
    for images in batches:
        sums, outer = _moments(jnp.asarray(images, jnp.float32) - 0.5)
        count, total, products = count + len(images), total + sums, products + outer
    mean = np.asarray(total, np.float64) / count
    covariance = np.asarray(products, np.float64) / count - mean[..., None] * mean[..., None, :]
    # A mirrored image has at a position the mirrored patch of the opposite position.
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
    """Index in a patch of each value of the mirrored patch."""
    indices = np.arange(VALUES).reshape(2, 2, BLOCK, BLOCK, 3)
    return indices[:, ::-1, :, ::-1].ravel()


def to_patches(
    images: Float[Array, "batch height width 3"],
) -> Float[Array, "row column batch value"]:
    """Extracts every patch of 2 x 2 blocks; values are ordered by block, pixel and colour."""
    batch, height, width, _ = images.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = images.reshape(batch, rows, BLOCK, columns, BLOCK, 3).transpose(1, 3, 0, 2, 4, 5)
    blocks = blocks.reshape(rows, columns, batch, BLOCK * BLOCK * 3)
    quarters = [blocks[i : rows - 1 + i, j : columns - 1 + j] for i in (0, 1) for j in (0, 1)]
    return jnp.concatenate(quarters, -1)


def from_patches(
    patches: Float[Array, "row column batch value"],
) -> Float[Array, "batch height width 3"]:
    """Blends overlapping patches into images; the weights are largest in the middle of a patch."""
    rows, columns, batch, _ = patches.shape
    window = jnp.asarray(_window())

    def blended(values: Array) -> Array:
        quarters = jnp.split(values * window, 4, axis=-1)
        offsets = [(i, j) for i in (0, 1) for j in (0, 1)]
        around = ((0, 0), (0, 0))
        return sum(
            jnp.pad(quarter, ((i, 1 - i), (j, 1 - j), *around))
            for quarter, (i, j) in zip(quarters, offsets, strict=True)
        )

    weights = blended(jnp.ones((rows, columns, 1, window.size), patches.dtype))
    blocks = (blended(patches) / weights).reshape(rows + 1, columns + 1, batch, BLOCK, BLOCK, 3)
    images = blocks.transpose(2, 0, 3, 1, 4, 5)
    return images.reshape(batch, (rows + 1) * BLOCK, (columns + 1) * BLOCK, 3)


def _window() -> Float[np.ndarray, " value"]:
    """Weights of a patch's values: a raised cosine along both axes."""
    side = np.hanning(2 * BLOCK + 2)[1:-1].reshape(2, BLOCK)
    window = side[:, None, :, None, None] * side[:, None, :, None]
    return np.repeat(window, 3, -1).ravel().astype(np.float32)


def wiener_denoise(
    images: Float[Array, "batch height width 3"],
    sigma: Float[Array, " batch"],
    prior: PatchPrior,
) -> Float[Array, "batch height width 3"]:
    r"""Removes most of the white noise from images; images with sigma 0 stay unchanged.

    .. math::
      \hat{x} = \mu + \sum_i \frac{\lambda_i}{\lambda_i + \sigma^2} v_i v_i^T (y - \mu)

    for every patch y, with the prior's variances :math:`\lambda_i`; then a second time with the
    squared coefficients of the first result instead of the variances, as in BM3D (Dabov et al.
    2007).

    Args:
      images: in [0, 1] pixel units; noise may leave that range. Height and width as the prior's.
      sigma: standard deviation of each image's noise.
      prior: from `fit_prior`.

    Returns:
      Images, float32.
    """
    power = jnp.square(sigma)[:, None]
    centred = to_patches(images) - prior.mean[:, :, None]
    # A TPU would round both factors to bfloat16, which is noise that the image does not have.
    product = functools.partial(jnp.einsum, precision="highest")
    coefficients = product("rcbv,rcvk->rcbk", centred, prior.basis)
    outside = prior.rest[:, :, None]
    safe = jnp.where(power > 0, power, 1.0)

    def gain(variance: Array) -> Array:
        return jnp.where(power > 0, variance / (variance + safe), 1.0)

    def estimate(gains: Array) -> Array:
        """Patches whose coefficients, and the rest outside the basis, are scaled by their gains."""
        kept = gain(outside[..., None])
        inside = product("rcbk,rcvk->rcbv", coefficients * (gains - kept), prior.basis)
        return inside + kept * centred + prior.mean[:, :, None]

    pilot = to_patches(from_patches(estimate(gain(prior.variance[:, :, None]))))
    pilot = product("rcbv,rcvk->rcbk", pilot - prior.mean[:, :, None], prior.basis)
    return from_patches(estimate(gain(jnp.square(pilot))))
