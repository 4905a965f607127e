"""The families of degradations, and how strong each is at severities 1 to 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from iamt_jax.degradation import blur, noise, tone
from iamt_jax.degradation.jpeg import jpeg_compression
from iamt_jax.degradation.pixelate import pixelate
from iamt_jax.errors import InputError, did_you_mean

SEVERITIES = (1, 2, 3, 4, 5)


class Family(NamedTuple):
    """One way to spoil images."""

    function: Callable
    """Takes the images, then by name the strengths and, where it is random, the keys."""
    strengths: dict[str, tuple[float, ...]]
    """Argument -> its value at each severity."""
    random: bool = False


def _motion_blur(images, radius, sigma, keys):
    return blur.motion_blur(images, radius, sigma, blur.motion_angles(keys))


FAMILIES: dict[str, Family] = {
    "gaussian_noise": Family(
        noise.gaussian_noise, {"sigma": (0.08, 0.12, 0.18, 0.26, 0.38)}, random=True
    ),
    "shot_noise": Family(noise.shot_noise, {"photons": (60, 25, 12, 5, 3)}, random=True),
    "impulse_noise": Family(
        noise.impulse_noise, {"amount": (0.03, 0.06, 0.09, 0.17, 0.27)}, random=True
    ),
    "speckle_noise": Family(
        noise.speckle_noise, {"sigma": (0.15, 0.2, 0.35, 0.45, 0.6)}, random=True
    ),
    "gaussian_blur": Family(blur.gaussian_blur, {"sigma": (1, 2, 3, 4, 6)}),
    "defocus_blur": Family(
        blur.defocus_blur, {"radius": (3, 4, 6, 8, 10), "alias_blur": (0.1, 0.5, 0.5, 0.5, 0.5)}
    ),
    "motion_blur": Family(
        _motion_blur, {"radius": (10, 15, 15, 15, 20), "sigma": (3, 5, 8, 12, 15)}, random=True
    ),
    "brightness": Family(tone.brightness, {"rise": (0.1, 0.2, 0.3, 0.4, 0.5)}),
    "contrast": Family(tone.contrast, {"factor": (0.4, 0.3, 0.2, 0.1, 0.05)}),
    "pixelate": Family(pixelate, {"fraction": (0.6, 0.5, 0.4, 0.3, 0.25)}),
    "jpeg_compression": Family(jpeg_compression, {"quality": (25, 18, 15, 10, 7)}),
}
"""Name -> family, with the strengths of ImageNet-C (Hendrycks and Dietterich, ICLR 2019,
make_imagenet_c.py). They are meant for 224 px and used unscaled: on smaller images blurs and
large pixels destroy more than they do there."""


def degrade(
    images: Float[Array, "batch height width 3"],
    family: str,
    severity: int,
    keys: Key[Array, " batch"],
) -> Float[Array, "batch height width 3"]:
    """Spoils images as ImageNet-C does; each result depends on its pixels and its key alone.

        degrade(images, "shot_noise", 3, degradation_keys(names, "shot_noise", 3, seed=0))

    Args:
      images: float32 in [0, 1].
      family: one of FAMILIES; static under `jax.jit`.
      severity: one of SEVERITIES; static under `jax.jit`.
      keys: one an image; families that are not random ignore them.

    Returns:
      float32 in [0, 1], of the same shape.

    Raises:
      InputError: no such family or severity; the line names the nearest.
    """
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES, f"choose one of {', '.join(FAMILIES)}")
        raise InputError(f"degradation {family!r}: {hint}")
    if severity not in SEVERITIES:
        near = min(SEVERITIES, key=lambda known: abs(known - severity))
        raise InputError(f"severity {severity!r} of {family}: expected 1 to 5, nearest is {near}")
    function, strengths, random = FAMILIES[family]
    arguments = {name: values[severity - 1] for name, values in strengths.items()}
    if random:
        arguments["keys"] = keys
    return jnp.clip(function(images, **arguments), 0, 1)
