"""Eq. 8 and its derivatives, computed from the mask's logit z.

`model.tone_curve.contrast` computes Eq. 8 from the mask itself. Computing from the logit is faster,
and keeps its precision where a mask saturates: beyond z = 17, `1 - sigmoid(z)` rounds to 0 in
float32, but its logarithm computed from z is finite.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_LOG2E = float(np.log2(np.e))
_LN2 = float(np.log(2))

SATURATED = 700.0
"""Absolute value of the logit beyond which a mask counts as exactly 0 or 1; float64 rounds masks to
0 near it."""


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
    """Logistic function, computed by one tanh; on CPUs this is faster than XLA's own sigmoid."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * z)


def masks(z: Float[Array, "..."]) -> Masks:
    """Masks of the logits z, float32. Each power of them then costs one exp2."""
    size = jnp.abs(z)
    cut = jnp.minimum(size, SATURATED)
    small = jnp.exp(-cut)
    return Masks(
        positive=z >= 0,
        high=1 / (1 + small),
        # Rounding may give a value just above 0, which a large n would make large.
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
    """Derivative of h with respect to the logit z, given `t = tail(m, n)`."""
    return n * t * m.high


def slope_in_n(m: Masks, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """Derivative of h with respect to n, given `t = tail(m, n)`; 0 where the mask is saturated."""
    tail_slope = jnp.where(m.inside, _LN2 * t * m.log2, 0)
    return jnp.where(m.positive, -tail_slope, tail_slope)
