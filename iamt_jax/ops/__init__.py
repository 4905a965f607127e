"""Attention pooling: features and head parameters in, pooled masked features out.

The masks of all K heads are by far the largest tensor of the method. They are never written to
memory: they are computed tile by tile, and computed again on the way back.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from iamt_jax.ops import dispatch


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

    Exact derivatives in everything, finite also where masks saturate.

    Args:
      features: f, float32 or bfloat16; products run in it and are accumulated in float32.
      kernel: the heads' 1x1 convolutions, W^k, float32.
      bias: a^k, float32.
      n: tone curve's power, n >= 0, broadcastable to (batch, attribute, channel); None is 1, and
        saves the power.
      beta: tone curve's offset, likewise; None is 0, as in training.

    Returns:
      Pooled features (float32), and the sum of each mask M^k (before the curve) over positions
      and channels (float32).
    """
    shape = (features.shape[0], *bias.shape)
    if n is not None:
        n = jnp.broadcast_to(jnp.asarray(n, jnp.float32), shape)[None]
    sums, masks = _sums(features, kernel, bias, n)
    plain = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)[:, None]
    bent = sums[0] / _positions(features)
    if beta is None:
        return plain + bent, jnp.sum(masks, axis=-1)
    beta = jnp.asarray(beta, jnp.float32)
    pooled = (1 - beta) * plain + (1 + beta) * bent
    return pooled, jnp.sum(masks, axis=-1)


def pool_powers(
    features: Float[Array, "batch height width channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n_values: Float[Array, " n"],
) -> Float[Array, "n batch attribute channel"]:
    """Means over positions of h(M; n) f for several n; masks are computed once.

    With them every tone curve is known: g is affine in beta, and so
    pooled((1 + g) f) = (1 - beta) mean(f) + (1 + beta) mean(h(M; n) f).
    """
    n = jnp.asarray(n_values, jnp.float32)[:, None, None, None]
    n = jnp.broadcast_to(n, (len(n), features.shape[0], *bias.shape))
    return _sums(features, kernel, bias, n)[0] / _positions(features)


def _positions(features: Array) -> int:
    return features.shape[1] * features.shape[2]


def _sums(features: Array, kernel: Array, bias: Array, n: Array | None) -> tuple[Array, Array]:
    flat = features.reshape(features.shape[0], -1, features.shape[-1])
    return curved_sums(flat, kernel, bias, n)


@jax.custom_vjp
def curved_sums(
    features: Float[Array, "batch position channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "curve batch attribute channel"] | None,
) -> tuple[Float[Array, "curve batch attribute channel"], Float[Array, "batch attribute channel"]]:
    """Sums over positions of h(M; n) f, one a curve, and of M; all else is linear in them.

    None in the place of n is one curve, h(M) = M.
    """
    return dispatch.forward(features, kernel, bias, n)


def _forward(features, kernel, bias, n):
    return curved_sums(features, kernel, bias, n), (features, kernel, bias, n)


def _backward(saved, derivatives):
    return dispatch.backward(*saved, *derivatives)


curved_sums.defvjp(_forward, _backward)
