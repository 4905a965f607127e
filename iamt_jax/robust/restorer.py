r"""Restorer: undoes a recognised degradation, by linear estimates that calibration learns.

Images have a Gaussian distribution, as aligned faces do well: principal components with variances
Lambda, and a rest. For each state, calibration fits how degraded components a depend on clean ones
c, a = c T + e with a residual covariance S, to clean images that it degraded itself. Then the most
probable components are

.. math:: \hat{c} = \bar{c} + (a - \bar{a}) (T^T \Lambda T + S)^{-1} T^T \Lambda

and the rest is filtered with one complex gain for each frequency and colour (Wiener 1949), fitted
to the same pairs. So blur is inverted where the image still has something to invert, and what is
lost is filled in from what faces have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from iamt_jax.robust.spectrum import Spectrum, inverse, spectrum

COMPONENTS = 256
"""Principal components of whole images."""

IMAGES_PER_COMPONENT = 3
"""Images of a sample that each component needs."""

LARGEST_SAMPLE = 2**26
"""Numbers in the images that the principal components are fitted to; 5,461 images of 64 px."""

PRIOR_WEIGHT = 1e-3
"""Ridge of the fit of T, relative to the variances of the clean components."""

NOISE_SHRINKAGE = 0.1
"""Weight of the diagonal in S."""

GAIN_IMAGES = 256
"""Images that the gains of the rest are fitted to; they are means over images, and need few."""

LEFT = -1.0
"""In the place of a noise level: images of this state are left as they are."""

OVERSAMPLING = 40
"""Further directions in the search for principal components (Halko et al. 2011)."""


class Basis(NamedTuple):
    """Principal components of whole clean images."""

    mean: Float[Array, "height width 3"]
    components: Float[Array, "value rank"]
    """Orthonormal."""

    def inside(self, centred: Float[Array, "batch height width 3"]) -> Float[Array, "batch rank"]:
        """Components of centred images."""
        return _product(centred.reshape(centred.shape[0], -1), self.components)

    def joined(self, inside: Float[Array, "batch rank"]) -> Float[Array, "batch height width 3"]:
        """Centred images of components."""
        return _product(inside, self.components.T).reshape(inside.shape[0], *self.mean.shape)


class Inverse(NamedTuple):
    """How to restore a state; with one more axis in front, how to restore several."""

    degraded: Float[Array, "height width 3"]
    """Mean of the degraded images."""
    clean: Float[Array, " rank"]
    """Mean components of the same images before."""
    matrix: Float[Array, "rank rank"]
    """Degraded components -> clean ones, both without their means."""
    gain: Float[Array, "2 row half 3"]
    """Real and imaginary part of the gains of the rest."""


class Restorer(NamedTuple):
    """Results of calibration for each state from `states.FIRST_RESTORED` on."""

    basis: Basis
    inverses: Inverse
    """Of all states."""
    sigma: Float[Array, " state"]
    """Noise level for which the denoiser treats the restored image, 0 for none, and `LEFT` where
    restoring does not pay."""
    beta: Float[Array, "state attribute channel"] | None
    """Offsets of the tone curve for restored images, with n = 1; None is the network's own."""


def _product(x: Array, y: Array) -> Array:
    # A TPU would round both factors to bfloat16, which is noise that the image does not have.
    return jnp.dot(x, y, precision="highest")


def restore(
    images: Float[Array, "batch height width 3"], basis: Basis, inverses: Inverse
) -> Float[Array, "batch height width 3"]:
    """Restores images, each by its own state; the results are in [0, 1].

    Args:
      images: in [0, 1], of the basis's size.
      basis: principal components of clean images.
      inverses: the arrays of each image's state; all have the axis of the batch first, which is 1
        if all images have the same state.
    """
    centred = images - inverses.degraded
    inside = basis.inside(centred)
    found = jnp.einsum("br,brs->bs", inside, inverses.matrix, precision="highest")
    gain = inverses.gain
    rest = spectrum(centred - basis.joined(inside))
    filtered = inverse(rest.times(gain[:, 0], gain[:, 1]), images.shape[2])
    restored = basis.mean + basis.joined(found + inverses.clean) + filtered
    return jnp.clip(restored, 0, 1)


def fit_basis(
    pictures: UInt8[np.ndarray, "image height width 3"], sample: int | None = None
) -> tuple[Basis, np.ndarray]:
    """Principal components of images and their mirror images, with their variances, float32.

    By a randomised search, with a fixed seed.

    Args:
      pictures: of the training split; the first `LARGEST_SAMPLE` numbers count.
      sample: number of images that states are fitted to; None is that of the pictures.
    """
    shape = pictures.shape[1:]
    some = pictures[: max(1, LARGEST_SAMPLE // int(np.prod(shape)))].astype(np.float32) / 255
    images = np.concatenate([some, some[:, :, ::-1]])
    mean = images.mean(0)
    centred = (images - mean).reshape(len(images), -1)
    fewest = min(len(some), sample or len(some))
    rank = max(1, min(COMPONENTS, fewest // IMAGES_PER_COMPONENT))
    size = min(rank + OVERSAMPLING, *centred.shape)
    start = np.random.default_rng(0).standard_normal((centred.shape[1], size), np.float32)
    for _ in range(2):
        start, _ = np.linalg.qr(centred.T @ (centred @ start))
    projected = centred @ start
    variance, turned = np.linalg.eigh(projected.T @ projected / len(centred))
    components = (start @ turned[:, ::-1][:, :rank]).astype(np.float32)
    return Basis(mean, components), np.maximum(variance[::-1][:rank], 1e-9).astype(np.float32)


class CleanSample(NamedTuple):
    """Clean images as `fit_state` needs them."""

    inside: Float[np.ndarray, "image rank"]
    rest: Spectrum
    """Of the first `GAIN_IMAGES`."""


def clean_sample(images: Float[np.ndarray, "image height width 3"], basis: Basis) -> CleanSample:
    """Prepares the clean images of a sample."""
    centred = images - basis.mean
    inside = basis.inside(centred)
    rest = spectrum(centred[:GAIN_IMAGES] - basis.joined(inside[:GAIN_IMAGES]))
    return CleanSample(np.asarray(inside), Spectrum(*map(np.asarray, rest)))


def fit_state(
    degraded: Sequence[Float[Array, "batch height width 3"]],
    clean: CleanSample,
    basis: Basis,
    variance: Float[np.ndarray, " rank"],
) -> Inverse:
    """Fits the arrays of one state.

    Args:
      degraded: the images of the sample, degraded, in batches.
      clean: the same images before, from `clean_sample`.
      basis: from `fit_basis`.
      variance: of its components.
    """
    count, rank = clean.inside.shape
    mean, inside, gain = _moments(list(degraded), basis, clean.rest)
    inside = np.asarray(inside, np.float64)
    middle = clean.inside.mean(0)
    before = (clean.inside - middle).astype(np.float64)
    prior = np.diag(variance).astype(np.float64)
    forward = np.linalg.solve(before.T @ before + PRIOR_WEIGHT * count * prior, before.T @ inside)
    left = inside - before @ forward
    noise = left.T @ left / max(1, count - rank)
    noise = (1 - NOISE_SHRINKAGE) * noise + NOISE_SHRINKAGE * np.diag(np.diag(noise))
    spread = forward.T @ prior @ forward + noise + 1e-9 * np.eye(rank)
    matrix = np.linalg.solve(spread, forward.T @ prior)
    return Inverse(*(np.asarray(x, np.float32) for x in (mean, middle, matrix, gain)))


@jax.jit
def _moments(batches: list[Array], basis: Basis, clean: Spectrum) -> tuple[Array, Array, Array]:
    """Mean of degraded images, their components, and the gains from their rests to the clean."""
    # The barrier keeps the order of the sums, and so the last bits, from depending on the batches.
    degraded = jax.lax.optimization_barrier(jnp.concatenate(batches))
    mean = jnp.mean(degraded, 0)
    centred = degraded - mean
    inside = basis.inside(centred)
    few = clean.real.shape[0]
    found = spectrum(centred[:few] - basis.joined(inside[:few]))
    power = jnp.mean(jnp.square(found.real) + jnp.square(found.imag), 0) + 1e-9
    wanted = clean.times(found.real, -found.imag)
    return mean, inside, jnp.stack([wanted.real.mean(0), wanted.imag.mean(0)]) / power
