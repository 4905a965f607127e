"""Are the maps true? Ours and its rivals, on the same images, and after randomisation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from tqdm.auto import tqdm

from iamt_jax.data.batches import evaluation_batches
from iamt_jax.data.dataset import Dataset, Records
from iamt_jax.data.open import RENDERED
from iamt_jax.data.regions import BOXES, Regions, landmark_regions, synthetic_regions
from iamt_jax.evaluation import faithfulness
from iamt_jax.explanation import rivals
from iamt_jax.explanation.explain import coarse, explain
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import Predictor
from iamt_jax.model.network import IAMT, build

STEPS = 16
"""Shares of the image that are taken out, or put in: 1/16, 2/16, ... all."""

Maps = Float[Array, "pair y x"]
Scores = Float[Array, " pair"]


def energy_inside(maps: Maps, regions: Bool[Array, "pair y x"]) -> Scores:
    """Share of the map's positive part that lies in the region (Wang et al. 2020); 0 for a map
    that is nowhere positive."""
    positive = jnp.maximum(maps, 0)
    total = jnp.sum(positive, axis=(1, 2))
    return jnp.sum(positive * regions, axis=(1, 2)) / jnp.where(total > 0, total, 1)


def pointing(maps: Maps, regions: Bool[Array, "pair y x"]) -> Scores:
    """The pointing game (Zhang et al. 2018): 1 where the map's greatest value lies in the
    region; of several greatest the share that does."""
    peak = maps == jnp.max(maps, axis=(1, 2), keepdims=True)
    return jnp.sum(peak & regions, axis=(1, 2)) / jnp.sum(peak, axis=(1, 2))


def deletion(said: Callable, images: Array, maps: Maps, hidden: Array) -> Scores:
    """Area under the probability of what was said over the share of pixels that is hidden, most
    important first, by the trapezoid rule (RISE, Petsiuk et al. 2018). Lower is better.

    Args:
      said: images (pair, y, x, 3) -> probability (pair) of what the network said of the whole.
      images: (pair, y, x, 3).
      maps: ranks the pixels.
      hidden: what stands in a hidden pixel's place, as the images; blurred images, say.
    """
    return _curve(said, images, hidden, maps)


def insertion(said: Callable, images: Array, maps: Maps, hidden: Array) -> Scores:
    """The same while pixels are shown, most important first. Higher is better."""
    return _curve(said, hidden, images, maps)


def _curve(said: Callable, before: Array, after: Array, maps: Maps) -> Scores:
    """Area under `said` on the way from one image to the other, which has length 1."""
    place = ranks(maps)[..., None]
    pixels = maps.shape[1] * maps.shape[2]
    steps = [said(jnp.where(place * STEPS < i * pixels, after, before)) for i in range(STEPS + 1)]
    return jnp.trapezoid(jnp.stack(steps), dx=1 / STEPS, axis=0)


def ranks(maps: Maps) -> Int[Array, "pair y x"]:
    """Each pixel's place, 0 for the greatest."""
    flat = maps.reshape(len(maps), -1)
    order = jnp.argsort(-flat, axis=1, stable=True)
    return jnp.argsort(order, axis=1).reshape(maps.shape)


def spearman(first: Maps, second: Maps) -> Scores:
    """Rank correlation of two maps, signs included."""

    def centred(maps: Maps) -> Array:
        place = ranks(maps).reshape(len(maps), -1).astype(jnp.float32)
        return place - jnp.mean(place, axis=1, keepdims=True)

    a, b = centred(first), centred(second)
    return jnp.sum(a * b, axis=1) / jnp.sqrt(jnp.sum(a * a, axis=1) * jnp.sum(b * b, axis=1))


BATCH = 16
"""Images on which maps are drawn at once."""

HIDDEN_PAIRS = 2
"""Attributes an image for deletion and insertion, each of which takes 34 passes a map."""

Judgement = dict[str, dict[str, float]]
"""Map -> metric -> mean."""


class Judged(NamedTuple):
    """How true maps are, on the first images of a split."""

    regions: dict[str, float]
    """Local attribute -> mean share of the image; empty where no region is known."""
    scores: Judgement
    randomised: dict[str, float]
    """Part that was re-initialised -> mean rank correlation of signed maps before and after."""


def judge(classifier: Classifier, records: Records, regions: Regions | None, seed: int) -> Judged:
    """Our summary map and its rivals against regions, deletion and insertion, on the same images.

    Args:
      classifier: the network.
      records: images; all of them are used.
      regions: of the same images; None leaves energy and pointing out, and attributes are
        those of `BOXES`.
      seed: of the random map, of the pairs for deletion, and of re-initialised parts.
    """
    predictor, size = classifier.predictor, classifier.run.config.data.size
    names = [x for x in (regions or BOXES) if x in classifier.attributes]
    if not names:
        names = list(classifier.attributes)
    chosen = np.array([classifier.attributes.index(name) for name in names])
    pictures = np.concatenate(
        [part.images[part.real] for part in evaluation_batches(records, size, BATCH)]
    )
    images = np.asarray(pictures, np.float32) / 255
    maps = drawn(predictor, images, chosen, seed)
    scores: Judgement = {name: {} for name in maps}
    if regions is not None:
        inside = np.stack([regions[name][: len(images)] for name in names], axis=1)
        there = inside.reshape(-1, size, size).any(axis=(1, 2))
        flat = inside.reshape(-1, size, size)[there]
        for name, m in maps.items():
            pairs = m.reshape(-1, size, size)[there]
            scores[name]["energy_inside"] = float(jnp.mean(faithfulness.energy_inside(pairs, flat)))
            scores[name]["pointing"] = float(jnp.mean(faithfulness.pointing(pairs, flat)))
    for name, found in hiding(predictor, images, chosen, maps, seed).items():
        scores[name] |= found
    return Judged(
        {} if regions is None else {name: float(regions[name].mean()) for name in names},
        scores,
        randomised(classifier, images[:BATCH], chosen, seed),
    )


def drawn(predictor: Predictor, images: np.ndarray, chosen: np.ndarray, seed: int) -> dict:
    """Every map of every image and chosen attribute: name -> (image, attribute, y, x), greater
    being more evidence for what the network says."""
    ours = functools.partial(explain, top=1)

    def summary(network: IAMT, images: Array, chosen: Array) -> Array:
        found = ours(network, images, chosen, jnp.ones(()), jnp.zeros(()))
        return found.summary * jnp.sign(found.logits)[..., None, None]

    programs = {
        "ours": summary,
        "Grad-CAM": rivals.grad_cam,
        "gradient x input": rivals.gradient_times_input,
        "mean mask": rivals.mean_mask,
    }
    step, maps = 8 * predictor.devices, {}
    for name, function in tqdm(programs.items(), unit="map", desc="drawing", dynamic_ncols=True):
        run = predictor.program(function)
        maps[name] = np.concatenate([run(x, chosen) for x in _padded(images, step)])[: len(images)]
    shape = len(images), len(chosen), images.shape[1]
    maps["centred Gaussian"] = np.asarray(rivals.centred_gaussian(*shape))
    maps["random"] = np.asarray(rivals.random_map(jax.random.key(seed), *shape))
    return maps


def hiding(
    predictor: Predictor, images: np.ndarray, chosen: np.ndarray, maps: dict, seed: int
) -> Judgement:
    """Deletion and insertion of a few pairs an image."""
    rng = np.random.default_rng(seed)
    few = min(HIDDEN_PAIRS, len(chosen))
    columns = np.stack([rng.choice(len(chosen), few, replace=False) for _ in images])
    rows = np.repeat(np.arange(len(images)), few)
    columns = columns.reshape(-1)

    def judged(network: IAMT, images: Array, maps: Array, attribute: Array):
        weights, bias = network.heads.classifiers(attribute)
        kernel, offset = network.heads.mask_parameters(attribute)

        def logits(images: Array) -> Array:
            features = network.extractor(images)
            z = jnp.einsum("bhwc,bcd->bhwd", features, kernel) + offset[:, None, None]
            pooled = jnp.mean((1 + jax.nn.sigmoid(z)) * features, axis=(1, 2))
            return jnp.sum(pooled * weights, axis=-1) + bias

        sign = jnp.sign(logits(images))
        said = lambda x: jax.nn.sigmoid(sign * logits(x))  # noqa: E731
        hidden = coarse(images)
        return (
            faithfulness.deletion(said, images, maps, hidden),
            faithfulness.insertion(said, images, maps, hidden),
        )

    run, step, scores = predictor.program(judged), 32 * predictor.devices, {}
    for name, m in tqdm(maps.items(), unit="map", desc="hiding", dynamic_ncols=True):
        parts = []
        for start in range(0, len(rows), step):
            some = np.minimum(start + np.arange(step), len(rows) - 1)
            row, column = rows[some], columns[some]
            parts.append(np.stack(run(images[row], m[row, column], chosen[column])))
        deletion, insertion = np.concatenate(parts, axis=1)[:, : len(rows)].mean(axis=1)
        scores[name] = {"deletion": float(deletion), "insertion": float(insertion)}
    return scores


def randomised(
    classifier: Classifier, images: np.ndarray, chosen: np.ndarray, seed: int
) -> dict[str, float]:
    """Sanity check (Adebayo et al. 2018): rank correlation of our signed maps with those of the
    same network with its heads, then also its extractor, drawn anew."""
    config = classifier.run.config.model
    definition, params, statistics = build(config, len(classifier.attributes), seed + 1)
    trained, trained_statistics = classifier.predictor.weights
    heads = trained | {"heads": params["heads"]}

    def summary(network: IAMT, images: Array, chosen: Array) -> Array:
        return explain(network, images, chosen, jnp.ones(()), jnp.zeros(()), 1).summary

    def maps(predictor: Predictor) -> np.ndarray:
        run = predictor.program(summary)
        parts = [run(x, chosen) for x in _padded(images, 8 * predictor.devices)]
        return np.concatenate(parts)[: len(images)].reshape(-1, *images.shape[1:3])

    before = maps(classifier.predictor)
    after = {
        "heads": maps(Predictor(definition, heads, trained_statistics)),
        "heads and extractor": maps(Predictor(definition, params, statistics)),
    }
    return {name: float(jnp.mean(faithfulness.spearman(before, m))) for name, m in after.items()}


def _padded(images: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Batches of one size; the last is filled up with copies of the last image."""
    for start in range(0, len(images), step):
        yield images[np.minimum(start + np.arange(step), len(images) - 1)]


def regions_of(
    classifier: Classifier, records: Records, dataset: Dataset, split: str
) -> Regions | None:
    """Where attributes are in the first images of a split, if that is known."""
    config = classifier.run.config.data
    if dataset.layout == RENDERED:
        return synthetic_regions(config.synthetic, split, len(records), config.size)
    return landmark_regions(dataset.root, records.names, config.size)
