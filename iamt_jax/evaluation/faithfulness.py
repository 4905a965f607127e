"""Faithfulness of explanation maps: ours and others on the same images, and after randomisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from iamt_jax.data.dataset import Dataset, Records
from iamt_jax.data.open import RENDERED
from iamt_jax.data.regions import BOXES, Known, Regions, landmark_regions, synthetic_regions
from iamt_jax.explanation.explain import coarse, explain
from iamt_jax.explanation.maps import NETWORK_MAPS, centred_gaussian, random_map
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.inputs import by_rows
from iamt_jax.inference.predictor import Predictor
from iamt_jax.model.network import IAMT, Tree, build
from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.progress import Progress, Stages, progress_bar

MAPS, HIDING = "drawing maps", "hiding pixels"
RANDOMISED = "maps of networks with random weights"
"""Stages of `measure_faithfulness`."""

STEPS = 16
"""Number of steps of deletion and insertion: 1/16 of the pixels, 2/16, ... all."""

_Maps = Float[Array, "pair y x"]
_Scores = Float[Array, " pair"]


def energy_inside(maps: _Maps, regions: Bool[Array, "pair y x"]) -> _Scores:
    """Share of the positive part of the map that lies in the region (Wang et al. 2020); 0 for a
    map without positive values."""
    positive = jnp.maximum(maps, 0)
    total = jnp.sum(positive, axis=(1, 2))
    return jnp.sum(positive * regions, axis=(1, 2)) / jnp.where(total > 0, total, 1)


def pointing(maps: _Maps, regions: Bool[Array, "pair y x"]) -> _Scores:
    """Pointing game (Zhang et al. 2018): 1 if the maximum of the map lies in the region; for
    several equal maxima, the share of them that does."""
    peak = maps == jnp.max(maps, axis=(1, 2), keepdims=True)
    return jnp.sum(peak & regions, axis=(1, 2)) / jnp.sum(peak, axis=(1, 2))


def deletion(probability: Callable, images: Array, maps: _Maps, hidden: Array) -> _Scores:
    """Deletion score (RISE, Petsiuk et al. 2018): the mean probability of the original decision
    while pixels are hidden in steps, the most important first. Lower is better.

    Args:
      probability: images (pair, y, x, 3) -> probability (pair,) of the decision that the network
        made for the whole image.
      images: (pair, y, x, 3).
      maps: importance of the pixels.
      hidden: replacement of hidden pixels, such as blurred images, shaped as `images`.

    Returns:
      (pair,), from 0 to 1.
    """
    return _mean_while_replaced(probability, images, hidden, maps)


def insertion(probability: Callable, images: Array, maps: _Maps, hidden: Array) -> _Scores:
    """As `deletion`, while the pixels of a hidden image are shown. Higher is better."""
    return _mean_while_replaced(probability, hidden, images, maps)


def _mean_while_replaced(
    probability: Callable, before: Array, after: Array, maps: _Maps
) -> _Scores:
    """Mean probability while the pixels of `before` are replaced by those of `after` in `STEPS`
    steps, the most important first: the integral over the share of replaced pixels, by the
    trapezoid rule."""
    rank = ranks(maps)[..., None]
    pixels = maps.shape[1] * maps.shape[2]

    def step(i: Array) -> Array:
        return probability(jnp.where(rank * STEPS < i * pixels, after, before))

    # All steps in one batch: a program of `STEPS` networks would take longer to compile.
    between = jax.vmap(step)(jnp.arange(1, STEPS))
    return (jnp.sum(between, axis=0) + (probability(before) + probability(after)) / 2) / STEPS


def ranks(maps: _Maps) -> Int[Array, "pair y x"]:
    """Rank of each pixel of a map by its value; the largest has rank 0."""
    flat = maps.reshape(len(maps), -1)
    order = jnp.argsort(-flat, axis=1, stable=True)
    return jnp.argsort(order, axis=1).reshape(maps.shape)


def spearman(first: _Maps, second: _Maps) -> _Scores:
    """Spearman rank correlation of two maps, signs included."""

    def centred(maps: _Maps) -> Array:
        rank = ranks(maps).reshape(len(maps), -1).astype(jnp.float32)
        return rank - jnp.mean(rank, axis=1, keepdims=True)

    a, b = centred(first), centred(second)
    return jnp.sum(a * b, axis=1) / jnp.sqrt(jnp.sum(a * a, axis=1) * jnp.sum(b * b, axis=1))


_BATCH = 16
"""Number of images that are decoded at once, and that randomisation is measured on."""

_HIDDEN_PAIRS = 2
"""Number of attributes an image for deletion and insertion, which need 34 predictions a map."""

_HIDDEN_ROWS = 8
"""Number of images for deletion and insertion at once, each in all steps."""

_Judgement = dict[str, dict[str, float]]
"""Name of a map -> metric -> mean."""


class Faithfulness(NamedTuple):
    """Faithfulness of maps on the first images of a split."""

    regions: dict[str, float]
    """Local attribute -> mean share of the image; empty if no region is known."""
    scores: _Judgement
    randomised: dict[str, float]
    """Re-initialised part of the network -> mean rank correlation of signed maps before and
    after."""


def measure_faithfulness(
    classifier: Classifier,
    records: Records,
    regions: Regions | None,
    seed: int,
    stages: Stages = Stages(),
) -> Faithfulness:
    """Measures our maps and others on the same images.

    The metrics are energy and pointing in regions, deletion, insertion and randomisation.

    Args:
      classifier: the network.
      records: images; all of them are used.
      regions: regions of the attributes in the same images; with None, energy and pointing are
        left out, and the attributes are those of `BOXES`.
      seed: seed of the random map, of the pairs for deletion, and of re-initialised parts.
      stages: announces the parts.
    """
    predictor, size = classifier.predictor, classifier.run.config.data.size
    names = [x for x in (regions or BOXES) if x in classifier.attributes]
    if not names:
        names = list(classifier.attributes)
    chosen = np.array([classifier.attributes.index(name) for name in names])
    images = records.pictures(slice(None), size).astype(np.float32) / 255
    stages.begin(MAPS)
    maps = draw_maps(predictor, images, chosen, seed)
    scores: _Judgement = {name: {} for name in maps}
    if regions is not None:
        inside = np.stack([regions[name][: len(images)] for name in names], axis=1)
        labels = records.labels[:, chosen]
        for name, m in maps.items():
            scores[name] |= measure_places(m, inside, labels)
    stages.begin(HIDING)
    for name, found in measure_hiding(predictor, images, chosen, maps, seed).items():
        scores[name] |= found
    stages.begin(RANDOMISED)
    return Faithfulness(
        {} if regions is None else {name: float(regions[name].mean()) for name in names},
        scores,
        randomisation_test(classifier, images[:_BATCH], chosen, seed),
    )


def draw_maps(predictor: Predictor, images: np.ndarray, chosen: np.ndarray, seed: int) -> dict:
    """Draws all maps of every image and chosen attribute: name -> (image, attribute, y, x).

    A greater value is more evidence for the decision of the network.
    """
    maps, count = {}, len(NETWORK_MAPS) * len(images)
    with progress_bar(total=count, unit="picture", desc="drawing maps") as bar:
        for name, function in NETWORK_MAPS.items():
            run = predictor.program(function)
            maps[name] = mapped(predictor, run, images, chosen, bar)
    shape = len(images), len(chosen), images.shape[1]
    maps["centred Gaussian"] = np.asarray(centred_gaussian(*shape))
    maps["random"] = np.asarray(random_map(jax.random.key(seed), *shape))
    return maps


def measure_places(
    maps: Float[np.ndarray, "image attribute y x"],
    inside: Bool[np.ndarray, "image attribute y x"],
    labels: Int[np.ndarray, "image attribute"],
) -> dict[str, float]:
    """Mean energy inside and pointing over all pairs of an image and an attribute that have a
    region, and over those with the attribute (`_present`) and without (`_absent`), if any."""
    there = inside.any(axis=(2, 3))
    pairs, regions = maps[there], inside[there]
    metrics = {"energy_inside": energy_inside, "pointing": pointing}
    label, scores = labels[there], {}
    kinds = {"": np.full(len(label), True), "_present": label == 1, "_absent": label == 0}
    for name, metric in metrics.items():
        each = np.asarray(metric(pairs, regions))
        for kind, some in kinds.items():
            if some.any():
                scores[f"{name}{kind}"] = float(each[some].mean())
    return scores


def measure_hiding(
    predictor: Predictor, images: np.ndarray, chosen: np.ndarray, maps: dict, seed: int
) -> _Judgement:
    """Measures deletion and insertion on a few attributes of each image."""
    rng = np.random.default_rng(seed)
    few = min(_HIDDEN_PAIRS, len(chosen))
    columns = np.stack([rng.choice(len(chosen), few, replace=False) for _ in images])
    rows = np.repeat(np.arange(len(images)), few)
    columns = columns.reshape(-1)

    def hide_and_show(network: IAMT, images: Array, maps: Array, attribute: Array):
        weights, bias = network.heads.classifiers(attribute)
        kernel, offset = network.heads.mask_parameters(attribute)

        def logits(images: Array) -> Array:
            features = network.extractor(images)
            z = jnp.einsum("bhwc,bcd->bhwd", features, kernel) + offset[:, None, None]
            curve = tone_curve(jax.nn.sigmoid(z), 1.0, network.own_beta)
            pooled = jnp.mean((1 + curve) * features, axis=(1, 2))
            return jnp.sum(pooled * weights, axis=-1) + bias

        sign = jnp.sign(logits(images))
        probability = lambda x: jax.nn.sigmoid(sign * logits(x))  # noqa: E731
        hidden = coarse(images)
        return (
            deletion(probability, images, maps, hidden),
            insertion(probability, images, maps, hidden),
        )

    run, scores = predictor.program(hide_and_show), {}
    bar = progress_bar(total=len(maps) * len(rows), unit="picture", desc="hiding pixels")
    for name, m in maps.items():

        def answer(some: np.ndarray, m: np.ndarray = m) -> tuple[Array, Array]:
            row, column = rows[some], columns[some]
            bar.update(len(np.unique(some)))
            return run(images[row], m[row, column], chosen[column])

        areas = by_rows(answer, len(rows), [_HIDDEN_ROWS * predictor.devices])
        scores[name] = {
            metric: float(area.mean())
            for metric, area in zip(("deletion", "insertion"), areas, strict=True)
        }
    bar.close()
    return scores


def randomisation_test(
    classifier: Classifier, images: np.ndarray, chosen: np.ndarray, seed: int
) -> dict[str, float]:
    """Sanity check (Adebayo et al. 2018): rank correlation of our signed maps with those of the
    network after re-initialising its heads, then also its extractor."""
    config = classifier.run.config.model
    definition, params, statistics = build(config, len(classifier.attributes), seed + 1)
    trained, trained_statistics = classifier.predictor.weights
    heads = trained | {"heads": params["heads"]}

    def summary(network: IAMT, images: Array, chosen: Array) -> Array:
        return explain(network, images, chosen, top=1).summary

    # One predictor with other weights each time, since another one would be compiled again.
    predictor = Predictor(definition, trained, trained_statistics)
    run = predictor.program(summary)

    def maps(*weights: Tree) -> np.ndarray:
        predictor.load(*weights)
        return mapped(predictor, run, images, chosen).reshape(-1, *images.shape[1:3])

    before = maps(trained, trained_statistics)
    after = {
        "heads": maps(heads, trained_statistics),
        "heads and extractor": maps(params, statistics),
    }
    return {name: float(jnp.mean(spearman(before, m))) for name, m in after.items()}


def mapped(
    predictor: Predictor,
    run: Callable,
    images: np.ndarray,
    chosen: np.ndarray,
    bar: Progress | None = None,
) -> Float[np.ndarray, "image attribute y x"]:
    """Applies a compiled map to all images, a few at a time; `bar` counts them."""

    def answer(rows: np.ndarray) -> Array:
        if bar is not None:
            bar.update(len(np.unique(rows)))
        return run(images[rows], chosen)

    return by_rows(answer, len(images), [8 * predictor.devices])


def regions_of(
    classifier: Classifier, records: Records, dataset: Dataset, split: str
) -> Known | None:
    """Regions of the attributes in the first images of a split; None if they are not known."""
    config = classifier.run.config.data
    if dataset.layout == RENDERED:
        return synthetic_regions(config.synthetic, split, len(records), config.size)
    return landmark_regions(dataset.root, records, config.size)
