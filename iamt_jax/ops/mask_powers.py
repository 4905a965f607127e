"""The tone curve's power as a function of a mask's logit, with its derivatives.

From the logit nothing is lost where a mask saturates: `1 - sigmoid(z)` is 0 in float32 beyond
z = 17, its logarithm is not.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LOG2E = float(np.log2(np.e))
LN2 = float(np.log(2))

SATURATED = 700.0
"""A mask with a logit beyond this is 0 or 1 exactly: about where float64 rounds it."""


class Masks(NamedTuple):
    """Masks and what every power of them needs."""

    positive: Float[Array, "..."]
    """Where M >= 0.5."""
    high: Float[Array, "..."]
    """max(M, 1 - M)."""
    log2: Float[Array, "..."]
    """log2(2 min(M, 1 - M)), at most 0, finite."""
    inside: Float[Array, "..."]
    """Where the mask is not saturated."""

    @property
    def mask(self) -> Float[Array, "..."]:
        return jnp.where(self.positive, self.high, 1 - self.high)


def sigmoid(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logistic function by one tanh, which XLA's CPU code computes faster than its own."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * z)


def masks(z: Float[Array, "..."]) -> Masks:
    """Masks of the logits z, float32; any power of them costs one exp2 more."""
    size = jnp.abs(z)
    cut = jnp.minimum(size, SATURATED)
    small = jnp.exp(-cut)
    return Masks(
        positive=z >= 0,
        high=1 / (1 + small),
        # Rounding may leave it above 0, which a large power would make large.
        log2=jnp.minimum(1 - cut * LOG2E - jnp.log2(1 + small), 0),
        inside=size < SATURATED,
    )


def tail(m: Masks, n: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""`(2 min(M, 1 - M))^n / 2`, from which h and both its derivatives follow.

    .. math::
      t = (2m)^n / 2, \quad m = \min(M, 1 - M): \qquad
      h = t \text{ or } 1 - t, \quad
      \partial h / \partial z = n t \max(M, 1 - M), \quad
      \partial h / \partial n = \pm t \log(2m)
    """
    return 0.5 * jnp.exp2(n * m.log2)


def contrast(m: Masks, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(M; n) of Eq. 8, from the tail."""
    return jnp.where(m.positive, 1 - t, t)


def slope(m: Masks, t: Float[Array, "..."], n: Float[Array, "..."]) -> Float[Array, "..."]:
    """The derivative of h in the logit."""
    return n * t * m.high


def slope_in_n(m: Masks, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """The derivative of h in n; 0 where the mask is saturated."""
    bent = jnp.where(m.inside, LN2 * t * m.log2, 0)
    return jnp.where(m.positive, -bent, bent)
