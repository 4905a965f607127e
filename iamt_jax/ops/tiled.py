"""Curved sums in tiles, on any XLA device, with a handwritten backward pass.

A curved sum is the sum over positions of h(M; n) f, the masked features under a tone curve. A tile
covers a few images and a few heads: one matrix product and the operations on its result, small
enough to stay in a CPU's cache, on other platforms larger. The layout is chosen for XLA's CPU code:

- All heads of a tile lie side by side in the last axis ("wide"). A wider product is faster, and XLA
  does not vectorise an elementwise loop whose result is reshaped across its last axes, which makes
  it 6 times slower (docs/performance.md).
- A sum over positions is a matrix product with ones, since XLA does not vectorise a reduction that
  is fused with its input.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from iamt_jax.ops import mask_powers
from iamt_jax.ops.mask_powers import contrast_of_powers


class Limits(NamedTuple):
    """Largest size of a tile."""

    heads: int
    """Heads in a tile."""
    rows: int
    """Positions in a tile, summed over its images; an image is never split."""


class Tiles(NamedTuple):
    """Division of images and attributes into tiles.

    The last tiles are padded with zeros, which add nothing to any sum.
    """

    images: int
    """Images in a tile."""
    batches: int
    """Tiles along the batch."""
    heads: int
    """Heads in a tile."""
    blocks: int
    """Tiles along the attributes."""

    @classmethod
    def of(cls, batch: int, positions: int, attributes: int, limits: Limits) -> Tiles:
        """Chooses tiles of equal size within the limits."""
        blocks = -(-attributes // limits.heads)
        heads = -(-attributes // blocks)
        if not isinstance(batch, int):  # An exported program of any batch size uses one tile.
            return cls(batch, 1, heads, blocks)
        batches = -(-batch // max(1, limits.rows // positions))
        return cls(-(-batch // batches), batches, heads, blocks)

    def features(self, x: Array) -> Array:
        """(image, position, channel) -> (batches, images x positions, channel)."""
        x = _filled(x, 0, self.images * self.batches)
        return x.reshape(self.batches, -1, x.shape[-1])

    def kernel(self, x: Array) -> Array:
        """(attribute, channel, channel) -> (blocks, channel, heads x channel)."""
        channels = x.shape[-1]
        x = _filled(x, 0, self.heads * self.blocks)
        x = x.reshape(self.blocks, self.heads, channels, channels)
        return x.swapaxes(1, 2).reshape(self.blocks, channels, -1)

    def bias(self, x: Array) -> Array:
        """(attribute, channel) -> (blocks, heads x channel)."""
        return _filled(x, 0, self.heads * self.blocks).reshape(self.blocks, -1)

    def pooled(self, x: Array) -> Array:
        """(..., image, attribute, channel) -> (batches, blocks, ..., images, heads x channel)."""
        channels = x.shape[-1]
        x = _filled(x, -3, self.images * self.batches)
        x = _filled(x, -2, self.heads * self.blocks)
        lead = x.shape[:-3]
        x = x.reshape(*lead, self.batches, self.images, self.blocks, self.heads * channels)
        return jnp.moveaxis(x, (-4, -2), (0, 1))

    def kernel_back(self, x: Array, attributes: int) -> Array:
        """Inverse of `kernel`, without the padding."""
        channels = x.shape[1]
        x = x.reshape(self.blocks, channels, self.heads, channels).swapaxes(1, 2)
        return x.reshape(-1, channels, channels)[:attributes]

    def pooled_back(self, x: Array, batch: int, attributes: int) -> Array:
        """Inverse of `pooled`, without the padding."""
        x = jnp.moveaxis(x, (0, 1), (-4, -2))
        lead, channels = x.shape[:-4], x.shape[-1] // self.heads
        x = x.reshape(*lead, self.batches * self.images, -1, channels)
        return x[..., :batch, :attributes, :]


def _filled(x: Array, axis: int, size: int) -> Array:
    """Pads the end of an axis with zeros, up to a size."""
    if size == x.shape[axis]:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, widths)


def tiled_sums(
    features: Float[Array, "batch position channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "curve batch attribute channel"] | None,
    *,
    limits: Limits,
) -> tuple[Float[Array, "curve batch attribute channel"], Float[Array, "batch attribute channel"]]:
    """Sums over positions: h(M; n) f (Eq. 8) for each curve, and the masks M.

    The first axis of n is the curve: each value along it gives one tone curve for every image,
    attribute and channel. With n = None there is one curve, n = 1, for which h(M; 1) = M; this case
    computes no power.

    Returns:
      The sums of h(M; n) f, with the axis of curves first, and the sums of M; float32.
    """
    batch, positions, _ = features.shape
    tiles = Tiles.of(batch, positions, len(kernel), limits)
    heads = tiles.kernel(kernel.astype(features.dtype)), tiles.bias(bias)

    def some_images(_, inputs):
        x, n = inputs
        wide = jnp.tile(x.astype(jnp.float32), (1, tiles.heads))

        def some_heads(_, inputs):
            kernel, bias, n = inputs
            z = _product(x, kernel) + bias
            total = lambda y: _positions_summed(y, tiles.images)  # noqa: E731
            if n is None:
                mask = mask_powers.sigmoid(z)
                return None, (total(mask * wide)[None], total(mask))
            m = mask_powers.masks(_by_image(z, tiles.images))
            f = _by_image(wide, tiles.images)
            sums = [
                total(contrast_of_powers(m, mask_powers.tail(m, each[:, None])) * f) for each in n
            ]
            return None, (jnp.stack(sums), total(m.mask))

        return None, lax.scan(some_heads, None, (*heads, n))[1]

    n = None if n is None else tiles.pooled(n)
    _, sums = lax.scan(some_images, None, (tiles.features(features), n))
    return tuple(tiles.pooled_back(x, batch, len(kernel)) for x in sums)


def tiled_derivatives(features, kernel, bias, n, to_sums, to_masks, *, limits: Limits):
    """Derivatives with respect to features, kernel, bias and n.

    `to_sums` and `to_masks` are the derivatives with respect to the two results of `tiled_sums`.
    The masks are computed again, so nothing but the inputs is kept from the forward pass.
    """
    batch, positions, channels = features.shape
    tiles = Tiles.of(batch, positions, len(kernel), limits)
    images = tiles.images
    weights, offsets = tiles.kernel(kernel.astype(features.dtype)), tiles.bias(bias)

    def some_images(carry, inputs):
        x, n, to_sums, to_masks = inputs
        wide = _by_image(jnp.tile(x.astype(jnp.float32), (1, tiles.heads)), images)

        def some_heads(to_features, inputs):
            weights, offsets, n, to_sums, to_masks, to_weights, to_offsets = inputs
            z = _by_image(_product(x, weights) + offsets, images)
            to_sums, to_masks = to_sums[:, :, None], to_masks[:, None]
            if n is None:
                mask = mask_powers.sigmoid(z)
                to_z = (to_sums[0] * wide + to_masks) * (mask - mask * mask)
                direct, to_n = to_sums[0] * mask, None
            else:
                m, n = mask_powers.masks(z), n[:, :, None]
                tails = [mask_powers.tail(m, each) for each in n]
                each = list(zip(to_sums, tails, n, strict=True))
                slopes = sum(d * mask_powers.slope(m, t, power) for d, t, power in each)
                to_z = wide * slopes + to_masks * (m.high - m.high * m.high)
                direct = sum(d * contrast_of_powers(m, t) for d, t, _ in each)
                moved = [
                    _positions_summed(wide * mask_powers.slope_in_n(m, t), images) for t in tails
                ]
                to_n = to_sums[:, :, 0] * jnp.stack(moved)
            to_z = to_z.reshape(len(x), -1).astype(x.dtype)
            heads = jnp.split(direct, tiles.heads, axis=-1)
            to_features += _product(to_z, weights.T) + sum(heads).reshape(x.shape)
            to_weights += _product(x.T, to_z)
            to_offsets += _product(jnp.ones((1, len(x)), x.dtype), to_z)[0]
            return to_features, (to_weights, to_offsets, to_n)

        start = jnp.zeros(x.shape, jnp.float32)
        inputs = weights, offsets, n, to_sums, to_masks, *carry
        to_features, (*carry, to_n) = lax.scan(some_heads, start, inputs)
        return tuple(carry), (to_features, to_n)

    start = jnp.zeros(weights.shape, jnp.float32), jnp.zeros(offsets.shape, jnp.float32)
    inputs = (
        tiles.features(features),
        None if n is None else tiles.pooled(n),
        tiles.pooled(to_sums),
        tiles.pooled(to_masks),
    )
    (to_kernel, to_bias), (to_features, to_n) = lax.scan(some_images, start, inputs)
    return (
        to_features.reshape(-1, positions, channels)[:batch].astype(features.dtype),
        tiles.kernel_back(to_kernel, len(kernel)).astype(kernel.dtype),
        to_bias.reshape(-1, channels)[: len(bias)].astype(bias.dtype),
        None if n is None else tiles.pooled_back(to_n, batch, len(kernel)).astype(n.dtype),
    )


def _product(x: Array, y: Array) -> Array:
    return jnp.dot(x, y, preferred_element_type=jnp.float32)


def _by_image(x: Array, images: int) -> Array:
    """(images x positions, channel) -> (images, positions, channel)."""
    return x.reshape(images, -1, x.shape[-1])


def _positions_summed(x: Array, images: int) -> Array:
    """Sums over positions: (images x positions, channel) -> (images, channel).

    The input may also have the shape (images, positions, channel).
    """
    x = _by_image(x, images)
    return jnp.einsum("ipc,op->ioc", x, jnp.ones((1, x.shape[1]), x.dtype))[:, 0]
