"""Picture and settings -> the arrays that the page shows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from iamt_jax.data.decode import decode
from iamt_jax.errors import InputError
from iamt_jax.explanation.explain import Explanation, explain
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import probability
from iamt_jax.model.network import IAMT
from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.robust.calibration_file import members
from iamt_jax.robust.treatment import ToneCurve, Treatment, predict
from iamt_jax.synthetic import faces, render

MASKS_SHOWN = 5
"""Number of channels whose masks are shown."""

CURVE_POINTS = np.linspace(0, 1, 51, dtype=np.float32)
"""Mask values at which the tone curve is drawn."""

QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9], np.float32)
"""Quantiles shown of the betas that the transformation chooses."""

Square = UInt8[np.ndarray, "size size 3"]


class Settings(NamedTuple):
    """Values of the controls."""

    attribute: str
    """Attribute whose explanation is shown."""
    sigma: float = 0.0
    """Standard deviation of the Gaussian noise added to the picture, [0, 1] pixel units."""
    curve: ToneCurve | None = ToneCurve()
    """Tone curve of the masks, by default the network's own; None, `auto`, applies the calibrated
    transformation."""


class AutoChoice(NamedTuple):
    """Choices of the calibrated transformation for a picture."""

    sigma: float
    """Estimated noise, [0, 1] pixel units; 0 leaves the picture unchanged."""
    members: list[str]
    """Parts of the transformation, such as denoiser and curve."""
    mean: Float[np.ndarray, "2"]
    """Mean beta over all attributes, then of the shown attribute; n is 1."""
    quantiles: Float[np.ndarray, "2 quantile"]
    """Betas at `QUANTILES`, likewise."""


class ViewResult(NamedTuple):
    """Arrays that the page shows."""

    noisy: Square
    """The picture with noise, clipped to 8 bits."""
    treated: Square
    """The network's input: denoised under `auto`, otherwise the same as `noisy`."""
    probabilities: Float[np.ndarray, " attribute"]
    plain: Float[np.ndarray, " attribute"]
    """Probabilities of the noisy picture under the network's own curve."""
    curve: ToneCurve | None
    """The tone curve that was applied; None under `auto`."""
    curves: Float[np.ndarray, "curve point"]
    """g at `CURVE_POINTS`; under `auto` one for each of the shown attribute's `QUANTILES`."""
    explanation: Explanation
    """Explanation of the shown attribute, without the axes of images and attributes."""
    chosen: AutoChoice | None
    """None without `auto`."""


class View:
    """A trained network, applied to one picture at a time.

    Two programs are compiled, for a tone curve and for the transformation; changing settings
    never recompiles.

    Args:
      classifier: the trained network.
      seed: of the noise.
    """

    def __init__(self, classifier: Classifier, seed: int = 0):
        self.attributes = classifier.attributes
        self.size = classifier.run.config.data.size
        self.own_beta = classifier.own_beta
        self._devices = classifier.predictor.devices
        # Drawn once and multiplied by sigma: the slider changes the strength, not the pattern.
        shape = (self.size, self.size, 3)
        self._noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
        self.no_auto: str | None = None
        """Reason why `auto` is not available, and the remedy; None if it is."""
        self._transformation = None
        try:
            self._transformation = jax.device_put(classifier.transformation)
        except InputError as error:
            self.no_auto = str(error)
        self._look = classifier.predictor.program(_look)

    def examples(self, count: int) -> UInt8[np.ndarray, "count size size 3"]:
        """The first rendered faces of the test split."""
        return render(*faces(count, 0, "test"), self.size)

    def picture(self, data: bytes, name: str) -> Square:
        """Decodes an uploaded file to its centred square at the network's size.

        Raises:
          InputError: the file cannot be decoded as an image.
        """
        return decode(data, self.size, name)

    def warm_up(self) -> None:
        """Compiles the programs that `compute` uses."""
        first = Settings(self.attributes[0])
        blank = np.zeros((self.size, self.size, 3), np.uint8)
        self.compute(blank, first)
        if self.no_auto is None:
            self.compute(blank, first._replace(curve=None))

    def compute(self, picture: Square, settings: Settings) -> ViewResult:
        """Computes what the page shows for a picture under these settings."""
        noisy = picture / np.float32(255) + np.float32(settings.sigma) * self._noise
        # Each device gets one copy; the first result is used.
        images = np.repeat(noisy[None], self._devices, 0)
        index = self.attributes.index(settings.attribute)
        treatment = self._transformation
        curve = settings.curve and settings.curve.completed(self.own_beta)
        if curve is not None:
            treatment = ToneCurve(*map(np.float32, curve))
        found = self._look(images, treatment, np.array([index]))
        logits, plain, treated, beta, sigma = (np.asarray(x)[0] for x in found[:-1])
        chosen = None
        if curve is None:
            some = [beta, beta[index]]
            quantiles = np.stack([np.quantile(x, QUANTILES) for x in some]).astype(np.float32)
            chosen = AutoChoice(
                float(sigma),
                members(self._transformation),
                np.array([x.mean() for x in some]),
                quantiles,
            )
            curves = _curves(1.0, quantiles[1])
        else:
            curves = _curves(treatment.n, treatment.beta[None])
        return ViewResult(
            noisy=_to_uint8(noisy),
            treated=_to_uint8(treated),
            probabilities=probability(logits),
            plain=probability(plain),
            curve=curve,
            curves=curves,
            explanation=jax.tree.map(lambda x: np.asarray(x)[0, 0], found[-1]),
            chosen=chosen,
        )


def _look(
    network: IAMT,
    images: Float[Array, "batch y x 3"],
    treatment: Treatment,
    attribute: Int[Array, "1"],
) -> tuple[Array, Array, Array, Array, Array, Explanation]:
    """Logits under the treatment, logits without it, its images, betas and sigmas, and the
    explanation."""
    logits, treated = predict(network, images, treatment)
    weights, _ = network.heads.classifiers()
    beta = network.own_beta if treated.beta is None else treated.beta
    beta = jnp.broadcast_to(beta, (len(images), *weights.shape))
    # `explain` takes one attribute at a time; its masks are batch, height, width, channel.
    of_attribute = beta[:, attribute[0], None, None]
    n = 1.0 if treated.n is None else treated.n
    sigma = jnp.zeros(len(images)) if treated.sigma is None else treated.sigma
    why = explain(network, treated.images, attribute, n, of_attribute, MASKS_SHOWN)
    return logits, network.predict(images), treated.images, beta, sigma, why


def _curves(n: float, betas: Float[np.ndarray, " curve"]) -> Float[np.ndarray, "curve point"]:
    return np.asarray(_tone_curve(CURVE_POINTS[None], np.float32(n), betas[:, None]))


_tone_curve = jax.jit(tone_curve)


def _to_uint8(image: Float[np.ndarray, "size size 3"]) -> Square:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
