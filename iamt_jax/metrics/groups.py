"""Comparison of two groups of images: those with an attribute, and those without it.

Pure NumPy. A group is defined by a label, that is, by an annotator's opinion of a photograph, not
by what a person is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from iamt_jax.errors import InputError, attribute_hint
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


def group_columns(groups: Sequence[str], attributes: Sequence[str]) -> dict[str, int]:
    """Columns of the attributes that define groups.

    Raises:
      InputError: the network has no such attribute.
    """
    for name in groups:
        if name not in attributes:
            hint = attribute_hint(name, attributes)
            raise InputError(f"`groups` {name}: is none of the network's attributes; {hint}")
    return {name: attributes.index(name) for name in groups}


def compare(
    logits: Logits,
    labels: LabelMatrix,
    majority: Majority,
    group: int,
    names: Sequence[str],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict:
    """Splits the images by the label of one attribute and measures both groups.

    The gap of attribute k is that of equalised odds (Hardt, Price and Srebro, NeurIPS 2016):

        gap_k = max over y in {0, 1} of |P(pred k | k = y, present) - P(pred k | k = y, absent)|

    The gap of balanced accuracies is not used: a group for which k is predicted too rarely (fewer
    hits, but fewer false alarms too) would look as good as the other. Neither gap depends on how
    common k is in a group; accuracy and average precision do.

    The largest of many gaps are partly chance; their intervals do not correct for that.

    Args:
      logits: (image, attribute), any float type.
      labels: (image, attribute), int8: 1, 0, or `MISSING`.
      majority: (attribute,), bool: the more common class in the training split.
      group: column of the attribute that defines the groups; its own labels are constant in each
        group, so it is left out.
      names: names of all attributes, in the order of the columns.
      bootstrap: resamples of the averages' intervals; with 0 they are undefined.
      seed: seed of the resamples.

    Returns:
      Types that `json` can write, fractions, None where undefined. `present` and `absent`:
      `images`, and `average`, the means of `EVERYWHERE` and `WHERE_COMPARED` and their `interval`;
      `not_annotated`: number of images in neither group; `attributes`: number of attributes
      averaged; `left_out`: names of those not compared; `gaps`: name of a compared attribute ->
      `rate`, `difference` (present minus absent), `interval` (`newcombe`), and for both groups,
      present first, `positives`, `negatives` and `RATES`; the largest gap first.

    Raises:
      ValueError: as `compute_metrics`.
    """
    logits, labels, majority = np.asarray(logits), np.asarray(labels), np.asarray(majority)
    others = np.delete(np.arange(labels.shape[1]), group)
    sides = [labels[:, group] == value for value in (1, 0)]
    parts = [(logits[rows][:, others], labels[rows][:, others]) for rows in sides]
    counts = np.array([[(y == v).sum(0) for v in (1, 0)] for _, y in parts])
    predicted = np.array([[((x > 0) & (y == v)).sum(0) for v in (1, 0)] for x, y in parts])
    compared = (counts >= FEWEST).all(axis=(0, 1))
    present, absent = (
        {
            "images": len(y),
            "average": _averages(x, y, majority[others], compared, bootstrap, seed),
        }
        for x, y in parts
    )
    gaps = {
        names[others[k]]: _gap(predicted[..., k], counts[..., k]) for k in np.flatnonzero(compared)
    }
    return {
        "present": present,
        "absent": absent,
        "not_annotated": len(labels) - present["images"] - absent["images"],
        "attributes": len(others),
        "left_out": [names[column] for column in others[~compared]],
        "gaps": dict(sorted(gaps.items(), key=lambda gap: -abs(gap[1]["difference"]))),
    }


def _gap(predicted: Int[np.ndarray, "side rate"], counts: Int[np.ndarray, "side rate"]) -> dict:
    """The greater gap of one attribute, of those in the two `RATES`."""
    shares = predicted / counts
    differences = shares[0] - shares[1]
    greater = int(np.argmax(np.abs(differences)))
    return {
        "rate": RATES[greater],
        "difference": float(differences[greater]),
        "interval": newcombe(*predicted[:, greater], *counts[:, greater]).tolist(),
        "positives": counts[:, 0].tolist(),
        "negatives": counts[:, 1].tolist(),
        **dict(zip(RATES, shares.T.tolist(), strict=True)),
    }


def _averages(
    logits: Logits,
    labels: LabelMatrix,
    majority: Majority,
    compared: Bool[np.ndarray, "attribute"],
    bootstrap: int,
    seed: int,
) -> dict:
    """Averages of one group and their intervals, each over the attributes it is defined on."""
    whole = compute_metrics(logits, labels, majority, bootstrap=bootstrap, seed=seed)
    part = whole
    if not compared.all():
        columns = logits[:, compared], labels[:, compared], majority[compared]
        part = compute_metrics(*columns, bootstrap=bootstrap, seed=seed)
    found = {name: whole for name in EVERYWHERE} | {name: part for name in WHERE_COMPARED}
    averages = {name: metrics.average[name] for name, metrics in found.items()}
    intervals = {name: metrics.interval[name] for name, metrics in found.items()}
    return plain({**averages, "interval": intervals})


def newcombe(
    first: np.ndarray, second: np.ndarray, of_first: np.ndarray, of_second: np.ndarray
) -> Float[np.ndarray, "... 2"]:
    """95 % interval of first / of_first - second / of_second, from two Wilson intervals.

    Unlike a bootstrap's, it has a width for 12 hits out of 12.

    Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10: with p the shares and (l, u)
    their Wilson intervals, from

        d - sqrt((p1 - l1)^2 + (u2 - p2)^2)    to    d + sqrt((u1 - p1)^2 + (p2 - l2)^2)

    The groups have `of_first` and `of_second` members, at least one; the result is (low, high).
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
