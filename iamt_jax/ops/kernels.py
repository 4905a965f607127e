"""Curved sums by Pallas kernels, which share their bodies between GPU (Triton) and TPU (Mosaic).

As in flash attention, each program holds a tile of one image's positions and loops over the heads.
For each head it computes a matrix product, the masks, and their sums. Masks stay in registers (GPU)
or VMEM (TPU). The sums of different tiles are added outside the kernel, so no atomic operations are
needed. The backward pass computes the masks' logits twice: once to sum derivatives over heads (for
the features), and once to sum them over positions and images (for the heads' kernels).

Some sums run over the last axis of the grid. On a TPU the programs of this axis run one after the
other, and an output block stays in VMEM while its index is the same, so each program adds to the
sum of the programs before it. On a GPU programs run in any order, so there one program handles the
whole axis.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from iamt_jax.ops import mask_powers
from iamt_jax.ops.mask_powers import contrast_of_powers

LEAST = 16
"""Smallest number of positions in a tile.

Triton's matrix product and bfloat16 tiles on a TPU need it.
"""


class Operands(NamedTuple):
    """Inputs of a kernel: whole arrays, their block specifications, or references to blocks."""

    features: Any
    """(batch, position, channel)."""
    kernel: Any
    """(attribute, channel, channel), in the features' type."""
    bias: Any
    """(attribute, 1, channel)."""
    n: Any
    """(batch, attribute, curve, channel), or None."""
    to: Any
    """(batch, attribute, curve + 1, channel), or None in the forward pass.

    Derivatives with respect to the curved sums, followed by those with respect to the sums of M.
    """


class Target(NamedTuple):
    """Limits and tile sizes of one platform."""

    channels: tuple[int, ...]
    """Numbers of channels that the kernels support."""
    forward: int
    """Largest number of bytes that one channel of a tile takes, in the forward pass."""
    backward: int
    """The same in the backward pass."""
    heads: int
    """Largest number of heads in a program."""
    positions: int
    """Largest number of positions of an image, and of all images of one program of `_over_images`
    together."""
    columns: int
    """Largest number of columns of a head's kernel in a program of `_over_images`."""
    programs: int
    """Desired number of programs of `_over_images`; the batch is split to reach it."""
    params: Any
    """Parameters of the compiler."""


TARGETS = {
    # Compiled by Triton 3.4 at 128 channels, the forward pass takes 48 and 80 KiB of shared memory
    # (bfloat16, float32), the backward pass at most 66 and 84. Backward tiles are smaller, and the
    # kernel's columns are halved, because registers are full: with all 128 columns `_kernel_body`
    # spills 80 to 776 bytes a thread at compute capability 8.0, with 64 nothing, nor at 9.0. 264 is
    # two programs for each multiprocessor of an H100.
    "cuda": Target(
        channels=(16, 32, 64, 128),
        forward=128,
        backward=64,
        heads=sys.maxsize,
        positions=sys.maxsize,
        columns=64,
        programs=264,
        params=triton.CompilerParams(num_warps=8, num_stages=1),
    ),
    # Channels fill the 128 lanes of a vector. The other limits keep the blocks, each of which is
    # held twice, within half of the 16 MB of VMEM.
    "tpu": Target(
        channels=(128, 256),
        forward=512,
        backward=512,
        heads=8,
        positions=2048,
        columns=sys.maxsize,
        programs=1,
        params=mosaic.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    ),
}


def fits(features: Array, kernel: Array, n: Array | None, platform: str) -> bool:
    """True if a platform's kernels support arrays of these shapes and types."""
    _, positions, channels = features.shape
    target = TARGETS[platform]
    return (
        features.dtype in (jnp.float32, jnp.bfloat16)
        and channels in target.channels
        and positions % LEAST == 0
        and positions <= target.positions
        and all(x is None or x.size > 0 for x in (features, kernel, n))
    )


@functools.cache
def accepted(platform: str) -> bool:
    """False, with a warning, if libtpu is too old for kernels that this version of jax lowers.

    Each version of jax asks for one of libtpu, and older ones refuse its kernels: Colab's 0.0.21.1
    those of jax 0.7.2 ("Unsupported version: expected <= 7 but got 8"), which asks for 0.0.23.
    """
    try:
        installed = metadata.version("libtpu") if platform == "tpu" else None
    except metadata.PackageNotFoundError:  # The kernels are only lowered here.
        return True
    wanted = re.search(r"libtpu==([\d.]+\d)", " ".join(metadata.requires("jax") or []))
    if not installed or not wanted or _numbers(installed) >= _numbers(wanted[1]):
        return True
    print(
        f"warning: libtpu {installed} is older than {wanted[1]}, which jax {jax.__version__} asks "
        "for, so attention pooling runs without its TPU kernels",
        file=sys.stderr,
    )
    return False


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def kernel_sums(
    features: Float[Array, "batch position channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "curve batch attribute channel"] | None,
    *,
    platform: str,
    interpret: Any = False,
) -> tuple[Float[Array, "curve batch attribute channel"], Float[Array, "batch attribute channel"]]:
    """Computes the same as `tiled.tiled_sums`, for arrays that `fits` accepts.

    With `interpret`, the kernels run on any platform.
    """
    arrays = _arrays(features, kernel, bias, n, None)
    rows = 2 if n is None else len(n) + 1
    target = TARGETS[platform]
    tile = _tile(features, target.forward)
    [sums] = _over_heads(_sums_body, arrays, rows, tile, target, interpret, also=False)
    return sums[:-1], sums[-1]


def kernel_derivatives(features, kernel, bias, n, to_sums, to_masks, *, platform, interpret=False):
    """Computes the same as `tiled.tiled_derivatives`, for arrays that `fits` accepts."""
    target = TARGETS[platform]
    arrays = _arrays(features, kernel, bias, n, jnp.concatenate([to_sums, to_masks[None]]))
    rows = 1 if n is None else len(n) + 1
    tile = _tile(features, target.backward)
    sums, to_features = _over_heads(
        _features_body, arrays, rows, tile, target, interpret, also=True
    )
    to_kernel = _over_images(_kernel_body, arrays, tile, target, interpret)
    return (
        to_features.astype(features.dtype),
        to_kernel.astype(kernel.dtype),
        jnp.sum(sums[-1], axis=0).astype(bias.dtype),
        None if n is None else sums[:-1].astype(n.dtype),
    )


def _arrays(features, kernel, bias, n, to) -> Operands:
    n, to = (None if x is None else jnp.moveaxis(x, 0, 2) for x in (n, to))
    return Operands(features, kernel.astype(features.dtype), bias[:, None], n, to)


def _over_heads(body, arrays: Operands, rows: int, tile: int, target: Target, interpret, *, also):
    """Runs a program for each tile of an image's positions and each group of heads.

    Returns the rows that `body` writes for each head, summed over tiles: (row, batch, attribute,
    channel). With `also`, it then returns the array that `body` writes for each position: (batch,
    position, channel).
    """
    batch, positions, channels = arrays.features.shape
    attributes = len(arrays.kernel)
    tiles, heads = positions // tile, _divisor(attributes, target.heads)
    blocks = _blocks(arrays, 1, tile, heads, lambda b, t, h: (b, t, h, 0))
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


def _over_images(body, arrays: Operands, tile: int, target: Target, interpret) -> Array:
    """Runs a program for each head, group of columns of its kernel, and group of images.

    Returns the array that `body` writes for each head, summed over images: (attribute, channel,
    channel).
    """
    batch, positions, channels = arrays.features.shape
    attributes = len(arrays.kernel)
    columns = min(channels, target.columns)
    groups = channels // columns
    splits = _divisor(batch, max(1, target.programs // (attributes * groups)))
    images = _divisor(batch // splits, max(1, target.positions // positions))
    steps = batch // splits // images

    def head(k):  # Mosaic lowers no division without a TPU.
        return (k, 0) if groups == 1 else (k // groups, k % groups)

    def part_at(k, s, i):
        k, group = head(k)
        return s, k, 0, group

    at = lambda k, s, i: (s * steps + i, 0, *head(k))  # noqa: E731
    part = pl.BlockSpec((1, 1, channels, columns), part_at)
    parts = pl.pallas_call(
        functools.partial(body, tile=tile, groups=groups),
        grid=(attributes * groups, splits, steps),
        in_specs=[_blocks(arrays, images, positions, 1, at, columns)],
        out_specs=part,
        out_shape=jax.ShapeDtypeStruct((splits, *arrays.kernel.shape), jnp.float32),
        compiler_params=target.params,
        interpret=interpret,
    )(arrays)
    return jnp.sum(parts, axis=0)


def _blocks(
    arrays: Operands, images: int, positions: int, heads: int, at, columns: int | None = None
) -> Operands:
    """Block specifications; `at` maps grid indices to the block's image, position, head and group
    of columns."""
    channels = arrays.features.shape[-1]
    columns = columns or channels

    def block(shape, index):
        return pl.BlockSpec(shape, lambda *grid: index(*at(*grid)))

    def small(x):
        shape = None if x is None else (images, heads, x.shape[2], columns)
        return shape and block(shape, lambda i, p, k, c: (i, k, 0, c))

    return Operands(
        features=block((images, positions, channels), lambda i, p, k, c: (i, p, 0)),
        kernel=block((heads, channels, columns), lambda i, p, k, c: (k, 0, c)),
        bias=block((heads, 1, columns), lambda i, p, k, c: (k, 0, c)),
        n=small(arrays.n),
        to=small(arrays.to),
    )


def _tile(features: Array, most: int) -> int:
    """Number of positions in a tile: a power of two that divides the positions of an image.

    One channel of the tile takes at most `most` bytes.
    """
    return math.gcd(features.shape[1], most // features.dtype.itemsize)


def _divisor(size: int, most: int) -> int:
    """Largest divisor of a size that is at most `most`."""
    return next(x for x in range(min(size, most), 0, -1) if size % x == 0)


# The bodies: each is one program of a kernel, and ends by writing its results. Their arguments are
# references to blocks; a block has the same axes as its array in `Operands`.


def _sums_body(arrays: Operands, sums):
    """Writes for each head the sums over a tile: h(M; n) f, one row for each curve, then M."""
    f = arrays.features[0]
    wide = f.astype(jnp.float32)

    def head(k, _):
        z, n = _logits(f, arrays, k), _rows(arrays.n, 0, k)
        if n is None:
            mask = mask_powers.sigmoid(z)
            curved = [mask]
        else:
            m = mask_powers.masks(z)
            mask = m.mask
            curved = [contrast_of_powers(m, mask_powers.tail(m, each)) for each in n]
        _write(sums, k, [*(each * wide for each in curved), mask])

    lax.fori_loop(0, len(arrays.kernel), head, None)


def _features_body(arrays: Operands, sums, to_features):
    """Writes the derivatives with respect to a tile's features, and for each head the sums over the
    tile of the derivatives with respect to each n, then z."""
    f = arrays.features[0]

    def head(k, total):
        to_z, direct, to_n = _derivatives(f, f, arrays, 0, k)
        _write(sums, k, [*to_n, to_z])
        return total + direct + _product(to_z.astype(f.dtype), arrays.kernel[k], over=(1, 1))

    to_features[0] = lax.fori_loop(0, len(arrays.kernel), head, _so_far(to_features, 0))


def _kernel_body(arrays: Operands, to_kernel, *, tile: int, groups: int):
    """Writes the derivative with respect to some columns of one head's kernel, summed over all
    positions of some images."""
    images, positions, channels = arrays.features.shape
    columns = channels // groups
    first = None if groups == 1 else pl.program_id(0) % groups * columns

    def some_images(image, total):
        def some_positions(i, total):
            rows = pl.ds(i * tile, tile)
            f = arrays.features[image, rows, :]
            part = f if groups == 1 else arrays.features[image, rows, pl.ds(first, columns)]
            to_z, _, _ = _derivatives(f, part, arrays, image, 0)
            return total + _product(f, to_z.astype(f.dtype), over=(0, 0))

        return lax.fori_loop(0, positions // tile, some_positions, total)

    to_kernel[0, 0] = lax.fori_loop(0, images, some_images, _so_far(to_kernel, 0, 0))


def _derivatives(f: Array, part: Array, arrays: Operands, image: Array | int, k: Array | int):
    """Derivatives at each position with respect to the logits z, to f at fixed z, and to each n.

    `part` holds the channels of f whose masks the kernel's columns give.
    """
    wide = part.astype(jnp.float32)
    z, n = _logits(f, arrays, k), _rows(arrays.n, image, k)
    *to_sums, to_masks = _rows(arrays.to, image, k)
    if n is None:
        mask = mask_powers.sigmoid(z)
        return (to_sums[0] * wide + to_masks) * (mask - mask * mask), to_sums[0] * mask, []
    m = mask_powers.masks(z)
    tails = [mask_powers.tail(m, each) for each in n]
    each = list(zip(to_sums, tails, n, strict=True))
    slopes = sum(d * mask_powers.slope(m, t, power) for d, t, power in each)
    to_z = wide * slopes + to_masks * (m.high - m.high * m.high)
    direct = sum(d * contrast_of_powers(m, t) for d, t, _ in each)
    return to_z, direct, [d * wide * mask_powers.slope_in_n(m, t) for d, t, _ in each]


def _logits(f: Array, arrays: Operands, k: Array | int) -> Array:
    # The kernel is read again at each use: kept during the loop, it would fill a GPU's registers.
    return _product(f, arrays.kernel[k]) + arrays.bias[k]


def _product(x: Array, y: Array, over: tuple[int, int] = (1, 0)) -> Array:
    """Matrix product, summed over an axis of each factor, in float32."""
    axes = ((over[0],), (over[1],)), ((), ())
    return lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)


def _rows(ref: Any, image: Array | int, k: Array | int) -> list[Array] | None:
    """Rows of an image and head, each (1, channel)."""
    if ref is None:
        return None
    return [ref[image, k, pl.ds(row, 1), :] for row in range(ref.shape[2])]


def _write(sums: Any, k: Array, rows: list[Array]) -> None:
    """Writes the sum of each array over positions as a row of head k."""
    for row, x in enumerate(rows):
        sums[0, 0, k, pl.ds(row, 1), :] = jnp.sum(x, axis=0, keepdims=True)


def _so_far(ref: Any, *index: int) -> Array:
    """Sum written so far by the earlier programs of the grid's last axis; 0 for the first one."""
    if pl.num_programs(2) == 1:
        return jnp.zeros(ref.shape[len(index) :], ref.dtype)
    return jnp.where(pl.program_id(2) > 0, ref[index], 0)
