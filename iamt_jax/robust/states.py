"""The states that an image can be in: kinds of degradation, each at several strengths.

Calibration degrades training images to every state; the recogniser then finds the state of an
image, and the restorer undoes it. A state that has several steps is several degradations at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from iamt_jax.degradation import blur
from iamt_jax.degradation.colour import grey
from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys, gaussian_noise, noise_keys
from iamt_jax.degradation.severities import FAMILIES, SEVERITIES

NONE, NOISE = "none", "noise"
"""Kinds of the states that the restorer leaves to the denoiser: no degradation, and noise."""

GREY = "grey"
"""Step to a black-and-white image, which is not degraded; without a state of its own, it would be
taken for a faded one."""

MOTION_BLUR = "motion_blur"

RESTORED = (
    *("gaussian_blur", "defocus_blur", MOTION_BLUR, "glass_blur", "zoom_blur"),
    *("fog", "snow", "spatter", "brightness", "contrast", "saturate"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
)
"""Families that are calibrated. Of the others, speckle noise is not calibrated at all."""

MIXTURES = (
    (("gaussian_blur", 1), ("jpeg_compression", 2)),
    (("pixelate", 2), ("jpeg_compression", 2)),
    (("contrast", 2), ("jpeg_compression", 2)),
    (("gaussian_blur", 1), ("gaussian_noise", 1)),
    (("contrast", 1), ("gaussian_noise", 1)),
)
"""Several degradations at once, in the order in which they happen."""

SIGMAS = (0.02, 0.05, 0.5, 0.7)
"""Levels of Gaussian noise besides those of the family `gaussian_noise`."""

DIRECTIONS = tuple((low, low + 15.0) for low in range(-45, 45, 15))
"""Degrees; motion in each of these ranges is a state of its own."""


class ImageState(NamedTuple):
    """One kind of degradation at one strength."""

    kind: str
    """`NONE`, `NOISE`, a family, or the families of a mixture joined by " + "."""
    steps: tuple[tuple[str, float], ...] = ()
    """Families with their severities, `NOISE` with its sigma, or `GREY`, one after the other."""
    angles: tuple[float, float] | None = None
    """Range of the direction of motion, degrees."""

    @property
    def is_restored(self) -> bool:
        """True if the restorer undoes it."""
        return self.kind not in (NONE, NOISE)

    @property
    def description(self) -> str:
        """The state in one line, which a calibration file keeps."""
        steps = ", ".join(f"{family} {strength:g}" for family, strength in self.steps)
        return " ".join([self.kind, steps, *(f"{angle:g}" for angle in self.angles or ())])


MIDDLE_FIRST = tuple(sorted(SEVERITIES, key=lambda severity: abs(severity - 3)))
"""Severities in the order in which they are learnt: what a kind has in common is decided by its
first state."""


def _states() -> tuple[ImageState, ...]:
    found = [ImageState(NONE), ImageState(NONE, ((GREY, 1),))]
    found += [ImageState(NOISE, ((NOISE, sigma),)) for sigma in SIGMAS]
    for family in ("gaussian_noise", "shot_noise", "impulse_noise"):
        found += [ImageState(NOISE, ((family, severity),)) for severity in SEVERITIES]
    for family in RESTORED:
        for severity in MIDDLE_FIRST:
            directions = DIRECTIONS if family == MOTION_BLUR else (None,)
            found += [ImageState(family, ((family, severity),), angles) for angles in directions]
    found += [ImageState(" + ".join(family for family, _ in steps), steps) for steps in MIXTURES]
    return tuple(found)


STATES = _states()
"""All states: those of clean images first, then noise, then those that are restored."""

CLEAN = tuple(index for index, state in enumerate(STATES) if state.kind == NONE)
"""Indices in `STATES` of images without degradation."""

FIRST_RESTORED = next(index for index, state in enumerate(STATES) if state.is_restored)
"""Index in `STATES` of the first state that is restored; all others follow."""


def to_state(
    images: Float[Array, "batch height width 3"], state: ImageState, names: Sequence[str], seed: int
) -> Float[Array, "batch height width 3"]:
    """Degrades images to a state.

    The directions of a motion are spread evenly over the images of the batch, so an image's own
    depends on its place in the batch.

    Args:
      images: float32 in [0, 1].
      state: one of `STATES`.
      names: the images' names, which key what is random.
      seed: of the same.

    Returns:
      float32 in [0, 1].
    """
    for family, strength in state.steps:
        if family == NOISE:
            noisy = gaussian_noise(images, strength, noise_keys(names, strength, seed))
            images = jnp.clip(noisy, 0, 1)
        elif family == GREY:
            images = grey(images)
        elif state.angles:
            images = _moved(images, int(strength), state.angles)
        else:
            keys = degradation_keys(names, family, int(strength), seed)
            images = degrade(images, family, int(strength), keys)
    return images


def _moved(images: Array, severity: int, angles: tuple[float, float]) -> Array:
    """Motion blur in evenly spread directions."""
    radius, sigma = (values[severity - 1] for values in FAMILIES[MOTION_BLUR].values())
    spread = jnp.asarray(np.linspace(*angles, len(images), dtype=np.float32))
    return jnp.clip(_motion_blur(images, radius, sigma, spread), 0, 1)


_motion_blur = jax.jit(blur.motion_blur, static_argnums=(1, 2))
