"""Calibration: fits the transformation of a trained network to unlabelled images."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from threadpoolctl import threadpool_limits

from iamt_jax.degradation.noise import gaussian_noise, noise_keys
from iamt_jax.model.network import IAMT
from iamt_jax.progress import progress_bar
from iamt_jax.robust.calibration_file import MEMBERS
from iamt_jax.robust.curve_fit import CURVE_IMAGES, fit_beta
from iamt_jax.robust.denoiser import PatchPrior, fit_prior
from iamt_jax.robust.noise_level import Levels, estimate_sigma
from iamt_jax.robust.restorer_fit import fit_restorer
from iamt_jax.robust.sample import BATCH_SIZE, Pictures, float_batches, joined
from iamt_jax.robust.treatment import Transformation, treat

CALIBRATED_SIGMAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
"""Noise levels that are calibrated; values between them are interpolated linearly."""

CLEAN_QUANTILE = 0.995
"""Share of the clean images whose noise estimate is to count as clean."""

SMALLEST_SIZE = 12
"""Height and width of the smallest images, pixels: both sides of a border of JPEG's blocks."""

FEWEST_TO_RESTORE = 256
"""Images that learning to recognise and to restore degradations needs. From fewer, clean images are
mistaken too often."""


# BLAS's threads wait in busy loops for cores that XLA's threads hold: beside other work, inverting
# forty 128x128 matrices took 4.8 s with two threads, and 0.02 s with one.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_transformation(
    network: IAMT,
    pictures: Pictures,
    names: Sequence[str],
    members: Sequence[str] = MEMBERS,
    *,
    sample: int = 1280,
    seed: int = 0,
) -> Transformation:
    """Fits the transformation of a network.

    Args:
      network: trained without noise.
      pictures: images of the training split, at the network's size; labels are not needed.
      names: the images' names, which key the noise.
      members: which of `MEMBERS` to fit; the others are None in the result, and so is the restorer
        with fewer than `FEWEST_TO_RESTORE` images.
      sample: number of images, from the first, that are degraded; for the tone curves at most
        `CURVE_IMAGES` of them. The denoiser is fitted to all images.
      seed: of the degradations.
    """
    some, some_names = pictures[:sample], names[:sample]
    levels = _levels(some, some_names, seed)
    prior = fit_prior(float_batches(pictures)) if "denoiser" in members else None
    curves = "curve" in members
    beta = _fit_curves(network, some, some_names, levels, prior, seed) if curves else None
    recogniser = restorer = None
    if "restorer" in members and len(some) >= FEWEST_TO_RESTORE:
        recogniser, restorer = fit_restorer(
            network, pictures, prior, sample=sample, seed=seed, curves=curves
        )
    return Transformation(levels, prior, beta, recogniser, restorer)


def _fit_curves(
    network: IAMT,
    pictures: Pictures,
    names: Sequence[str],
    levels: Levels,
    prior: PatchPrior | None,
    seed: int,
) -> Float[np.ndarray, "2*level attribute channel"]:
    """The betas of every noise level, unclipped and clipped; the network's own for clean images."""
    denoiser = Transformation(levels, prior, None)
    # Compiled once for all levels.
    denoised = jax.jit(lambda images: treat(images, denoiser).images)
    contributions = jax.jit(lambda x: network.heads.contributions(network.extractor(x)))
    batches = list(float_batches(pictures[:CURVE_IMAGES]))
    _, bias = network.heads.classifiers()
    clean = joined(jax.jit(network.predict), batches) - np.asarray(bias)
    nodes = [(clip, sigma) for clip in (False, True) for sigma in CALIBRATED_SIGMAS]
    betas = []
    for clip, sigma in progress_bar(nodes, unit="level", desc="calibrating"):
        if sigma == 0:
            shape = network.heads.stacked.mask.bias[...].shape
            betas.append(np.full(shape, network.own_beta, np.float32))
            continue
        noisy = _noisy(batches, names, sigma, clip, seed)
        plain, masked = joined(contributions, [denoised(images) for images in noisy])
        betas.append(fit_beta(plain, masked, clean, network.own_beta))
    return np.stack(betas)


def _noisy(batches: list[Array], names: Sequence[str], sigma: float, clip: bool, seed: int):
    for i, images in enumerate(batches):
        keys = noise_keys(names[i * BATCH_SIZE : i * BATCH_SIZE + len(images)], sigma, seed)
        noisy = gaussian_noise(jnp.asarray(images), sigma, keys)
        yield jnp.clip(noisy, 0, 1) if clip else noisy


def _levels(pictures: Pictures, names: Sequence[str], seed: int) -> Levels:
    """Average noise estimates at every level."""
    clean = list(float_batches(pictures))
    estimate = jax.jit(estimate_sigma)

    def estimates(sigma: float, clip: bool) -> np.ndarray:
        noisy = _noisy(clean, names, sigma, clip, seed) if sigma else clean
        return np.concatenate([estimate(images) for images in noisy])

    rows = [
        [estimates(sigma, clip).mean() for sigma in CALIBRATED_SIGMAS] for clip in (False, True)
    ]
    return Levels(
        np.array(CALIBRATED_SIGMAS, np.float32),
        np.maximum.accumulate(np.array(rows, np.float32), axis=1),
        np.quantile(estimates(0.0, False), CLEAN_QUANTILE).astype(np.float32),
    )
