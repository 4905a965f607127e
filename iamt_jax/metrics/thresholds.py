"""Above which probability an attribute is said to be present: chosen on labelled images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

from iamt_jax.config import MISSING

HALF = 0.5
"""What evaluation decides by: a logit above 0."""


def thresholds(
    probabilities: Float[np.ndarray, "image attribute"],
    labels: Int8[np.ndarray, "image attribute"],
    score: str,
) -> Float[np.ndarray, " attribute"]:
    r"""The threshold of each attribute that scores best; `HALF` where a class has no image.

    An attribute is present where its probability is greater. Every midpoint between two neighbours
    among 0, the probabilities and 1 is tried, `HALF`, and 1, which is never; of equal ones, the
    nearest to `HALF` is taken. With t the true and f the false positives at a threshold, P and N
    the images of each class,

    .. math::
      \text{accuracy} = \frac{t + N - f}{P + N}, \qquad
      \text{balanced} = \tfrac{1}{2} \left( \frac{t}{P} + \frac{N - f}{N} \right), \qquad
      F_1 = \frac{2 t}{t + f + P}

    Args:
      probabilities: of attributes, in [0, 1].
      labels: 1, 0, or -1 where nobody annotated.
      score: `accuracy`, `balanced` or `f1`.
    """
    columns = zip(probabilities.T, labels.T, strict=True)
    return np.array([_threshold(p[y != MISSING], y[y != MISSING] == 1, score) for p, y in columns])


def _threshold(probability: np.ndarray, present: np.ndarray, score: str) -> float:
    positives, negatives = present.sum(), (~present).sum()
    if not positives or not negatives:
        return HALF
    values = np.unique([0, *probability.astype(np.float64), 1])
    tried = np.concatenate([(values[1:] + values[:-1]) / 2, [HALF, 1]])
    said = np.sort(probability[present]), np.sort(probability[~present])
    true, false = (len(x) - np.searchsorted(x, tried, side="right") for x in said)
    scores = {
        "accuracy": (true + negatives - false) / (positives + negatives),
        "balanced": (true / positives + (negatives - false) / negatives) / 2,
        "f1": 2 * true / (true + false + positives),
    }[score]
    best = tried[scores >= scores.max() - 1e-12]
    return float(best[np.argmin(abs(best - HALF))])
