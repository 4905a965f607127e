"""Picture and settings -> the arrays that the page shows."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.data.decode import decode
from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys
from iamt_jax.errors import InputError
from iamt_jax.explanation.explain import Explanation, explain
from iamt_jax.explanation.maps import masked_contributions
from iamt_jax.explorer.damage import Damage
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import Noise, probability
from iamt_jax.model.network import IAMT
from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.robust.calibration_file import members
from iamt_jax.robust.states import STATES
from iamt_jax.robust.treatment import ToneCurve, Treatment, predict
from iamt_jax.synthetic import faces, render

MASKS_SHOWN = 5
"""Number of channels whose masks are shown."""

CURVE_POINTS = np.linspace(0, 1, 51, dtype=np.float32)
"""Mask values at which the tone curve is drawn."""

QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9], np.float32)
"""Quantiles shown of the betas that the transformation chooses."""

Square = UInt8[np.ndarray, "size size 3"]


class Picture(NamedTuple):
    """A picture to explore."""

    pixels: Square
    labels: dict[str, bool]
    """True labels by attribute; empty for a photograph."""
    face: int | None = None
    """Number of the rendered face, from 0; None for a photograph."""


class Settings(NamedTuple):
    """Values of the controls."""

    attribute: str
    """Attribute whose explanation is shown."""
    damage: Damage = Noise()
    """Noise added to the picture, or degradation of it."""
    curve: ToneCurve | None = ToneCurve()
    """Tone curve of the masks, by default the network's own; None, `auto`, applies the calibrated
    transformation."""


class AutoChoice(NamedTuple):
    """Choices of the calibrated transformation for a picture."""

    sigma: float
    """Estimated noise, [0, 1] pixel units; 0 is none."""
    restored: str | None
    """Kind of the degradation that was undone, such as motion_blur; None if none was recognised."""
    members: list[str]
    """Parts of the transformation, such as denoiser and curve."""
    mean: Float[np.ndarray, "2"]
    """Mean beta over all attributes, then of the shown attribute; n is 1."""
    quantiles: Float[np.ndarray, "2 quantile"]
    """Betas at `QUANTILES`, likewise."""


class ViewResult(NamedTuple):
    """Arrays that the page shows."""

    clean: Square
    """The picture without damage."""
    damaged: Square
    """The picture with noise or degraded, clipped to 8 bits."""
    treated: Square
    """The network's input: denoised under `auto`, otherwise the same as `damaged`."""
    probabilities: Float[np.ndarray, "3 attribute"]
    """Of the clean picture and of the damaged one, both under the network's own curve; then of the
    damaged picture under the chosen curve or `auto`."""
    curve: ToneCurve | None
    """The tone curve that was applied; None under `auto`."""
    is_own: bool
    """True if that is the network's own curve."""
    curves: Float[np.ndarray, "curve point"]
    """g at `CURVE_POINTS`; under `auto` one for each of the shown attribute's `QUANTILES`."""
    explanation: Explanation
    """Explanation of the shown attribute, without the axes of images and attributes."""
    masked: Float[np.ndarray, "size size"]
    """Masked contributions to the shown attribute's logit, by position."""
    chosen: AutoChoice | None
    """None without `auto`."""


class View:
    """A trained network, applied to one picture at a time.

    Two programs are compiled, for a tone curve and for the transformation. Of changed settings,
    only a family or severity of degradation that was not used before may compile another one.

    Args:
      classifier: the trained network.
      seed: of the noise and of the degradations.
    """

    def __init__(self, classifier: Classifier, seed: int = 0):
        self.attributes = classifier.attributes
        self.size = classifier.size
        self.own_beta = classifier.own_beta
        self._classifier = classifier
        self._devices = classifier.predictor.devices
        self._seed = seed
        # Drawn once and multiplied by sigma: the slider changes the strength, not the pattern.
        shape = (self.size, self.size, 3)
        self._noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
        self._look = classifier.predictor.program(_look)
        self._transformation = None
        with contextlib.suppress(InputError):  # None, or none that can be used.
            self._transformation = classifier.transformation

    @property
    def is_calibrated(self) -> bool:
        """True if `auto` is available."""
        return self._transformation is not None

    def examples(self, count: int) -> list[Picture]:
        """The first rendered faces of the test split, with the labels that the network knows."""
        labels, nuisance = faces(count, 0, "test")
        known = [k for k, name in enumerate(CELEBA_ATTRIBUTES) if name in self.attributes]
        return [
            Picture(pixels, {CELEBA_ATTRIBUTES[k]: bool(row[k]) for k in known}, number)
            for number, (pixels, row) in enumerate(
                zip(render(labels, nuisance, self.size), labels, strict=True)
            )
        ]

    def picture(self, data: bytes, name: str) -> Picture:
        """Decodes an uploaded file to its centred square at the network's size.

        Raises:
          InputError: the file cannot be decoded as an image.
        """
        return Picture(decode(data, self.size, name), {})

    def use_calibration(self) -> None:
        """Makes `auto` available, after a calibration was written into the workdir.

        Raises:
          InputError: it cannot be read.
        """
        found = self._classifier.transformation
        self._warm_up(found)
        self._transformation = found

    def warm_up(self) -> None:
        """Compiles the programs that `compute` uses."""
        self._warm_up(ToneCurve(np.float32(1), np.float32(self.own_beta)))
        if self.is_calibrated:
            self._warm_up(self._transformation)

    def _warm_up(self, treatment: Treatment) -> None:
        blank = np.zeros((self._devices, self.size, self.size, 3), np.float32)
        jax.block_until_ready(self._look(blank, blank, treatment, np.array([0])))
        curves = 1 if isinstance(treatment, ToneCurve) else len(QUANTILES)
        _curves(1.0, np.zeros(curves, np.float32))

    def compute(self, pixels: Square, settings: Settings) -> ViewResult:
        """Computes what the page shows for a picture under these settings."""
        clean = pixels / np.float32(255)
        damaged = self._damaged(clean, settings.damage)
        # Each device gets one copy; the first result is used.
        clean, copies = (np.repeat(x[None], self._devices, 0) for x in (clean, damaged))
        index = self.attributes.index(settings.attribute)
        treatment = self._transformation
        curve = settings.curve and settings.curve.completed(self.own_beta)
        if curve is not None:
            treatment = ToneCurve(*map(np.float32, curve))
        found = self._look(copies, clean, treatment, np.array([index]))
        logits, treated, beta, sigma, state = (np.asarray(x)[0] for x in found[:5])
        chosen = None
        if curve is None:
            some = [beta, beta[index]]
            quantiles = np.stack([np.quantile(x, QUANTILES) for x in some]).astype(np.float32)
            chosen = AutoChoice(
                float(sigma),
                STATES[state].kind if state else None,
                members(self._transformation),
                np.array([x.mean() for x in some]),
                quantiles,
            )
            curves = _curves(1.0, quantiles[1])
        else:
            curves = _curves(treatment.n, treatment.beta[None])
        masked, why = jax.tree.map(lambda x: np.asarray(x)[0, 0], found[5:])
        return ViewResult(
            clean=pixels,
            damaged=_to_uint8(damaged),
            treated=_to_uint8(treated),
            probabilities=probability(logits),
            curve=curve,
            is_own=curve == ToneCurve(1.0, self.own_beta),
            curves=curves,
            explanation=why,
            masked=masked,
            chosen=chosen,
        )

    def _damaged(
        self, clean: Float[np.ndarray, "size size 3"], damage: Damage
    ) -> Float[np.ndarray, "size size 3"]:
        if isinstance(damage, Noise):
            return clean + np.float32(damage.sigma) * self._noise
        # Always the same name, so that a setting always gives the same picture.
        keys = degradation_keys(["picture"], damage.family, damage.severity, self._seed)
        return np.asarray(degrade(clean[None], damage.family, damage.severity, keys))[0]


def _look(
    network: IAMT,
    images: Float[Array, "batch y x 3"],
    clean: Float[Array, "batch y x 3"],
    treatment: Treatment,
    attribute: Int[Array, "1"],
) -> tuple[Array, Array, Array, Array, Array, Array, Explanation]:
    """Logits as in `ViewResult.probabilities`, the treated images, betas, sigmas and states, and
    the attribute's masked contributions and explanation."""
    logits, treated = predict(network, images, treatment)
    weights, _ = network.heads.classifiers()
    beta = network.own_beta if treated.beta is None else treated.beta
    beta = jnp.broadcast_to(beta, (len(images), *weights.shape))
    # `explain` takes one attribute at a time; its masks are batch, height, width, channel.
    of_attribute = beta[:, attribute[0], None, None]
    n = 1.0 if treated.n is None else treated.n
    none = jnp.zeros(len(images))
    sigma = none if treated.sigma is None else treated.sigma
    state = none.astype(jnp.int32) if treated.state is None else treated.state
    why = explain(network, treated.images, attribute, n, of_attribute, MASKS_SHOWN)
    masked = masked_contributions(network, treated.images, attribute, answer=False, n=n)
    logits = jnp.stack([network.predict(clean), network.predict(images), logits], 1)
    return logits, treated.images, beta, sigma, state, masked, why


def _curves(n: float, betas: Float[np.ndarray, " curve"]) -> Float[np.ndarray, "curve point"]:
    return np.asarray(_tone_curve(CURVE_POINTS[None], np.float32(n), betas[:, None]))


_tone_curve = jax.jit(tone_curve)


def _to_uint8(image: Float[np.ndarray, "size size 3"]) -> Square:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
