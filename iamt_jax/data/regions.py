"""Regions of attributes in images: ground truth for explanations.

On synthetic faces a region is the set of pixels that change if only that attribute is flipped; on
aligned photographs of CelebA it is a box around some of the five landmarks.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.config import SyntheticConfig
from iamt_jax.data.dataset import Records
from iamt_jax.data.decode import image_size
from iamt_jax.errors import InputError
from iamt_jax.synthetic import LOCAL_ATTRIBUTES, faces, region

Regions = dict[str, Bool[np.ndarray, "image size size"]]
"""Attribute -> mask of its region, for the attributes that have one."""

_LISTS = ("Anno/list_landmarks_align_celeba.txt", "list_landmarks_align_celeba.txt")
"""Paths of CelebA's list of landmarks, by layout; Kaggle's is a CSV with other columns."""

_ALIGNED_SIZE = (178, 218)
"""Width and height of the aligned photographs to which the landmarks refer, pixels."""


MEAN_LANDMARKS = np.array([(69, 111), (108, 111), (87, 136), (72, 152), (106, 152)], np.float64)
"""Mean landmarks of the aligned photographs, (x, y) in pixels: eyes, nose, corners of the mouth.
Their standard deviations are 2 pixels at the eyes, 8 at the nose and 3 at the mouth."""


class _Box(NamedTuple):
    """A rectangle around landmarks, with margins in units of the distance between the eyes."""

    landmarks: tuple[int, ...]
    """Indices: 0 and 1 eyes, 2 nose, 3 and 4 corners of the mouth."""
    sideways: float
    up: float
    down: float


_EYES, _NOSE, _MOUTH = (0, 1), (2,), (3, 4)
BOXES = {
    "Arched_Eyebrows": _Box(_EYES, 0.5, 0.8, -0.1),
    "Bags_Under_Eyes": _Box(_EYES, 0.5, 0.0, 0.6),
    "Big_Lips": _Box(_MOUTH, 0.2, 0.4, 0.4),
    "Big_Nose": _Box(_NOSE, 0.5, 0.7, 0.3),
    "Bushy_Eyebrows": _Box(_EYES, 0.5, 0.8, -0.1),
    "Eyeglasses": _Box(_EYES, 0.6, 0.6, 0.6),
    "Goatee": _Box(_MOUTH, 0.2, 0.3, 1.0),
    "Mouth_Slightly_Open": _Box(_MOUTH, 0.2, 0.4, 0.4),
    "Mustache": _Box(_MOUTH, 0.2, 0.5, 0.1),
    "Narrow_Eyes": _Box(_EYES, 0.5, 0.4, 0.4),
    "Pointy_Nose": _Box(_NOSE, 0.5, 0.7, 0.3),
    "Smiling": _Box(_MOUTH, 0.4, 0.5, 0.5),
    "Wearing_Lipstick": _Box(_MOUTH, 0.2, 0.4, 0.4),
}
"""Attribute -> its box; only attributes near a landmark."""


class Known(NamedTuple):
    """Regions, and where they come from."""

    regions: Regions
    source: str


def synthetic_regions(config: SyntheticConfig, split: str, count: int, size: int) -> Known:
    """Returns the regions in the first `count` images of a synthetic split, at `size` pixels."""
    attributes, nuisance = faces(getattr(config, split), config.seed, split)
    attributes, nuisance = attributes[:count], nuisance[:count]
    column = CELEBA_ATTRIBUTES.index
    found = {name: region(attributes, nuisance, column(name), size) for name in LOCAL_ATTRIBUTES}
    return Known(found, "pixels that change if only the attribute is flipped")


def landmark_regions(root: str, records: Records, size: int) -> Known | None:
    """Returns the regions in CelebA's photographs, cropped and resized like the network's input.

    Without a list of landmarks in the folder `root`, CelebA's mean landmarks serve for all images,
    if the first one has the shape of an aligned photograph. Otherwise there are no regions.

    Raises:
      InputError: the list is damaged, or lacks an image.
    """
    path = next((p for p in (Path(root) / name for name in _LISTS) if p.is_file()), None)
    if path is not None:
        points = _read(path)
        if absent := [name for name in records.names if name not in points]:
            raise InputError(f"{path}: lacks {absent[0]}; restore the list, or remove it")
        found, source = np.stack([points[name] for name in records.names]), "the landmarks"
    elif _aligned(records):
        found = np.broadcast_to(MEAN_LANDMARKS, (len(records), 5, 2))
        source = "CelebA's mean landmarks, since there is no list of landmarks"
    else:
        return None
    regions = {name: _inside(box, found, size) for name, box in BOXES.items()}
    return Known(regions, f"boxes around {source}")


def _aligned(records: Records) -> bool:
    """Checks that the labels are CelebA's, and that the first image has the aspect ratio of its
    aligned photographs, to the pixel."""
    if records.attributes != CELEBA_ATTRIBUTES:
        return False
    width, height = image_size(records.read(0), records.names[0])
    return width == round(height * _ALIGNED_SIZE[0] / _ALIGNED_SIZE[1])


def _read(path: Path) -> dict[str, Float[np.ndarray, "5 2"]]:
    """Reads CelebA's list: a count, a header, then a name and ten numbers a line."""
    points = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        try:
            points[name] = np.array(values, np.float64).reshape(5, 2)
        except ValueError:
            raise InputError(
                f"{path}, line {number}: found {len(values)} values, expected a name and 10 "
                "numbers; restore the list"
            ) from None
    return points


def _inside(
    box: _Box, points: Float[np.ndarray, "image 5 2"], size: int
) -> Bool[np.ndarray, "image size size"]:
    """Returns the pixels of the cropped, resized square whose centres lie in the box."""
    width, height = _ALIGNED_SIZE
    y, x = (np.mgrid[:size, :size] + 0.5) * (width / size)
    y += (height - width) / 2
    unit = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    chosen = points[:, list(box.landmarks)]
    (left, top), (right, bottom) = chosen.min(axis=1).T, chosen.max(axis=1).T
    edges = left - box.sideways * unit, right + box.sideways * unit
    edges += top - box.up * unit, bottom + box.down * unit
    left, right, top, bottom = (edge[:, None, None] for edge in edges)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)
