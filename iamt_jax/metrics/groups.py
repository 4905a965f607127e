"""Comparison of two groups of images: those with an attribute, and those without it.

Pure NumPy. A group is defined by a label, that is, by an annotator's opinion of a photograph, not
by what a person is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from iamt_jax.files import plain
from iamt_jax.metrics.classification import LabelMatrix, Logits, Majority, compute_metrics

EVERYWHERE = ("accuracy", "majority_accuracy", "gain")
"""Metrics averaged over all attributes except the group's own."""

WHERE_COMPARED = ("balanced_accuracy", "average_precision")
"""Metrics averaged over the compared attributes only; elsewhere they may be undefined."""

FEWEST = 10
"""Positives, and negatives, that both groups need for an attribute to be compared. A bootstrap
resample then lacks all of them with probability exp(-10) only, and no gap rests on five images."""

RATES = ("true_positive_rate", "false_positive_rate")
"""Share predicted present, of the positives and of the negatives."""

_Z = 1.959963984540054  # Two-sided 95 % of the normal distribution.

Counts = Int[np.ndarray, "attribute"]
_PerAttribute = Float[np.ndarray, "attribute"]


@dataclass(frozen=True)
class Side:
    """One group: its averages, and its counts for every attribute except the group's own."""

    images: int
    average: dict[str, float]
    """Metric of `EVERYWHERE` and `WHERE_COMPARED` -> mean over attributes; NaN if there is none."""
    interval: dict[str, tuple[float, float]]
    """The same -> bootstrap 95 % interval over the group's images."""
    positives: Counts
    negatives: Counts
    rates: dict[str, _PerAttribute]
    """Rate of `RATES` -> its value; NaN where there is no such image."""


@dataclass(frozen=True)
class Comparison:
    """Both groups of one attribute, and the gap between them for every other attribute."""

    present: Side
    absent: Side
    not_annotated: int
    """Number of images without a label for the group's attribute; they are in neither group."""
    others: Counts
    """Columns of the attributes of all arrays here: every attribute except the group's own."""
    compared: Bool[np.ndarray, "attribute"]
    """True for those with at least `FEWEST` positives and negatives in both groups."""
    by_positives: Bool[np.ndarray, "attribute"]
    """True if the gap is between true positive rates, False if between false positive rates."""
    difference: _PerAttribute
    """Difference of that rate, present minus absent; NaN where not compared."""
    interval: Float[np.ndarray, "attribute 2"]
    """95 % interval of the difference."""


def compare(
    logits: Logits,
    labels: LabelMatrix,
    majority: Majority,
    group: int,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Splits the images by the label of one attribute and measures both groups.

    The gap of attribute k is that of equalised odds (Hardt, Price and Srebro, NeurIPS 2016):

        gap_k = max over y in {0, 1} of |P(pred k | k = y, present) - P(pred k | k = y, absent)|

    The gap of balanced accuracies is not used: a group for which k is predicted too rarely (fewer
    hits, but fewer false alarms too) would look as good as the other. Neither gap depends on how
    common k is in a group; accuracy and average precision do.

    The interval of a gap is Newcombe's for a difference of proportions (1998, method 10), because a
    bootstrap of 12 hits out of 12 has no width. The largest of many gaps are partly chance; the
    intervals do not correct for that.

    Args:
      logits: (image, attribute), any float type.
      labels: (image, attribute), int8: 1, 0, or `MISSING`.
      majority: (attribute,), bool: the more common class in the training split.
      group: column of the attribute that defines the groups; its own labels are constant in each
        group, so it is left out.
      bootstrap: resamples of the averages' intervals; with 0 they are NaN.
      seed: seed of the resamples.

    Returns:
      `Comparison`, in fractions. All values of a group without images are NaN.

    Raises:
      ValueError: as `compute_metrics`.
    """
    logits, labels, majority = np.asarray(logits), np.asarray(labels), np.asarray(majority)
    others = np.delete(np.arange(labels.shape[1]), group)
    rows = [labels[:, group] == value for value in (1, 0)]
    parts = [(logits[r][:, others], labels[r][:, others]) for r in rows]
    counts = np.array([[(y == 1).sum(0), (y == 0).sum(0)] for _, y in parts])
    predicted = np.array([[((x > 0) & (y == v)).sum(0) for v in (1, 0)] for x, y in parts])
    compared = (counts >= FEWEST).all(axis=(0, 1))

    shares = np.full(counts.shape, np.nan)
    np.divide(predicted, counts, out=shares, where=counts > 0)
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
        *_gaps(predicted, counts, compared),
    )


def _gaps(
    predicted: Int[np.ndarray, "side rate attribute"],
    counts: Int[np.ndarray, "side rate attribute"],
    compared: Bool[np.ndarray, "attribute"],
) -> tuple[Bool[np.ndarray, "attribute"], _PerAttribute, Float[np.ndarray, "attribute 2"]]:
    """Computes `by_positives`, `difference` and `interval` of a `Comparison`."""
    differences = np.full(counts.shape[1:], np.nan)
    bounds = np.full((*differences.shape, 2), np.nan)
    first, second, of_first, of_second = (v[..., compared] for v in (*predicted, *counts))
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
    labels: LabelMatrix,
    majority: Majority,
    compared: Bool[np.ndarray, "attribute"],
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Averages of one group and their intervals, each over the attributes it is defined on."""
    whole = compute_metrics(logits, labels, majority, bootstrap=bootstrap, seed=seed)
    part = whole
    if not compared.all():
        columns = logits[:, compared], labels[:, compared], majority[compared]
        part = compute_metrics(*columns, bootstrap=bootstrap, seed=seed)
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
      first: successes in the first group, any shape.
      second: successes in the second group.
      of_first: size of the first group, above 0.
      of_second: size of the second group, above 0.

    Returns:
      (..., 2): low, high.
    """
    p1, l1, u1 = _wilson(first, of_first)
    p2, l2, u2 = _wilson(second, of_second)
    low = p1 - p2 - np.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + np.hypot(u1 - p1, p2 - l2)
    return np.stack([low, high], axis=-1)


def _wilson(hits: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A proportion and its Wilson score interval: share, low, high."""
    share = np.asarray(hits) / count
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = np.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2) * _Z
    half = half / (1 + _Z**2 / count)
    return share, centre - half, centre + half


def comparison_json(comparison: Comparison, names: Sequence[str]) -> dict:
    """Converts the comparison to types that `json` can write, NaN to None.

    Args:
      comparison: the result of `compare`.
      names: names of all attributes, including the group's own, in the order of the columns.

    Returns:
      `present` and `absent`: `images`, and `average` as `metrics.as_json` has it; `not_annotated`;
      `attributes`: number of attributes averaged; `left_out`: names of those not compared; `gaps`:
      name of a compared attribute -> `rate`, `difference`, `interval`, and for both groups,
      present first, `positives`, `negatives` and `RATES`; the largest gap first.
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
