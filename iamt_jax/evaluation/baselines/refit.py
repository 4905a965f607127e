"""A temperature and a threshold an attribute: what fitting on clean images can do for logits.

The transformation also shrinks logits and moves them. Whatever a refit reaches as well was not
robustness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int8
from scipy.optimize import minimize_scalar

from iamt_jax.config import MISSING

TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is sought; an attribute without a single error would go to 0."""

_BEYOND = 1.0
"""How far outside of all logits the thresholds lie that answer always, or never."""


class Refit(NamedTuple):
    """What `fit` found; both are pure numbers in units of logits."""

    threshold: Float[np.ndarray, " attribute"]
    temperature: Float[np.ndarray, " attribute"]

    def apply(
        self, logits: Float[np.ndarray, "image attribute"]
    ) -> Float[np.ndarray, "image attribute"]:
        """(logits - threshold) / temperature, whose sign at 0 is the decision; float64."""
        return (np.asarray(logits, np.float64) - self.threshold) / self.temperature


def fit(
    logits: Float[np.ndarray, "image attribute"], labels: Int8[np.ndarray, "image attribute"]
) -> Refit:
    r"""Fits each attribute by itself on clean validation images.

    The threshold t gives the highest accuracy; among equal ones it is the nearest to 0, so that
    0 itself stays where nothing is better. Then the temperature T gives the lowest binary
    cross-entropy of

    .. math:: \mathrm{sigmoid}\big((z - t) / T\big).

    An attribute with labels of one class only, or of none, keeps t = 0 and T = 1: its best
    threshold would be to answer always or never, its best temperature 0.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Args:
      logits: (image, attribute), any float type, finite.
      labels: (image, attribute), int8: 1, 0, or `MISSING`, which is left out.

    Returns:
      `Refit`, float64.

    Raises:
      ValueError: the shapes disagree, a logit is not finite, a label is none of the three values.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or logits.shape != labels.shape:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must both be (image, attribute)"
        )
    if not np.isfinite(logits).all():
        raise ValueError(f"{np.sum(~np.isfinite(logits))} of {logits.size} logits are not finite")
    if not np.isin(labels, (0, 1, MISSING)).all():
        raise ValueError(f"labels must be 1, 0 or {MISSING}, found {np.unique(labels)[:5]}")

    attributes = labels.shape[1]
    refit = Refit(threshold=np.zeros(attributes), temperature=np.ones(attributes))
    for k in range(attributes):
        known = labels[:, k] != MISSING
        z, positive = logits[known, k], labels[known, k] == 1
        if 0 < positive.sum() < len(positive):
            refit.threshold[k] = _threshold(z, positive)
            refit.temperature[k] = _temperature(z - refit.threshold[k], positive)
    return refit


def _threshold(z: np.ndarray, positive: np.ndarray) -> float:
    """The most accurate threshold: 0, a middle between two logits, or beyond all of them."""
    values = np.unique(z)
    middles = (values[1:] + values[:-1]) / 2
    candidates = np.concatenate([[0, values[0] - _BEYOND, values[-1] + _BEYOND], middles])
    candidates = candidates[np.argsort(np.abs(candidates), kind="stable")]
    # Right at threshold t: negatives up to t, and positives above it.
    negatives_up_to = np.searchsorted(np.sort(z[~positive]), candidates, side="right")
    positives_up_to = np.searchsorted(np.sort(z[positive]), candidates, side="right")
    return candidates[np.argmax(negatives_up_to - positives_up_to)]


def _temperature(z: np.ndarray, positive: np.ndarray) -> float:
    """The temperature of the lowest cross-entropy, which has one minimum along log T."""
    margin = np.where(positive, z, -z)

    def cross_entropy(log_temperature: float) -> float:
        return np.mean(np.logaddexp(0, -margin / np.exp(log_temperature)))

    bounds = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))
