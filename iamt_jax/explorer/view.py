"""A picture and some settings to what the page shows of them, as arrays; knows no page."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from iamt_jax.data.image import decode
from iamt_jax.data.synthetic import faces, render
from iamt_jax.errors import InputError
from iamt_jax.explanation.explain import Explanation, explain
from iamt_jax.inference import Classifier
from iamt_jax.model.heads import AttributeHeads
from iamt_jax.model.network import IAMT
from iamt_jax.prediction import probability
from iamt_jax.transformation.curve import tone_curve
from iamt_jax.transformation.file import members
from iamt_jax.transformation.statistics import corrected
from iamt_jax.transformation.whole import Transformation, transform

TOP = 5
"""Channels whose masks are shown."""

POINTS = np.linspace(0, 1, 51, dtype=np.float32)
"""Masks at which the tone curve is drawn."""

QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9], np.float32)
"""Of the betas that the transformation chooses."""

Square = UInt8[np.ndarray, "size size 3"]


class Settings(NamedTuple):
    """What the controls say."""

    attribute: str
    """Whose masks are shown."""
    sigma: float = 0.0
    """Standard deviation of Gaussian noise on the picture, [0, 1] pixel units."""
    n: float = 1.0
    """Power of the tone curve, n >= 0."""
    beta: float = 0.0
    """Offset of the tone curve, 0 <= beta <= 1."""
    auto: bool = False
    """The calibrated transformation in the place of n and beta."""


class Chosen(NamedTuple):
    """What the calibrated transformation chose for a picture."""

    sigma: float
    """Noise that it estimated; 0 leaves the picture alone."""
    members: list[str]
    """What it consists of."""
    mean: Float[np.ndarray, "2"]
    """Of the betas: all attributes', then the shown attribute's; n is 1."""
    quantiles: Float[np.ndarray, "2 quantile"]
    """Of the betas at `QUANTILES`, likewise."""


class Seen(NamedTuple):
    """What the page shows."""

    noisy: Square
    """The picture with its noise, cut to what a screen shows."""
    treated: Square
    """What went into the network: under `auto` denoised, else the same."""
    probabilities: Float[np.ndarray, " attribute"]
    plain: Float[np.ndarray, " attribute"]
    """Probabilities of the noisy picture at n = 1, beta = 0."""
    curves: Float[np.ndarray, "curve point"]
    """g at `POINTS`; under `auto` one for each of the shown attribute's `QUANTILES`."""
    explanation: Explanation
    """Of the shown attribute; without the axes of images and attributes."""
    chosen: Chosen | None
    """None without `auto`."""


class View:
    """A trained network, ready for one picture at a time.

    Two programs are compiled, one for a tone curve and one for the transformation, whatever the
    settings.
    """

    def __init__(self, classifier: Classifier, seed: int = 0):
        self.attributes = classifier.attributes
        self.size = classifier.run.config.data.size
        self._devices = classifier.predictor.devices
        # One draw, times sigma: what a slider moves is the noise's strength, not its pattern.
        shape = (self.size, self.size, 3)
        self._noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
        self.no_auto: str | None = None
        """Why there is no `auto`, and how to get it; None where there is."""
        self._transformation = None
        try:
            self._transformation = jax.device_put(classifier.transformation)
        except InputError as error:
            self.no_auto = str(error)
        self._curved = classifier.predictor.program(_curved)
        self._automatic = classifier.predictor.program(_automatic)

    def examples(self, count: int) -> UInt8[np.ndarray, "count size size 3"]:
        """Rendered faces, the same every time."""
        return render(*faces(count, 0, "test"), self.size)

    def picture(self, data: bytes, name: str) -> Square:
        """An uploaded file's centred square at the network's size.

        Raises:
          InputError: names the file, and says why it is no image that can be read.
        """
        return decode(data, self.size, name)

    def warm_up(self) -> None:
        """Compiles whatever `see` will need."""
        first = Settings(self.attributes[0])
        blank = np.zeros((self.size, self.size, 3), np.uint8)
        self.see(blank, first)
        if self.no_auto is None:
            self.see(blank, first._replace(auto=True))

    def see(self, picture: Square, settings: Settings) -> Seen:
        """What the page shows of a picture under these settings."""
        noisy = picture / np.float32(255) + np.float32(settings.sigma) * self._noise
        # Each device gets one; the first answer is taken.
        images = np.repeat(noisy[None], self._devices, 0)
        index = self.attributes.index(settings.attribute)
        attribute = np.array([index])
        chosen = None
        if settings.auto:
            found = self._automatic(images, self._transformation, attribute)
            logits, plain, treated, beta, sigma = (np.asarray(x)[0] for x in found[:-1])
            some = [beta, beta[index]]
            quantiles = np.stack([np.quantile(x, QUANTILES) for x in some]).astype(np.float32)
            chosen = Chosen(
                float(sigma),
                members(self._transformation),
                np.array([x.mean() for x in some]),
                quantiles,
            )
            curves = _curves(1.0, quantiles[1])
        else:
            n, beta = np.float32(settings.n), np.float32(settings.beta)
            found = self._curved(images, n, beta, attribute)
            logits, plain = (np.asarray(x)[0] for x in found[:-1])
            treated, curves = noisy, _curves(n, beta[None])
        return Seen(
            noisy=_shown(noisy),
            treated=_shown(treated),
            probabilities=probability(logits),
            plain=probability(plain),
            curves=curves,
            explanation=jax.tree.map(lambda x: np.asarray(x)[0, 0], found[-1]),
            chosen=chosen,
        )


class _Treated(NamedTuple):
    """A network whose layers' statistics are corrected, as `explain` wants one."""

    heads: AttributeHeads
    extractor: functools.partial


def _curved(
    network: IAMT,
    images: Float[Array, "batch y x 3"],
    n: Float[Array, ""],
    beta: Float[Array, ""],
    attribute: Int[Array, "1"],
) -> tuple[Array, Array, Explanation]:
    """Logits under the tone curve, logits without it, and why."""
    features = network.extractor(images)
    grid = network.heads.sweep(features, jnp.stack([1.0, n]), jnp.stack([0.0, beta]))
    return grid[1, 1], grid[0, 0], explain(network, images, attribute, n, beta, TOP)


def _automatic(
    network: IAMT,
    images: Float[Array, "batch y x 3"],
    transformation: Transformation,
    attribute: Int[Array, "1"],
) -> tuple[Array, Array, Array, Array, Array, Explanation]:
    """Logits under the transformation, logits without it, its images, betas and sigmas, and why."""
    done = transform(images, transformation, jnp.full(len(images), jnp.nan))
    after_norm = corrected(done.correction)
    weights, _ = network.heads.classifiers()
    beta = jnp.zeros((len(images), *weights.shape)) if done.beta is None else done.beta
    logits = network.predict(done.images, None, done.beta, after_norm)
    treated = _Treated(network.heads, functools.partial(network.extractor, after_norm=after_norm))
    # An attribute's mask has the axes batch, height, width, channel.
    shown = beta[:, attribute[0], None, None]
    why = explain(treated, done.images, attribute, 1.0, shown, TOP)
    return logits, network.predict(images), done.images, beta, done.sigma, why


def _curves(n: float, betas: Float[np.ndarray, " curve"]) -> Float[np.ndarray, "curve point"]:
    return np.asarray(_bend(POINTS[None], np.float32(n), betas[:, None]))


_bend = jax.jit(tone_curve)


def _shown(image: Float[np.ndarray, "size size 3"]) -> Square:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
