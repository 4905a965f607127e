"""Calibration: fits the transformation of a trained network to unlabelled images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from tqdm.auto import tqdm

from iamt_jax.degradation import gaussian_noise, noise_keys
from iamt_jax.model.network import IAMT
from iamt_jax.robust.calibration_file import MEMBERS
from iamt_jax.robust.channel_curves import fit_beta
from iamt_jax.robust.denoiser import fit_prior
from iamt_jax.robust.noise_level import Levels, estimate_sigma
from iamt_jax.robust.transform import Transformation, transform

CALIBRATED_SIGMAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
"""Noise levels that are calibrated; values between them are interpolated linearly."""

CLEAN_QUANTILE = 0.995
"""Share of the clean images whose noise estimate is to count as clean."""

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
    prior = None
    if "denoiser" in members:
        prior = fit_prior(_floats(pictures))
    beta = None
    if "curve" in members:
        fits = _CurveFits(network, some, some_names, levels, prior, seed)
        nodes = [(clip, level) for clip in (False, True) for level in range(len(CALIBRATED_SIGMAS))]
        bar = tqdm(nodes, unit="level", desc="calibrating", dynamic_ncols=True)
        beta = np.stack([fits.beta(clip, level) for clip, level in bar])
    return Transformation(levels, prior, beta)


class _CurveFits:
    """The betas of every noise level; holds the network's outputs on the clean images."""

    def __init__(self, network, pictures, names, levels, prior, seed):
        self.network, self.names, self.seed = network, names, seed
        self.clean = list(_floats(pictures))
        denoiser = Transformation(levels, prior, None)

        def denoised(images, sigma):
            return transform(images, denoiser, sigma).images

        def contributions(images):
            return network.heads.contributions(network.extractor(images))

        # Compiled once for all levels.
        self.denoised, self.contributions = jax.jit(denoised), jax.jit(contributions)

    @functools.cached_property
    def logits(self) -> Float[np.ndarray, "image attribute"]:
        """Logits of the clean images."""
        return _joined(jax.jit(self.network.predict), self.clean)

    def beta(self, clip: bool, level: int) -> Float[np.ndarray, "attribute channel"]:
        """Betas of one noise level; 0 for clean images."""
        heads = self.network.heads
        if level == 0:
            return np.zeros(heads.stacked.mask.bias[...].shape, np.float32)
        _, bias = heads.classifiers()
        noisy = _noisy(self.clean, self.names, CALIBRATED_SIGMAS[level], clip, self.seed)
        # Denoised as in use: sigma is estimated.
        images = [self.denoised(x, np.full(len(x), np.nan, np.float32)) for x in noisy]
        plain, masked = _joined(self.contributions, images)
        return fit_beta(plain, masked, self.logits - np.asarray(bias))


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

    def readings(sigma: float, clip: bool) -> np.ndarray:
        noisy = _noisy(clean, names, sigma, clip, seed) if sigma else clean
        return np.concatenate([estimate(images) for images in noisy])

    rows = [[readings(sigma, clip).mean() for sigma in CALIBRATED_SIGMAS] for clip in (False, True)]
    return Levels(
        np.array(CALIBRATED_SIGMAS, np.float32),
        np.maximum.accumulate(np.array(rows, np.float32), axis=1),
        np.quantile(readings(0.0, False), CLEAN_QUANTILE).astype(np.float32),
    )
