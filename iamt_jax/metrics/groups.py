"""How two groups of images fare: those with an attribute, and those without it.

Pure NumPy, numbers in, numbers out. A group is cut by a label, so it is an annotator's opinion of
a photograph, not what a person is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from iamt_jax.files import plain
from iamt_jax.metrics.per_attribute import Labels, Logits, Majority, evaluate

EVERYWHERE = ("accuracy", "majority_accuracy", "gain")
"""Metrics averaged over all attributes but the group's own."""

WHERE_COMPARED = ("balanced_accuracy", "average_precision")
"""Metrics averaged over the compared attributes: elsewhere a group may have no value at all."""

FEWEST = 10
"""Positives, and negatives, that both groups need before an attribute is compared. A bootstrap
resample then lacks them all with probability exp(-10) only, and no gap is made by five images."""

RATES = ("true_positive_rate", "false_positive_rate")
"""Of the positives, and of the negatives, the share that is said to be present."""

_Z = 1.959963984540054  # Two-sided 95 % of the normal distribution.

Counts = Int[np.ndarray, "attribute"]
PerAttribute = Float[np.ndarray, "attribute"]


@dataclass(frozen=True)
class Side:
    """One group: its averages, and its counts for every attribute but the group's own."""

    images: int
    average: dict[str, float]
    """Metric of `EVERYWHERE` and `WHERE_COMPARED` -> mean over attributes; NaN without any."""
    interval: dict[str, tuple[float, float]]
    """The same -> bootstrap 95 % interval over the group's images."""
    positives: Counts
    negatives: Counts
    rates: dict[str, PerAttribute]
    """Rate of `RATES` -> its value; NaN where nobody could make it."""


@dataclass(frozen=True)
class Comparison:
    """Both groups of one attribute, and their gap for every other attribute."""

    present: Side
    absent: Side
    not_annotated: int
    """Images without a label for the group's attribute, which are in neither group."""
    others: Counts
    """Columns of the attributes that everything here is about: all but the group's own."""
    compared: Bool[np.ndarray, "attribute"]
    """Which of them have `FEWEST` positives and negatives in both groups."""
    by_positives: Bool[np.ndarray, "attribute"]
    """Whether the gap is one of true positive rates; else of false positive rates."""
    difference: PerAttribute
    """That rate, present minus absent; NaN where not compared."""
    interval: Float[np.ndarray, "attribute 2"]
    """Its 95 % interval."""


def compare(
    logits: Logits,
    labels: Labels,
    majority: Majority,
    group: int,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Cuts the images by one attribute's label and measures both parts.

    The gap of attribute k is that of equalised odds (Hardt, Price and Srebro, NeurIPS 2016):

        gap_k = max over y in {0, 1} of |P(said k | k = y, present) - P(said k | k = y, absent)|

    It is not that of balanced accuracies, where a group that is said to have k too seldom (fewer
    hits, fewer false alarms) looks as well served as the other. Neither depends on how common k is
    in a group; accuracy and average precision do.

    A rate's interval is Newcombe's for a difference of proportions (1998, method 10): a bootstrap
    of 12 hits out of 12 has no width. Whoever looks at the largest of many gaps picks chance up
    too; the intervals do not correct for that.

    Args:
      logits: (image, attribute), any float type.
      labels: (image, attribute), int8: 1, 0, or `MISSING`.
      majority: (attribute,), bool: the commoner class in the training split.
      group: the column that cuts; its own labels are constant in each part, so it is left out.
      bootstrap: resamples of the averages' intervals; 0 leaves them NaN.
      seed: of the resamples.

    Returns:
      `Comparison`, in fractions. A group without images has NaN throughout.

    Raises:
      ValueError: as `metrics.evaluate`.
    """
    logits, labels, majority = np.asarray(logits), np.asarray(labels), np.asarray(majority)
    others = np.delete(np.arange(labels.shape[1]), group)
    rows = [labels[:, group] == value for value in (1, 0)]
    parts = [(logits[r][:, others], labels[r][:, others]) for r in rows]
    counts = np.array([[(y == 1).sum(0), (y == 0).sum(0)] for _, y in parts])
    said = np.array([[((x > 0) & (y == v)).sum(0) for v in (1, 0)] for x, y in parts])
    compared = (counts >= FEWEST).all(axis=(0, 1))

    shares = np.full(counts.shape, np.nan)
    np.divide(said, counts, out=shares, where=counts > 0)
    sides = [
        Side(len(y), *_averages(x, y, majority[others], compared, bootstrap, seed), *count, rates)
        for (x, y), count, rates in zip(
            parts, counts, [dict(zip(RATES, s, strict=True)) for s in shares], strict=True
        )
    ]
    return Comparison(
        *sides,
        len(labels) - sum(side.images for side in sides),
        others,
        compared,
        *_gaps(said, counts, compared),
    )


def _gaps(
    said: Int[np.ndarray, "side rate attribute"],
    counts: Int[np.ndarray, "side rate attribute"],
    compared: Bool[np.ndarray, "attribute"],
) -> tuple[Bool[np.ndarray, "attribute"], PerAttribute, Float[np.ndarray, "attribute 2"]]:
    """`by_positives`, `difference` and `interval` of a `Comparison`."""
    differences = np.full(counts.shape[1:], np.nan)
    bounds = np.full((*differences.shape, 2), np.nan)
    first, second, of_first, of_second = (v[..., compared] for v in (*said, *counts))
    differences[:, compared] = first / of_first - second / of_second
    bounds[:, compared] = newcombe(first, second, of_first, of_second)
    by_positives = np.abs(differences[0]) >= np.abs(differences[1])
    return (
        by_positives,
        np.where(by_positives, *differences),
        np.where(by_positives[:, None], *bounds),
    )


def _averages(
    logits: Logits,
    labels: Labels,
    majority: Majority,
    compared: Bool[np.ndarray, "attribute"],
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Averages of one group and their intervals, each over the attributes that it is for."""
    whole = evaluate(logits, labels, majority, bootstrap=bootstrap, seed=seed)
    part = whole
    if not compared.all():
        columns = logits[:, compared], labels[:, compared], majority[compared]
        part = evaluate(*columns, bootstrap=bootstrap, seed=seed)
    found = {name: whole for name in EVERYWHERE} | {name: part for name in WHERE_COMPARED}
    return (
        {name: metrics.average[name] for name, metrics in found.items()},
        {name: metrics.interval[name] for name, metrics in found.items()},
    )


def newcombe(
    first: np.ndarray, second: np.ndarray, of_first: np.ndarray, of_second: np.ndarray
) -> Float[np.ndarray, "... 2"]:
    """95 % interval of first / of_first - second / of_second, from two Wilson intervals.

    Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10: with p the shares and (l, u)
    their Wilson intervals, from

        d - sqrt((p1 - l1)^2 + (u2 - p2)^2)    to    d + sqrt((u1 - p1)^2 + (p2 - l2)^2)

    Args:
      first: how many did it, any shape.
      second: the same of the second group.
      of_first: of how many, above 0.
      of_second: the same of the second group.

    Returns:
      (..., 2): low, high.
    """
    p1, l1, u1 = _wilson(first, of_first)
    p2, l2, u2 = _wilson(second, of_second)
    low = p1 - p2 - np.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + np.hypot(u1 - p1, p2 - l2)
    return np.stack([low, high], axis=-1)


def _wilson(hits: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A share, and Wilson's score interval of it."""
    share = np.asarray(hits) / count
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = np.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2) * _Z
    half = half / (1 + _Z**2 / count)
    return share, centre - half, centre + half


def as_json(comparison: Comparison, names: Sequence[str]) -> dict:
    """The comparison as plain Python that `json` can write, NaN as None.

    Args:
      comparison: what `compare` returned.
      names: the names of all attributes, the group's own among them, in the order of the columns.

    Returns:
      `present` and `absent`: `images`, and `average` as `metrics.as_json` has it; `not_annotated`;
      `attributes`: how many are averaged; `left_out`: names of those not compared; `gaps`: name of
      a compared attribute -> `rate`, `difference`, `interval`, and for both groups, present first,
      `positives`, `negatives` and `RATES`; largest gap first.
    """
    both = comparison.present, comparison.absent
    named = [names[column] for column in comparison.others]
    compared = np.flatnonzero(comparison.compared)
    largest = compared[np.argsort(-np.abs(comparison.difference[compared]), kind="stable")]
    return {
        "present": _side_json(comparison.present),
        "absent": _side_json(comparison.absent),
        "not_annotated": comparison.not_annotated,
        "attributes": len(named),
        "left_out": [named[k] for k in np.flatnonzero(~comparison.compared)],
        "gaps": {
            named[k]: {
                "rate": RATES[0] if comparison.by_positives[k] else RATES[1],
                "difference": float(comparison.difference[k]),
                "interval": comparison.interval[k].tolist(),
                "positives": [int(side.positives[k]) for side in both],
                "negatives": [int(side.negatives[k]) for side in both],
                **{rate: [float(side.rates[rate][k]) for side in both] for rate in RATES},
            }
            for k in largest
        },
    }


def _side_json(side: Side) -> dict:
    average = {**side.average, "interval": side.interval}
    return {"images": side.images, "average": plain(average)}
