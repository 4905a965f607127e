"""Eq. 8 computed from the mask's logit z, with its derivatives: the fast form.

`model.tone_curve.contrast` is the plain form. Starting from the logit loses nothing where a mask
saturates: `1 - sigmoid(z)` is 0 in float32 beyond z = 17, but its logarithm is finite.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_LOG2E = float(np.log2(np.e))
_LN2 = float(np.log(2))

SATURATED = 700.0
"""Logit beyond which a mask is exactly 0 or 1, about where float64 rounds it."""


class Masks(NamedTuple):
    """Masks, and the terms that every power of them shares."""

    positive: Float[Array, "..."]
    """True where M >= 0.5."""
    high: Float[Array, "..."]
    """max(M, 1 - M)."""
    log2: Float[Array, "..."]
    """log2(2 min(M, 1 - M)), at most 0, finite."""
    inside: Float[Array, "..."]
    """True where the mask is not saturated."""

    @property
    def mask(self) -> Float[Array, "..."]:
        """M, in [0, 1]."""
        return jnp.where(self.positive, self.high, 1 - self.high)


def sigmoid(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic function by one tanh, which is faster on XLA's CPU than its own sigmoid."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * z)


def masks(z: Float[Array, "..."]) -> Masks:
    """Masks of the logits z, float32; each power of them then costs one exp2."""
    size = jnp.abs(z)
    cut = jnp.minimum(size, SATURATED)
    small = jnp.exp(-cut)
    return Masks(
        positive=z >= 0,
        high=1 / (1 + small),
        # Rounding may leave it above 0, and a large power would make that large.
        log2=jnp.minimum(1 - cut * _LOG2E - jnp.log2(1 + small), 0),
        inside=size < SATURATED,
    )


def tail(m: Masks, n: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""`(2 min(M, 1 - M))^n / 2`, which gives h (Eq. 8) and both its derivatives.

    .. math::
      t = (2m)^n / 2, \quad m = \min(M, 1 - M): \qquad
      h = t \text{ or } 1 - t, \quad
      \partial h / \partial z = n t \max(M, 1 - M), \quad
      \partial h / \partial n = \pm t \log(2m)
    """
    return 0.5 * jnp.exp2(n * m.log2)


def contrast_of_powers(m: Masks, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """h(M; n) of Eq. 8, given `t = tail(m, n)`."""
    return jnp.where(m.positive, 1 - t, t)


def slope(m: Masks, t: Float[Array, "..."], n: Float[Array, "..."]) -> Float[Array, "..."]:
    """Derivative of h in the logit, given `t = tail(m, n)`."""
    return n * t * m.high


def slope_in_n(m: Masks, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """Derivative of h in n, given `t = tail(m, n)`; 0 where the mask is saturated."""
    bent = jnp.where(m.inside, _LN2 * t * m.log2, 0)
    return jnp.where(m.positive, -bent, bent)
