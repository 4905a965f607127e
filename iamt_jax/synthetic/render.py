"""Renders faces from attributes and nuisance, as a pure function."""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Bool, UInt8

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.errors import InputError
from iamt_jax.synthetic import belongings, complexion, eyes, head, mouth
from iamt_jax.synthetic.nuisance import Nuisance
from iamt_jax.synthetic.scene import Scene

_PARTS = (
    head.background,
    head.hair_behind,
    head.torso,
    belongings.necktie,
    belongings.necklace,
    head.ears,
    head.skin,
    complexion.cheeks,
    complexion.age,
    complexion.blemishes,
    mouth.beard,
    mouth.nose,
    mouth.mouth,
    eyes.eyes,
    eyes.brows,
    head.hair_front,
    mouth.sideburns,
    eyes.glasses,
    belongings.hat,
    belongings.earrings,
)
"""Functions that paint the parts of a face, back to front."""

_BLUR = 0.017
"""Standard deviation of the blur of the attribute Blurry, as a share of the image."""

_BATCH = 128
"""Images rendered at a time; smaller batches cost more calls, larger ones exceed CPU caches."""

_WIDESPREAD = (
    "Bald",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Chubby",
    "Gray_Hair",
    "Male",
    "Oval_Face",
    "Pale_Skin",
    "Straight_Hair",
    "Wavy_Hair",
)

LOCAL_ATTRIBUTES: tuple[str, ...] = tuple(
    name for name in CELEBA_ATTRIBUTES if name not in _WIDESPREAD
)
"""Attributes whose region covers less than a quarter of every image (tests measure it).

The others change all hair, all skin, the outline of the face or every pixel: a third of an image
or more.
"""


def render(
    attributes: Bool[np.ndarray, "batch attribute"], nuisance: Nuisance, size: int
) -> UInt8[np.ndarray, "batch size size 3"]:
    """Renders faces; an image depends only on its own arguments, not on the rest of the batch.

    Any combination of attributes is accepted, also contradictory ones.

    Args:
      attributes: one row an image, in the order of `CELEBA_ATTRIBUTES`.
      nuisance: of the same images.
      size: height and width in pixels, 32 or more.

    Returns:
      RGB images, `uint8 (batch, size, size, 3)`.

    Raises:
      InputError: the size is under 32, or the shapes do not match.
    """
    if size < 32:
        raise InputError(f"`size`: {size} is too small for a face; use 32 or more")
    if np.shape(attributes) != (len(nuisance), len(CELEBA_ATTRIBUTES)):
        expected = (len(nuisance), len(CELEBA_ATTRIBUTES))
        raise InputError(f"`attributes`: found shape {np.shape(attributes)}, expected {expected}")
    images = np.empty((len(nuisance), size, size, 3), np.uint8)
    for start in range(0, len(nuisance), _BATCH):
        part = slice(start, start + _BATCH)
        images[part] = _render_batch(attributes[part], nuisance[part], size)
    return images


def region(
    attributes: Bool[np.ndarray, "batch attribute"], nuisance: Nuisance, k: int, size: int
) -> Bool[np.ndarray, "batch size size"]:
    """Returns the ground-truth region of attribute k: the pixels that change if it is flipped.

    Args:
      attributes: one row an image; only column k is flipped.
      nuisance: of the same images; not changed, camera noise included.
      k: index of the attribute in `CELEBA_ATTRIBUTES`.
      size: height and width in pixels.

    Returns:
      `bool (batch, size, size)`.

    Raises:
      InputError: as for `render`.
    """
    flipped = np.array(attributes, bool)
    flipped[:, k] = ~flipped[:, k]
    return np.any(render(attributes, nuisance, size) != render(flipped, nuisance, size), axis=-1)


def _render_batch(attributes, nuisance: Nuisance, size: int) -> UInt8[np.ndarray, "batch ..."]:
    scene = Scene(attributes, nuisance, size)
    for paint in _PARTS:
        paint(scene)
    blurry = scene.has("Blurry") > 0
    planes = _photograph(scene)
    planes = _smooth(planes, nuisance.defocus)
    if blurry.any():
        planes[..., blurry] = _blur(planes[..., blurry], _BLUR * size)
    for image in range(len(nuisance)):
        planes[..., image] += nuisance.grain[image] * _noise(int(nuisance.seed[image]), size)
    np.clip(planes + np.float32(0.5), 0, 255, out=planes)
    return planes.transpose(3, 1, 2, 0).astype(np.uint8)


def _photograph(scene: Scene):
    """Applies light from one side, exposure and white balance."""
    given = scene.nuisance
    across, down = scene.grid[None, :, None], scene.grid[:, None, None]
    light = 1 + np.float32(0.08) * (given.light_x * across + given.light_y * down)
    light = light * given.exposure
    for plane, balance in zip(scene.colour, (given.warmth, 0.0, -given.warmth), strict=True):
        plane *= light * (1 + balance)
    return scene.colour


def _smooth(planes, weight):
    """Applies one binomial pass along each axis; a pixel takes `weight` of either neighbour."""
    for axis in (1, 2):
        last = planes.shape[axis] - 1
        padded = np.concatenate(
            [planes.take([0], axis), planes, planes.take([last], axis)], axis=axis
        )
        before = padded[:, :-2] if axis == 1 else padded[:, :, :-2]
        after = padded[:, 2:] if axis == 1 else padded[:, :, 2:]
        planes = planes + weight * (before - planes + (after - planes))
    return planes


def _blur(planes, sigma: float):
    """Applies a Gaussian blur as repeated binomial passes, each of variance 2 weight."""
    passes = max(math.ceil(sigma * sigma / 0.5), 1)
    weight = np.float32(sigma * sigma / (2 * passes))
    for _ in range(passes):
        planes = _smooth(planes, weight)
    return planes


@functools.cache
def _film() -> np.ndarray:
    """Returns a long strip of normal deviates, of which an image's grain is a piece."""
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)


def _noise(seed: int, size: int):
    """Returns grain (3, size, size) that depends only on the seed."""
    count = 3 * size * size
    film = _film()
    start = seed % len(film)
    if start + count <= len(film):
        return film[start : start + count].reshape(3, size, size)
    return np.take(film, np.arange(start, start + count), mode="wrap").reshape(3, size, size)
