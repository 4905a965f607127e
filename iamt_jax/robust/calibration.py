"""Calibration: what a trained network's transformation must know, from unlabelled images alone."""

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
from iamt_jax.robust.channel_curves import fit_beta
from iamt_jax.robust.denoiser import fit_prior
from iamt_jax.robust.noise_level import Levels, estimate_sigma
from iamt_jax.robust.statistics import (
    Correction,
    Moments,
    corrected,
    corrections,
    measure,
)
from iamt_jax.robust.transform import Transformation, transform

SIGMAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
"""Levels that are calibrated; between them everything is interpolated."""

CLEAN_QUANTILE = 0.995
"""Share of clean images whose blind reading counts as clean."""

DEFAULT = ("denoiser", "curve")
"""What it does consist of: after the denoiser, statistics brought nothing (docs/robustness.md)."""

BATCH = 128
"""Images at a time."""

Pictures = UInt8[np.ndarray, "image height width 3"]


def calibrate(
    network: IAMT,
    pictures: Pictures,
    names: Sequence[str],
    members: Sequence[str] = DEFAULT,
    *,
    sample: int = 1024,
    seed: int = 0,
) -> Transformation:
    """Calibrates the transformation of a network.

    Args:
      network: trained, without noise.
      pictures: of the training split, at the network's size; no labels.
      names: one a picture; the noise is keyed by them.
      members: which of `MEMBERS` to calibrate; the others stay out.
      sample: pictures that noise is put on, from the first; all of them teach the denoiser.
      seed: of the noise.
    """
    some, some_names = pictures[:sample], names[:sample]
    levels = _levels(some, some_names, seed)
    prior = None
    if "denoiser" in members:
        prior = fit_prior(_floats(pictures))
    bench = _Bench(network, some, some_names, levels, prior, seed)
    correction, beta = [], []
    nodes = [(clip, place) for clip in (False, True) for place in range(len(SIGMAS))]
    for clip, place in tqdm(nodes, unit="level", desc="calibrating", dynamic_ncols=True):
        images = bench.images(clip, place)
        moved = bench.correction(images, place) if "statistics" in members else {}
        correction.append(moved)
        if "curve" in members:
            beta.append(bench.beta(images, place, moved))
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *correction)
    return Transformation(levels, prior, stacked, np.stack(beta) if beta else None)


class _Bench:
    """A network, its clean answers, and its calibration images at every level."""

    def __init__(self, network, pictures, names, levels, prior, seed):
        self.network, self.names, self.seed = network, names, seed
        self.clean = list(_floats(pictures))
        self.extract = lambda images, after_norm: network.extractor(images, after_norm=after_norm)
        so_far = Transformation(levels, prior, {}, None)

        def denoised(images, sigma):
            return transform(images, so_far, sigma).images

        def contributions(images, correction):
            after_norm = corrected(jax.tree.map(lambda row: row[None], correction))
            return network.heads.contributions(self.extract(images, after_norm))

        # Compiled here, so that no level compiles anything again.
        self.denoised, self.contributions = jax.jit(denoised), jax.jit(contributions)

    @functools.cached_property
    def moments(self) -> Moments:
        """Of the layers, on clean images."""
        return measure(self.extract, self.clean)

    @functools.cached_property
    def logits(self) -> Float[np.ndarray, "image attribute"]:
        """Of clean images."""
        return _joined(jax.jit(self.network.predict), self.clean)

    def images(self, clip: bool, place: int) -> list[Array]:
        """The images with a level's noise, denoised as they will be: sigma is estimated."""
        if place == 0:
            return self.clean
        noisy = _noisy(self.clean, self.names, SIGMAS[place], clip, self.seed)
        return [self.denoised(x, np.full(len(x), np.nan, np.float32)) for x in noisy]

    def correction(self, images: list[Array], place: int) -> Correction:
        """What moves the layers' statistics back to those of clean images."""
        found = measure(self.extract, images, self.moments) if place else self.moments
        return jax.tree.map(np.asarray, corrections(self.moments, found))

    def beta(
        self, images: list[Array], place: int, correction: Correction
    ) -> Float[np.ndarray, "attribute channel"]:
        """The tone curve's betas at a level; 0 for clean images."""
        heads = self.network.heads
        bias = np.asarray(heads.stacked.classifier.bias[...])
        if place == 0:
            return np.zeros(heads.stacked.mask.bias[...].shape, np.float32)
        plain, masked = _joined(lambda x: self.contributions(x, correction), images)
        return fit_beta(plain, masked, self.logits - bias[:, 0])


def _joined(run: Callable, batches: list[Array]):
    """A function over batches, its results joined along the images."""
    return jax.tree.map(lambda *x: np.concatenate(x), *[run(images) for images in batches])


def _floats(pictures: Pictures) -> Iterator[Float[np.ndarray, "batch height width 3"]]:
    for start in range(0, len(pictures), BATCH):
        yield pictures[start : start + BATCH].astype(np.float32) / 255


def _noisy(batches: list[Array], names: Sequence[str], sigma: float, clip: bool, seed: int):
    for i, images in enumerate(batches):
        keys = noise_keys(names[i * BATCH : i * BATCH + len(images)], sigma, seed)
        noisy = gaussian_noise(jnp.asarray(images), sigma, keys)
        yield jnp.clip(noisy, 0, 1) if clip else noisy


def _levels(pictures: Pictures, names: Sequence[str], seed: int) -> Levels:
    """What the blind estimate reads at every level."""
    clean = list(_floats(pictures))
    estimate = jax.jit(estimate_sigma)

    def readings(sigma: float, clip: bool) -> np.ndarray:
        noisy = _noisy(clean, names, sigma, clip, seed) if sigma else clean
        return np.concatenate([estimate(images) for images in noisy])

    rows = [[readings(sigma, clip).mean() for sigma in SIGMAS] for clip in (False, True)]
    return Levels(
        np.array(SIGMAS, np.float32),
        np.maximum.accumulate(np.array(rows, np.float32), axis=1),
        np.quantile(readings(0.0, False), CLEAN_QUANTILE).astype(np.float32),
    )
