"""A trained network out of its workdir, and what a user asks of it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, UInt8

from iamt_jax.data.image import Picture, square
from iamt_jax.errors import InputError
from iamt_jax.prediction import Predictor, Setting
from iamt_jax.training.checkpoints import best_weights
from iamt_jax.training.state import build
from iamt_jax.transformation.file import read_calibration
from iamt_jax.transformation.whole import Transformation
from iamt_jax.workdir import Run

SHAPES = (1, 8, 32, 128)
"""Batches that programs are compiled for: smaller ones are filled up, larger ones cut."""

Curve = Float[Array, "..."] | float
"""n or beta: a number, or an array that broadcasts to (image, attribute, channel)."""

Pictures = Picture | Sequence[Picture]
"""One image or several, each of any size: arrays (height, width, 3), uint8 or float in [0, 1]
units, or Pillow images; or one array (image, height, width, 3)."""


@dataclass(frozen=True)
class Classifier:
    """A trained network, ready for images.

    Example:
      >>> import iamt_jax                                              # doctest: +SKIP
      >>> classifier = iamt_jax.load("W")                              # doctest: +SKIP
      >>> classifier(photographs, n=4, beta=0.5)                       # doctest: +SKIP
      >>> classifier.masks(photographs, ["Smiling", "Eyeglasses"])     # doctest: +SKIP
    """

    workdir: Path
    run: Run
    step: int
    """Training step of the checkpoint."""
    predictor: Predictor

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names, in the order of every answer's columns."""
        return self.run.attributes

    @property
    def identity(self) -> str:
        """Which network this is: of which run, at which step."""
        text = json.dumps([asdict(self.run), self.step], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @functools.cached_property
    def transformation(self) -> Transformation:
        """What `python -m iamt_jax calibrate` found for this network.

        Raises:
          InputError: there is no calibration, or it is another network's.
        """
        return read_calibration(self.workdir, self.identity)

    def __call__(
        self, images: Pictures, n: Curve = 1.0, beta: Curve = 0.0, auto: bool = False
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute; a single image gives a single row. See `logits`."""
        return 1 / (1 + np.exp(-self.logits(images, n, beta, auto)))

    def logits(
        self, images: Pictures, n: Curve = 1.0, beta: Curve = 0.0, auto: bool = False
    ) -> Float[np.ndarray, "image attribute"]:
        """Logits of each attribute, float32; a single image gives a single row.

        Args:
          images: as in training, the centred square is resized to the network's input.
          n: tone curve's power, a run-time value: a new one compiles nothing.
          beta: tone curve's offset, likewise.
          auto: by the calibrated transformation, image by image, in the place of n and beta.

        Raises:
          InputError: an image of another kind, `auto` without a calibration or beside a curve.
        """
        if auto and not (np.all(np.asarray(n) == 1) and np.all(np.asarray(beta) == 0)):
            raise InputError("auto: it chooses the curves itself; give n and beta, or auto")

        def answer(pictures, rows):
            if auto:
                return self.predictor.automatic(pictures, self.transformation)[0]
            return self.predictor.logits(pictures, Setting(_of(n, rows), _of(beta, rows)))

        return self._batched(answer, images)

    def masks(
        self, images: Pictures, attributes: Sequence[str]
    ) -> Float[np.ndarray, "image attribute height width channel"]:
        """Masks M^k in (0, 1) of the named attributes; no other mask is computed.

        Raises:
          InputError: an image of another kind, or an attribute that the network does not know.
        """
        chosen = np.array([self._index(name) for name in attributes])
        return self._batched(lambda pictures, _: self.predictor.masks(pictures, chosen), images)

    def _index(self, attribute: str) -> int:
        if attribute not in self.attributes:
            known = ", ".join(self.attributes)
            raise InputError(f"attribute {attribute}: not one of the network's, {known}")
        return self.attributes.index(attribute)

    def _batched(self, answer: Callable, images: Pictures) -> np.ndarray:
        """The answer for pictures at the network's size, (pictures, their rows), batch by batch."""
        pictures, single = fit(images, self.run.config.data.size)
        parts = []
        for start in range(0, len(pictures), SHAPES[-1]):
            count = min(len(pictures) - start, SHAPES[-1])
            shape = next(shape for shape in SHAPES if shape >= count)
            shape = -(-shape // self.predictor.devices) * self.predictor.devices
            rows = np.minimum(start + np.arange(shape), len(pictures) - 1)
            parts.append(np.asarray(answer(pictures[rows], rows))[:count])
        return parts[0][0] if single else np.concatenate(parts)


def _of(curve: Curve, rows: np.ndarray) -> Curve:
    """The rows of a curve that has one an image."""
    curve = np.asarray(curve, np.float32)
    return curve[rows] if curve.ndim == 3 and len(curve) > 1 else curve


def fit(
    images: Pictures, size: int
) -> tuple[UInt8[np.ndarray, "image size size 3"] | Float[np.ndarray, "image size size 3"], bool]:
    """Images at the network's size, in one array, and whether a single one was given.

    Raises:
      InputError: names the image, what it is, and what it may be.
    """
    single = not isinstance(images, (list, tuple)) and np.ndim(images) != 4
    several = [images] if single else list(images)
    if not several:
        raise InputError("images: none were given; give one at least")
    squares = [square(x, size, f"images[{i}]") for i, x in enumerate(several)]
    if len({x.dtype for x in squares}) > 1:
        squares = [x / np.float32(255) if x.dtype == np.uint8 else x for x in squares]
    return np.stack(squares), single


def load(workdir: Path | str) -> Classifier:
    """Loads the best checkpoint of a workdir.

    Raises:
      InputError: the folder holds no run, or no checkpoint, or one of another network.
    """
    workdir = Path(workdir)
    run, best = best_weights(workdir)
    definition, _, _ = build(run.config, len(run.attributes))
    predictor = Predictor(definition, best.params, best.statistics)
    return Classifier(workdir, run, best.step, predictor)
