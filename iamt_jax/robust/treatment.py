"""Treatments: changes to images and their masks before the classifiers.

Either one tone curve for all images, or the calibrated transformation, which estimates the noise of
each image, denoises it and chooses its tone curves; it leaves a clean image unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from iamt_jax.model.network import IAMT
from iamt_jax.robust.denoiser import PatchPrior, wiener_denoise
from iamt_jax.robust.noise_level import Levels, estimate_sigma, is_clipped


class ToneCurve(NamedTuple):
    """g(M; n, beta) in place of the masks (Eq. 7); images are unchanged.

    n and beta are numbers, or arrays that broadcast to (batch, attribute, channel); None is the
    value of the network's own curve (`ModelConfig.own_beta`; its n is 1).
    """

    n: Float[Array, "..."] | float | None = None
    """Power, n >= 0."""
    beta: Float[Array, "..."] | float | None = None
    """Offset, 0 <= beta <= 1."""

    def completed(self, own_beta: float) -> ToneCurve:
        """The curve with the network's own values in place of None."""
        n = 1.0 if self.n is None else self.n
        return ToneCurve(n, own_beta if self.beta is None else self.beta)


class Transformation(NamedTuple):
    """The arrays that calibration fits; a member that was not calibrated is None."""

    levels: Levels
    prior: PatchPrior | None
    """Prior of the denoiser."""
    beta: Float[Array, "2*level attribute channel"] | None
    """Offsets of the tone curve, with n = 1; levels of unclipped noise first, then of clipped."""


Treatment = ToneCurve | Transformation


class Treated(NamedTuple):
    """The network's inputs for a batch."""

    images: Float[Array, "batch height width 3"]
    n: Float[Array, "..."] | float | None
    """Power of the tone curve, as in `ToneCurve`."""
    beta: Float[Array, "..."] | float | None
    """Offset of the tone curve, as in `ToneCurve`."""
    sigma: Float[Array, " batch"] | None
    """Noise level that each image was transformed for; 0 leaves the image unchanged. None under a
    tone curve."""


def treat(
    images: Float[Array, "batch height width 3"],
    treatment: Treatment,
    sigma: Float[Array, " batch"] | float | None = None,
) -> Treated:
    """Applies a treatment to each image, by its own noise level.

    Args:
      images: in [0, 1] pixel units; noise may leave that range.
      treatment: a tone curve, or the result of `iamt_jax.robust.calibration`.
      sigma: standard deviation of each image's noise if it is known; None estimates it. A tone
        curve ignores it.
    """
    if isinstance(treatment, ToneCurve):
        return Treated(images, *treatment, None)
    levels, prior, beta = treatment
    clipped = is_clipped(images)
    if sigma is None:
        index = levels.of_estimate(estimate_sigma(images), clipped)
    else:
        index = levels.of_sigma(jnp.broadcast_to(sigma, clipped.shape))
    sigma = levels.sigma_at(index)
    if prior is not None:
        images = wiener_denoise(images, sigma, prior)
    if beta is not None:
        beta = jnp.tensordot(levels.weights(index, clipped), beta, 1)
    return Treated(images, None, beta, sigma)


def predict(
    network: IAMT,
    images: Float[Array, "batch height width 3"],
    treatment: Treatment,
    sigma: Float[Array, " batch"] | float | None = None,
) -> tuple[Float[Array, "batch attribute"], Treated]:
    """Logits of the network under a treatment (Eq. 9), and its inputs; arguments as for `treat`."""
    treated = treat(images, treatment, sigma)
    return network.predict(treated.images, treated.n, treated.beta), treated
