"""A trained network out of its workdir, and what a user asks of it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from iamt_jax import xla_setup
from iamt_jax.config import LARGEST_N
from iamt_jax.errors import InputError, did_you_mean
from iamt_jax.explanation.explain import Explanation, explain
from iamt_jax.files import expanded, json_text
from iamt_jax.inference.inputs import Curve, Fitted, Pictures, batched, curve, fit, of_rows
from iamt_jax.inference.predictor import Predictor, Setting, as_float, probability
from iamt_jax.model.network import IAMT, build
from iamt_jax.robust.calibration_file import read_calibration
from iamt_jax.robust.transform import Transformation
from iamt_jax.runs.checkpoints import best_weights
from iamt_jax.runs.run_file import Run


@dataclass(frozen=True)
class Classifier:
    """A trained network, ready for images; `load` makes it.

    Images may have any size: the centred square is resized to the network's input, as in
    training. A single image gives answers without an image axis. Batches are filled up to a few
    sizes, so that few programs compile; another tone curve compiles nothing.

    Example:
      >>> import iamt_jax
      >>> import numpy as np
      >>> classifier = iamt_jax.load("W")
      >>> images = np.zeros((2, 218, 178, 3), np.uint8)
      >>> classifier(images, n=4, beta=0.5).shape
      (2, 40)
      >>> classifier(images[0]).shape
      (40,)
      >>> classifier.sweep(images, [1, 4], [0, 0.5, 1]).shape
      (2, 3, 2, 40)
      >>> classifier.masks(images, ["Smiling", "Eyeglasses"]).shape
      (2, 2, 4, 4, 16)
      >>> classifier.masks(images, ["Smilling"])
      Traceback (most recent call last):
      iamt_jax.errors.InputError: attributes: Smilling is none of the network's; did you mean ...
    """

    workdir: Path
    """The folder it was loaded from."""
    run: Run
    """The run's config, attributes and history, as in run.json."""
    step: int
    """Training step of the checkpoint."""
    predictor: Predictor
    """The compiled programs and the weights, on all devices of this process."""
    _explainers: dict[int, Callable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names, in the order of every answer's columns."""
        return self.run.attributes

    @functools.cached_property
    def identity(self) -> str:
        """Which network this is: a digest of its attributes and weights."""
        digest = hashlib.sha256(json_text(self.attributes).encode())
        for part in jax.tree.leaves(self.predictor.weights):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

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
        """Probabilities of each attribute; a single image gives a single row.

        Args:
          images: one or several, uint8, float in [0, 1] units, or Pillow images.
          n: tone curve's power, n >= 0, as for `logits`.
          beta: tone curve's offset, 0 <= beta <= 1, as for `logits`.
          auto: by the calibrated transformation, in the place of n and beta.

        Returns:
          From 0 to 1, float32.

        Raises:
          InputError: whatever `logits` refuses.
        """
        return probability(self.logits(images, n, beta, auto))

    @xla_setup.default_numbers()
    def logits(
        self, images: Pictures, n: Curve = 1.0, beta: Curve = 0.0, auto: bool = False
    ) -> Float[np.ndarray, "image attribute"]:
        """Logits of each attribute; a single image gives a single row.

        Args:
          images: one or several, uint8, float in [0, 1] units, or Pillow images.
          n: tone curve's power, n >= 0, a number or an array that broadcasts to
            (image, attribute, channel); a run-time value: a new one compiles nothing.
          beta: tone curve's offset, 0 <= beta <= 1, likewise.
          auto: by the calibrated transformation, image by image, in the place of n and beta.

        Returns:
          Logits, float32.

        Raises:
          InputError: an image of another kind, n or beta out of range or of a shape that does not
            fit, `auto` without a calibration or beside a curve.
        """
        fitted = self._fitted(images)
        shape = len(fitted.pictures), len(self.attributes), self.run.config.model.widths[-1]
        n, beta = curve("n", n, LARGEST_N, shape), curve("beta", beta, 1, shape)
        if auto and not (np.all(n == 1) and np.all(beta == 0)):
            raise InputError("auto: it chooses the curves itself; give n and beta, or auto")

        def answer(some, rows):
            if auto:
                return self.predictor.automatic(some, self.transformation)[0]
            return self.predictor.logits(some, Setting(of_rows(n, rows), of_rows(beta, rows)))

        return self._batched(answer, fitted)

    @xla_setup.default_numbers()
    def sweep(
        self,
        images: Pictures,
        n_values: Sequence[float],
        beta_values: Sequence[float],
    ) -> Float[np.ndarray, "n beta image attribute"]:
        """Probabilities under every tone curve of a grid; features and masks are computed once.

        Args:
          images: one or several, uint8, float in [0, 1] units, or Pillow images.
          n_values: powers, each >= 0.
          beta_values: offsets, each from 0 to 1.

        Returns:
          From 0 to 1, float32; a single image has no image axis.

        Raises:
          InputError: an image of another kind, or a value out of range.
        """
        n, beta = np.atleast_1d(n_values), np.atleast_1d(beta_values)
        n, beta = (
            curve("n_values", n, LARGEST_N, n.shape),
            curve("beta_values", beta, 1, beta.shape),
        )

        def answer(some, _):
            return jnp.moveaxis(self.predictor.sweep(some, n, beta), 2, 0)

        logits = self._batched(answer, self._fitted(images))
        logits = np.moveaxis(logits, 0, 2) if logits.ndim == 4 else logits
        return probability(logits)

    @xla_setup.default_numbers()
    def masks(
        self, images: Pictures, attributes: Sequence[str]
    ) -> Float[np.ndarray, "image attribute height width channel"]:
        """Masks M^k of the named attributes, before any tone curve; no other mask is computed.

        Args:
          images: one or several, uint8, float in [0, 1] units, or Pillow images.
          attributes: names, in the order in which their masks come.

        Returns:
          From 0 to 1, float32, with the height, width and channels of the network's features; a
          single image has no image axis.

        Raises:
          InputError: an image of another kind, or an attribute that the network does not know.
        """
        chosen = self._chosen(attributes)
        answer = lambda some, _: self.predictor.masks(some, chosen)  # noqa: E731
        return self._batched(answer, self._fitted(images))

    @xla_setup.default_numbers()
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

        Args:
          images: one or several, uint8, float in [0, 1] units, or Pillow images.
          attributes: names, in the order in which they are explained.
          n: tone curve's power, n >= 0, one number.
          beta: tone curve's offset, 0 <= beta <= 1, one number.
          top: how many channels' masks to give, 1 to all of them.

        Returns:
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
        answer = lambda some, _: self._explainer(top)(some, chosen, *numbers)  # noqa: E731
        return self._batched(answer, self._fitted(images))

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
                known = self.attributes
                hint = did_you_mean(str(name), known, f"it has {', '.join(known)}")
                raise InputError(f"attributes: {name} is none of the network's; {hint}")
        return np.array([self.attributes.index(name) for name in attributes])

    def _fitted(self, images: Pictures) -> Fitted:
        return fit(images, self.run.config.data.size)

    def _batched(self, answer: Callable, fitted: Fitted) -> Any:
        return batched(answer, fitted, self.predictor.devices)


@xla_setup.default_numbers()
def load(workdir: Path | str) -> Classifier:
    """Loads the best checkpoint of a workdir.

    Args:
      workdir: what `train.py --workdir` wrote.

    Returns:
      A `Classifier`; it takes every device of this process.

    Raises:
      InputError: the folder holds no run, or no checkpoint, or one of another network.

    Example:
      >>> import iamt_jax
      >>> classifier = iamt_jax.load("W")
      >>> classifier.attributes[:2]
      ('5_o_Clock_Shadow', 'Arched_Eyebrows')
    """
    workdir = Path(expanded(workdir))
    run, best = best_weights(workdir)
    definition, _, _ = build(run.config.model, len(run.attributes))
    predictor = Predictor(definition, best.params, best.statistics)
    return Classifier(workdir, run, best.step, predictor)
