"""Applies ImageNet-C's families of degradations by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from iamt_jax.degradation import blur, colour, compression, noise, warp, weather
from iamt_jax.degradation.severities import FAMILIES, require_degradation
from iamt_jax.degradation.spatter import spatter


def _motion_blur(images, radius, sigma, keys):
    return blur.motion_blur(images, radius, sigma, blur.random_angles(keys, -45, 45))


_COMPILED: dict[str, Callable] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "defocus_blur": blur.defocus_blur,
    "motion_blur": _motion_blur,
    "glass_blur": blur.glass_blur,
    "zoom_blur": warp.zoom_blur,
    "fog": weather.fog,
    "snow": weather.snow,
    "brightness": colour.brightness,
    "contrast": colour.lower_contrast,
    "saturate": colour.saturate,
    "elastic_transform": warp.elastic_transform,
}
"""Name -> function of the images and, by name, of the strengths and, if it is random, the keys."""

_AT_RUN_TIME = {
    "gaussian_noise": ("sigma",),
    "impulse_noise": ("amount",),
    "speckle_noise": ("sigma",),
    "fog": ("thickness",),
    "brightness": ("rise",),
    "contrast": ("factor",),
    "saturate": ("factor", "rise"),
    "elastic_transform": ("alpha", "shift"),
}
"""Strengths that are arguments of the compiled function, so that severities that differ in nothing
else share it. The others decide shapes, matrices or loops, or would save no program (snow's), or
would change the last bits (fog's decay)."""

_ON_HOST: dict[str, Callable] = {
    "spatter": spatter,
    "pixelate": compression.pixelate,
    "jpeg_compression": compression.jpeg_compression,
}
"""The same for functions of NumPy arrays."""


def degrade(
    images: Float[Array, "batch height width 3"],
    family: str,
    severity: int,
    keys: Key[Array, " batch"],
) -> Float[Array, "batch height width 3"]:
    """Degrades images as ImageNet-C does; each result depends only on its pixels and its key.

    Not for use under `jax.jit`: spatter, JPEG and pixelation run on the host. JPEG and pixelation
    round pixels to 8 bits first, and their results are multiples of 1/255. The other families are
    compiled.

        degrade(images, "shot_noise", 3, degradation_keys(names, "shot_noise", 3, seed=0))

    Args:
      images: float32 in [0, 1].
      family: one of `severities.FAMILIES`.
      severity: 1 to 5.
      keys: one an image, see `degradation_keys`; families that are not random ignore them.

    Returns:
      float32 in [0, 1], of the same shape.

    Raises:
      InputError: no such family or severity; the message names the nearest.
    """
    require_degradation(family, severity)
    strengths = {name: values[severity - 1] for name, values in FAMILIES[family].items()}
    if family in _ON_HOST:
        return jnp.asarray(_applied(_ON_HOST[family], np.asarray(images), keys, strengths))
    at_run_time = {name: float(strengths.pop(name)) for name in _AT_RUN_TIME.get(family, ())}
    return _compiled(images, family, tuple(strengths.items()), at_run_time, keys)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _compiled(images, family, fixed, at_run_time, keys):
    strengths = {**dict(fixed), **at_run_time}
    return jnp.clip(_applied(_COMPILED[family], images, keys, strengths), 0, 1)


def _applied(function, images, keys, strengths):
    if "keys" in inspect.signature(function).parameters:
        strengths = {**strengths, "keys": keys}
    return function(images, **strengths)
