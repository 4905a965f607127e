"""How good logits are: seven metrics an attribute, their averages, bootstrap intervals.

Pure NumPy. Every metric is a function of *weighted* images, so that the bootstrap and the point
estimate run the same code: the point estimate weighs each image once, a resample weighs it by
how often it was drawn. A missing label leaves its image out of that attribute only. A metric
that has no value for an attribute is NaN there and stays out of the average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8
from scipy.special import expit

from iamt_jax.config import MISSING
from iamt_jax.files import plain

Logits = Float[np.ndarray, "image attribute"]
Labels = Int8[np.ndarray, "image attribute"]
Majority = Bool[np.ndarray, "attribute"]
Weights = Float[np.ndarray, "image resample"]
Mask = Bool[np.ndarray, "image attribute"]
Scores = Float[np.ndarray, "attribute resample"]
PerAttribute = Float[np.ndarray, "attribute"]
PerResample = Float[np.ndarray, "resample"]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "average_precision",
    "majority_accuracy",
    "gain",
    "ece",
)
"""The metrics, in the order in which reports show them; all are fractions, not percent."""

CALIBRATION_BINS = 15
"""Equal-width bins of the probability of the positive class (Guo et al., ICML 2017, use 15)."""

_CHUNK = 200
"""Resamples weighed together: 16 MB of weights for the 19,962 images of CelebA's test split."""


@dataclass(frozen=True)
class Metrics:
    """What `evaluate` found; every dictionary has the keys of `METRICS`."""

    attributes: dict[str, PerAttribute]
    """Metric -> its value for each attribute; NaN where it is undefined."""

    average: dict[str, float]
    """Metric -> its mean over the attributes for which it is defined."""

    interval: dict[str, tuple[float, float]]
    """Metric -> (low, high), the bootstrap 95 % percentile interval of the average."""


def evaluate(
    logits: Logits, labels: Labels, majority: Majority, *, bootstrap: int = 1000, seed: int = 0
) -> Metrics:
    """Measures logits against labels.

    An attribute is predicted present where its logit is above 0.

      accuracy           share of right predictions
      balanced_accuracy  mean of sensitivity and specificity; undefined unless both classes occur
      f1                 2 TP / (2 TP + FP + FN); undefined without positives
      average_precision  sum over thresholds of (R_i - R_{i-1}) P_i, equal logits sharing one
                         threshold, as scikit-learn computes it; undefined without positives
      majority_accuracy  accuracy of always answering `majority`
      gain               accuracy - majority_accuracy
      ece                sum over 15 bins of p of (images in bin / images) *
                         |mean p - share of positives|, p the probability of the positive class

    The bootstrap (Efron and Tibshirani, 1993, chapter 13) draws images with replacement, all
    attributes of an image together, and takes the 2.5th and 97.5th percentile of the average. It
    depends on the order of the images, as the draws are of positions; nothing else here does.
    Noise in a bin only ever adds to the ECE, and a resample has more of it: with few images the
    interval of the ECE can lie above the ECE itself.

    Args:
      logits: (image, attribute), any float type; infinities are allowed, NaN is not.
      labels: (image, attribute), int8: 1, 0, or `MISSING`.
      majority: (attribute,), bool: the commoner class in the training split, `majority_class`.
      bootstrap: resamples; 0 leaves every interval NaN.
      seed: of the resamples; the same seed gives the same intervals.

    Returns:
      `Metrics`, in fractions.

    Raises:
      ValueError: the shapes disagree, a logit is NaN, a label is none of the three values, or
        `bootstrap` is negative.
    """
    logits, labels = _checked(logits, labels)
    majority = np.asarray(majority, bool)
    if majority.shape != labels.shape[1:]:
        raise ValueError(f"majority has shape {majority.shape}, labels have {labels.shape}")
    if bootstrap < 0:
        raise ValueError(f"bootstrap must be 0 or more, not {bootstrap}")

    scores = _scores(logits, labels, majority, _once(labels))
    resampled = {name: [] for name in METRICS}
    for weights in _resamples(len(labels), bootstrap, seed):
        for name, score in _scores(logits, labels, majority, weights).items():
            resampled[name].append(_mean_defined(score))
    return Metrics(
        attributes={name: score[:, 0] for name, score in scores.items()},
        average={name: float(_mean_defined(score)[0]) for name, score in scores.items()},
        interval={name: _interval(means) for name, means in resampled.items()},
    )


def summary(logits: Logits, labels: Labels) -> dict[str, float]:
    """Average accuracy and average precision, without bootstrap: for validation while training.

    The values equal those that `evaluate` calls `average`; it raises the same errors.
    """
    logits, labels = _checked(logits, labels)
    weights = _once(labels)
    scores = {
        "accuracy": _accuracy(logits > 0, labels, weights),
        "average_precision": _average_precision(logits, labels, weights),
    }
    return {name: float(_mean_defined(score)[0]) for name, score in scores.items()}


def majority_class(labels: Labels) -> Majority:
    """True for each attribute that more than half of its known labels have.

    A tie, and an attribute without a single known label, count as absent (False).

    Args:
      labels: (image, attribute), int8: 1, 0, or `MISSING`; of the training split, so that the
        majority baseline knows nothing about the images it is measured on.

    Returns:
      (attribute,), bool.
    """
    labels = np.asarray(labels)
    return np.sum(labels == 1, axis=0) > np.sum(labels == 0, axis=0)


def as_json(metrics: Metrics, names: Sequence[str]) -> dict:
    """The metrics as plain Python that `json` can write, NaN as None.

    Args:
      metrics: what `evaluate` returned.
      names: the attributes' names, in the order of the columns.

    Returns:
      `average`: the keys of `METRICS`, and `interval` with the same keys -> [low, high];
      `attributes`: name -> the keys of `METRICS`.

    Raises:
      ValueError: the names are not one a column, each different.
    """
    columns = len(metrics.attributes[METRICS[0]])
    if not len(names) == len(set(names)) == columns:
        raise ValueError(f"{columns} attributes need as many different names, got {list(names)}")
    average = {name: metrics.average[name] for name in METRICS}
    average["interval"] = {name: metrics.interval[name] for name in METRICS}
    attributes = {
        attribute: {name: metrics.attributes[name][k] for name in METRICS}
        for k, attribute in enumerate(names)
    }
    return plain({"average": average, "attributes": attributes})


def percent(fraction: float | None, digits: int = 1) -> str:
    """A metric for people, such as 89.0%; `undefined` where it has no value (None or NaN)."""
    return "undefined" if plain(fraction) is None else f"{fraction:.{digits}%}"


def _checked(logits: Logits, labels: Labels) -> tuple[Logits, Labels]:
    """The inputs as float64 and int8, or ValueError."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or logits.shape != labels.shape:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must both be (image, attribute)"
        )
    if np.isnan(logits).any():
        raise ValueError(f"{np.isnan(logits).sum()} of {logits.size} logits are NaN")
    if not np.isin(labels, (0, 1, MISSING)).all():
        raise ValueError(f"labels must be 1, 0 or {MISSING}, found {np.unique(labels)[:5]}")
    return logits, labels.astype(np.int8)


def _once(labels: Labels) -> Weights:
    """Weights that count each image once."""
    return np.ones((len(labels), 1), np.float32)


def _resamples(images: int, count: int, seed: int) -> Iterator[Weights]:
    """Yields weights: how often each of `count` resamples drew each image, `_CHUNK` at a time."""
    rng = np.random.default_rng(seed)
    if images == 0:
        return
    for start in range(0, count, _CHUNK):
        weights = np.empty((images, min(_CHUNK, count - start)), np.float32)
        for column in weights.T:
            column[:] = np.bincount(rng.integers(images, size=images), minlength=images)
        yield weights


def _scores(
    logits: Logits, labels: Labels, majority: Majority, weights: Weights
) -> dict[str, Scores]:
    """Every metric of every attribute under every column of weights."""
    predicted = logits > 0
    positives, negatives = _count(labels == 1, weights), _count(labels == 0, weights)
    hits = _count(predicted & (labels == 1), weights)
    false_alarms = _count(predicted & (labels == 0), weights)
    accuracy = _accuracy(predicted, labels, weights)
    majority_accuracy = _accuracy(majority, labels, weights)

    sensitivity = _ratio(hits, positives)
    specificity = _ratio(negatives - false_alarms, negatives)
    # 2 TP + FP + FN = TP + FP + positives. Without positives F1 would be 0 whatever the
    # predictions, which says nothing about them: undefined.
    f1 = np.where(positives > 0, _ratio(2 * hits, hits + false_alarms + positives), np.nan)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": f1,
        "average_precision": _average_precision(logits, labels, weights),
        "majority_accuracy": majority_accuracy,
        "gain": accuracy - majority_accuracy,
        "ece": _calibration_error(logits, labels, weights),
    }


def _accuracy(predicted: Mask | Majority, labels: Labels, weights: Weights) -> Scores:
    # No class equals MISSING, so an image without a label is never right.
    return _ratio(_count(predicted == labels, weights), _count(labels != MISSING, weights))


def _average_precision(logits: Logits, labels: Labels, weights: Weights) -> Scores:
    """Area under the step-wise precision-recall curve."""
    result = np.full((labels.shape[1], weights.shape[1]), np.nan)
    for k, (score, label) in enumerate(zip(logits.T, labels.T, strict=True)):
        order = np.argsort(-score)
        order = order[label[order] != MISSING]
        positive = label[order] == 1
        if positive.any():
            result[k] = _ranked_precision(score[order], positive, weights[order])
    return result


def _ranked_precision(score: np.ndarray, positive: np.ndarray, weights: Weights) -> PerResample:
    """Average precision of one attribute whose images stand by falling score."""
    # Equal scores share one threshold, behind the last of them; and a threshold that adds no
    # positive adds no recall, so only the others are worth their cumulative sums.
    thresholds = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    reached = np.cumsum(positive)[thresholds]
    rising = np.diff(reached, prepend=0) > 0
    thresholds, reached = thresholds[rising], reached[rising]

    starts = np.append(0, thresholds[:-1] + 1)
    selected = np.add.reduceat(weights[: thresholds[-1] + 1], starts)
    selected = np.cumsum(selected, axis=0, dtype=np.float64)
    steps = np.add.reduceat(weights[positive], np.append(0, reached[:-1]))
    hits = np.cumsum(steps, axis=0, dtype=np.float64)
    # A resample may have drawn none of the first images: 0 of 0, and the step is 0 too.
    precision = hits / np.maximum(selected, 1)
    return _ratio(np.einsum("ir,ir->r", steps, precision), hits[-1])


def _calibration_error(logits: Logits, labels: Labels, weights: Weights) -> Scores:
    """Expected calibration error: (1 / images) sum over bins of |sum over bin of (p - label)|."""
    known = labels != MISSING
    probability = expit(logits)
    residual = np.where(known, probability - labels, 0)
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    weights64 = weights.astype(np.float64)
    error = np.empty((labels.shape[1], weights.shape[1]))
    for k in range(len(error)):
        members = bins[:, k] == np.arange(CALIBRATION_BINS)[:, None]
        error[k] = np.abs((members * residual[:, k]) @ weights64).sum(axis=0)
    return _ratio(error, _count(known, weights))


def _count(mask: Mask, weights: Weights) -> Scores:
    """Weight of the images in the mask."""
    return (mask.T.astype(weights.dtype) @ weights).astype(np.float64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient, NaN where the denominator is 0."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def _mean_defined(scores: Scores) -> PerResample:
    """Mean over the attributes that have a value; NaN, without a warning, where none has."""
    return _ratio(np.nansum(scores, axis=0), np.sum(~np.isnan(scores), axis=0))


def _interval(means: list[PerResample]) -> tuple[float, float]:
    """The 95 % percentile interval of the resampled averages that have a value."""
    values = np.concatenate([*means, np.empty(0)])
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.nan, np.nan
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
