"""Fog and snow."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from iamt_jax.degradation.blur import motion_blur, random_angles
from iamt_jax.degradation.colour import grey
from iamt_jax.degradation.noise import draw
from iamt_jax.degradation.warp import enlarged

_Images = Float[Array, "batch height width 3"]
_Keys = Key[Array, " batch"]


def fog(images: _Images, thickness: float, decay: float, keys: _Keys) -> _Images:
    """Adds `thickness` times a plasma fractal, then restores the maximum of the image.

    The fractal has the least power of two as its side that covers the image, as ImageNet-C's 256
    for 224 px.
    """
    height, width = images.shape[1:3]
    octaves = (max(height, width) - 1).bit_length()
    plasma = plasma_fractal(octaves, decay, keys)[:, :height, :width, None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return (images + thickness * plasma) * (brightest / (brightest + thickness))


def plasma_fractal(octaves: int, decay: float, keys: _Keys) -> Float[Array, "batch side side"]:
    """Draws clouds with values from 0 to 1, of side 2^octaves, that repeat at their borders.

    The algorithm is diamond-square. In each octave the centre of a square becomes the mean of its
    corners, the middle of an edge the mean of its ends and the two centres beside it, each plus
    uniform noise. From one octave to the next the noise falls by the square of `decay`, as in
    make_imagenet_c.py.
    """
    uniform = functools.partial(jax.random.uniform, minval=-1, maxval=1)
    noise = draw(uniform, (4**octaves - 1,), keys)
    grid = jnp.zeros((len(noise), 1, 1))
    for octave in range(octaves):
        side, start = 2**octave, 4**octave - 1
        added = noise[:, start : start + 3 * side**2].reshape(-1, 3, side, side) / decay ** (
            2 * octave
        )
        down, right = jnp.roll(grid, -1, 1), jnp.roll(grid, -1, 2)
        centre = (grid + down + right + jnp.roll(down, -1, 2)) / 4 + added[:, 0]
        top = (grid + right + centre + jnp.roll(centre, 1, 1)) / 4 + added[:, 1]
        left = (grid + down + centre + jnp.roll(centre, 1, 2)) / 4 + added[:, 2]
        rows = jnp.stack([jnp.stack([grid, top], -1), jnp.stack([left, centre], -1)], 2)
        # Without a barrier, XLA would compute each octave again for every use of its values.
        grid = lax.optimization_barrier(rows.reshape(-1, 2 * side, 2 * side))
    grid -= grid.min(axis=(1, 2), keepdims=True)
    return grid / grid.max(axis=(1, 2), keepdims=True)


def snow(
    images: _Images,
    mean: float,
    spread: float,
    factor: float,
    least: float,
    radius: int,
    sigma: float,
    share: float,
    keys: _Keys,
) -> _Images:
    """Whitens images and adds falling flakes, once as they are and once turned by 180 degrees.

    Args:
      images: float32 in [0, 1].
      mean: mean of the Gaussian noise that the flakes are made of.
      spread: its standard deviation.
      factor: enlargement of the noise.
      least: value below which there is no flake.
      radius: half the length of the flakes' motion blur, in pixels.
      sigma: standard deviation of the motion blur.
      share: share of the image in its mixture with a whitened one.
      keys: one an image.
    """
    keys = jax.vmap(jax.random.split)(keys)
    layer = mean + spread * draw(jax.random.normal, (*images.shape[1:3], 1), keys[:, 0])
    layer = enlarged(layer, factor)
    layer = jnp.where(layer < least, 0, jnp.clip(layer, 0, 1))
    layer = motion_blur(layer, radius, sigma, random_angles(keys[:, 1], -135, -45))
    pale = 1.5 * grey(images) + 0.5
    whitened = share * images + (1 - share) * jnp.maximum(images, pale)
    return whitened + layer + layer[:, ::-1, ::-1]
