"""Variation between faces that is no attribute: pose, light, skin, hair, background."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float32, Int64


def _between(low: float, high: float):
    return dataclasses.field(metadata={"range": (low, high)})


_Values = Float32[np.ndarray, " batch"]


@dataclasses.dataclass(frozen=True)
class Nuisance:
    """One value an image for each field, `float32 (count,)`, uniform between the two numbers.

    Lengths are in half image widths, angles in radians; all other values have no unit. `seed`
    (`int64`) determines the camera noise, so that rendering is a pure function.
    """

    # Pose and camera.
    scale: _Values = _between(0.86, 0.98)
    shift_x: _Values = _between(-0.06, 0.06)
    shift_y: _Values = _between(-0.05, 0.04)
    tilt: _Values = _between(-0.12, 0.12)
    yaw: _Values = _between(-1.0, 1.0)
    light_x: _Values = _between(-1.0, 1.0)
    light_y: _Values = _between(-0.8, 0.2)
    exposure: _Values = _between(0.88, 1.08)
    warmth: _Values = _between(-0.04, 0.04)
    defocus: _Values = _between(0.0, 0.1)
    grain: _Values = _between(1.0, 4.0)
    # Build of the face, as deviations from the mean face.
    width: _Values = _between(-0.02, 0.02)
    eye_spacing: _Values = _between(-0.015, 0.015)
    eye_level: _Values = _between(-0.015, 0.015)
    mouth_level: _Values = _between(-0.015, 0.015)
    mouth_width: _Values = _between(-0.015, 0.015)
    hairline: _Values = _between(-0.02, 0.02)
    # Looks.
    skin_tone: _Values = _between(0.0, 1.0)
    skin_hue: _Values = _between(-1.0, 1.0)
    blemishes: _Values = _between(0.0, 1.0)
    eye_colour: _Values = _between(0.0, 1.0)
    hair_length: _Values = _between(0.0, 1.0)
    hair_volume: _Values = _between(0.0, 1.0)
    hair_parting: _Values = _between(-1.0, 1.0)
    hair_phase: _Values = _between(0.0, 1.0)
    hair_shade: _Values = _between(0.85, 1.12)
    hair_hue: _Values = _between(0.0, 1.0)
    # Belongings and surroundings.
    lipstick_hue: _Values = _between(0.0, 1.0)
    makeup_hue: _Values = _between(0.0, 1.0)
    jewellery: _Values = _between(0.0, 1.0)
    frame_shape: _Values = _between(0.0, 1.0)
    frame_hue: _Values = _between(0.0, 1.0)
    hat_shape: _Values = _between(0.0, 1.0)
    hat_hue: _Values = _between(0.0, 1.0)
    tie_hue: _Values = _between(0.0, 1.0)
    clothing_hue: _Values = _between(0.0, 1.0)
    clothing_value: _Values = _between(0.25, 0.8)
    background_hue: _Values = _between(0.0, 1.0)
    background_saturation: _Values = _between(0.05, 0.38)
    background_value: _Values = _between(0.3, 0.95)
    background_turn: _Values = _between(-0.15, 0.15)
    seed: Int64[np.ndarray, " batch"] = _between(0, 2**31)

    def __len__(self) -> int:
        return len(self.seed)

    def __getitem__(self, images) -> Nuisance:
        """Returns the nuisance of the images given by a slice, a mask or an array of indices."""
        return Nuisance(*(getattr(self, field.name)[images] for field in dataclasses.fields(self)))


def sample_nuisance(rng: np.random.Generator, count: int) -> Nuisance:
    """Draws the nuisance of `count` faces.

    Args:
      rng: source of randomness; the same state gives the same nuisance.
      count: number of faces.

    Returns:
      A `Nuisance` whose arrays have length `count`.
    """
    fields = dataclasses.fields(Nuisance)
    # One row an image, so that the first faces stay the same when more are drawn.
    shares = rng.random((count, len(fields))).T
    values = {}
    for field, share in zip(fields, shares, strict=True):
        low, high = field.metadata["range"]
        kind = np.int64 if field.name == "seed" else np.float32
        values[field.name] = (low + share * (high - low)).astype(kind)
    return Nuisance(**values)
