"""A batch of faces being painted: colour planes, face coordinates, and functions that paint.

Arrays have the layout (height, width, batch), so that windows keep the batch contiguous and one
value an image broadcasts. For speed a part is painted only in the window that holds it, and only
on the images that have it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.synthetic.nuisance import Nuisance
from iamt_jax.synthetic.palette import hair_colours, skin_colours
from iamt_jax.synthetic.sampling import HAIR_COLOURS

_COLUMN = {name: column for column, name in enumerate(CELEBA_ATTRIBUTES)}
DEPTH = 0.05
"""Sideways motion of the features in a full turn of the head, in face units."""
_CENTRE_Y = np.float32(-0.06)


@dataclasses.dataclass
class Anatomy:
    """Positions, in face units, and colours, 0..255, of the features of each face.

    The origin is the middle of the face, y points down, and 1 is about half an image.
    """

    half_width: Float32[np.ndarray, " batch"]
    chin: Float32[np.ndarray, " batch"]
    jaw: Float32[np.ndarray, " batch"]
    eye_x: Float32[np.ndarray, " batch"]
    eye_y: Float32[np.ndarray, " batch"]
    mouth_y: Float32[np.ndarray, " batch"]
    skin: Float32[np.ndarray, "3 batch"]
    hair: Float32[np.ndarray, "3 batch"]

    def __getitem__(self, images) -> Anatomy:
        return Anatomy(*(value[..., images] for value in vars(self).values()))


SKULL_TOP, CHEEK_Y = np.float32(0.6), np.float32(-0.06)
"""Height of the skull over the cheeks, and y of the cheeks, where a face is widest."""


class Scene:
    """The faces of one batch, or of the images in it that `only` selected."""

    def __init__(
        self,
        attributes: Bool[np.ndarray, "batch attribute"],
        nuisance: Nuisance,
        size: int,
    ):
        """Lays out the coordinates of `size` x `size` images; the colour planes start empty.

        Args:
          attributes: one row an image.
          nuisance: of the same images.
          size: height and width in pixels.
        """
        self.size = size
        self.attributes = np.asarray(attributes, np.float32).T
        self.nuisance = nuisance
        self.images = slice(None)
        self.anatomy = self._anatomy()
        self.colour = np.empty((3, size, size, len(nuisance)), np.float32)
        self.cosine = np.cos(nuisance.tilt.astype(np.float64)).astype(np.float32)
        self.sine = np.sin(nuisance.tilt.astype(np.float64)).astype(np.float32)
        self.pixel = np.float32(2 / size) / nuisance.scale
        grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
        u = (grid[None, :, None] - nuisance.shift_x) / nuisance.scale
        v = (grid[:, None, None] - _CENTRE_Y - nuisance.shift_y) / nuisance.scale
        self.x = self.cosine * u + self.sine * v
        self.y = self.cosine * v - self.sine * u
        self.grid = grid

    def __len__(self) -> int:
        return len(self.nuisance)

    def has(self, name: str) -> Float32[np.ndarray, " batch"]:
        """Returns 1 for the images with the attribute, 0 for the others."""
        return self.attributes[_COLUMN[name]]

    def only(self, chosen: Bool[np.ndarray, " batch"]) -> Scene:
        """Returns the same scene, restricted to painting on the chosen images."""
        if chosen.all():
            return self
        part = copy.copy(self)
        keep = np.flatnonzero(chosen)
        part.images = np.arange(self.x.shape[-1])[self.images][keep]
        part.attributes = self.attributes[:, keep]
        part.nuisance = self.nuisance[keep]
        part.anatomy = self.anatomy[keep]
        part.cosine, part.sine = self.cosine[keep], self.sine[keep]
        part.pixel = self.pixel[keep]
        return part

    def split(self, *names: str) -> Iterator[Scene]:
        """Yields scenes in each of which all images agree in the named attributes."""
        kind = sum(2**bit * self.has(name) for bit, name in enumerate(names))
        for value in np.unique(kind):
            yield self.only(kind == value)

    def fold(self, x):
        """Returns |x|, so that both sides are painted alike; yaw narrows the far side."""
        return np.abs(x) - np.float32(0.06) * self.nuisance.yaw * x

    def paint(self, box, shape, colour, opacity=1.0, depth=0.0, shade=None) -> None:
        """Covers a shape with a colour, antialiased over one pixel.

        Args:
          box: left, top, right, bottom in face units; contains the shape.
          shape: (x, y) -> signed distance, negative inside.
          colour: (3, batch), or one colour (3, 1).
          opacity: 0..1, one number or one an image.
          depth: sideways motion of the shape in a full turn of the head.
          shade: (x, y) -> factor on the colour.
        """
        at = self._window(box, depth)
        if at is None:
            return
        x, y = self._coordinates(at, depth)
        cover = np.clip(np.float32(0.5) - shape(x, y) / self.pixel, 0, 1)
        cover *= np.float32(opacity)
        brightness = None if shade is None else shade(x, y)
        for plane, value in zip(self.colour, colour, strict=True):
            painted = value if brightness is None else value * brightness
            under = plane[at]
            plane[at] = under + cover * (painted - under)

    def tint(self, box, weight, factor, depth=0.0) -> None:
        """Multiplies colours by a factor (3, batch), as far as a weight (x, y) -> 0..1 allows."""
        at = self._window(box, depth)
        if at is None:
            return
        strength = weight(*self._coordinates(at, depth))
        for plane, value in zip(self.colour, np.asarray(factor, np.float32) - 1, strict=True):
            plane[at] = plane[at] * (1 + strength * value)

    def _coordinates(self, at, depth):
        x, y = self.x[at], self.y[at]
        return (x - self.nuisance.yaw * np.float32(depth) if depth else x), y

    def _window(self, box, depth):
        """Returns the smallest window of pixels that contains a box on all images, or None."""
        if not len(self):
            return None
        left, top, right, bottom = (np.asarray(side, np.float32) for side in box)
        drift = self.nuisance.yaw * np.float32(depth)
        corners = (left, top), (right, top), (left, bottom), (right, bottom)
        x = np.stack([corner + drift for corner, _ in corners])
        y = np.stack([corner + 0 * drift for _, corner in corners])
        u = (self.cosine * x - self.sine * y) * self.nuisance.scale + self.nuisance.shift_x
        v = (self.sine * x + self.cosine * y) * self.nuisance.scale
        v = v + self.nuisance.shift_y + _CENTRE_Y
        half = self.size / 2
        window = []
        for along in (v, u):
            start = max(int((along.min() + 1) * half - 1.5), 0)
            stop = min(int((along.max() + 1) * half + 2.5), self.size)
            if start >= stop:
                return None
            window.append(slice(start, stop))
        return (*window, self.images)

    def _anatomy(self) -> Anatomy:
        nuisance, has = self.nuisance, self.has
        male, chubby, oval = has("Male"), has("Chubby"), has("Oval_Face")
        half_width = 0.46 + nuisance.width + 0.02 * male + 0.072 * chubby - 0.055 * oval
        named = np.stack([has(name) for name in HAIR_COLOURS])
        return Anatomy(
            half_width=half_width.astype(np.float32),
            chin=(0.53 + 0.01 * male + 0.065 * oval).astype(np.float32),
            jaw=(0.12 + 0.42 * male * (1 - 0.4 * oval) + 0.3 * chubby).astype(np.float32),
            eye_x=0.21 + nuisance.eye_spacing,
            eye_y=-0.06 + nuisance.eye_level,
            mouth_y=0.32 + nuisance.mouth_level,
            skin=skin_colours(nuisance.skin_tone, nuisance.skin_hue, has("Pale_Skin")),
            hair=hair_colours(named, nuisance.hair_hue, nuisance.hair_shade),
        )
