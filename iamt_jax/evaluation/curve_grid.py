"""Metrics of a grid of tone curves over the noise (Fig. 5), on one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8

from iamt_jax.data.dataset import Records
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import Noise, one_behind
from iamt_jax.metrics.classification import HEADLINE_METRICS, compute_metrics
from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.progress import progress_bar
from iamt_jax.robust.treatment import Transformation

GRID_SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
GRID_N = (0.25, 0.5, 1.0, 2.0, 4.0)
GRID_BETA = tuple(i / 20 for i in range(21))
"""The grid of tone curves; it includes the identity, n = 1 and beta = 0."""

GRID_IMAGES = 256
"""Largest number of images that the grid is measured on, spread evenly over the split: two
batches of the default size."""

_POINTS = 65
"""Number of masks, from 0 to 1, at which a curve is sampled."""

_Scores = dict[str, Float[np.ndarray, "..."]]
"""Metric -> averages over the attributes."""


class CurveGrid(NamedTuple):
    """Averages over the attributes, as fractions, at every noise level and tone curve."""

    images: int
    """Number of images."""
    sigmas: tuple[float, ...]
    n: tuple[float, ...]
    beta: tuple[float, ...]
    own_beta: float
    """beta of the network's own curve; its n is 1."""
    scores: _Scores
    """Metric -> (sigma, n, beta)."""
    automatic: _Scores | None
    """Metric -> (sigma,), under the calibrated transformation; None without a calibration."""

    def as_json(self) -> dict:
        """Converts to JSON types; a value is undefined only if no attribute has both classes."""
        found = self._asdict()
        for name in ("scores", "automatic"):
            if found[name] is not None:
                found[name] = {metric: values.tolist() for metric, values in found[name].items()}
        return found


def measure_curve_grid(
    classifier: Classifier,
    records: Records,
    sigmas: Sequence[float],
    batch_size: int,
    clip: bool = False,
    seed: int = 0,
    transformation: Transformation | None = None,
) -> CurveGrid:
    """Measures every (n, beta) of the grid at every sigma; features are computed once a sigma.

    At most `GRID_IMAGES` of the records are used: all pairs and noise levels on the same images.
    Memory holds the logits of one sigma: (n, beta, image, attribute), float32. The noise is keyed
    by image name, sigma and seed, as in `evaluate.py --sigma`.
    """
    predictor, size = classifier.predictor, classifier.run.config.data.size
    n, beta = np.array(GRID_N, np.float32), np.array(GRID_BETA, np.float32)
    few = np.linspace(0, len(records) - 1, min(GRID_IMAGES, len(records))).round().astype(int)
    records = records.take(few)

    def logits(images: Array) -> tuple[Array, Array | None]:
        """Logits by image: of the grid, and under the transformation."""
        grid = jnp.moveaxis(predictor.sweep(images, n, beta), 2, 0)
        if transformation is None:
            return grid, None
        return grid, predictor.predict(images, transformation).logits

    scores, automatic = [], []
    with progress_bar(total=len(records) * len(sigmas), unit="image", desc="tone curves") as bar:
        for sigma in sigmas:
            batches = predictor.batches(records, size, batch_size, Noise(sigma, clip, seed))
            parts = []
            for found, real in one_behind((logits(images), real) for images, real in batches):
                parts.append(jax.tree.map(lambda x, real=real: np.asarray(x)[real], found))
                bar.update(int(real.sum()))
            grid, calibrated = jax.tree.map(lambda *x: np.concatenate(x), *parts)
            del parts
            scores.append(grid_scores(np.moveaxis(grid, 0, 2), records.labels))
            if calibrated is not None:
                found = grid_scores(calibrated[None, None], records.labels)
                automatic.append({name: values[0, 0] for name, values in found.items()})
    found = _stacked(scores), _stacked(automatic) or None
    grid = tuple(sigmas), GRID_N, GRID_BETA
    return CurveGrid(len(records), *grid, classifier.own_beta, *found)


def _stacked(found: Sequence[_Scores]) -> _Scores:
    """Scores of all sigmas; empty if there are none."""
    return {name: np.stack([scores[name] for scores in found]) for name in (found or [{}])[0]}


def grid_scores(
    logits: Float[np.ndarray, "n beta image attribute"], labels: Int8[np.ndarray, "image attribute"]
) -> dict[str, Float[np.ndarray, "n beta"]]:
    """Averages over the attributes for every (n, beta), by `compute_metrics`.

    All values of beta of one n are computed at once, as if they were further attributes.
    """
    attributes = labels.shape[1]
    many = np.tile(labels, (1, logits.shape[1]))
    scores: dict[str, list] = {name: [] for name in HEADLINE_METRICS}
    for row in logits:
        columns = row.transpose(1, 0, 2).reshape(len(labels), -1)
        found = compute_metrics(
            columns, many, np.zeros(many.shape[1], bool), bootstrap=0
        ).attributes
        for name in HEADLINE_METRICS:
            scores[name].append(_mean_defined(found[name].reshape(-1, attributes)))
    return {name: np.stack(values) for name, values in scores.items()}


def _mean_defined(scores: Float[np.ndarray, "pair attribute"]) -> Float[np.ndarray, " pair"]:
    """Mean over the attributes whose score is defined, which depends on the labels alone."""
    defined = ~np.isnan(scores[0])
    return scores[:, defined].mean(axis=1) if defined.any() else np.full(len(scores), np.nan)


def sampled_curves(
    n: Sequence[float] = GRID_N, beta: Sequence[float] = GRID_BETA
) -> Float[np.ndarray, "n beta point"]:
    """g(M; n, beta) at masks from 0 to 1 at `_POINTS` places (Fig. 3)."""
    masks = jnp.linspace(0, 1, _POINTS)

    def curves(n: Array, beta: Array) -> Array:
        return tone_curve(masks, n[:, None, None], beta[:, None])

    return np.asarray(jax.jit(curves)(jnp.array(n, jnp.float32), jnp.array(beta, jnp.float32)))
