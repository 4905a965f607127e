"""Treatments: changes to images and their masks before the classifiers.

Either one tone curve for all images, or the calibrated transformation: it recognises what each
image suffers from. Blur, compression, poor light and the like are undone; noise is estimated and
removed, and the tone curves are chosen for it. A clean image is left unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from iamt_jax.model.network import IAMT
from iamt_jax.robust.denoiser import PatchPrior, wiener_denoise
from iamt_jax.robust.noise_level import Levels, estimate_sigma, is_clipped
from iamt_jax.robust.recogniser import Recogniser, clean_distance, recognise
from iamt_jax.robust.restorer import Restorer, restore
from iamt_jax.robust.states import FIRST_RESTORED


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
    recogniser: Recogniser | None = None
    restorer: Restorer | None = None
    """Together with the recogniser, or None."""


Treatment = ToneCurve | Transformation


class Treated(NamedTuple):
    """The network's inputs for a batch."""

    images: Float[Array, "batch height width 3"]
    n: Float[Array, "..."] | float | None
    """Power of the tone curve, as in `ToneCurve`."""
    beta: Float[Array, "..."] | float | None
    """Offset of the tone curve, as in `ToneCurve`."""
    sigma: Float[Array, " batch"] | None
    """Noise level that each image was transformed for; 0 for an image without noise, and for one
    that was restored. None under a tone curve."""
    state: Int[Array, " batch"] | None
    """Index in `states.STATES` of the degradation that was undone, 0 for none. None under a tone
    curve."""


def treat(
    images: Float[Array, "batch height width 3"],
    treatment: Treatment,
    sigma: Float[Array, " batch"] | float | None = None,
) -> Treated:
    """Applies a treatment to each image, by the degradation or the noise level that it shows.

    Args:
      images: in [0, 1] pixel units; noise may leave that range.
      treatment: a tone curve, or the result of `iamt_jax.robust.calibration`.
      sigma: standard deviation of each image's noise if it is known; None recognises degradations
        and estimates it. A tone curve ignores it.
    """
    if isinstance(treatment, ToneCurve):
        return Treated(images, *treatment, None, None)
    treatment = jax.tree.map(jnp.asarray, treatment)  # Traced numbers index no NumPy array.
    levels, prior, beta, _, restorer = treatment
    clipped = is_clipped(images)
    state = jnp.zeros(clipped.shape, jnp.int32)
    if sigma is not None:
        index = levels.of_sigma(jnp.broadcast_to(sigma, clipped.shape))
    else:
        index = levels.of_estimate(estimate_sigma(images), clipped)
        if restorer is not None:
            images, state = _restored(images, treatment)
    undone = state > 0
    index = jnp.where(undone, 0.0, index)
    sigma = remaining = levels.sigma_at(index)
    if beta is not None:
        beta = jnp.tensordot(levels.weights(index, clipped), beta, 1, precision="highest")
    if restorer is not None:
        place = jnp.maximum(state - FIRST_RESTORED, 0)
        remaining = jnp.where(undone, restorer.sigma[place], sigma)
        if beta is not None and restorer.beta is not None:
            beta = jnp.where(undone[:, None, None], restorer.beta[place], beta)
    if prior is not None:
        images = wiener_denoise(images, remaining, prior)
    return Treated(images, None, beta, sigma, state)


def _restored(images: Array, treatment: Transformation) -> tuple[Array, Int[Array, " batch"]]:
    """Images, restored where that pays, and the states that they had, 0 for the others. What is not
    near to its most probable state is restored if much can be gained, and if the result looks as
    clean as the state's own restored images."""
    recogniser, restorer = treatment.recogniser, treatment.restorer
    state, near = recognise(images, recogniser)
    place = jnp.maximum(state - FIRST_RESTORED, 0)
    inverses = jax.tree.map(lambda x: x[place], restorer.inverses)
    found = restore(images, restorer.basis, inverses)
    pays = (state >= FIRST_RESTORED) & (restorer.sigma[place] >= 0)
    undone = pays & (near | (clean_distance(found, recogniser) <= recogniser.clean_limit[state]))
    return jnp.where(undone[:, None, None, None], found, images), jnp.where(undone, state, 0)


def predict(
    network: IAMT,
    images: Float[Array, "batch height width 3"],
    treatment: Treatment,
    sigma: Float[Array, " batch"] | float | None = None,
) -> tuple[Float[Array, "batch attribute"], Treated]:
    """Logits of the network under a treatment (Eq. 9), and its inputs; arguments as for `treat`."""
    treated = treat(images, treatment, sigma)
    return network.predict(treated.images, treated.n, treated.beta), treated
