"""Calibration: fits the transformation of a trained network to unlabelled images.

With n = 1 the tone curve is g = (1 + beta) M - beta, and a logit is linear in its betas. The betas
of a noise level are those in [0, 1] that bring the logits of noisy images nearest to the logits of
the same images without noise: a bounded least-squares problem for each attribute, without labels
or gradients. They emphasise the channels that survive noise.

Other degradations are restored (robust/restorer.py). Whether that pays is measured in the same way,
for each state: the logits of restored images must be nearer to those of the clean ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

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
from iamt_jax.robust.denoiser import PatchPrior, fit_prior, wiener_denoise
from iamt_jax.robust.noise_level import Levels, estimate_sigma
from iamt_jax.robust.recogniser import Recogniser, describe, fit_recogniser
from iamt_jax.robust.restorer import (
    LEFT,
    Inverse,
    Restorer,
    clean_sample,
    fit_basis,
    fit_state,
    restore,
)
from iamt_jax.robust.states import FIRST_RESTORED, STATES, ImageState, to_state
from iamt_jax.robust.treatment import Transformation, treat

CALIBRATED_SIGMAS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
"""Noise levels that are calibrated; values between them are interpolated linearly."""

CLEAN_QUANTILE = 0.995
"""Share of the clean images whose noise estimate is to count as clean."""

RIDGE = 1e-2
"""Weight of |beta|^2, in units of a channel's mean square contribution."""

BATCH_SIZE = 128
"""Images processed at once."""

FEWEST_TO_RESTORE = 256
"""Images that learning to recognise and to restore degradations needs. From fewer, clean images are
mistaken too often."""

WORTH = 0.9
"""A state is restored if that brings the mean square error of the logits below this share."""

MEASURED = 32
"""Number of images of a state that this is measured on."""

REMAINING = 0.05
"""Noise level for which a restored image may be denoised."""

CURVE_IMAGES = 640
"""Images that the tone curves of a kind of degradation are fitted to, over all its states."""

_Pixels = UInt8[np.ndarray, "image height width 3"]


def fit_transformation(
    network: IAMT,
    pictures: _Pixels,
    names: Sequence[str],
    members: Sequence[str] = MEMBERS,
    *,
    sample: int = 1024,
    seed: int = 0,
    left_out: Collection[str] = (),
) -> Transformation:
    """Fits the transformation of a network.

    Args:
      network: trained without noise.
      pictures: images of the training split, at the network's size; labels are not needed.
      names: the images' names, which key the noise.
      members: which of `MEMBERS` to fit; the others are None in the result, and so is the restorer
        with fewer than `FEWEST_TO_RESTORE` images.
      sample: number of images, from the first, that are degraded; the denoiser is fitted to all
        images.
      seed: of the degradations.
      left_out: families that are not calibrated, for tests on unknown degradations.
    """
    some, some_names = pictures[:sample], names[:sample]
    levels = _levels(some, some_names, seed)
    prior = fit_prior(_floats(pictures)) if "denoiser" in members else None
    curves = "curve" in members
    beta = _fit_curves(network, some, some_names, levels, prior, seed) if curves else None
    recogniser = restorer = None
    if "restorer" in members and len(some) >= FEWEST_TO_RESTORE:
        own = np.full(network.heads.stacked.mask.bias[...].shape, network.own_beta, np.float32)
        learner = _Learner(network, pictures, sample, seed, prior, curves)
        recogniser, restorer = _fit_restorer(learner, left_out, own, curves)
    return Transformation(levels, prior, beta, recogniser, restorer)


class _Learner:
    """Learns to recognise and to restore states from a sample that it degrades itself.

    One batch of the sample, another for each state, is kept from the fit of a state: on these
    images it is measured what pays, and the tone curves are fitted to them.
    """

    def __init__(
        self,
        network: IAMT,
        pictures: _Pixels,
        sample: int,
        seed: int,
        prior: PatchPrior | None,
        curves: bool,
    ):
        self._network, self._seed, self._prior, self._curves = network, seed, prior, curves
        self.basis, self._variance = fit_basis(pictures)
        self._batches = list(_floats(pictures[:sample]))
        for images in self._batches:  # Mirrored, since the basis is that of both.
            images[::2] = images[::2, :, ::-1]
        count = len(self._batches)
        self._names = [[f"{i} {j}" for j in range(BATCH_SIZE)] for i in range(count)]
        self._clean = [clean_sample(images, self.basis) for images in self._batches]
        self._describe, self._restore = jax.jit(describe), jax.jit(restore)
        self._denoise = jax.jit(wiener_denoise)
        self._contribute = jax.jit(
            lambda images: network.heads.contributions(network.extractor(images))
        )
        self._wanted = [self._logits(self._contributions(x)) for x in self._batches]
        self._turn = 0

    def degraded(self, state: ImageState) -> list[np.ndarray]:
        """The batches of the sample, degraded to a state."""
        return [
            np.asarray(to_state(jnp.asarray(images), state, names[: len(images)], self._seed))
            for images, names in zip(self._batches, self._names, strict=True)
        ]

    def described(self, batches: Sequence[np.ndarray]) -> np.ndarray:
        """The recogniser's descriptions of images."""
        return _joined(self._describe, batches)

    def learn(self, batches: Sequence[np.ndarray], share: int) -> _Learnt:
        """Learns to restore a state from the degraded batches; `share` is the number of images that
        it adds to those of its kind, to which the curves are fitted."""
        count = len(self._batches)
        kept, self._turn = self._turn % count, self._turn + 1
        used = [i for i in range(count) if i != kept] or [0]
        clean = jax.tree.map(lambda *x: np.concatenate(x), *[self._clean[i] for i in used])
        degraded = np.concatenate([batches[i] for i in used])
        inverse = fit_state(degraded, clean, self.basis, self._variance)
        before, wanted = batches[kept][:share], self._wanted[kept][:share]
        inverses = jax.tree.map(lambda x: np.repeat(x[None], len(before), 0), inverse)
        after = self._restore(before, self.basis, inverses)
        choices = {LEFT: before, 0.0: after}
        if self._prior is not None:
            sigma = np.full(len(before), REMAINING, np.float32)
            choices[REMAINING] = self._denoise(after, sigma, self._prior)
        few = min(MEASURED, len(before))
        parts = {sigma: self._contributions(images[:few]) for sigma, images in choices.items()}
        errors = {
            sigma: np.square(self._logits(part) - wanted[:few]).mean()
            for sigma, part in parts.items()
        }
        errors[LEFT] *= WORTH
        sigma = min(errors, key=errors.get)
        found = None
        if self._curves and sigma != LEFT:
            first, rest = parts[sigma], choices[sigma][few:]
            if len(rest):
                rest = self._contributions(rest)
                first = tuple(np.concatenate(pair) for pair in zip(first, rest, strict=True))
            found = *first, wanted
        return _Learnt(inverse, sigma, found)

    def _contributions(self, images: Array) -> tuple[np.ndarray, np.ndarray]:
        size = min(MEASURED, len(images))
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        return _joined(self._contribute, parts)

    def _logits(self, contributions: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Logits under the network's own curve, less the heads' biases."""
        plain, masked = contributions
        own = self._network.own_beta
        return ((1 - own) * plain + (1 + own) * masked).sum(2)


class _Learnt(NamedTuple):
    inverse: Inverse
    sigma: float
    found: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    """Contributions of restored images, plain and masked, and the logits of the clean ones."""


def _fit_restorer(
    learner: _Learner, left_out: Collection[str], own: np.ndarray, curves: bool
) -> tuple[Recogniser, Restorer]:
    """Goes through all states; `own` are the betas of the network's own curve."""
    kinds = Counter(state.kind for state in STATES)
    descriptions, learnt = [], {}
    for state in progress_bar(STATES, unit="state", desc="learning degradations"):
        if any(family in left_out for family, _ in state.steps):
            descriptions.append(None)
            continue
        batches = learner.degraded(state)
        descriptions.append(learner.described(batches))
        if state.is_restored:
            share = max(MEASURED, CURVE_IMAGES // kinds[state.kind] // MEASURED * MEASURED)
            learnt[state] = learner.learn(batches, min(share, BATCH_SIZE))
    betas = {}
    for kind in kinds if curves else ():
        found = [x.found for state, x in learnt.items() if state.kind == kind and x.found]
        if found:
            betas[kind] = fit_beta(
                *map(np.concatenate, zip(*found, strict=True)), float(own.flat[0])
            )
    blank = next(iter(learnt.values())).inverse
    blank = _Learnt(jax.tree.map(np.zeros_like, blank), LEFT, None)
    restored = STATES[FIRST_RESTORED:]
    chosen = [learnt.get(state, blank) for state in restored]
    restorer = Restorer(
        learner.basis,
        jax.tree.map(lambda *x: np.stack(x), *[x.inverse for x in chosen]),
        np.float32([x.sigma for x in chosen]),
        np.stack([betas.get(state.kind, own) for state in restored]) if curves else None,
    )
    return fit_recogniser(descriptions), restorer


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
