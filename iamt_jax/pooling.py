"""Attention pooling: features and head parameters in, pooled masked features out.

The masks of all K heads are by far the largest tensor of the method, so they are never held at
once: heads go by in blocks, and the backward pass computes a block's masks again.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from iamt_jax.transformation.curve import tone_curve

HEADS_A_BLOCK = 5
"""Most heads computed together. On 2 AVX2 cores, 64 x 8x8 x 128 and K = 40, blocks of 1, 4, 5
and 8 heads took 189, 201, 168 and 263 ms, forward and backward (docs/log.md)."""


def attention_pool(
    features: Float[Array, "batch height width channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "..."] | None = None,
    beta: Float[Array, "..."] | None = None,
) -> tuple[Float[Array, "batch attribute channel"], Float[Array, "batch attribute"]]:
    r"""Pools `(1 + g(M; n, beta)) * features` over positions, and sums the masks.

    .. math::
      M^k = \mathrm{sigmoid}(f W^k + a^k), \qquad
      p^k = \frac{1}{HW} \sum_{hw} (1 + g(M^k; n, \beta))_{hw} f_{hw}

    Args:
      features: f, any float dtype; products run in it and are accumulated in float32.
      kernel: the heads' 1x1 convolutions, W^k, float32.
      bias: a^k, float32.
      n: tone curve's power, broadcastable to (batch, attribute, channel); None is 1, and saves
        the power.
      beta: tone curve's offset, likewise; None is 0, as in training.

    Returns:
      Pooled features (float32), and the sum of each mask M^k (before the curve) over positions
      and channels (float32).
    """
    attributes, channels = bias.shape
    block = max(g for g in range(1, HEADS_A_BLOCK + 1) if attributes % g == 0)
    batch = features.shape[0]
    flat = features.reshape(batch, -1, channels)

    def blocked(x: Array) -> Array:
        """(attribute, ...) -> (step, block, ...), for the scan."""
        return x.reshape(attributes // block, block, *x.shape[1:])

    heads = (blocked(kernel), blocked(bias))
    shape = (batch, attributes, channels)
    if n is not None:
        beta = 0.0 if beta is None else beta
        heads += tuple(blocked(jnp.broadcast_to(x, shape).swapaxes(0, 1)) for x in (n, beta))

    pool = jax.checkpoint(functools.partial(_pool_block, flat))
    _, (pooled, mask_l1) = jax.lax.scan(lambda _, head: (None, pool(*head)), None, heads)

    def joined(x: Array) -> Array:
        """(step, batch, block, ...) -> (batch, attribute, ...)."""
        return jnp.moveaxis(x, 0, 1).reshape(batch, attributes, *x.shape[3:])

    pooled = joined(pooled)
    if n is None and beta is not None:
        # pooled((1 + g) f) is affine in beta, so with h(M) = M no mask needs another pass.
        plain = jnp.mean(flat, axis=1, dtype=jnp.float32)[:, None]
        beta = jnp.broadcast_to(beta, shape)
        pooled = (1 - beta) * plain + (1 + beta) * (pooled - plain)
    return pooled, joined(mask_l1)


def _pool_block(features, kernel, bias, n=None, beta=None):
    """The heads of one block: one matrix product, then one fused pass over their masks."""
    block, channels = bias.shape
    batch, positions, _ = features.shape
    wide = kernel.swapaxes(0, 1).reshape(channels, block * channels).astype(features.dtype)
    z = jnp.dot(features.reshape(-1, channels), wide, preferred_element_type=jnp.float32)
    mask = jax.nn.sigmoid(z.reshape(batch, positions, block, channels) + bias)
    curved = mask
    if n is not None:
        curved = tone_curve(mask, n.swapaxes(0, 1)[:, None], beta.swapaxes(0, 1)[:, None])
    pooled = jnp.mean((1 + curved) * features[:, :, None], axis=1, dtype=jnp.float32)
    return pooled, jnp.sum(mask, axis=(1, 3))
