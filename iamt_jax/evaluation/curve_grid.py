"""Accuracy over the plane of tone curves and over the noise (Fig. 5), every pair on one split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8
from tqdm.auto import tqdm

from iamt_jax.config import OtherData
from iamt_jax.data.batches import evaluation_batches
from iamt_jax.data.dataset import Records
from iamt_jax.degradation import noise_keys
from iamt_jax.evaluation.measure import opened
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import Setting
from iamt_jax.metrics.per_attribute import evaluate
from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.robust.calibration_file import FILE
from iamt_jax.robust.transform import Transformation

SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
N = (0.25, 0.5, 1.0, 2.0, 4.0)
BETA = tuple(i / 20 for i in range(21))
"""The grid; it holds the identity, n = 1 and beta = 0."""

METRICS = ("accuracy", "balanced_accuracy", "average_precision")

POINTS = 65
"""Masks at which a curve is sampled, from 0 to 1."""

Scores = dict[str, Float[np.ndarray, "..."]]
"""Metric -> averages over the attributes."""


class Plane(NamedTuple):
    """Averages over the attributes, fractions."""

    sigmas: tuple[float, ...]
    n: tuple[float, ...]
    beta: tuple[float, ...]
    scores: Scores
    """Metric -> (sigma, n, beta)."""
    automatic: Scores | None
    """Metric -> (sigma), of the calibrated transformation; None without a calibration."""

    def as_json(self) -> dict:
        """Plain Python; no value of it is undefined unless no attribute has both classes."""
        found = self._asdict()
        for name in ("scores", "automatic"):
            if found[name] is not None:
                found[name] = {metric: values.tolist() for metric, values in found[name].items()}
        return found


def plane_workdir(
    workdir: Path,
    *,
    split: str = "test",
    data: OtherData = OtherData(),
    batch_size: int = 128,
    clip: bool = False,
    seed: int = 0,
) -> Plane:
    """Measures a workdir's best checkpoint over the whole grid; `--auto` too, if calibrated.

    Raises:
      InputError: no run, no data, other attributes, or another network's calibration.
    """
    classifier, _, records, _ = opened(workdir, split, data)
    calibrated = (workdir / FILE).is_file()
    transformation = classifier.transformation if calibrated else None
    return measure(classifier, records, SIGMAS, batch_size, clip, seed, transformation)


def measure(
    classifier: Classifier,
    records: Records,
    sigmas: Sequence[float],
    batch_size: int,
    clip: bool = False,
    seed: int = 0,
    transformation: Transformation | None = None,
) -> Plane:
    """Every (n, beta) of the grid at every sigma, features computed once a sigma.

    Memory holds the logits of one sigma: (n, beta, image, attribute), float32. Noise is that of
    `evaluate.py --sigma`: keyed by image name, sigma and seed.
    """
    scores: dict[str, list] = {name: [] for name in METRICS}
    automatic: dict[str, list] = {name: [] for name in METRICS}
    with tqdm(
        total=len(records) * len(sigmas), unit="image", desc="tone curves", dynamic_ncols=True
    ) as bar:
        for sigma in sigmas:
            setting = Setting(sigma=sigma, clip=clip, seed=seed)
            parts, calibrated = [], []
            for curves, answer in _swept(classifier, records, batch_size, setting, transformation):
                parts.append(curves)
                calibrated.append(answer)
                bar.update(curves.shape[2])
            logits = np.concatenate(parts, axis=2)
            del parts
            for name, values in grid_scores(logits, records.labels).items():
                scores[name].append(values)
            if transformation is not None:
                whole = np.concatenate(calibrated)[None, None]
                for name, values in grid_scores(whole, records.labels).items():
                    automatic[name].append(values[0, 0])
    return Plane(
        tuple(sigmas),
        N,
        BETA,
        {name: np.stack(values) for name, values in scores.items()},
        None if transformation is None else {k: np.array(v) for k, v in automatic.items()},
    )


def _swept(
    classifier: Classifier,
    records: Records,
    batch_size: int,
    setting: Setting,
    transformation: Transformation | None,
) -> Iterator[tuple[Float[np.ndarray, "n beta image attribute"], np.ndarray | None]]:
    """The grid's logits, and the calibrated ones, batch by batch."""
    predictor, size = classifier.predictor, classifier.run.config.data.size
    batch_size = -(-batch_size // predictor.devices) * predictor.devices
    for batch in evaluation_batches(records, size, batch_size):
        names = [records.names[i] for i in batch.indices]
        keys = noise_keys(names, setting.sigma, setting.seed) if setting.sigma else None
        images = predictor.degraded(batch.images, setting, keys)
        answer = None
        if transformation is not None:
            answer = np.asarray(predictor.automatic(images, transformation)[0])[batch.real]
        curves = predictor.sweep(images, np.array(N, np.float32), np.array(BETA, np.float32))
        yield np.asarray(curves)[:, :, batch.real], answer


def grid_scores(
    logits: Float[np.ndarray, "n beta image attribute"], labels: Int8[np.ndarray, "image attribute"]
) -> dict[str, Float[np.ndarray, "n beta"]]:
    """Averages over the attributes of every pair, by `metrics.evaluate`: pairs stand beside one
    another as if they were further attributes, those of one n at a time."""
    attributes = labels.shape[1]
    many = np.tile(labels, (1, logits.shape[1]))
    scores: dict[str, list] = {name: [] for name in METRICS}
    for row in logits:
        columns = row.transpose(1, 0, 2).reshape(len(labels), -1)
        found = evaluate(columns, many, np.zeros(many.shape[1], bool), bootstrap=0).attributes
        for name in METRICS:
            scores[name].append(_mean_defined(found[name].reshape(-1, attributes)))
    return {name: np.stack(values) for name, values in scores.items()}


def _mean_defined(scores: Float[np.ndarray, "pair attribute"]) -> Float[np.ndarray, " pair"]:
    """Mean over the attributes that have a value; which have one depends on labels alone."""
    defined = ~np.isnan(scores[0])
    return scores[:, defined].mean(axis=1) if defined.any() else np.full(len(scores), np.nan)


def sampled_curves(
    n: Sequence[float] = N, beta: Sequence[float] = BETA
) -> Float[np.ndarray, "n beta point"]:
    """g(M; n, beta) at masks from 0 to 1 in `POINTS` steps (Fig. 3)."""
    masks = jnp.linspace(0, 1, POINTS)

    def curves(n: Array, beta: Array) -> Array:
        return tone_curve(masks, n[:, None, None], beta[:, None])

    return np.asarray(jax.jit(curves)(jnp.array(n, jnp.float32), jnp.array(beta, jnp.float32)))
