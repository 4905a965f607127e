"""Fits the recogniser and the restorer of a network to images that are degraded to every state.

Whether it pays to restore a state is measured with the network: the logits of restored images must
be nearer to those of the clean images than the logits of the degraded ones are, and must order the
images better.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from iamt_jax.model.network import IAMT
from iamt_jax.progress import progress_bar
from iamt_jax.robust.curve_fit import CURVE_IMAGES, fit_beta
from iamt_jax.robust.denoiser import PatchPrior, wiener_denoise
from iamt_jax.robust.recogniser import (
    LARGE_GAIN,
    Outcome,
    Recogniser,
    describe,
    fit_recogniser,
)
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
from iamt_jax.robust.states import CLEAN, FIRST_RESTORED, STATES, ImageState, to_state
from iamt_jax.xla_setup import default_numbers

KEPT_BATCHES = 2
"""Batches of the sample that nothing linear is fitted to. On them it is measured what pays, and the
tone curves are fitted to them."""

WORTH_EACH, WORTH_BOTH = 0.9, 0.45
"""A state is restored if that brings each measure of the logits' distance below the first share of
what it was, and the product of both below the second."""

MEASURED = 32
"""Number of images of a state that this is measured on."""

PART = 32
"""Images that are restored at once."""

WORKERS, AHEAD = 2, 3
"""Threads that degrade the sample, and the number of states, queued ones included, that they are
ahead of the one that the network learns from."""

REMAINING = 0.05
"""Noise level for which a restored image may be denoised."""


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
    bar = progress_bar(STATES, unit="state", desc="learning degradations")
    for state, degraded in zip(bar, learner.degraded(STATES), strict=True):
        descriptions.append(degraded.described)
        if state.is_restored:
            share = math.ceil(CURVE_IMAGES / kinds[state.kind] / MEASURED) * MEASURED
            learnt.append(learner.learn(state.kind, degraded, min(share, BATCH_SIZE)))
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
    clean = learner.described(float_batches(pictures))
    outcomes = {i: x.outcome for i, x in enumerate(learnt, FIRST_RESTORED) if x.outcome}
    left = [i for i in range(FIRST_RESTORED, len(STATES)) if i not in outcomes]
    return fit_recogniser(descriptions, clean, left, CLEAN, outcomes), restorer


class _Learner:
    """Learns to recognise and to restore states from a sample that it degrades itself.

    The first batches of the sample are kept from all linear fits, those of the basis included.
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
        batches = list(float_batches(pictures[:sample]))
        self._kept = min(KEPT_BATCHES, len(batches) // 2)
        first = self._kept * BATCH_SIZE
        fitted = min(sample, len(pictures)) - first
        self.basis, self._variance = fit_basis(pictures[first:], fitted)
        for images in batches:  # Mirrored, since the basis is that of both.
            images[::2] = images[::2, :, ::-1]
        self._batches = [jnp.asarray(images) for images in batches]
        count = len(batches)
        self._names = [[f"{i} {j}" for j in range(BATCH_SIZE)] for i in range(count)]
        self._clean = clean_sample(np.concatenate(batches[self._kept :]), self.basis)
        self._describe, self._restore = jax.jit(describe), jax.jit(restore)
        self._denoise = jax.jit(wiener_denoise)
        self._contribute = jax.jit(
            lambda images: network.heads.contributions(network.extractor(images))
        )
        kept = batches[: self._kept]
        self._wanted = [self._logits(self._contributions(images)) for images in kept]
        self._turn = 0
        # Kind -> noise level for which its restored images are denoised.
        self._remaining: dict[str, float] = {}

    def degraded(self, states: Sequence[ImageState]) -> Iterator[_Degraded]:
        """The sample, degraded to each state, up to `AHEAD` states before the caller needs it."""
        workers = ThreadPoolExecutor(WORKERS)
        try:
            pending = deque(workers.submit(self._degraded, state) for state in states[:AHEAD])
            for state in states[AHEAD:]:
                found = pending.popleft().result()
                pending.append(workers.submit(self._degraded, state))
                yield found
            while pending:
                yield pending.popleft().result()
        finally:  # After an error or Ctrl-C, this waits only for the states that have begun.
            workers.shutdown(cancel_futures=True)

    @default_numbers()  # The caller's context does not reach the workers.
    def _degraded(self, state: ImageState) -> _Degraded:
        batches = [
            to_state(images, state, names[: len(images)], self._seed)
            for images, names in zip(self._batches, self._names, strict=True)
        ]
        described = self.described(batches)
        if not state.is_restored:
            return _Degraded([], described, None)
        inverse = fit_state(batches[self._kept :], self._clean, self.basis, self._variance)
        kept = [np.asarray(batch) for batch in batches[: self._kept]]
        return _Degraded(kept, described, inverse)

    def described(self, batches: Iterable[Array]) -> np.ndarray:
        """The recogniser's descriptions of images."""
        return joined(self._describe, batches)

    def learn(self, kind: str, degraded: _Degraded, share: int) -> _Learnt:
        """Learns whether and how to restore a state; `share` is the number of images that it adds
        to those of its kind, to which the curves are fitted. Whether restored images are denoised
        is decided by the first state of the kind."""
        inverse = degraded.inverse
        kept, self._turn = self._turn, (self._turn + 1) % self._kept

        @functools.cache
        def restored(batch: int) -> np.ndarray:
            return self._restored(degraded.kept[batch], inverse)

        @functools.cache
        def first_treated(batch: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
            return self._contributions(self._denoised(restored(batch)[:MEASURED], sigma))

        if kind not in self._remaining:
            self._remaining[kind] = self._nearest_level(first_treated)
        sigma = self._remaining[kind]
        images, wanted = degraded.kept[kept], self._wanted[kept][:share]
        treated = first_treated(kept, sigma)
        few = len(treated[0])
        left = self._distance(self._contributions(images[:few]), wanted[:few])
        reached = self._distance(treated, wanted[:few])
        if not reached.pays(left):
            return _Learnt(inverse, LEFT, None, None)
        gain = left.disorder - reached.disorder
        described = self.described([restored(kept)]) if gain >= LARGE_GAIN else None
        found = None
        if self._curves:
            if share > few:
                rest = self._contributions(self._denoised(restored(kept)[few:share], sigma))
                treated = tuple(np.concatenate(pair) for pair in zip(treated, rest, strict=True))
            found = *treated, wanted
        return _Learnt(inverse, sigma, Outcome(gain, described), found)

    def _nearest_level(self, first_treated: Callable) -> float:
        """Noise level, 0 or `REMAINING`, for which restored images are to be denoised: what brings
        the logits of the first images of every kept batch nearer to those of the clean ones."""
        if self._prior is None:
            return 0.0
        wanted = np.concatenate([logits[:MEASURED] for logits in self._wanted])

        def distance(sigma: float) -> _Distance:
            parts = [first_treated(batch, sigma) for batch in range(self._kept)]
            return self._distance(tuple(map(np.concatenate, zip(*parts, strict=True))), wanted)

        return min((0.0, REMAINING), key=distance)

    def _restored(self, images: np.ndarray, inverse: Inverse) -> np.ndarray:
        """Restored images, in parts of one size: compiled once, and in a processor's cache."""
        same = jax.tree.map(lambda x: x[None], inverse)
        parts = [images[i : i + PART] for i in range(0, len(images), PART)]
        filled = [np.resize(part, (PART, *part.shape[1:])) for part in parts]
        return joined(lambda x: self._restore(x, self.basis, same), filled)[: len(images)]

    def _denoised(self, images: Array, sigma: float) -> Array:
        if not sigma:
            return images
        return self._denoise(images, np.full(len(images), sigma, np.float32), self._prior)

    def _distance(
        self, contributions: tuple[np.ndarray, np.ndarray], clean: np.ndarray
    ) -> _Distance:
        return _Distance.of(self._logits(contributions), clean)

    def _contributions(self, images: Array) -> tuple[np.ndarray, np.ndarray]:
        size = min(MEASURED, len(images))
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        return joined(self._contribute, parts)

    def _logits(self, contributions: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Logits under the network's own curve, less the heads' biases."""
        plain, masked = contributions
        own = self._network.own_beta
        return ((1 - own) * plain + (1 + own) * masked).sum(2)


class _Degraded(NamedTuple):
    """The sample, degraded to a state."""

    kept: list[np.ndarray]
    """The batches that are kept from the linear fits; none of a state that is not restored."""
    described: Float[np.ndarray, "image feature"]
    """The recogniser's descriptions of all images."""
    inverse: Inverse | None
    """Fitted to the other batches; None for a state that is not restored."""


class _Distance(NamedTuple):
    """How far logits are from those of clean images."""

    error: float
    """Mean square error."""
    disorder: float
    """1 - correlation over the images, mean over the attributes."""

    @classmethod
    def of(cls, logits: np.ndarray, clean: np.ndarray) -> _Distance:
        """The distance of logits, (image, attribute)."""
        centred = [x - x.mean(0) for x in (logits, clean)]
        spread = np.sqrt(np.prod([np.square(x).mean(0) for x in centred], axis=0))
        correlation = np.prod(centred, axis=0).mean(0) / np.maximum(spread, 1e-12)
        return cls(np.square(logits - clean).mean(), 1 - correlation.mean())

    def pays(self, before: _Distance) -> bool:
        """True if this is better than without restoring."""
        each = all(x < WORTH_EACH * y for x, y in zip(self, before, strict=True))
        return each and math.prod(self) < WORTH_BOTH * math.prod(before)


class _Learnt(NamedTuple):
    inverse: Inverse
    sigma: float
    outcome: Outcome | None
    """None for a state that is left as it is."""
    found: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    """Contributions of restored images, plain and masked, and the logits of the clean ones."""
