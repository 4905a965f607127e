"""ImageNet-C's families of degradations: the remaining functions, the strengths, `degrade`."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from PIL import Image

from iamt_jax.degradation import blur, noise
from iamt_jax.errors import InputError, did_you_mean

SEVERITIES = (1, 2, 3, 4, 5)


def brightness(
    images: Float[Array, "batch height width 3"], rise: float
) -> Float[Array, "batch height width 3"]:
    """Raises HSV's value, max(r, g, b), by `rise`, at most to 1; hue and saturation stay.

    With hue and saturation fixed, a colour is proportional to its value; black turns grey.
    """
    value = images.max(axis=-1, keepdims=True)
    raised = jnp.minimum(value + rise, 1)
    return jnp.where(value > 0, images * (raised / jnp.where(value > 0, value, 1)), raised)


def lower_contrast(
    images: Float[Array, "batch height width 3"], factor: float
) -> Float[Array, "batch height width 3"]:
    """Scales the distance to the mean colour m of each image: m + factor (x - m)."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return mean + factor * (images - mean)


def pixelate(image: Image.Image, fraction: float) -> Image.Image:
    """Shrinks an 8-bit image to `fraction` of each side and back, by Pillow's BOX filter."""
    small = [max(1, int(side * fraction)) for side in image.size]
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)


def jpeg_compression(image: Image.Image, quality: int) -> Image.Image:
    """Saves an 8-bit image as JPEG of `quality` 1 to 100, chroma halved, and reads it again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


class Family(NamedTuple):
    """A kind of degradation."""

    function: Callable
    """Takes the images, then by name the strengths and, where it is random, the keys."""
    strengths: dict[str, tuple[float, ...]]
    """Argument -> its value at each severity."""
    random: bool = False
    pillow: bool = False
    """The function takes and returns one Pillow image, not a batch of arrays."""


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
    "brightness": Family(brightness, {"rise": (0.1, 0.2, 0.3, 0.4, 0.5)}),
    "contrast": Family(lower_contrast, {"factor": (0.4, 0.3, 0.2, 0.1, 0.05)}),
    "pixelate": Family(pixelate, {"fraction": (0.6, 0.5, 0.4, 0.3, 0.25)}, pillow=True),
    "jpeg_compression": Family(jpeg_compression, {"quality": (25, 18, 15, 10, 7)}, pillow=True),
}
"""Name -> family, with the strengths of ImageNet-C (Hendrycks and Dietterich, ICLR 2019,
make_imagenet_c.py). The strengths were chosen for 224 px and are used unscaled: on smaller images
blurs and large pixels destroy more."""


def degrade(
    images: Float[Array, "batch height width 3"],
    family: str,
    severity: int,
    keys: Key[Array, " batch"],
) -> Float[Array, "batch height width 3"]:
    """Degrades images as ImageNet-C does; each result depends only on its pixels and its key.

    Not for use under `jax.jit`: JPEG and pixelation run in Pillow on the host, where pixels are
    rounded to 8 bits first and results are multiples of 1/255. The other families are compiled.

        degrade(images, "shot_noise", 3, degradation_keys(names, "shot_noise", 3, seed=0))

    Args:
      images: float32 in [0, 1].
      family: one of FAMILIES.
      severity: one of SEVERITIES.
      keys: one an image, see `degradation_keys`; families that are not random ignore them.

    Returns:
      float32 in [0, 1], of the same shape.

    Raises:
      InputError: no such family or severity; the message names the nearest.
    """
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES, f"choose one of {', '.join(FAMILIES)}")
        raise InputError(f"degradation {family!r}: {hint}")
    if severity not in SEVERITIES:
        near = min(SEVERITIES, key=lambda known: abs(known - severity))
        raise InputError(f"severity {severity!r} of {family}: expected 1 to 5, nearest is {near}")
    if FAMILIES[family].pillow:
        return jnp.asarray(_by_pillow(np.asarray(images), family, severity))
    return _compiled(images, family, severity, keys)


def _strengths(family: str, severity: int) -> dict[str, float]:
    return {name: values[severity - 1] for name, values in FAMILIES[family].strengths.items()}


@functools.partial(jax.jit, static_argnums=(1, 2))
def _compiled(images: Array, family: str, severity: int, keys: Array) -> Array:
    function, _, random, _ = FAMILIES[family]
    arguments = _strengths(family, severity) | ({"keys": keys} if random else {})
    return jnp.clip(function(images, **arguments), 0, 1)


def _by_pillow(images: np.ndarray, family: str, severity: int) -> np.ndarray:
    function, arguments = FAMILIES[family].function, _strengths(family, severity)
    levels = (images * 255).round().clip(0, 255).astype(np.uint8)
    changed = [function(Image.fromarray(image), **arguments) for image in levels]
    return np.array([np.asarray(image) for image in changed], np.float32) / np.float32(255)
