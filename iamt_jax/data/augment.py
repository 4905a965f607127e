"""Augmentation of training images: mirroring, small motions, colour, mixup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from iamt_jax.config import MISSING, DataConfig

_Picture = UInt8[np.ndarray, "height width 3"]

_Example = tuple[_Picture, np.ndarray]
"""An image and its labels."""


@dataclass(frozen=True)
class Augment(grain.transforms.RandomMap):
    """Augments the image of an example; labels become float32, because mixup blends them too."""

    config: DataConfig
    source: Sequence[_Example]
    """Examples from which a partner for mixup is drawn."""

    def random_map(self, example: _Example, rng: np.random.Generator) -> _Example:
        """Augments one example, and blends it with another if `config.mixup` is not 0."""
        image, label = augment(example[0], self.config, rng), example[1].astype(np.float32)
        if self.config.mixup:
            other, other_label = self.source[rng.integers(len(self.source))]
            other = augment(other, self.config, rng)
            share = np.float32(rng.beta(self.config.mixup, self.config.mixup))
            return mixup((image, label), (other, other_label.astype(np.float32)), share)
        return image, label


def mixup(one: _Example, other: _Example, share: np.float32) -> _Example:
    """Blends two examples, `share` of the first and 1 - share of the other (Zhang et al. 2018).

    A label that is missing in either example is missing in the result.
    """
    image, label = (share * a + (1 - share) * b for a, b in zip(one, other, strict=True))
    missing = (one[1] == MISSING) | (other[1] == MISSING)
    return image.round().astype(np.uint8), np.where(missing, np.float32(MISSING), label)


def augment(image: _Picture, config: DataConfig, rng: np.random.Generator) -> _Picture:
    """Applies one random draw of every augmentation that `config` turns on to a square of pixels.

    See `DataConfig.flip`, `shift`, `zoom`, `rotate` and `colour`.
    """
    if config.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    if config.shift or config.zoom or config.rotate:
        image = _move(image, config, rng)
    if config.colour:
        image = _recolour(image, config.colour, rng)
    return np.ascontiguousarray(image)


def _move(image: _Picture, config: DataConfig, rng: np.random.Generator) -> _Picture:
    """Shifts, zooms and rotates in one bilinear resampling, mirrored at the border."""
    side = image.shape[0]
    shift = rng.uniform(-config.shift, config.shift, 2) * side
    zoom = (1 + config.zoom) ** rng.uniform(-1, 1)
    angle = np.deg2rad(rng.uniform(-config.rotate, config.rotate))
    border = side - 1  # the most that reflection can give, enough for all valid settings
    padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="reflect")
    # Pillow expects the map from output to input, here about the centre of the image.
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = side / 2 + border + shift
    half = side / 2
    matrix = (cos, -sin, x - cos * half + sin * half, sin, cos, y - sin * half - cos * half)
    moved = Image.fromarray(padded).transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)


def _recolour(image: _Picture, strength: float, rng: np.random.Generator) -> _Picture:
    """Scales brightness, saturation and contrast by factors in 1 - strength ... 1 + strength."""
    brightness, saturation, contrast = 1 + rng.uniform(-strength, strength, 3)
    pixels = image.astype(np.float32) * np.float32(brightness)
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(saturation)
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * np.float32(contrast)
    return pixels.round().clip(0, 255).astype(np.uint8)
