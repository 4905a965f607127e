"""Curved sums by Pallas kernels, for GPU (Triton) and TPU (Mosaic): one body each, two targets.

As in flash attention, a program holds a tile of one image's positions and takes the heads one
after the other: a product, masks, sums. Masks stay in registers (GPU) or VMEM (TPU). Sums of
tiles are added up outside, so there are no atomics. The way back computes the logits twice: once
to sum over heads (features), once to sum over positions and images (kernels).

A grid's last axis follows a sum. On a TPU its programs run one after the other, and an output
block stays in VMEM while its index stays, so the sum goes on from program to program. On a GPU,
where programs run in any order, one program takes all of that axis.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from iamt_jax.ops import kernel_bodies
from iamt_jax.ops.kernel_bodies import Arrays

LEAST = 16
"""Fewest positions of a tile: of a Triton product, and of a bfloat16 tile on a TPU."""


class Target(NamedTuple):
    """What differs between the platforms."""

    channels: tuple[int, ...]
    """Numbers of channels that the kernels take."""
    forward: int
    """Most bytes of one channel in a tile of positions, on the way forward."""
    backward: int
    """And on the way back."""
    heads: int
    """Most heads of a program."""
    positions: int
    """Most positions of a program that sums over images, and of an image."""
    programs: int
    """Programs wanted where the sum is over images: the batch is split to come near."""
    params: Any
    """The compiler's."""


TARGETS = {
    # Compiled by Triton 3.4 at 128 channels, these take 48 and 80 KiB of shared memory forward
    # (bfloat16, float32), at most 66 and 84 back. Tiles back are smaller since registers are
    # full: on 9.0 none spill, on 8.0 `backward_kernel` does. 264 is two programs for each of an
    # H100's multiprocessors.
    "cuda": Target(
        channels=(16, 32, 64, 128),
        forward=128,
        backward=64,
        heads=sys.maxsize,
        positions=sys.maxsize,
        programs=264,
        params=triton.CompilerParams(num_warps=8, num_stages=1),
    ),
    # Channels fill the 128 lanes of a vector. The other bounds keep blocks, of which there are
    # two each, within half of 16 MB of VMEM.
    "tpu": Target(
        channels=(128, 256),
        forward=512,
        backward=512,
        heads=8,
        positions=2048,
        programs=1,
        params=mosaic.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    ),
}


def fits(features: Array, kernel: Array, n: Array | None, platform: str) -> bool:
    """Whether a platform's kernels take arrays of these shapes and types."""
    _, positions, channels = features.shape
    target = TARGETS[platform]
    return (
        features.dtype in (jnp.float32, jnp.bfloat16)
        and channels in target.channels
        and positions % LEAST == 0
        and positions <= target.positions
        and all(x is None or x.size > 0 for x in (features, kernel, n))
    )


def forward(
    features: Float[Array, "batch position channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "curve batch attribute channel"] | None,
    *,
    platform: str,
    interpret: Any = False,
) -> tuple[Float[Array, "curve batch attribute channel"], Float[Array, "batch attribute channel"]]:
    """As `blocked.forward`, for arrays that fit the platform; anywhere if interpreted."""
    arrays = _arrays(features, kernel, bias, n, None)
    rows = 2 if n is None else len(n) + 1
    target = TARGETS[platform]
    tile = _tile(features, target.forward)
    [sums] = _over_heads(kernel_bodies.forward, arrays, rows, tile, target, interpret, also=False)
    return sums[:-1], sums[-1]


def backward(features, kernel, bias, n, to_sums, to_masks, *, platform, interpret=False):
    """As `blocked.backward`, likewise."""
    target = TARGETS[platform]
    arrays = _arrays(features, kernel, bias, n, jnp.concatenate([to_sums, to_masks[None]]))
    rows = 1 if n is None else len(n) + 1
    tile = _tile(features, target.backward)
    sums, to_features = _over_heads(
        kernel_bodies.backward_features, arrays, rows, tile, target, interpret, also=True
    )
    to_kernel = _over_images(kernel_bodies.backward_kernel, arrays, tile, target, interpret)
    return (
        to_features.astype(features.dtype),
        to_kernel.astype(kernel.dtype),
        jnp.sum(sums[-1], axis=0).astype(bias.dtype),
        None if n is None else sums[:-1].astype(n.dtype),
    )


def _arrays(features, kernel, bias, n, to) -> Arrays:
    n, to = (None if x is None else jnp.moveaxis(x, 0, 2) for x in (n, to))
    return Arrays(features, kernel.astype(features.dtype), bias[:, None], n, to)


def _over_heads(body, arrays: Arrays, rows: int, tile: int, target: Target, interpret, *, also):
    """Runs a program for each tile of one image's positions, and for some heads.

    Returns the rows it writes for each head, summed over tiles: (row, batch, attribute, channel);
    with `also`, then what it writes for each position: (batch, position, channel).
    """
    batch, positions, channels = arrays.features.shape
    attributes = len(arrays.kernel)
    tiles, heads = positions // tile, _divisor(attributes, target.heads)
    blocks = _blocks(arrays, 1, tile, heads, lambda b, t, h: (b, t, h))
    sums = pl.BlockSpec((1, 1, heads, rows, channels), lambda b, t, h: (b, t, h, 0, 0))
    shape = jax.ShapeDtypeStruct((batch, tiles, attributes, rows, channels), jnp.float32)
    like = jax.ShapeDtypeStruct(arrays.features.shape, jnp.float32)
    sums, *others = pl.pallas_call(
        body,
        grid=(batch, tiles, attributes // heads),
        in_specs=[blocks],
        out_specs=[sums, blocks.features] if also else [sums],
        out_shape=[shape, like] if also else [shape],
        compiler_params=target.params,
        interpret=interpret,
    )(arrays)
    return jnp.moveaxis(jnp.sum(sums, axis=1), 2, 0), *others


def _over_images(body, arrays: Arrays, tile: int, target: Target, interpret) -> Array:
    """Runs a program for each head and part of the batch, over some images.

    Returns what it writes for the head, summed: (attribute, channel, channel).
    """
    batch, positions, channels = arrays.features.shape
    attributes = len(arrays.kernel)
    splits = _divisor(batch, max(1, target.programs // attributes))
    images = _divisor(batch // splits, max(1, target.positions // positions))
    steps = batch // splits // images
    part = pl.BlockSpec((1, 1, channels, channels), lambda k, s, i: (s, k, 0, 0))
    parts = pl.pallas_call(
        functools.partial(body, tile=tile),
        grid=(attributes, splits, steps),
        in_specs=[_blocks(arrays, images, positions, 1, lambda k, s, i: (s * steps + i, 0, k))],
        out_specs=part,
        out_shape=jax.ShapeDtypeStruct((splits, *arrays.kernel.shape), jnp.float32),
        compiler_params=target.params,
        interpret=interpret,
    )(arrays)
    return jnp.sum(parts, axis=0)


def _blocks(arrays: Arrays, images: int, positions: int, heads: int, at) -> Arrays:
    """Blocks of all arrays; `at` gives the block's image, position and head in the grid."""
    channels = arrays.features.shape[-1]

    def block(shape, index):
        return pl.BlockSpec(shape, lambda *grid: index(*at(*grid)))

    def small(x):
        shape = None if x is None else (images, heads, *x.shape[2:])
        return shape and block(shape, lambda i, p, k: (i, k, 0, 0))

    return Arrays(
        features=block((images, positions, channels), lambda i, p, k: (i, p, 0)),
        kernel=block((heads, channels, channels), lambda i, p, k: (k, 0, 0)),
        bias=block((heads, 1, channels), lambda i, p, k: (k, 0, 0)),
        n=small(arrays.n),
        to=small(arrays.to),
    )


def _tile(features: Array, most: int) -> int:
    """Positions of a tile of so many bytes: a power of two that divides an image's."""
    return math.gcd(features.shape[1], most // features.dtype.itemsize)


def _divisor(size: int, most: int) -> int:
    """The largest divisor of a size up to a bound."""
    return next(x for x in range(min(size, most), 0, -1) if size % x == 0)
