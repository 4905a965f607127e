"""Thresholds: no other threshold scores better, for any labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iamt_jax.config import MISSING
from iamt_jax.metrics.classification import HALF, thresholds

SCORES = ("accuracy", "balanced", "f1")


def scored(said, present, score):
    """Score counted image by image."""
    pairs = list(zip(said, present, strict=True))
    hits = sum(s and p for s, p in pairs)
    silences = sum(not s and not p for s, p in pairs)
    positives, negatives = sum(present), len(present) - sum(present)
    if score == "accuracy":
        return (hits + silences) / len(pairs)
    if score == "balanced":
        return (hits / positives + silences / negatives) / 2
    return 2 * hits / (sum(said) + positives)


def one(probability, present, score):
    probability, labels = np.array(probability, np.float32), np.array(present, np.int8)
    (found,) = thresholds(probability[:, None], labels[:, None], score)
    return found


images = st.lists(
    st.tuples(st.floats(0, 1, width=32) | st.sampled_from([0.25, 0.5, 0.75]), st.booleans()),
    min_size=2,
    max_size=12,
).filter(lambda pairs: len({present for _, present in pairs}) == 2)


@pytest.mark.parametrize("score", SCORES)
@given(pairs=images)
@settings(max_examples=60, deadline=None)
def test_none_scores_better(score, pairs):
    probability, present = zip(*pairs, strict=True)
    threshold = one(probability, present, score)
    assert 0 <= threshold <= 1
    reached = scored([p > threshold for p in probability], present, score)
    # Predictions change only at the probabilities themselves.
    for other in (0, HALF, *probability):
        assert scored([p > other for p in probability], present, score) <= reached + 1e-9


def test_by_hand():
    probability, present = [0.1, 0.2, 0.3, 0.9], [False, True, True, True]
    assert one(probability, present, "accuracy") == pytest.approx(0.15)
    assert one([0.1, 0.2, 0.8, 0.9], [False, False, True, True], "f1") == HALF
    # For uninformative probabilities of a rare attribute, never predicting it is best.
    assert one([0.6, 0.7, 0.8, 0.9], [False, True, False, False], "accuracy") == pytest.approx(0.95)
    assert one([0.1, 0.2, 0.3, 0.4], [True, True, False, True], "f1") == pytest.approx(0.05)


def test_each_attribute_by_its_own_labels():
    probability = np.array([[0.1, 0.9, 0.2], [0.2, 0.8, 0.1], [0.6, 0.4, 0.7]], np.float32)
    labels = np.array([[0, 1, 1], [1, 0, 1], [MISSING, MISSING, 1]], np.int8)
    found = thresholds(probability, labels, "accuracy")
    # All images have the last attribute, so no threshold can be chosen.
    np.testing.assert_allclose(found, [0.15, 0.85, HALF], atol=1e-6)
