"""Stages of an explanation and of a report, and how long each will take."""

from __future__ import annotations

import time

import numpy as np

from iamt_jax.evaluation.curve_grid import GRID_BETA, GRID_IMAGES, GRID_N, GRID_SIGMAS
from iamt_jax.evaluation.faithfulness import HIDING, MAPS, RANDOMISED
from iamt_jax.evaluation.mask_statistics import ANALYSIS, ATLAS, GRIDS, JUDGED
from iamt_jax.evaluation.measure import EvaluationData

ACCURACY, FILES = "accuracy", "figures and pages"
CURVES = f"{len(GRID_N) * len(GRID_BETA)} tone curves at {len(GRID_SIGMAS)} noise levels"
"""Stages that belong to the command."""

_TIMED = 64
"""Number of images that are predicted to time this machine."""


def seconds(opened: EvaluationData, report: bool, calibrated: bool) -> dict[str, float]:
    """Estimates the seconds of each stage, in order.

    One prediction is timed. The factors are the stages' costs in predictions of one image and
    attribute, for the preset `faces` on a CPU; beside them stand the seconds of compilation, with
    two hardware threads.

    Args:
      opened: from `open_evaluation`.
      report: False leaves out the tone curves.
      calibrated: whether the calibrated transformation is also measured.
    """
    images, attributes = opened.records.labels.shape
    one = _prediction_seconds(opened) / attributes
    judged, grid = min(JUDGED, images), min(GRID_IMAGES, images) * len(GRID_SIGMAS)
    plan = {ACCURACY: 3 + one * attributes * images}
    if report:
        plan[CURVES] = 6 + one * attributes * grid * (5 if calibrated else 4)
    return plan | {
        ANALYSIS: 2 + one * attributes * images * 2.8,
        MAPS: 6 + one * attributes * judged * 35,
        HIDING: 3 + one * 40 * judged * 150,
        RANDOMISED: 4 + one * attributes * 16 * 40,
        GRIDS: 6 + one * 40 * attributes * 75,
        ATLAS: 3 + one * 40 * attributes * 10,
        FILES: 3 + 0.15 * attributes,
    }


def _prediction_seconds(opened: EvaluationData) -> float:
    """Seconds of the prediction of one image, compiled."""
    classifier, records = opened.classifier, opened.records
    count = -(-_TIMED // classifier.predictor.devices) * classifier.predictor.devices
    rows = np.arange(count) % len(records)
    pictures = records.pictures(rows, classifier.run.config.data.size)
    taken = []
    for _ in range(3):  # The first one compiles.
        start = time.perf_counter()
        np.asarray(classifier.predictor.predict(pictures).logits)
        taken.append(time.perf_counter() - start)
    return min(taken) / count
