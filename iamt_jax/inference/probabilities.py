"""Methods that every classifier has, since they need only its probabilities."""

from __future__ import annotations

import abc
from typing import TypedDict, Unpack

import numpy as np
from jaxtyping import Float, Int

from iamt_jax.errors import InputError
from iamt_jax.inference.inputs import Curve, ImagesLike


class CurveOptions(TypedDict, total=False):
    """Keyword arguments of a call beside the images."""

    n: Curve | None
    beta: Curve | None
    auto: bool


class ProbabilityMethods(abc.ABC):
    """Base of `Classifier` and `ExportedClassifier`: named results, and scikit-learn's methods."""

    attributes: tuple[str, ...]
    """Names of the attributes, in the order of the columns of all results."""
    size: int
    """Height and width of the network's input, in pixels."""
    step: int
    """Training step of the weights."""
    thresholds: tuple[float, ...]
    """Probability of each attribute above which it counts as present."""
    is_calibrated: bool
    """True if `auto` is available."""
    _source: str
    """Folder or file that it was loaded from."""

    @abc.abstractmethod
    def __call__(
        self,
        images: ImagesLike,
        n: Curve | None = None,
        beta: Curve | None = None,
        auto: bool = False,
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute; one row for a single image."""

    def __repr__(self) -> str:
        calibrated = ", calibrated" if self.is_calibrated else ""
        return (
            f"{type(self).__name__}({self._source!r}, step {self.step}, "
            f"{len(self.attributes)} attributes, {self.size} px{calibrated})"
        )

    def predict_proba(
        self, images: ImagesLike, **options: Unpack[CurveOptions]
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute, always with an image axis, as in scikit-learn.

        Args:
          images: one or several, as for a call.
          options: `n`, `beta` or `auto`, as for a call.

        Returns:
          From 0 to 1, float32; a single image gives one row.

        Raises:
          InputError: as a call.
        """
        return np.atleast_2d(self(images, **options))

    def predict(
        self, images: ImagesLike, **options: Unpack[CurveOptions]
    ) -> Int[np.ndarray, "image attribute"]:
        """Decisions: 1 where the probability is above the attribute's threshold, else 0.

        Args:
          images: one or several, as for a call.
          options: `n`, `beta` or `auto`, as for a call.

        Returns:
          0 and 1, int64, always with an image axis, as in scikit-learn.

        Raises:
          InputError: as a call.
        """
        return (self.predict_proba(images, **options) > np.array(self.thresholds)).astype(np.int64)

    def top(
        self, images: ImagesLike, count: int = 5, **options: Unpack[CurveOptions]
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """The most probable attributes, the most probable first.

        Args:
          images: one or several, as for a call.
          count: number of attributes, at least 1.
          options: `n`, `beta` or `auto`, as for a call.

        Returns:
          Pairs of a name and a probability; a list of such lists for several images.

        Raises:
          InputError: as a call, or a count below 1.
        """
        if not (isinstance(count, int | np.integer) and count >= 1):
            raise InputError(f"`count`: found {count!r}, expected a whole number, at least 1")
        found = self(images, **options)
        tops = []
        for row in np.atleast_2d(found):
            order = np.argsort(-row, kind="stable")[:count]
            tops.append([(self.attributes[k], float(row[k])) for k in order])
        return tops if found.ndim == 2 else tops[0]

    def as_dict(
        self, images: ImagesLike, **options: Unpack[CurveOptions]
    ) -> dict[str, float] | list[dict[str, float]]:
        """Probabilities by name of the attribute.

        Args:
          images: one or several, as for a call.
          options: `n`, `beta` or `auto`, as for a call.

        Returns:
          Name -> probability, in the order of `attributes`; a list of such dicts for several
          images.

        Raises:
          InputError: as a call.
        """
        found = self(images, **options)
        dicts = [
            dict(zip(self.attributes, row, strict=True)) for row in np.atleast_2d(found).tolist()
        ]
        return dicts if found.ndim == 2 else dicts[0]
