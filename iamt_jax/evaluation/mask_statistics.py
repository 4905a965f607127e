"""The paper's analyses of the masks, in one pass over any number of images.

Importance of the channels (Fig. 4), and correlations among features (Table 2) and among attributes
(Table 3). Only sums are kept, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8, UInt8

from iamt_jax.data.batches import evaluation_batches
from iamt_jax.data.dataset import Records
from iamt_jax.evaluation.curve_grid import GRID_BETA, GRID_N, sampled_curves
from iamt_jax.evaluation.faithfulness import Faithfulness, measure_faithfulness, regions_of
from iamt_jax.evaluation.grid_pointing import GridPointing, measure_grid_pointing
from iamt_jax.evaluation.measure import EvaluationData, environment
from iamt_jax.explanation.explain import explain
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import as_float
from iamt_jax.model.network import IAMT
from iamt_jax.progress import Stages, progress_bar

Matrix = Float[np.ndarray, "variable variable"]


class Spread(NamedTuple):
    """Count, means, and sums of products of deviations of samples of several variables."""

    count: float
    mean: Float[np.ndarray, " variable"]
    product: Matrix

    def merged(self, other: Spread) -> Spread:
        """Combines two sets of samples (Chan et al. 1983), float64."""
        count = self.count + other.count
        step = other.mean - self.mean
        product = self.product + other.product
        product = product + np.outer(step, step) * (self.count * other.count / count)
        return Spread(count, self.mean + step * (other.count / count), product)

    def correlation(self) -> Matrix:
        """Pearson correlation coefficients; 0 where a variable is constant."""
        spread = np.sqrt(np.diag(self.product))
        scale = np.outer(spread, spread)
        return np.divide(self.product, scale, out=np.zeros_like(scale), where=scale > 0)


class Analysis(NamedTuple):
    """Statistics of the masks of a set of images."""

    importance: Float[np.ndarray, "attribute channel"]
    """Share of channel c in logit k: |contribution| divided by the sum over all channels, averaged
    over the images; a row sums to 1."""
    features: Float[np.ndarray, "channel channel"]
    """Correlation of two channels' masks over images, attributes and positions (Table 2)."""
    attributes: Float[np.ndarray, "attribute attribute"]
    """Correlation of two attributes' masks over images, channels and positions (Table 3)."""
    evidence: Float[np.ndarray, "attribute attribute"]
    """Correlation of what two attributes' masked channels add to the logits, over images and
    channels: unlike masks, it tells evidence for an attribute from evidence against it."""


class Sums(NamedTuple):
    """Sums over a batch."""

    images: Float[Array, ""]
    importance: Float[Array, "attribute channel"]
    features: Spread
    attributes: Spread
    evidence: Spread
    logits: Float[Array, "batch attribute"]
    """Logits of every row, the padding included; not a sum."""


def batch_sums(
    network: IAMT, images: Float[Array, "batch y x 3"], real: Bool[Array, " batch"]
) -> Sums:
    """Computes the sums of one batch without its padding; all its masks are held at once."""
    features = network.extractor(images)
    plain, masked = network.heads.contributions(features)
    beta = network.own_beta
    added = (1 - beta) * plain + (1 + beta) * masked
    size = jnp.abs(added)
    share = size / jnp.maximum(jnp.sum(size, axis=-1, keepdims=True), 1e-30)
    every = jnp.arange(network.heads.attributes)
    masks = network.heads.masks(features, every)  # attribute, batch, height, width, channel
    counted = jnp.broadcast_to(real[:, None, None, None], masks.shape[1:])
    by_attribute = masks.reshape(len(masks), -1).T
    by_channel = masks.reshape(-1, masks.shape[-1])
    each = jnp.broadcast_to(real[:, None, None], masks.shape[:-1]).reshape(-1)
    return Sums(
        jnp.sum(real.astype(jnp.float32)),
        jnp.sum(share * real[:, None, None], axis=0),
        _spread(by_channel, each),
        _spread(by_attribute, counted.reshape(-1)),
        _spread(masked.swapaxes(1, 2).reshape(-1, len(masks)), jnp.repeat(real, masked.shape[-1])),
        jnp.sum(added, axis=-1) + network.heads.classifiers()[1],
    )


def _spread(samples: Float[Array, "sample variable"], counted: Bool[Array, " sample"]) -> Spread:
    weight = counted.astype(jnp.float32)
    count = jnp.sum(weight)
    mean = weight @ samples / count
    deviation = (samples - mean) * weight[:, None]
    return Spread(count, mean, deviation.T @ deviation)


def analyse(batches: Iterator[Sums]) -> Analysis:
    """Combines the sums of all batches, in float64."""
    importance, images, spreads = 0.0, 0.0, None
    for sums in batches:
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
        importance = importance + sums.importance
        images += sums.images
        found = sums.features, sums.attributes, sums.evidence
        spreads = [a.merged(b) for a, b in zip(spreads, found, strict=True)] if spreads else found
    return Analysis(importance / images, *(spread.correlation() for spread in spreads))


_BATCH = 16
"""Number of images whose masks are held at once."""

ANALYSIS, GRIDS, ATLAS = "masks of all images", "grid pointing", "atlas of the masks"
"""Stages of `explain_split`, beside those of `measure_faithfulness`."""

JUDGED = 64
"""Number of images on which faithfulness is measured."""

_SHOWN = 6
"""Number of images of each attribute in the atlas."""

TOP_CHANNELS = 5
"""Number of channels or correlations shown for each attribute or channel, as in the paper."""


class Atlas(NamedTuple):
    """A few images for each attribute, with its masks and maps."""

    images: UInt8[np.ndarray, "attribute image y x 3"]
    rows: Int[np.ndarray, "attribute image"]
    """Their places in the split."""
    labels: Int8[np.ndarray, "attribute image"]
    """Labels of the attribute: 1, 0, or `MISSING`."""
    logits: Float[np.ndarray, "attribute image"]
    channels: Int[np.ndarray, "attribute top"]
    """Channels that contribute most on the images that have the attribute, the first the most."""
    masks: Float[np.ndarray, "attribute image top height width"]
    contributions: Float[np.ndarray, "attribute image top"]
    mask_map: Float[np.ndarray, "attribute image height width"]
    summary: Float[np.ndarray, "attribute image y x"]


class Explained(NamedTuple):
    """All results of `explain_split`."""

    attributes: tuple[str, ...]
    analysis: Analysis
    labels: Float[np.ndarray, "attribute attribute"]
    """Correlations of the labels."""
    decisions: Float[np.ndarray, "attribute attribute"]
    """Correlations of the network's decisions, 0 or 1."""
    judged: Faithfulness
    grids: GridPointing
    atlas: Atlas
    provenance: dict


def explain_split(opened: EvaluationData, seed: int = 0, stages: Stages = Stages()) -> Explained:
    """Analyses a network on a split, and measures the faithfulness of its maps on the first images.

    Args:
      opened: from `open_evaluation`.
      seed: of everything that is drawn.
      stages: announces the parts.
    """
    classifier, dataset, records = opened.classifier, opened.dataset, opened.records
    stages.begin(ANALYSIS)
    analysis, logits = analyse_split(classifier, records)
    few = records.first(JUDGED)
    known = regions_of(classifier, few, dataset, opened.split)
    judged = measure_faithfulness(classifier, few, known.regions if known else None, seed, stages)
    stages.begin(GRIDS)
    grids = measure_grid_pointing(classifier, records, logits, seed)
    stages.begin(ATLAS)
    return Explained(
        attributes=classifier.attributes,
        analysis=analysis,
        labels=correlation(records.labels),
        decisions=correlation((logits > 0).astype(np.int8)),
        judged=judged,
        grids=grids,
        atlas=mask_atlas(classifier, records),
        provenance={
            "workdir": str(classifier.workdir),
            "checkpoint_step": classifier.step,
            "data": dataset.root,
            "layout": dataset.layout,
            "split": opened.split,
            "images": len(records),
            "images_judged": len(few),
            "regions": known.source if known else "not known",
            "seed": seed,
            **environment(),
        },
    )


def analyse_split(
    classifier: Classifier, records: Records
) -> tuple[Analysis, Float[np.ndarray, "image attribute"]]:
    """Computes the paper's analyses and the logits of a split in one pass, with a progress bar."""

    def batch(network: IAMT, images: Array, real: Array):
        return batch_sums(network, as_float(images), real)

    run, logits = classifier.predictor.program(batch), []

    def sums() -> Iterator:
        size = classifier.run.config.data.size
        with progress_bar(total=len(records), unit="image", desc="analysing") as bar:
            for part in evaluation_batches(records, size, _BATCH * classifier.predictor.devices):
                found = run(part.images, part.real)
                logits.append(np.asarray(found.logits)[part.real])
                bar.update(int(part.real.sum()))
                yield found

    return analyse(sums()), np.concatenate(logits)


def correlation(labels: np.ndarray) -> Float[np.ndarray, "attribute attribute"]:
    """Pearson correlations (phi) of binary columns; images with a missing label are left out."""
    samples = labels[(labels >= 0).all(axis=1)].astype(np.float64)
    deviation = samples - samples.mean(axis=0)
    return Spread(len(samples), samples.mean(axis=0), deviation.T @ deviation).correlation()


def atlas_rows(labels: Int[np.ndarray, "image attribute"]) -> Int[np.ndarray, "attribute shown"]:
    """Images of the atlas: for each attribute the first `_SHOWN` / 2 that have it, then the first
    that do not, all in the order of the split; others, where there are too few of either."""
    rows = []
    for column in labels.T:
        present, absent = (np.flatnonzero(column == value) for value in (1, 0))
        chosen = np.concatenate([present[: _SHOWN // 2], absent[: _SHOWN // 2]])
        others = np.setdiff1d(np.arange(len(column)), chosen)[: _SHOWN - len(chosen)]
        chosen = np.concatenate([chosen, others])
        # Those that have the attribute stay first.
        rows.append(chosen[np.argsort(column[chosen] != 1, kind="stable")])
    return np.stack(rows)


def mask_atlas(classifier: Classifier, records: Records) -> Atlas:
    """Computes both maps, and the masks of the channels that contribute most, of a few images,
    chosen for each attribute by `atlas_rows`."""
    size, devices = classifier.run.config.data.size, classifier.predictor.devices
    rows = atlas_rows(records.labels)
    labels = np.take_along_axis(records.labels, rows.T, axis=0).T
    every, index = np.unique(rows, return_inverse=True)
    pictures, index = records.pictures(every, size), index.reshape(rows.shape)

    def look(network: IAMT, images: Array, k: Array):
        images = as_float(images)
        found = explain(network, images, k[None], top=1)
        masks = network.heads.masks(network.extractor(images), k[None])[0]
        maps = found.mask_map[:, 0], found.summary[:, 0]
        return found.logits[:, 0], jnp.moveaxis(masks, -1, 1), found.contributions[:, 0], *maps

    run, parts = classifier.predictor.program(look), []
    padding = -rows.shape[1] % devices
    for k, some in enumerate(progress_bar(index, unit="attribute", desc="atlas")):
        found = run(pictures[np.pad(some, (0, padding), "edge")], np.array(k))
        logits, masks, added, *maps = (np.asarray(x)[: len(some)] for x in found)
        # Channels that speak against the attribute are shut where it is present.
        having = labels[k] == 1 if (labels[k] == 1).any() else slice(None)
        channels = np.argsort(-np.abs(added[having]).mean(axis=0), kind="stable")[:TOP_CHANNELS]
        parts.append((logits, channels, masks[:, channels], added[:, channels], *maps))
    return Atlas(pictures[index], rows, labels, *(np.stack(x) for x in zip(*parts, strict=True)))


def strongest(
    matrix: Float[np.ndarray, "row column"], row: int, count: int = TOP_CHANNELS
) -> list[tuple[int, float]]:
    """The columns with the greatest coefficients in a row, without the row itself (Tables 2, 3)."""
    order = [int(i) for i in np.argsort(-matrix[row], kind="stable") if i != row]
    return [(i, float(matrix[row, i])) for i in order[:count]]


def coupled(
    labels: Float[np.ndarray, "attribute attribute"],
    decisions: Float[np.ndarray, "attribute attribute"],
    count: int = 10,
) -> list[tuple[int, int]]:
    """Pairs of attributes whose decisions are more correlated than their labels, strongest first:
    the network may use one as a shortcut to the other."""
    excess = np.triu(np.abs(decisions) - np.abs(labels), k=1)
    order = np.argsort(-excess, axis=None, kind="stable")[:count]
    pairs = np.stack(np.unravel_index(order, excess.shape), axis=1)
    return [(int(a), int(b)) for a, b in pairs if excess[a, b] > 0]


def agreement(
    matrix: Float[np.ndarray, "attribute attribute"],
    labels: Float[np.ndarray, "attribute attribute"],
) -> float:
    """Correlation, over all pairs of attributes, of their correlations with those of the labels; 0
    if either is the same for all pairs."""
    pairs = np.triu_indices(len(labels), k=1)
    a, b = matrix[pairs] - matrix[pairs].mean(), labels[pairs] - labels[pairs].mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def explanation_findings(found: Explained) -> dict:
    """Converts the results to the tables of the report, in JSON types.

    attributes   names, in the order of the array axes
    importance   attribute -> [channel, share] of the top channels (Fig. 4)
    features     for each channel: [channel, correlation] of the closest five (Table 2)
    together     attribute -> the five with the closest masks (Table 3), each with the
                 correlations of masks, masked contributions, labels and predictions
    agreement    correlation of masks' and of masked contributions' correlations with those of the
                 labels, over all pairs
    coupled      pairs whose predictions are more correlated than their labels, with the same
                 correlations
    judged       faithfulness of the maps: regions, scores, grids, randomised
    provenance   where the numbers come from
    """
    names, analysis = found.attributes, found.analysis

    def pair(a: int, b: int) -> dict[str, float]:
        matrices = {
            "masks": analysis.attributes,
            "contributions": analysis.evidence,
            "labels": found.labels,
            "predictions": found.decisions,
        }
        return {name: float(matrix[a, b]) for name, matrix in matrices.items()}

    importance = np.argsort(-analysis.importance, axis=1, kind="stable")[:, :TOP_CHANNELS]
    scores = {name: dict(row) for name, row in found.judged.scores.items()}
    for name in found.grids.scores:
        scores[name]["grid_pointing"] = found.grids.mean(name)
    return {
        "attributes": list(names),
        "importance": {
            name: [[int(c), float(analysis.importance[k, c])] for c in importance[k]]
            for k, name in enumerate(names)
        },
        "features": [
            [list(near) for near in strongest(analysis.features, c)]
            for c in range(len(analysis.features))
        ],
        "together": {
            name: [
                {"attribute": names[b], **pair(k, b)} for b, _ in strongest(analysis.attributes, k)
            ]
            for k, name in enumerate(names)
        },
        "agreement": {
            "masks": agreement(analysis.attributes, found.labels),
            "contributions": agreement(analysis.evidence, found.labels),
        },
        "coupled": [
            {"attributes": [names[a], names[b]], **pair(a, b)}
            for a, b in coupled(found.labels, found.decisions)
        ],
        "judged": found.judged._asdict() | {"scores": scores, "grids": found.grids.grids},
        "provenance": found.provenance,
    }


def explanation_arrays(found: Explained) -> dict[str, np.ndarray]:
    """Arrays that the figures are drawn from: importance, correlations, atlas, tone curves."""
    return {
        "attributes": np.array(found.attributes),
        "importance": found.analysis.importance,
        "correlation_features": found.analysis.features,
        "correlation_masks": found.analysis.attributes,
        "correlation_contributions": found.analysis.evidence,
        "correlation_labels": found.labels,
        "correlation_predictions": found.decisions,
        **{f"atlas_{name}": part for name, part in found.atlas._asdict().items()},
        "curve_n": np.array(GRID_N),
        "curve_beta": np.array(GRID_BETA),
        "curves": sampled_curves(),
    }
