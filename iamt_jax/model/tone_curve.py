"""The tone curve (Eq. 7 and 8): pure functions of a mask.

`ops/mask_powers.py` holds the form of Eq. 8 that the heads compute, from the mask's logit.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def contrast(mask: Float[Array, "..."], n: Float[Array, "..."] | float) -> Float[Array, "..."]:
    r"""Contrast h of Eq. 8: an S-shaped curve for n > 1, a flatter one for n < 1.

    It is symmetric about 0.5.

    .. math::
      h(M; n) = \begin{cases} (2M)^n / 2 & M < 0.5 \\ 1 - (2 (1 - M))^n / 2 & \text{else}
      \end{cases}
      \qquad \text{(Eq. 8)}

    Args:
      mask: values in [0, 1], any shape and float dtype.
      n: power, n >= 0, broadcastable to `mask`; 1 is the identity, 0 gives 0.5 everywhere.

    Returns:
      h in [0, 1], in the mask's shape. Gradients are finite everywhere: where min(M, 1 - M) is 0,
      the derivative in n is 0, and for n < 1 so is the derivative in M (its limit is infinite, but
      a saturated sigmoid has gradient 0).
    """
    n = _in_type_of(mask, n)
    low = jnp.minimum(mask, 1 - mask)
    # For n < 1 the power of exactly 0 has an infinite derivative; 0.5 takes its place.
    safe = jnp.where(low > 0, low, 0.5)
    tail = jnp.where(low > 0, 0.5 * (2 * safe) ** n, jnp.where(n == 0, 0.5, 0.0))
    return jnp.where(mask < 0.5, tail, 1 - tail)


def tone_curve(
    mask: Float[Array, "..."], n: Float[Array, "..."] | float, beta: Float[Array, "..."] | float
) -> Float[Array, "..."]:
    r"""Tone curve g of Eq. 7, the paper's intentional transformation of a mask.

    .. math:: g(M; n, \beta) = (1 + \beta) \, h(M; n) - \beta \qquad \text{(Eq. 7)}

    Args:
      mask: values in [0, 1], any shape and float dtype.
      n: power, n >= 0, broadcastable to `mask`.
      beta: offset, 0 <= beta <= 1, broadcastable to `mask`; at beta = 1, g is -1 where the mask is
        0, so that (1 + g) f removes the feature.

    Returns:
      g in [-beta, 1], in the mask's shape; n = 1, beta = 0 is the identity.

    Example:
      >>> import iamt_jax
      >>> import jax.numpy as jnp
      >>> mask = jnp.array([0.0, 0.25, 0.5, 1.0])
      >>> iamt_jax.tone_curve(mask, n=2.0, beta=0.0).tolist()
      [0.0, 0.125, 0.5, 1.0]
      >>> iamt_jax.tone_curve(mask, n=1.0, beta=1.0).tolist()
      [-1.0, -0.5, 0.0, 1.0]
    """
    beta = _in_type_of(mask, beta)
    return (1 + beta) * contrast(mask, n) - beta


def _in_type_of(mask: Float[Array, "..."], value: Float[Array, "..."] | float):
    """Converts a float64 array to float32, unless the mask is float64 too: where `jax_enable_x64`
    is set, arrays are float64 by default, and would widen all results."""
    if type(value) in (int, float):
        return value
    value = jnp.asarray(value)
    wide = value.dtype == jnp.float64 and jnp.result_type(mask) != jnp.float64
    return value.astype(jnp.float32) if wide else value
