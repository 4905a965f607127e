"""The classifier that users load: images to probabilities, masks and explanations."""

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
from iamt_jax.errors import InputError, attribute_hint
from iamt_jax.explanation.explain import Explanation, explain
from iamt_jax.files import expanded, json_text
from iamt_jax.inference.exported import EXPORTED_SUFFIX, ExportedClassifier, read_exported
from iamt_jax.inference.inputs import (
    Curve,
    Fitted,
    ImagesLike,
    batched,
    curve_of_rows,
    curve_or_auto,
    fit_images,
    grid_values,
)
from iamt_jax.inference.predictor import Predictor, as_float, probability
from iamt_jax.inference.probabilities import ProbabilityMethods
from iamt_jax.metrics.classification import HALF
from iamt_jax.model.network import IAMT, abstract
from iamt_jax.robust import CALIBRATION_FILE
from iamt_jax.robust.calibration_file import check_fits, read_calibration
from iamt_jax.robust.treatment import Transformation
from iamt_jax.runs.checkpoints import best_weights
from iamt_jax.runs.run_file import Run


@dataclass(frozen=True, repr=False)
class Classifier(ProbabilityMethods):
    """A trained network, ready for images; `load` returns it.

    An image is the path of a file, a Pillow image, or an array of NumPy, JAX or PyTorch: height x
    width x 3, uint8 or float in [0, 1]. A list may mix kinds and sizes. The centred square of
    each image is resized to the network's input, as in training. For a single image, results
    have no image axis. Batches are padded to a few sizes, so that few programs compile; changing
    the tone curve never recompiles.

    Example:
      >>> import iamt_jax
      >>> import numpy as np
      >>> classifier = iamt_jax.load("W")
      >>> images = np.zeros((2, 218, 178, 3), np.uint8)
      >>> classifier(images, n=4, beta=0.5).shape
      (2, 40)
      >>> classifier(images[0]).shape
      (40,)
      >>> names = [name for name, probability in classifier.top(images[0], 3)]
      >>> classifier.sweep(images, [1, 4], [0, 0.5, 1]).shape
      (2, 3, 2, 40)
      >>> classifier.masks(images, ["Smiling", "Eyeglasses"]).shape
      (2, 2, 4, 4, 16)
      >>> classifier.masks(images, ["Smilling"])
      Traceback (most recent call last):
      iamt_jax.errors.InputError: `attributes`: Smilling is none of the network's; did you mean ...
    """

    workdir: Path
    """Folder that it was loaded from."""
    run: Run
    """Config, attributes and history of the run, as in run.json."""
    step: int
    """Training step of the checkpoint."""
    predictor: Predictor
    """Compiled programs and weights on all devices of this process."""
    _explainers: dict[int, Callable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, in the order of the columns of all results."""
        return self.run.attributes

    @property
    def size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return self.run.config.data.size

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Probability of each attribute above which it counts as present: 0.5, as in evaluation."""
        return (HALF,) * len(self.attributes)

    @property
    def is_calibrated(self) -> bool:
        """True if the workdir holds a calibration, which `auto` needs."""
        return (self.workdir / CALIBRATION_FILE).is_file()

    @property
    def _source(self) -> str:
        return str(self.workdir)

    @property
    def own_beta(self) -> float:
        """beta of the network's own curve, which is applied if no other is given; its n is 1."""
        return self.run.config.model.own_beta

    @functools.cached_property
    def identity(self) -> str:
        """Digest of the attributes and weights; equal for equal networks."""
        digest = hashlib.sha256(json_text(self.attributes).encode())
        for part in jax.tree.leaves(self.predictor.weights):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

    @property
    def network(self) -> IAMT:
        """The network as an NNX module with these weights, for `iamt_jax.explain` and your own
        functions."""
        return self.predictor.network()

    @functools.cached_property
    def transformation(self) -> Transformation:
        """The transformation that `python -m iamt_jax calibrate` found for this network; its arrays
        are on all devices of this process.

        Raises:
          InputError: there is no calibration, it is damaged, or it belongs to another network.
        """
        found = read_calibration(self.workdir, self.identity)
        mask = len(self.attributes), self.run.config.model.widths[-1]
        check_fits(found, self.workdir, self.size, mask)
        return self.predictor.placed(found)

    def __call__(
        self,
        images: ImagesLike,
        n: Curve | None = None,
        beta: Curve | None = None,
        auto: bool = False,
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute; one row for a single image.

        Args:
          images: one or several, of any kinds and sizes.
          n: tone curve's power, n >= 0, as for `logits`.
          beta: tone curve's offset, 0 <= beta <= 1, as for `logits`.
          auto: use the calibrated transformation instead of n and beta.

        Returns:
          From 0 to 1, float32.

        Raises:
          InputError: as `logits`.
        """
        return probability(self.logits(images, n, beta, auto))

    @xla_setup.default_numbers()
    def logits(
        self,
        images: ImagesLike,
        n: Curve | None = None,
        beta: Curve | None = None,
        auto: bool = False,
    ) -> Float[np.ndarray, "image attribute"]:
        """Logits of each attribute; one row for a single image.

        Args:
          images: one or several, of any kinds and sizes.
          n: tone curve's power, n >= 0, a number or an array that broadcasts to
            (image, attribute, channel); changing it never recompiles.
          beta: tone curve's offset, 0 <= beta <= 1, likewise.
          auto: use the calibrated transformation, chosen for each image, instead of n and beta.

        Returns:
          Logits, float32.

        Raises:
          InputError: an invalid image, n or beta out of range or of a shape that does not
            broadcast, `auto` without a calibration or together with a curve.
        """
        fitted = self._fitted(images)
        shape = len(fitted.pictures), len(self.attributes), self.run.config.model.widths[-1]
        curve = curve_or_auto(n, beta, auto, self.own_beta, shape)

        def answer(some, rows):
            treatment = self.transformation if curve is None else curve_of_rows(curve, rows)
            return self.predictor.predict(some, treatment).logits

        return self._batched(answer, fitted)

    @xla_setup.default_numbers()
    def sweep(
        self,
        images: ImagesLike,
        n_values: Sequence[float],
        beta_values: Sequence[float],
    ) -> Float[np.ndarray, "n beta image attribute"]:
        """Probabilities under every tone curve of a grid; features and masks are computed once.

        Args:
          images: one or several, of any kinds and sizes.
          n_values: powers, each >= 0.
          beta_values: offsets, each from 0 to 1.

        Returns:
          From 0 to 1, float32; without the image axis for a single image.

        Raises:
          InputError: an invalid image, a value out of range, or no list of values.
        """
        n, beta = grid_values(n_values, beta_values)

        def answer(some, _):
            return jnp.moveaxis(self.predictor.sweep(some, n, beta), 2, 0)

        logits = self._batched(answer, self._fitted(images))
        logits = np.moveaxis(logits, 0, 2) if logits.ndim == 4 else logits
        return probability(logits)

    @xla_setup.default_numbers()
    def masks(
        self, images: ImagesLike, attributes: Sequence[str]
    ) -> Float[np.ndarray, "image attribute height width channel"]:
        """Masks M^k of the named attributes, before any tone curve; only these are computed.

        Args:
          images: one or several, of any kinds and sizes.
          attributes: names, in the order of the returned masks.

        Returns:
          From 0 to 1, float32, with the height, width and channels of the network's features;
          without the image axis for a single image.

        Raises:
          InputError: an invalid image, or an unknown attribute.
        """
        chosen = self._chosen(attributes)
        answer = lambda some, _: self.predictor.masks(some, chosen)  # noqa: E731
        return self._batched(answer, self._fitted(images))

    @xla_setup.default_numbers()
    def explain(
        self,
        images: ImagesLike,
        attributes: Sequence[str],
        n: float | None = None,
        beta: float | None = None,
        top: int = 5,
    ) -> Explanation:
        """Explains the logits of the named attributes under a tone curve.

        Gives the contribution of each channel and each position, the masks of the channels that
        contribute most, and a map over the centred square at the network's input size.

        Args:
          images: one or several, of any kinds and sizes.
          attributes: names, in the order of the results.
          n: tone curve's power, n >= 0, one number.
          beta: tone curve's offset, 0 <= beta <= 1, one number.
          top: number of channels whose masks are returned, from 1 to all.

        Returns:
          An `Explanation`, whose contributions and bias sum to the logit. The first axes are image
          and attribute; a single image has no image axis.

        Raises:
          InputError: an invalid image, an unknown attribute, a curve out of range, or more
            channels than the network has.
        """
        channels = self.run.config.model.widths[-1]
        whole = isinstance(top, int | np.integer) and not isinstance(top, bool)
        if not (whole and 1 <= top <= channels):
            raise InputError(f"`top`: found {top}, expected a whole number, 1 to {channels}")
        chosen = self._chosen(attributes)
        curve = curve_or_auto(n, beta, False, self.own_beta)
        answer = lambda some, _: self._explainer(top)(some, chosen, *curve)  # noqa: E731
        return self._batched(answer, self._fitted(images))

    def _explainer(self, top: int) -> Callable:
        """Compiled explanation for a number of channels, cached."""

        def run(network, pictures, chosen, n, beta):
            return explain(network, as_float(pictures), chosen, n, beta, top)

        if top not in self._explainers:
            self._explainers[top] = self.predictor.program(run)
        return self._explainers[top]

    def _chosen(self, attributes: Sequence[str]) -> Int[np.ndarray, " some"]:
        """Indices of the named attributes."""
        if isinstance(attributes, str) or not len(attributes):
            raise InputError(
                f"`attributes`: found {attributes!r}, expected a list of names, one at least"
            )
        for name in attributes:
            if name not in self.attributes:
                hint = attribute_hint(str(name), self.attributes)
                raise InputError(f"`attributes`: {name} is none of the network's; {hint}")
        return np.array([self.attributes.index(name) for name in attributes])

    def _fitted(self, images: ImagesLike) -> Fitted:
        return fit_images(images, self.size)

    def _batched(self, answer: Callable, fitted: Fitted) -> Any:
        return batched(answer, fitted, self.predictor.devices)


def load(path: Path | str) -> Classifier | ExportedClassifier:
    """Loads the best checkpoint of a workdir, or an exported file.

    Args:
      path: folder that `train.py --workdir` wrote, or file that `python -m iamt_jax export` wrote.

    Returns:
      For a workdir a `Classifier`, which uses all devices of this process; for a file an
      `ExportedClassifier`, which has the methods that need only probabilities.

    Raises:
      InputError: the folder holds no run, no checkpoint, or a checkpoint of another network; or
        the file is no exported network.

    Example:
      >>> import iamt_jax
      >>> classifier = iamt_jax.load("W")
      >>> classifier.attributes[:2]
      ('5_o_Clock_Shadow', 'Arched_Eyebrows')
    """
    path = Path(expanded(path))
    if path.is_file() or (path.suffix == EXPORTED_SUFFIX and not path.is_dir()):
        return read_exported(path)
    return load_workdir(path)


@xla_setup.default_numbers()
def load_workdir(workdir: Path) -> Classifier:
    """Loads the best checkpoint of a workdir; see `load`."""
    run, best = best_weights(workdir)
    definition, _, _ = abstract(run.config.model, len(run.attributes))
    predictor = Predictor(definition, best.params, best.statistics)
    return Classifier(workdir, run, best.step, predictor)
