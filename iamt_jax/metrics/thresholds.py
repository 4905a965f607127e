"""Decision thresholds of each attribute, chosen on labelled images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

from iamt_jax.config import MISSING

HALF = 0.5
"""Threshold that evaluation uses: a probability of 0.5, a logit of 0."""


def thresholds(
    probabilities: Float[np.ndarray, "image attribute"],
    labels: Int8[np.ndarray, "image attribute"],
    score: str,
) -> Float[np.ndarray, " attribute"]:
    r"""Finds the threshold of each attribute with the best score; `HALF` where a class is missing.

    An attribute is predicted present where its probability is greater than the threshold. The
    candidates are the midpoints between neighbours among 0, the probabilities and 1; `HALF`; and
    1, with which an attribute is never predicted. Of equally good ones, the nearest to `HALF` is
    taken. With t true and f false positives at a threshold, and P and N images of each class,

    .. math::
      \text{accuracy} = \frac{t + N - f}{P + N}, \qquad
      \text{balanced} = \tfrac{1}{2} \left( \frac{t}{P} + \frac{N - f}{N} \right), \qquad
      F_1 = \frac{2 t}{t + f + P}

    Args:
      probabilities: probabilities of the attributes, in [0, 1].
      labels: 1, 0, or `MISSING` (-1).
      score: `accuracy`, `balanced` or `f1`.

    Returns:
      (attribute,), float64, from 0 to 1.
    """
    columns = zip(probabilities.T, labels.T, strict=True)
    return np.array([_threshold(p[y != MISSING], y[y != MISSING] == 1, score) for p, y in columns])


def _threshold(probability: np.ndarray, present: np.ndarray, score: str) -> float:
    positives, negatives = present.sum(), (~present).sum()
    if not positives or not negatives:
        return HALF
    values = np.unique([0, *probability.astype(np.float64), 1])
    candidates = np.concatenate([(values[1:] + values[:-1]) / 2, [HALF, 1]])
    ranked = np.sort(probability[present]), np.sort(probability[~present])
    hits, false_alarms = (len(x) - np.searchsorted(x, candidates, side="right") for x in ranked)
    scores = {
        "accuracy": (hits + negatives - false_alarms) / (positives + negatives),
        "balanced": (hits / positives + (negatives - false_alarms) / negatives) / 2,
        "f1": 2 * hits / (hits + false_alarms + positives),
    }[score]
    best = candidates[scores >= scores.max() - 1e-12]
    return float(best[np.argmin(abs(best - HALF))])
