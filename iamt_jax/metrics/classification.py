"""Seven classification metrics of each attribute, their averages, and bootstrap intervals.

Pure NumPy. Every metric is a function of *weighted* images, so that the bootstrap and the point
estimate run the same code: the point estimate weighs each image once, a resample weighs it by
how often it was drawn. A missing label leaves its image out of that attribute only. A metric
that is undefined for an attribute is NaN there and is left out of the average.
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
LabelMatrix = Int8[np.ndarray, "image attribute"]
Majority = Bool[np.ndarray, "attribute"]
_Weights = Float[np.ndarray, "image resample"]
_Mask = Bool[np.ndarray, "image attribute"]
_Scores = Float[np.ndarray, "attribute resample"]
_PerAttribute = Float[np.ndarray, "attribute"]
_PerResample = Float[np.ndarray, "resample"]

METRIC_NAMES = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "average_precision",
    "majority_accuracy",
    "gain",
    "ece",
)
"""The metrics, in the order in which reports show them; all are fractions, not percent."""

HEADLINE_METRICS = ("accuracy", "balanced_accuracy", "average_precision")
"""The metrics by which tone curves, rivals and ablations are compared."""

CALIBRATION_BINS = 15
"""Equal-width bins of the probability of the positive class (Guo et al., ICML 2017, use 15)."""

HALF = 0.5
"""Threshold that evaluation uses: a probability of 0.5, a logit of 0."""

_CHUNK = 200
"""Resamples computed at once: 16 MB of weights for the 19,962 images of CelebA's test split."""


@dataclass(frozen=True)
class AttributeMetrics:
    """Result of `compute_metrics`; every dictionary has the keys of `METRIC_NAMES`."""

    attributes: dict[str, _PerAttribute]
    """Metric -> its value for each attribute; NaN where it is undefined."""

    average: dict[str, float]
    """Metric -> its mean over the attributes for which it is defined."""

    interval: dict[str, tuple[float, float]]
    """Metric -> (low, high), the bootstrap 95 % percentile interval of the average."""


def compute_metrics(
    logits: Logits, labels: LabelMatrix, majority: Majority, *, bootstrap: int = 1000, seed: int = 0
) -> AttributeMetrics:
    """Computes all metrics of logits against labels.

    An attribute is predicted present where its logit is above 0.

      accuracy           share of correct predictions
      balanced_accuracy  mean of sensitivity and specificity; undefined unless both classes occur
      f1                 2 TP / (2 TP + FP + FN); undefined without positives
      average_precision  sum over thresholds of (R_i - R_{i-1}) P_i, equal logits sharing one
                         threshold, as scikit-learn computes it; undefined without positives
      majority_accuracy  accuracy of always predicting `majority`
      gain               accuracy - majority_accuracy
      ece                sum over 15 bins of p of (images in bin / images) *
                         |mean p - share of positives|, p the probability of the positive class

    The bootstrap (Efron and Tibshirani, 1993, chapter 13) draws images with replacement, all
    attributes of an image together, and takes the 2.5th and 97.5th percentiles of the average.
    Since it draws positions, it depends on the order of the images; nothing else here does.
    Noise in a bin always increases the ECE, and a resample has more of it: with few images the
    interval of the ECE can lie above the ECE itself.

    Args:
      logits: (image, attribute), any float type; infinities are allowed, NaN is not.
      labels: (image, attribute), int8: 1, 0, or `MISSING`.
      majority: (attribute,), bool: the more common class in the training split, as from
        `majority_class`.
      bootstrap: number of resamples; with 0 every interval is NaN.
      seed: seed of the resamples; the same seed gives the same intervals.

    Returns:
      `AttributeMetrics`, in fractions.

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
    resampled = {name: [] for name in METRIC_NAMES}
    for weights in _resamples(len(labels), bootstrap, seed):
        for name, score in _scores(logits, labels, majority, weights).items():
            resampled[name].append(_mean_defined(score))
    return AttributeMetrics(
        attributes={name: score[:, 0] for name, score in scores.items()},
        average={name: float(_mean_defined(score)[0]) for name, score in scores.items()},
        interval={name: _interval(means) for name, means in resampled.items()},
    )


def validation_metrics(logits: Logits, labels: LabelMatrix) -> dict[str, float]:
    """Average accuracy and average precision, without bootstrap, for validation during training.

    The values equal `average` of `compute_metrics`; it raises the same errors.
    """
    logits, labels = _checked(logits, labels)
    weights = _once(labels)
    scores = {
        "accuracy": _accuracy(logits > 0, labels, weights),
        "average_precision": _average_precision(logits, labels, weights),
    }
    return {name: float(_mean_defined(score)[0]) for name, score in scores.items()}


def majority_class(labels: LabelMatrix) -> Majority:
    """True for each attribute that is present in more than half of its known labels.

    A tie, or an attribute without any known label, counts as absent (False). Give the labels of the
    training split, so that the baseline uses nothing of the images it is measured on.
    """
    labels = np.asarray(labels)
    return np.sum(labels == 1, axis=0) > np.sum(labels == 0, axis=0)


def metrics_json(metrics: AttributeMetrics, names: Sequence[str]) -> dict:
    """Converts the metrics to types that `json` can write, NaN to None; `names` are the columns'.

    Returns:
      `average`: the keys of `METRIC_NAMES`, and `interval` with the same keys -> [low, high];
      `attributes`: name -> the keys of `METRIC_NAMES`.

    Raises:
      ValueError: there is not exactly one distinct name a column.
    """
    columns = len(metrics.attributes[METRIC_NAMES[0]])
    if not len(names) == len(set(names)) == columns:
        raise ValueError(f"{columns} attributes need as many different names, got {list(names)}")
    average = {name: metrics.average[name] for name in METRIC_NAMES}
    average["interval"] = {name: metrics.interval[name] for name in METRIC_NAMES}
    attributes = {
        attribute: {name: metrics.attributes[name][k] for name in METRIC_NAMES}
        for k, attribute in enumerate(names)
    }
    return plain({"average": average, "attributes": attributes})


def percent(fraction: float | None, digits: int = 1) -> str:
    """Formats a metric as a percentage such as 89.0%; None and NaN become `undefined`."""
    return "undefined" if plain(fraction) is None else f"{fraction:.{digits}%}"


def thresholds(
    probabilities: Float[np.ndarray, "image attribute"],
    labels: LabelMatrix,
    score: str,
) -> _PerAttribute:
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


def _checked(logits: Logits, labels: LabelMatrix) -> tuple[Logits, LabelMatrix]:
    """Converts the inputs to float64 and int8; raises ValueError if they are invalid."""
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


def _once(labels: LabelMatrix) -> _Weights:
    """Weights of the point estimate: 1 for each image."""
    return np.ones((len(labels), 1), np.float32)


def _resamples(images: int, count: int, seed: int) -> Iterator[_Weights]:
    """Yields how often each of `count` resamples drew each image, `_CHUNK` resamples at a time."""
    rng = np.random.default_rng(seed)
    if images == 0:
        return
    for start in range(0, count, _CHUNK):
        weights = np.empty((images, min(_CHUNK, count - start)), np.float32)
        for column in weights.T:
            column[:] = np.bincount(rng.integers(images, size=images), minlength=images)
        yield weights


def _scores(
    logits: Logits, labels: LabelMatrix, majority: Majority, weights: _Weights
) -> dict[str, _Scores]:
    """Computes every metric of every attribute, for each column of weights."""
    predicted = logits > 0
    positives, negatives = _count(labels == 1, weights), _count(labels == 0, weights)
    hits = _count(predicted & (labels == 1), weights)
    false_alarms = _count(predicted & (labels == 0), weights)
    accuracy = _accuracy(predicted, labels, weights)
    majority_accuracy = _accuracy(majority, labels, weights)

    sensitivity = _ratio(hits, positives)
    specificity = _ratio(negatives - false_alarms, negatives)
    # 2 TP + FP + FN = TP + FP + positives. Without positives F1 is 0 for any predictions, so it
    # says nothing about them and counts as undefined.
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


def _accuracy(predicted: _Mask | Majority, labels: LabelMatrix, weights: _Weights) -> _Scores:
    # No class equals MISSING, so an image without a label never counts as correct.
    return _ratio(_count(predicted == labels, weights), _count(labels != MISSING, weights))


def _average_precision(logits: Logits, labels: LabelMatrix, weights: _Weights) -> _Scores:
    """Computes the area under the step-wise precision-recall curve."""
    result = np.full((labels.shape[1], weights.shape[1]), np.nan)
    for k, (score, label) in enumerate(zip(logits.T, labels.T, strict=True)):
        order = np.argsort(-score)
        order = order[label[order] != MISSING]
        positive = label[order] == 1
        if positive.any():
            result[k] = _ranked_precision(score[order], positive, weights[order])
    return result


def _ranked_precision(score: np.ndarray, positive: np.ndarray, weights: _Weights) -> _PerResample:
    """Average precision of one attribute; the images are sorted by decreasing score."""
    # Equal scores share one threshold, after the last of them. A threshold that adds no positive
    # adds no recall, so cumulative sums are needed only at the others.
    thresholds = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    reached = np.cumsum(positive)[thresholds]
    rising = np.diff(reached, prepend=0) > 0
    thresholds, reached = thresholds[rising], reached[rising]

    starts = np.append(0, thresholds[:-1] + 1)
    selected = np.add.reduceat(weights[: thresholds[-1] + 1], starts)
    selected = np.cumsum(selected, axis=0, dtype=np.float64)
    steps = np.add.reduceat(weights[positive], np.append(0, reached[:-1]))
    hits = np.cumsum(steps, axis=0, dtype=np.float64)
    # A resample may contain none of the first images: the precision is 0 of 0, the step 0.
    precision = hits / np.maximum(selected, 1)
    return _ratio(np.einsum("ir,ir->r", steps, precision), hits[-1])


def _calibration_error(logits: Logits, labels: LabelMatrix, weights: _Weights) -> _Scores:
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


def _count(mask: _Mask, weights: _Weights) -> _Scores:
    """Total weight of the images in the mask."""
    return (mask.T.astype(weights.dtype) @ weights).astype(np.float64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; the quotient is NaN where the denominator is 0."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def _mean_defined(scores: _Scores) -> _PerResample:
    """Mean over the attributes whose score is defined; NaN, without a warning, if none is."""
    return _ratio(np.nansum(scores, axis=0), np.sum(~np.isnan(scores), axis=0))


def _interval(means: list[_PerResample]) -> tuple[float, float]:
    """95 % percentile interval of the resampled averages that are defined."""
    values = np.concatenate([*means, np.empty(0)])
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.nan, np.nan
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


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
