"""Calibration: fits the transformation of a trained network to unlabelled images.

With n = 1 the tone curve is g = (1 + beta) M - beta, and a logit is linear in its betas. The betas
of a noise level are those in [0, 1] that bring the logits of noisy images nearest to the logits of
the same images without noise: a bounded least-squares problem for each attribute, without labels
or gradients. They emphasise the channels that survive noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from scipy.linalg import solve_triangular
from scipy.optimize import lsq_linear

from iamt_jax.degradation.noise import gaussian_noise, noise_keys
from iamt_jax.model.network import IAMT
from iamt_jax.progress import progress_bar
from iamt_jax.robust.calibration_file import MEMBERS
from iamt_jax.robust.denoiser import PatchPrior, fit_prior
from iamt_jax.robust.noise_level import Levels, estimate_sigma
from iamt_jax.robust.treatment import Transformation, treat

CALIBRATED_SIGMAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
"""Noise levels that are calibrated; values between them are interpolated linearly."""

CLEAN_QUANTILE = 0.995
"""Share of the clean images whose noise estimate is to count as clean."""

RIDGE = 1e-2
"""Weight of |beta|^2, in units of a channel's mean square contribution."""

BATCH_SIZE = 128
"""Images processed at once."""

_Pixels = UInt8[np.ndarray, "image height width 3"]


def fit_transformation(
    network: IAMT,
    pictures: _Pixels,
    names: Sequence[str],
    members: Sequence[str] = MEMBERS,
    *,
    sample: int = 1024,
    seed: int = 0,
) -> Transformation:
    """Fits the transformation of a network.

    Args:
      network: trained without noise.
      pictures: images of the training split, at the network's size; labels are not needed.
      names: the images' names, which key the noise.
      members: which of `MEMBERS` to fit; the others are None in the result.
      sample: number of images, from the first, that noise is added to; the denoiser is fitted to
        all images.
      seed: of the noise.
    """
    some, some_names = pictures[:sample], names[:sample]
    levels = _levels(some, some_names, seed)
    prior = fit_prior(_floats(pictures)) if "denoiser" in members else None
    curves = "curve" in members
    beta = _fit_curves(network, some, some_names, levels, prior, seed) if curves else None
    return Transformation(levels, prior, beta)


def _fit_curves(
    network: IAMT,
    pictures: _Pixels,
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
    batches = list(_floats(pictures))
    _, bias = network.heads.classifiers()
    clean = _joined(jax.jit(network.predict), batches) - np.asarray(bias)
    nodes = [(clip, sigma) for clip in (False, True) for sigma in CALIBRATED_SIGMAS]
    betas = []
    for clip, sigma in progress_bar(nodes, unit="level", desc="calibrating"):
        if sigma == 0:
            shape = network.heads.stacked.mask.bias[...].shape
            betas.append(np.full(shape, network.own_beta, np.float32))
            continue
        noisy = _noisy(batches, names, sigma, clip, seed)
        plain, masked = _joined(contributions, [denoised(images) for images in noisy])
        betas.append(fit_beta(plain, masked, clean, network.own_beta))
    return np.stack(betas)


def _joined(run: Callable, batches: list[Array]):
    """Applies a function to each batch, and joins its results along the images."""
    return jax.tree.map(lambda *x: np.concatenate(x), *[run(images) for images in batches])


def _floats(pictures: _Pixels) -> Iterator[Float[np.ndarray, "batch height width 3"]]:
    for start in range(0, len(pictures), BATCH_SIZE):
        yield pictures[start : start + BATCH_SIZE].astype(np.float32) / 255


def _noisy(batches: list[Array], names: Sequence[str], sigma: float, clip: bool, seed: int):
    for i, images in enumerate(batches):
        keys = noise_keys(names[i * BATCH_SIZE : i * BATCH_SIZE + len(images)], sigma, seed)
        noisy = gaussian_noise(jnp.asarray(images), sigma, keys)
        yield jnp.clip(noisy, 0, 1) if clip else noisy


def _levels(pictures: _Pixels, names: Sequence[str], seed: int) -> Levels:
    """Average noise estimates at every level."""
    clean = list(_floats(pictures))
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


def fit_beta(
    plain: Float[np.ndarray, "image attribute channel"],
    masked: Float[np.ndarray, "image attribute channel"],
    clean: Float[np.ndarray, "image attribute"],
    own: float = 0.0,
) -> Float[np.ndarray, "attribute channel"]:
    r"""Fits the betas of each attribute and channel at one noise level.

    .. math::
      z_k(\beta) = \sum_c (1 - \beta_{kc}) F_{kc} + (1 + \beta_{kc}) H_{kc}, \qquad
      \min_{0 \le \beta \le 1} \sum_i (z_{ik}(\beta) - z^{clean}_{ik})^2
      + \rho |\beta_k - \beta^{own}|^2

    Args:
      plain: F, contributions of the unmasked features to the logits of noisy images.
      masked: H, contributions of M * f.
      clean: logits of the same images without noise, minus the heads' biases.
      own: beta of the network's own curve, from which the fit starts.

    Returns:
      Beta in [0, 1], float32.
    """
    gap = (masked - plain).astype(np.float64)
    left = clean - ((1 - own) * plain + (1 + own) * masked).sum(2)
    return np.stack([_bounded(gap[:, k], left[:, k], own) for k in range(gap.shape[1])])


def _bounded(gap: np.ndarray, left: np.ndarray, own: float) -> np.ndarray:
    """Solves the problem in its smaller form, with as many rows as channels:
    |R beta - R^-T gap^T left|^2, where R^T R is gap^T gap plus the ridge."""
    products = gap.T @ gap
    ridge = RIDGE * np.trace(products) / len(products) + 1e-12
    root = np.linalg.cholesky(products + ridge * np.eye(len(products))).T
    target = solve_triangular(root, gap.T @ left, trans="T")
    found = lsq_linear(root, target, bounds=(0 - own, 1 - own)).x
    return np.clip(own + found, 0, 1).astype(np.float32)
