"""A trained network out of its workdir, and what a user asks of it."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from iamt_jax.config import LARGEST_N
from iamt_jax.data.image import Picture, square
from iamt_jax.errors import InputError
from iamt_jax.explanation.explain import Explanation, explain
from iamt_jax.model.network import IAMT
from iamt_jax.prediction import Predictor, Setting, as_float
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
    _explainers: dict[int, Callable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names, in the order of every answer's columns."""
        return self.run.attributes

    @property
    def identity(self) -> str:
        """Which network this is: of which run, at which step."""
        text = json.dumps([asdict(self.run), self.step], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def network(self) -> IAMT:
        """The network itself, an NNX module with these weights, for `iamt_jax.explain` and your own
        functions."""
        return self.predictor.network()

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
          InputError: an image of another kind, n or beta out of range or of a shape that does not
            fit, `auto` without a calibration or beside a curve.
        """
        pictures, single = fit(images, self.run.config.data.size)
        shape = len(pictures), len(self.attributes), self.run.config.model.widths[-1]
        n, beta = curve("n", n, LARGEST_N, shape), curve("beta", beta, 1, shape)
        if auto and not (np.all(n == 1) and np.all(beta == 0)):
            raise InputError("auto: it chooses the curves itself; give n and beta, or auto")

        def answer(some, rows):
            if auto:
                return self.predictor.automatic(some, self.transformation)[0]
            return self.predictor.logits(some, Setting(_of(n, rows), _of(beta, rows)))

        return self._batched(answer, pictures, single)

    def sweep(
        self,
        images: Pictures,
        n_values: Sequence[float],
        beta_values: Sequence[float],
    ) -> Float[np.ndarray, "n beta image attribute"]:
        """Probabilities under every tone curve of a grid; features and masks are computed once.

        A single image has no image axis.

        Raises:
          InputError: an image of another kind, or a value out of range.
        """
        n, beta = np.atleast_1d(n_values), np.atleast_1d(beta_values)
        n, beta = curve("n_values", n, LARGEST_N, n.shape), curve("beta_values", beta, 1, beta.shape)

        def answer(some, _):
            return jnp.moveaxis(self.predictor.sweep(some, n, beta), 2, 0)

        logits = self._batched(answer, *fit(images, self.run.config.data.size))
        logits = np.moveaxis(logits, 0, 2) if logits.ndim == 4 else logits
        return 1 / (1 + np.exp(-logits))

    def masks(
        self, images: Pictures, attributes: Sequence[str]
    ) -> Float[np.ndarray, "image attribute height width channel"]:
        """Masks M^k in (0, 1) of the named attributes; no other mask is computed.

        Raises:
          InputError: an image of another kind, or an attribute that the network does not know.
        """
        chosen = self._chosen(attributes)
        fitted = fit(images, self.run.config.data.size)
        return self._batched(lambda some, _: self.predictor.masks(some, chosen), *fitted)

    def explain(
        self,
        images: Pictures,
        attributes: Sequence[str],
        n: float = 1.0,
        beta: float = 0.0,
        top: int = 5,
    ) -> Explanation:
        """What each channel and each position adds to the logits of the named attributes under a
        tone curve, the masks of the channels that count most, and a map of the centred square at
        the network's size.

        Contributions and bias sum to the logit. Arrays start with the image, then the attribute;
        a single image has no image axis.

        Raises:
          InputError: an image of another kind, an attribute that the network does not know, a
            curve out of range, or more channels than there are.
        """
        channels = self.run.config.model.widths[-1]
        if not (isinstance(top, int) and 1 <= top <= channels):
            raise InputError(f"top: found {top}, expected a whole number, 1 to {channels}")
        chosen = self._chosen(attributes)
        numbers = curve("n", n, LARGEST_N, ()), curve("beta", beta, 1, ())
        fitted = fit(images, self.run.config.data.size)
        return self._batched(lambda some, _: self._explainer(top)(some, chosen, *numbers), *fitted)

    def _explainer(self, top: int) -> Callable:
        """The compiled explanation; one for each number of channels."""

        def run(network, pictures, chosen, n, beta):
            return explain(network, as_float(pictures), chosen, n, beta, top)

        if top not in self._explainers:
            self._explainers[top] = self.predictor.program(run)
        return self._explainers[top]

    def _chosen(self, attributes: Sequence[str]) -> Int[np.ndarray, " some"]:
        """Their indices."""
        if isinstance(attributes, str) or not len(attributes):
            raise InputError(
                f"attributes: found {attributes!r}, expected a list of names, one at least"
            )
        for name in attributes:
            if name not in self.attributes:
                near = difflib.get_close_matches(str(name), self.attributes, n=1)
                hint = (
                    f"did you mean {near[0]}?" if near else f"it has {', '.join(self.attributes)}"
                )
                raise InputError(f"attributes: {name} is none of the network's; {hint}")
        return np.array([self.attributes.index(name) for name in attributes])

    def _batched(self, answer: Callable, pictures: np.ndarray, single: bool) -> Any:
        """The answer, an array or a tree of arrays with the image first, for pictures at the
        network's size and their rows, batch by batch."""
        parts = []
        for start in range(0, len(pictures), SHAPES[-1]):
            count = min(len(pictures) - start, SHAPES[-1])
            shape = next(shape for shape in SHAPES if shape >= count)
            shape = -(-shape // self.predictor.devices) * self.predictor.devices
            rows = np.minimum(start + np.arange(shape), len(pictures) - 1)
            cut = lambda x, count=count: np.asarray(x)[:count]  # noqa: E731
            parts.append(jax.tree.map(cut, answer(pictures[rows], rows)))
        if single:
            return jax.tree.map(lambda x: x[0], parts[0])
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def curve(name: str, value: Curve, largest: float, shape: tuple[int, ...]) -> np.ndarray:
    """n or beta as float32.

    Raises:
      InputError: it is no number, out of [0, largest], or does not broadcast to `shape`.
    """
    try:
        if np.asarray(value).dtype.kind not in "fiu":
            raise TypeError
        numbers = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name}: found {value!r}, expected numbers") from None
    if not ((numbers >= 0) & (numbers <= largest) & np.isfinite(numbers)).all():
        raise InputError(f"{name}: found {value!r}, expected numbers from 0 to {largest:,.10g}")
    try:
        np.broadcast_to(numbers, shape)
    except ValueError:
        kind = "(image, attribute, channel) = " if shape else "a single number, "
        raise InputError(
            f"{name}: its shape is {numbers.shape}, expected one that broadcasts to {kind}{shape}"
        ) from None
    return numbers


def _of(curve: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of a curve that has one an image."""
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
