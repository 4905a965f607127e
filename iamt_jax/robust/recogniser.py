"""Recogniser: which degradation an image shows, and how strong it is, from the image alone.

An image is described by some 80 numbers: energies of its spectrum by frequency and direction,
edges at the borders of JPEG's blocks, and statistics of its pixels. For each state of
`states.STATES` these numbers have a Gaussian distribution. The most probable state is the answer,
unless the image is hardly nearer to it than to a state whose images are to be left as they are.
It is also said whether the image is near to that state. An image that is near to none may have a
degradation that calibration has not seen. All is fitted in closed form to unlabelled images.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from iamt_jax.robust.noise_level import OPPONENT, is_clipped
from iamt_jax.robust.spectrum import spectrum

QUANTILE = 0.99
"""Share of a state's images that are within each limit, if the state is not restored."""

GAIN_LOST = 0.003
"""Gain of a restored state, on average over its images, that is given up by each limit: narrow
limits where restoring gains little. A limit keeps at least half of the images."""

LARGE_GAIN = 0.1
"""Gain from which images that are not near to a state may be restored as well."""

WIDEST = 10
"""Directions of the largest variance, in which an image must be near to a state as well. Beside the
many others, in which images vary little, they hardly count."""

CLEAN_KEPT = 0.9998
"""Share of the clean images that a state's margin keeps from it."""

LEFT_KEPT = 0.99
"""The same for the images of a degraded state that are to be left as they are."""

SHRINKAGE = 0.01
"""Weight of the diagonal in the covariance within all states."""

KEPT = 0.7
"""Weight of a state's own covariance; the rest is that within all states."""

SMALLEST = 1e-3
"""Standard deviation that a feature has at least."""

SECTORS = 8
"""Directions of a spectrum that are told apart."""

RINGS = (0.8, 1.6, 2.5, 4, 6, 9, 13, 18, 24, 32, 64)
"""Limits of the rings of a spectrum, periods an image of 64 pixels."""

PLAIN_RINGS = 3
"""Rings, from the innermost, that are not divided by direction."""

CHROMA_RINGS = (0.8, 2.5, 6, 13, 24, 64)
"""The same for colour, without directions."""

JPEG_BLOCK = 8
"""Side of a block of JPEG, pixels."""


class Recogniser(NamedTuple):
    """Gaussian distributions of the described images, one for each state."""

    mean: Float[Array, "state feature"]
    whitening: Float[Array, "state feature feature"]
    """(description - mean) @ whitening has the identity as its covariance; directions of large
    variance come first."""
    offset: Float[Array, " state"]
    """Term added to a squared distance: the logarithm of the determinant. Infinity forgets a
    state."""
    margin: Float[Array, "state state"]
    """Amount by which the first state must be nearer than the second; 0 but for seconds whose
    images are to be left as they are."""
    limit: Float[Array, "state 2"]
    """Squared distance, in the `WIDEST` directions and in all, up to which an image is near."""
    clean_limit: Float[Array, " state"]
    """`clean_distance` that an image which is not near may have after it was restored, to be
    restored at all; negative where that is not tried."""


class Recognised(NamedTuple):
    """Most probable degradation of each image of a batch."""

    state: Int[Array, " batch"]
    """Index in `STATES` of the most probable state; 0 also for images that may be clean, or that
    have values outside [0, 1]."""
    near: Bool[Array, " batch"]
    """True if the image is within the limits of the most probable state, whether or not `state`
    names it."""


class Outcome(NamedTuple):
    """Effect of restoring the images of a state."""

    gain: float
    """By how much it raises the correlation of the logits with those of the clean images."""
    restored: Float[np.ndarray, "image feature"] | None
    """Descriptions of restored images; needed for a gain from `LARGE_GAIN` on."""


def recognise(images: Float[Array, "batch height width 3"], recogniser: Recogniser) -> Recognised:
    """The most probable states of images.

    Args:
      images: in [0, 1] pixel units.
      recogniser: from `fit_recogniser`, at the same size.
    """
    centred = describe(images)[:, None] - recogniser.mean
    whitened = jnp.einsum("bsf,sfg->bsg", centred, recogniser.whitening, precision="highest")
    distance = _distances(whitened)
    total = distance[..., 1] + recogniser.offset
    state = jnp.argmin(total, axis=1)

    def of_state(values: Array) -> Array:
        return jnp.take_along_axis(values, state.reshape(-1, *[1] * (values.ndim - 1)), 1)

    near = jnp.all(of_state(distance)[:, 0] <= recogniser.limit[state], axis=1)
    beyond = jnp.all(of_state(total) + recogniser.margin[state] <= total, axis=1)
    return Recognised(jnp.where(beyond & is_clipped(images), state, 0), near)


def clean_distance(
    images: Float[Array, "batch height width 3"], recogniser: Recogniser
) -> Float[Array, " batch"]:
    """Squared distance of images from clean ones, by their descriptions."""
    centred = describe(images) - recogniser.mean[0]
    whitened = jnp.dot(centred, recogniser.whitening[0], precision="highest")
    return jnp.sum(jnp.square(whitened), 1)


def _distances(whitened: Array) -> Array:
    """Squared distances in the widest and in all directions, on the last axis."""
    squares = jnp.square(whitened)
    return jnp.stack([jnp.sum(squares[..., :WIDEST], -1), jnp.sum(squares, -1)], -1)


def describe(
    images: Float[Array, "batch height width 3"],
) -> Float[Array, "batch feature"]:
    """The numbers that the recogniser knows of an image: logarithms of energies by frequency and
    direction, blockiness, statistics of pixels."""
    images = images.astype(jnp.float32)
    _, height, width, _ = images.shape
    axes = jnp.dot(images, OPPONENT.T, precision="highest")
    mean = jnp.mean(axes, (1, 2))
    centred = axes - mean[:, None, None]
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    found = spectrum(centred * window[..., None].astype(np.float32))
    power = jnp.square(found.real) + jnp.square(found.imag)
    light, colour = power[..., 0], power[..., 1] + power[..., 2]
    luminance = axes[..., 0]
    value, least = jnp.max(images, -1), jnp.min(images, -1)
    steps = [jnp.abs(jnp.diff(luminance, axis=axis)) for axis in (1, 2)]
    statistics = [
        *(mean[:, 0], mean[:, 1], mean[:, 2]),
        _log(jnp.std(luminance, (1, 2)), 1e-3),
        jnp.min(images, (1, 2, 3)),
        jnp.max(images, (1, 2, 3)),
        jnp.mean(value, (1, 2)),
        jnp.min(value, (1, 2)),
        _log(jnp.std(value, (1, 2)), 1e-3),
        jnp.mean((value - least) / (value + 1e-3), (1, 2)),
        jnp.mean(images >= 0.999, (1, 2, 3)),
        jnp.mean(images <= 0.001, (1, 2, 3)),
        *(_blockiness(step, axis) for step, axis in zip(steps, (1, 2), strict=True)),
        *(jnp.mean(step < 1e-4, (1, 2)) for step in steps),
    ]
    return jnp.concatenate(
        [
            _log(_energies(light, _sectors(height, width)), 1e-6),
            _log(_energies(colour, _rings(height, width)), 1e-6),
            jnp.stack(statistics, 1),
        ],
        axis=1,
    )


def _log(x: Array, floor: float) -> Array:
    """The logarithm; the floor keeps what is hardly visible from counting."""
    return jnp.log(x + floor)


def _energies(power: Array, masks: np.ndarray) -> Array:
    return jnp.dot(power.reshape(power.shape[0], -1), masks, precision="highest")


def _blockiness(steps: Array, axis: int) -> Array:
    """Logarithm of the mean step between neighbours at the borders of JPEG's blocks, relative to
    those elsewhere."""
    line = jnp.mean(steps, 3 - axis)
    border = (np.arange(line.shape[1]) % JPEG_BLOCK) == JPEG_BLOCK - 1
    at, elsewhere = (
        jnp.dot(line, chosen.astype(np.float32) / chosen.sum(), precision="highest")
        for chosen in (border, ~border)
    )
    return _log(at, 1e-3) - _log(elsewhere, 1e-3)


def _frequencies(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Length, in periods an image of 64 pixels, and direction, degrees, of each frequency."""
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    return 64 * np.hypot(down, right), np.degrees(np.arctan2(down, right))


@functools.cache
def _sectors(height: int, width: int) -> np.ndarray:
    """Weights of the mean energy in each ring and direction, (frequency, mask)."""
    length, direction = _frequencies(height, width)
    masks = []
    for ring, (low, high) in enumerate(zip(RINGS, RINGS[1:], strict=False)):
        inside = (length > low) & (length <= high)
        if ring < PLAIN_RINGS:
            masks.append(inside)
            continue
        for centre in np.arange(SECTORS) * 180 / SECTORS - 90:
            apart = np.abs((direction - centre + 90) % 180 - 90)
            masks.append(inside & (apart <= 90 / SECTORS))
    return _weights(masks)


@functools.cache
def _rings(height: int, width: int) -> np.ndarray:
    length, _ = _frequencies(height, width)
    limits = zip(CHROMA_RINGS, CHROMA_RINGS[1:], strict=False)
    return _weights([(length > low) & (length <= high) for low, high in limits])


def _weights(masks: list[np.ndarray]) -> np.ndarray:
    """Masks that contain a frequency, as weights of means; small images lack some."""
    return np.stack([mask.ravel() / mask.sum() for mask in masks if mask.any()], 1).astype(
        np.float32
    )


def fit_recogniser(
    descriptions: Sequence[Float[np.ndarray, "image feature"]],
    clean: Float[np.ndarray, "image feature"],
    left: Sequence[int] = (),
    clean_states: Sequence[int] = (0,),
    outcomes: Mapping[int, Outcome] | None = None,
) -> Recogniser:
    """Fits the recogniser.

    Args:
      descriptions: of degraded images, by `describe`, one array for each state.
      clean: of as many clean images as there are, for the margins against the clean states: about
        1 - `CLEAN_KEPT` of them are nearer to a state by more (up to one image in a small set).
      left: indices of states whose images are to be left as they are; the same for them, with
        `LEFT_KEPT`.
      clean_states: indices of the states without degradation, 0 among them: `clean_distance`
        compares with it.
      outcomes: by the index of a state that is restored.
    """
    outcomes = outcomes or {}
    known = [x.astype(np.float64) for x in descriptions]
    covariances = [np.cov(x.T) for x in known]
    shared = np.mean(covariances, 0)
    least = np.maximum(np.diag(shared), SMALLEST**2)
    shared = (1 - SHRINKAGE) * shared + SHRINKAGE * np.diag(least)
    mean = np.stack([x.mean(0) for x in known])
    variance, directions = np.linalg.eigh(
        np.stack([KEPT * own + (1 - KEPT) * shared for own in covariances])
    )
    variance, directions = variance[:, ::-1], directions[..., ::-1]
    whitening = directions / np.sqrt(variance)[:, None]
    offset = np.log(variance).sum(1)

    def distances(described: np.ndarray, state: int) -> np.ndarray:
        """In the widest and in all directions."""
        squares = np.square((described - mean[state]) @ whitening[state])
        return np.stack([squares[:, :WIDEST].sum(1), squares.sum(1)], 1)

    def margins(described: np.ndarray, rivals: Sequence[int], kept: float) -> np.ndarray:
        """Of every state against the nearest of the rivals, whose images are described."""
        states = range(len(known))
        total = np.stack([distances(described, state)[:, 1] for state in states], 1) + offset
        nearest = total[:, rivals].min(1, keepdims=True)
        return np.maximum(0, -np.quantile(total - nearest, 1 - kept, axis=0))

    lost = np.full(len(known), 1 - QUANTILE)
    clean_limit = np.full(len(known), -1.0)
    for state, outcome in outcomes.items():
        lost[state] = min(0.5, GAIN_LOST / max(outcome.gain, GAIN_LOST))
        if outcome.gain >= LARGE_GAIN:
            restored = outcome.restored.astype(np.float64)
            clean_limit[state] = distances(restored, 0)[:, 1].max()
    limit = np.stack(
        [np.quantile(distances(x, i), 1 - lost[i], axis=0) for i, x in enumerate(known)]
    )
    margin = np.zeros((len(known), len(known)))
    against_clean = margins(clean.astype(np.float64), clean_states, CLEAN_KEPT)
    margin[:, clean_states] = against_clean[:, None]
    for rival in left:
        margin[:, rival] = margins(known[rival], [rival], LEFT_KEPT)
    arrays = mean, whitening, offset, margin, limit, clean_limit
    return Recogniser(*(np.asarray(x, np.float32) for x in arrays))
