"""What a training image goes through: mirror, small geometry, colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from iamt_jax.config import MISSING, DataConfig

Picture = UInt8[np.ndarray, "height width 3"]

Example = tuple[Picture, np.ndarray]
"""Image and labels."""


@dataclass(frozen=True)
class Augment(grain.transforms.RandomMap):
    """Augments an example's image as the config says; labels come out as float32, since mixup
    blends them too."""

    config: DataConfig
    source: Sequence[Example]
    """Where a partner for mixup is drawn from."""

    def random_map(self, example: Example, rng: np.random.Generator) -> Example:
        image, label = augment(example[0], self.config, rng), example[1].astype(np.float32)
        if self.config.mixup:
            other, other_label = self.source[rng.integers(len(self.source))]
            other = augment(other, self.config, rng)
            share = np.float32(rng.beta(self.config.mixup, self.config.mixup))
            return mix((image, label), (other, other_label.astype(np.float32)), share)
        return image, label


def mix(one: Example, other: Example, share: np.float32) -> Example:
    """`share` of one example and the rest of the other (Zhang et al. 2018); a label that is
    missing in either is missing."""
    image, label = (share * a + (1 - share) * b for a, b in zip(one, other, strict=True))
    missing = (one[1] == MISSING) | (other[1] == MISSING)
    return image.round().astype(np.uint8), np.where(missing, np.float32(MISSING), label)


def augment(image: Picture, config: DataConfig, rng: np.random.Generator) -> Picture:
    """One random draw of everything that `config` switches on; same shape, uint8."""
    if config.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    if config.shift or config.zoom or config.rotate:
        image = _move(image, config, rng)
    if config.colour:
        image = _recolour(image, config.colour, rng)
    return np.ascontiguousarray(image)


def _move(image: Picture, config: DataConfig, rng: np.random.Generator) -> Picture:
    """Shift, zoom and rotation in one bilinear resampling, mirrored at the border."""
    side = image.shape[0]
    shift = rng.uniform(-config.shift, config.shift, 2) * side
    zoom = (1 + config.zoom) ** rng.uniform(-1, 1)
    angle = np.deg2rad(rng.uniform(-config.rotate, config.rotate))
    border = side - 1  # all that reflection gives, and enough for every setting allowed
    padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="reflect")
    # PIL wants the map from output to input, here about the centre of the image.
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = side / 2 + border + shift
    half = side / 2
    matrix = (cos, -sin, x - cos * half + sin * half, sin, cos, y - sin * half - cos * half)
    moved = Image.fromarray(padded).transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)


def _recolour(image: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Brightness, saturation and contrast, each by a factor from 1 - strength to 1 + strength."""
    brightness, saturation, contrast = 1 + rng.uniform(-strength, strength, 3)
    pixels = image.astype(np.float32) * np.float32(brightness)
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(saturation)
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * np.float32(contrast)
    return pixels.round().clip(0, 255).astype(np.uint8)
