"""Fits the recogniser and the restorer of a network to images that are degraded to every state.

Whether it pays to restore a state is measured with the network: the logits of restored images must
be nearer to those of the clean images than the logits of the degraded ones are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from iamt_jax.model.network import IAMT
from iamt_jax.progress import progress_bar
from iamt_jax.robust.curve_fit import fit_beta
from iamt_jax.robust.denoiser import PatchPrior, wiener_denoise
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
from iamt_jax.robust.sample import BATCH_SIZE, Pictures, float_batches, joined
from iamt_jax.robust.states import FIRST_RESTORED, STATES, ImageState, to_state

WORTH = 0.9
"""A state is restored if that brings the mean square error of the logits below this share."""

MEASURED = 32
"""Number of images of a state that this is measured on."""

REMAINING = 0.05
"""Noise level for which a restored image may be denoised."""

CURVE_IMAGES = 640
"""Images that the tone curves of a kind of degradation are fitted to, over all its states."""


def fit_restorer(
    network: IAMT,
    pictures: Pictures,
    prior: PatchPrior | None,
    *,
    sample: int,
    seed: int,
    curves: bool,
) -> tuple[Recogniser, Restorer]:
    """Fits the recogniser and the restorer.

    Args:
      network: trained without degradations.
      pictures: of the training split, at the network's size.
      prior: of the denoiser; None does not denoise what was restored.
      sample: number of images, from the first, that are degraded.
      seed: of the degradations.
      curves: whether to fit tone curves.
    """
    learner = _Learner(network, pictures, sample, seed, prior, curves)
    own = np.full(network.heads.stacked.mask.bias[...].shape, network.own_beta, np.float32)
    kinds = Counter(state.kind for state in STATES)
    descriptions, learnt = [], []
    for state in progress_bar(STATES, unit="state", desc="learning degradations"):
        batches = learner.degraded(state)
        descriptions.append(learner.described(batches))
        if state.is_restored:
            share = max(MEASURED, CURVE_IMAGES // kinds[state.kind] // MEASURED * MEASURED)
            learnt.append(learner.learn(batches, min(share, BATCH_SIZE)))
    restored, betas = STATES[FIRST_RESTORED:], {}
    for kind in kinds if curves else ():
        found = [
            x.found
            for state, x in zip(restored, learnt, strict=True)
            if state.kind == kind and x.found
        ]
        if found:
            fitted = map(np.concatenate, zip(*found, strict=True))
            betas[kind] = fit_beta(*fitted, network.own_beta)
    restorer = Restorer(
        learner.basis,
        jax.tree.map(lambda *x: np.stack(x), *[x.inverse for x in learnt]),
        np.float32([x.sigma for x in learnt]),
        np.stack([betas.get(state.kind, own) for state in restored]) if curves else None,
    )
    return fit_recogniser(descriptions), restorer


class _Learner:
    """Learns to recognise and to restore states from a sample that it degrades itself.

    One batch of the sample, another for each state, is kept from the fit of a state: on these
    images it is measured what pays, and the tone curves are fitted to them.
    """

    def __init__(
        self,
        network: IAMT,
        pictures: Pictures,
        sample: int,
        seed: int,
        prior: PatchPrior | None,
        curves: bool,
    ):
        self._network, self._seed, self._prior, self._curves = network, seed, prior, curves
        self.basis, self._variance = fit_basis(pictures)
        self._batches = list(float_batches(pictures[:sample]))
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
        return joined(self._describe, batches)

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
        return joined(self._contribute, parts)

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
