"""What one program of each Pallas kernel does, for GPU (Triton) and TPU (Mosaic) alike.

A reference to a block has the axes of its array in `Arrays`; each body ends with what it writes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array

from iamt_jax.ops import mask_powers


class Arrays(NamedTuple):
    """What a kernel reads: whole arrays, their block specifications, or references to blocks."""

    features: Any
    """(batch, position, channel)."""
    kernel: Any
    """(attribute, channel, channel), in the features' type."""
    bias: Any
    """(attribute, 1, channel)."""
    n: Any
    """(batch, attribute, curve, channel), or None."""
    to: Any
    """(batch, attribute, curve + 1, channel), derivatives in all sums, masks last; or None."""


def forward(arrays: Arrays, sums):
    """Sums of h(M; n) f over a tile's positions, one row a curve, and of M; for each head."""
    f = arrays.features[0]
    wide = f.astype(jnp.float32)

    def head(k, _):
        z, n = _logits(f, arrays, k), _rows(arrays.n, 0, k)
        if n is None:
            mask = mask_powers.sigmoid(z)
            bent = [mask]
        else:
            m = mask_powers.masks(z)
            mask = m.mask
            bent = [mask_powers.contrast(m, mask_powers.tail(m, each)) for each in n]
        _write(sums, k, [*(each * wide for each in bent), mask])

    lax.fori_loop(0, len(arrays.kernel), head, None)


def backward_features(arrays: Arrays, sums, to_features):
    """A tile's derivatives in features; sums of those in n and in the logits, for each head."""
    f = arrays.features[0]

    def head(k, total):
        to_z, direct, to_n = _derivatives(f, arrays, 0, k)
        _write(sums, k, [*to_n, to_z])
        return total + direct + _product(to_z.astype(f.dtype), arrays.kernel[k], over=(1, 1))

    to_features[0] = lax.fori_loop(0, len(arrays.kernel), head, _so_far(to_features, 0))


def backward_kernel(arrays: Arrays, to_kernel, *, tile: int):
    """Derivatives in one head's kernel, from all positions of some images."""
    images, positions, _ = arrays.features.shape

    def some_images(image, total):
        def some_positions(i, total):
            f = arrays.features[image, pl.ds(i * tile, tile), :]
            to_z, _, _ = _derivatives(f, arrays, image, 0)
            return total + _product(f, to_z.astype(f.dtype), over=(0, 0))

        return lax.fori_loop(0, positions // tile, some_positions, total)

    to_kernel[0, 0] = lax.fori_loop(0, images, some_images, _so_far(to_kernel, 0, 0))


def _derivatives(f: Array, arrays: Arrays, image: Array | int, k: Array | int):
    """Derivatives, at each position, in the logits, in f (not through them) and in each n."""
    wide = f.astype(jnp.float32)
    z, n = _logits(f, arrays, k), _rows(arrays.n, image, k)
    *to_sums, to_masks = _rows(arrays.to, image, k)
    if n is None:
        mask = mask_powers.sigmoid(z)
        return (to_sums[0] * wide + to_masks) * (mask - mask * mask), to_sums[0] * mask, []
    m = mask_powers.masks(z)
    tails = [mask_powers.tail(m, each) for each in n]
    each = list(zip(to_sums, tails, n, strict=True))
    bent = sum(d * mask_powers.slope(m, t, power) for d, t, power in each)
    to_z = wide * bent + to_masks * (m.high - m.high * m.high)
    direct = sum(d * mask_powers.contrast(m, t) for d, t, _ in each)
    return to_z, direct, [d * wide * mask_powers.slope_in_n(m, t) for d, t, _ in each]


def _logits(f: Array, arrays: Arrays, k: Array | int) -> Array:
    # The kernel is read where it is used: held over a loop, it would fill a GPU's registers.
    return _product(f, arrays.kernel[k]) + arrays.bias[k]


def _product(x: Array, y: Array, over: tuple[int, int] = (1, 0)) -> Array:
    """The product summed over an axis of each factor, in float32."""
    axes = ((over[0],), (over[1],)), ((), ())
    return lax.dot_general(x, y, axes, preferred_element_type=jnp.float32)


def _rows(ref: Any, image: Array | int, k: Array | int) -> list[Array] | None:
    """The rows, each (1, channel), of an image and head."""
    if ref is None:
        return None
    return [ref[image, k, pl.ds(row, 1), :] for row in range(ref.shape[2])]


def _write(sums: Any, k: Array, rows: list[Array]) -> None:
    """Writes each array's sum over positions as a row of head k."""
    for row, x in enumerate(rows):
        sums[0, 0, k, pl.ds(row, 1), :] = jnp.sum(x, axis=0, keepdims=True)


def _so_far(ref: Any, *index: int) -> Array:
    """The sum that earlier programs of the grid's last axis left in a block; 0 for the first."""
    if pl.num_programs(2) == 1:
        return jnp.zeros(ref.shape[len(index) :], ref.dtype)
    return jnp.where(pl.program_id(2) > 0, ref[index], 0)
