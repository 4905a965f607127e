"""Every metric against scikit-learn or a slow reference: ties, missing labels, one class."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from iamt_jax.config import MISSING
from iamt_jax.metrics import classification
from iamt_jax.metrics.classification import (
    METRIC_NAMES,
    compute_metrics,
    majority_class,
    metrics_json,
    validation_metrics,
)


def draw(images=400, attributes=6, seed=0, missing=0.0, decimals=12):
    """Logits correlated with the labels; few decimals make ties."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0.1, 0.8, attributes)
    labels = (rng.random((images, attributes)) < share).astype(np.int8)
    logits = np.round(rng.normal(size=labels.shape) + 2 * labels - 1, decimals)
    labels[rng.random(labels.shape) < missing] = MISSING
    return logits, labels


def slow_twin(logits, labels, answer):
    """The seven metrics of one attribute, image by image; NaN where undefined."""
    pairs = zip(logits.tolist(), labels.tolist(), strict=True)
    pairs = [(x, y) for x, y in pairs if y != MISSING]
    images, positives = len(pairs), sum(y for _, y in pairs)
    if images == 0:
        return dict.fromkeys(METRIC_NAMES, math.nan)
    hits = sum(x > 0 and y == 1 for x, y in pairs)
    rejections = sum(x <= 0 and y == 0 for x, y in pairs)
    negatives = images - positives
    accuracy, majority = (hits + rejections) / images, sum(y == answer for _, y in pairs) / images
    both = positives > 0 and negatives > 0
    errors = images - hits - rejections

    precision_sum, recall = 0.0, 0.0
    for threshold in sorted({x for x, _ in pairs}, reverse=True):
        above = [y for x, y in pairs if x >= threshold]
        if positives:
            precision_sum += (sum(above) / positives - recall) * sum(above) / len(above)
            recall = sum(above) / positives

    ece = 0.0
    probabilities = [(1 / (1 + math.exp(-x)), y) for x, y in pairs]
    for b in range(15):
        members = [(p, y) for p, y in probabilities if min(int(15 * p), 14) == b]
        if members:
            mean_p, rate = np.mean([p for p, _ in members]), np.mean([y for _, y in members])
            ece += len(members) / images * abs(mean_p - rate)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": (hits / positives + rejections / negatives) / 2 if both else math.nan,
        "f1": 2 * hits / (2 * hits + errors) if positives else math.nan,
        "average_precision": precision_sum if positives else math.nan,
        "majority_accuracy": majority,
        "gain": accuracy - majority,
        "ece": ece,
    }


CASES = {
    "plain": draw(),
    "ties": draw(decimals=0),
    "gaps": draw(missing=0.3),
    "ties and gaps": draw(decimals=1, missing=0.3, seed=3),
    "two images": draw(images=2, seed=1),
}


@pytest.mark.parametrize("case", CASES)
def test_every_metric_equals_its_slow_twin(case):
    logits, labels = CASES[case]
    majority = np.arange(labels.shape[1]) % 2 == 0
    found = compute_metrics(logits, labels, majority, bootstrap=0).attributes
    for k in range(labels.shape[1]):
        for name, value in slow_twin(logits[:, k], labels[:, k], majority[k]).items():
            np.testing.assert_allclose(found[name][k], value, atol=1e-12, err_msg=f"{name} {k}")


@pytest.mark.parametrize("case", ["plain", "ties", "gaps", "ties and gaps"])
def test_scikit_learn_agrees(case):
    logits, labels = CASES[case]
    found = compute_metrics(logits, labels, majority_class(labels), bootstrap=0).attributes
    for k in range(labels.shape[1]):
        known = labels[:, k] != MISSING
        x, y = logits[known, k], labels[known, k]
        expected = {
            "accuracy": reference.accuracy_score(y, x > 0),
            "balanced_accuracy": reference.balanced_accuracy_score(y, x > 0),
            "f1": reference.f1_score(y, x > 0),
            "average_precision": reference.average_precision_score(y, x),
        }
        for name, value in expected.items():
            assert found[name][k] == pytest.approx(value, abs=1e-12), name


def test_weights_mean_copies():
    logits, labels = draw(images=60, decimals=1, missing=0.2)
    majority = majority_class(labels)
    counts = np.random.default_rng(5).integers(0, 4, (60, 3))
    weighed = classification._scores(logits, labels, majority, counts.astype(np.float32))
    for r in range(3):
        copies = np.repeat(np.arange(60), counts[:, r])
        repeated = compute_metrics(logits[copies], labels[copies], majority, bootstrap=0).attributes
        for name in METRIC_NAMES:
            np.testing.assert_allclose(weighed[name][:, r], repeated[name], atol=1e-12)


def test_average_precision_survives_weights_that_skip_the_first_images():
    logits, labels = np.array([[3.0], [2.0], [1.0]]), np.array([[1], [0], [1]], np.int8)
    weights = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    assert classification._average_precision(logits, labels, weights).tolist() == [[1.0, 0.5]]


def test_calibration_error_by_hand():
    # Probabilities 0.5, 0.5 (bin 7) and 0.9, 0.9 (bin 13); rates 1/2 and 0: (0 + 2 * 0.9) / 4.
    logits = np.log(np.array([[1.0], [1.0], [9.0], [9.0]]))
    labels = np.array([[1], [0], [0], [0]], np.int8)
    assert classification.CALIBRATION_BINS == 15
    found = compute_metrics(logits, labels, np.array([False]), bootstrap=0)
    assert found.average["ece"] == pytest.approx(0.45, abs=1e-12)
    # Infinite logits have probability 0 or 1: correct ones cost 0, wrong ones 1.
    certain = np.array([[np.inf], [-np.inf], [np.inf], [np.inf]])
    found = compute_metrics(certain, labels, np.array([False]), bootstrap=0)
    assert found.average["ece"] == 0.5


def test_undefined_metrics_are_nan_and_leave_the_average():
    logits, labels = draw(attributes=4)
    labels[:, 0], labels[:, 1], labels[:, 2] = 0, 1, MISSING
    found = compute_metrics(logits, labels, majority_class(labels), bootstrap=50)
    undefined = {name: np.isnan(value).tolist() for name, value in found.attributes.items()}
    for name in ("accuracy", "majority_accuracy", "gain", "ece"):
        assert undefined[name] == [False, False, True, False]
    assert undefined["balanced_accuracy"] == [True, True, True, False]
    for name in ("f1", "average_precision"):
        assert undefined[name] == [True, False, True, False]
    for name in METRIC_NAMES:
        assert found.average[name] == pytest.approx(np.nanmean(found.attributes[name]))
        assert np.isfinite(found.interval[name]).all()


def test_nothing_to_measure_is_nan_not_an_error():
    for images in (0, 3):
        labels = np.full((images, 2), MISSING, np.int8)
        found = compute_metrics(np.zeros((images, 2)), labels, majority_class(labels), bootstrap=10)
        assert all(math.isnan(value) for value in found.average.values())
        assert all(math.isnan(v) for pair in found.interval.values() for v in pair)


def test_majority_class_on_ties_gaps_and_nothing():
    labels = np.array([[1, 1, 0, MISSING, 1], [0, 1, 0, MISSING, MISSING]], np.int8)
    assert majority_class(labels).tolist() == [False, True, False, False, True]


def test_bootstrap_is_deterministic_and_covers_the_average():
    logits, labels = draw(images=2000)
    majority = majority_class(labels)
    found = compute_metrics(logits, labels, majority, bootstrap=300, seed=4)
    assert (
        found.interval == compute_metrics(logits, labels, majority, bootstrap=300, seed=4).interval
    )
    assert (
        found.interval != compute_metrics(logits, labels, majority, bootstrap=300, seed=5).interval
    )
    for name in set(METRIC_NAMES) - {"ece"}:  # biased upward by resampling, as its docstring says
        low, high = found.interval[name]
        assert low < found.average[name] < high
    # The accuracy of one attribute is a binomial proportion, whose standard error is known.
    one = compute_metrics(logits[:, :1], labels[:, :1], majority[:1], bootstrap=1000)
    p, (low, high) = one.average["accuracy"], one.interval["accuracy"]
    width = 2 * 1.96 * math.sqrt(p * (1 - p) / 2000)
    assert high - low == pytest.approx(width, rel=0.1)  # 1,000 resamples know a width to about 5 %


def test_chunks_do_not_change_the_interval(monkeypatch):
    logits, labels = draw(images=50)
    whole = compute_metrics(logits, labels, majority_class(labels), bootstrap=30)
    monkeypatch.setattr(classification, "_CHUNK", 7)
    parts = compute_metrics(logits, labels, majority_class(labels), bootstrap=30)
    for name in METRIC_NAMES:
        assert parts.interval[name] == pytest.approx(whole.interval[name], abs=1e-12)


def test_validation_metrics_equal_compute_metrics():
    logits, labels = CASES["ties and gaps"]
    average = compute_metrics(logits, labels, majority_class(labels), bootstrap=0).average
    found = validation_metrics(logits, labels)
    assert found == {name: average[name] for name in ("accuracy", "average_precision")}


@settings(max_examples=50, deadline=None)
@given(data=st.data(), images=st.integers(1, 30), attributes=st.integers(1, 3))
def test_order_of_images_and_attributes_is_irrelevant(data, images, attributes):
    shape = (images, attributes)
    logits = data.draw(hnp.arrays(np.float64, shape, elements=st.integers(-3, 3)))
    labels = data.draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([0, 1, MISSING])))
    rows = np.array(data.draw(st.permutations(range(images))))
    columns = np.array(data.draw(st.permutations(range(attributes))))
    majority = majority_class(labels)
    before = compute_metrics(logits, labels, majority, bootstrap=0).attributes
    shuffled = logits[rows][:, columns], labels[rows][:, columns], majority[columns]
    after = compute_metrics(*shuffled, bootstrap=0).attributes
    for name in METRIC_NAMES:
        np.testing.assert_allclose(after[name], before[name][columns], atol=1e-12)
        defined = before[name][~np.isnan(before[name])]
        assert np.all(np.abs(defined) <= 1 + 1e-12)


def test_json_has_exactly_the_promised_keys():
    logits, labels = draw(attributes=2)
    labels[:, 1] = 0
    found = compute_metrics(logits, labels, majority_class(labels), bootstrap=10)
    report = metrics_json(found, ["Smiling", "Young"])
    assert list(report) == ["average", "attributes"]
    assert list(report["average"]) == [*METRIC_NAMES, "interval"]
    assert list(report["average"]["interval"]) == list(METRIC_NAMES)
    assert list(report["attributes"]) == ["Smiling", "Young"]
    assert all(list(values) == list(METRIC_NAMES) for values in report["attributes"].values())
    assert report["attributes"]["Young"]["f1"] is None
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for names in (["Smiling"], ["Young", "Young"]):
        with pytest.raises(ValueError, match="different names"):
            metrics_json(found, names)


def test_bad_input_is_refused():
    logits, labels = draw(images=5)
    majority = majority_class(labels)
    with pytest.raises(ValueError, match="must both be"):
        compute_metrics(logits[:4], labels, majority)
    with pytest.raises(ValueError, match="majority has shape"):
        compute_metrics(logits, labels, majority[:2])
    with pytest.raises(ValueError, match="labels must be"):
        validation_metrics(logits, labels + 1)
    with pytest.raises(ValueError, match="1 of 30 logits are NaN"):
        validation_metrics(np.where(np.arange(30).reshape(5, 6) == 7, np.nan, logits), labels)
    with pytest.raises(ValueError, match="bootstrap"):
        compute_metrics(logits, labels, majority, bootstrap=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        compute_metrics(logits, labels, majority, bootstrap=0).average = {}
