"""The grid pointing game (Böhle et al., CVPR 2021): four faces in one picture, one of which has the
attribute. It needs no regions, so it judges maps on photographs, too.

The extractor sees each face on its own, as it was trained, and the heads see the four maps of
features side by side: no position sees two faces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from iamt_jax.data.dataset import Records
from iamt_jax.evaluation.faithfulness import mapped
from iamt_jax.explanation.maps import NETWORK_MAPS
from iamt_jax.inference.classifier import Classifier
from iamt_jax.model.network import IAMT
from iamt_jax.progress import progress_bar

FEWEST_POSITIVES = 30
"""Attributes that fewer images of the split have are left out."""

GRIDS = 8
"""Largest number of grids of an attribute."""

CHANCE = 0.25
"""Expected score of a map that does not depend on the faces."""


class GridPointing(NamedTuple):
    """Results of the game; chance is `CHANCE`."""

    grids: dict[str, int]
    """Attribute -> number of grids; empty if no attribute has enough images."""
    scores: dict[str, dict[str, float]]
    """Name of a map -> attribute -> share of the positive evidence that lies in the right face,
    the mean of the grids."""

    def mean(self, name: str) -> float:
        """Mean of a map over the attributes."""
        return float(np.mean(list(self.scores[name].values())))


class _Grids(NamedTuple):
    """Grids of one attribute."""

    attribute: int
    rows: Int[np.ndarray, "grid 4"]
    """Images at the top left, top right, bottom left and bottom right."""
    place: Int[np.ndarray, " grid"]
    """Which of them has the attribute."""


def draw_grids(
    labels: Int[np.ndarray, "image attribute"],
    decisions: Bool[np.ndarray, "image attribute"],
    seed: int,
) -> list[_Grids]:
    """Draws the grids of every attribute with at least `FEWEST_POSITIVES` images: one image that
    has the attribute and three that do not, all four rightly recognised, at random places."""
    rng, found = np.random.default_rng(seed), []
    for k in range(labels.shape[1]):
        yes = np.flatnonzero((labels[:, k] == 1) & decisions[:, k])
        no = np.flatnonzero((labels[:, k] == 0) & ~decisions[:, k])
        count = min(GRIDS, len(yes))
        if (labels[:, k] == 1).sum() < FEWEST_POSITIVES or count == 0 or len(no) < 3:
            continue
        rows = np.stack([rng.choice(no, 3, replace=False) for _ in range(count)])
        place = rng.integers(4, size=count)
        chosen = rng.choice(yes, count, replace=False)
        whole = [np.insert(row, at, one) for row, at, one in zip(rows, place, chosen, strict=True)]
        found.append(_Grids(k, np.stack(whole), place))
    return found


def tile(four: Float[Array, "grid 4 y x c"]) -> Float[Array, "grid 2*y 2*x c"]:
    """Puts four images together: the first two above, the others below."""
    grid, _, y, x, channels = four.shape
    quarters = four.reshape(grid, 2, 2, y, x, channels)
    return quarters.transpose(0, 1, 3, 2, 4, 5).reshape(grid, 2 * y, 2 * x, channels)


def untile(whole: Float[Array, "grid 2*y 2*x c"]) -> Float[Array, "grid 4 y x c"]:
    """Takes the four images of `tile` apart."""
    grid, y, x, channels = whole.shape
    quarters = whole.reshape(grid, 2, y // 2, 2, x // 2, channels)
    return quarters.transpose(0, 1, 3, 2, 4, 5).reshape(grid, 4, y // 2, x // 2, channels)


class Quarters(nnx.Module):
    """An extractor that sees each quarter of a picture on its own."""

    def __init__(self, extractor: nnx.Module):
        self.extractor = extractor

    def __call__(self, images: Float[Array, "grid y x 3"]) -> Float[Array, "grid height width c"]:
        """Features of the four quarters, in the places of the quarters."""
        four = untile(images)
        features = self.extractor(four.reshape(-1, *four.shape[2:]))
        return tile(features.reshape(-1, 4, *features.shape[1:]))


def in_quarters(function: Callable[..., Array]) -> Callable[..., Array]:
    """A map of `NETWORK_MAPS` for pictures of four faces, with evidence for the attribute."""

    def run(network: IAMT, images: Array, chosen: Array) -> Array:
        network.extractor = Quarters(network.extractor)
        return function(network, images, chosen, answer=False)

    return run


def share_inside(
    maps: Float[np.ndarray, "grid y x"], place: Int[np.ndarray, " grid"]
) -> Float[np.ndarray, " grid"]:
    """Share of a map's positive part in the quarter `place`; `CHANCE` for a map without one."""
    positive = np.maximum(maps, 0)
    y, x = positive.shape[1] // 2, positive.shape[2] // 2
    quarters = positive.reshape(len(maps), 2, y, 2, x).sum(axis=(2, 4)).reshape(len(maps), 4)
    total = quarters.sum(axis=1)
    inside = np.take_along_axis(quarters, place[:, None], axis=1)[:, 0]
    return np.where(total > 0, inside / np.where(total > 0, total, 1), CHANCE)


def measure_grid_pointing(
    classifier: Classifier,
    records: Records,
    logits: Float[np.ndarray, "image attribute"],
    seed: int,
) -> GridPointing:
    """Plays the game with every map of the network, with evidence for the attribute.

    Args:
      classifier: the network.
      records: a split.
      logits: of its images.
      seed: of the choice of images and places.
    """
    grids = draw_grids(records.labels, logits > 0, seed)
    if not grids:
        return GridPointing({}, {})
    rows, index = np.unique(np.concatenate([g.rows for g in grids]), return_inverse=True)
    size, predictor = classifier.run.config.data.size, classifier.predictor
    pictures = records.pictures(rows, size)
    index = np.split(index.reshape(-1, 4), np.cumsum([len(g.place) for g in grids])[:-1])
    scores: dict[str, dict[str, float]] = {}
    with progress_bar(total=len(NETWORK_MAPS) * len(grids), desc="grids") as bar:
        for name, function in NETWORK_MAPS.items():
            run = predictor.program(in_quarters(function))
            scores[name] = {}
            for g, some in zip(grids, index, strict=True):
                images = tile(pictures[some].astype(np.float32) / 255)
                maps = mapped(predictor, run, images, np.array([g.attribute]))[:, 0]
                share = share_inside(maps, g.place)
                scores[name][records.attributes[g.attribute]] = float(share.mean())
                bar.update()
    names = records.attributes
    return GridPointing({names[g.attribute]: len(g.place) for g in grids}, scores)
