"""Statistics of the normalisation layers, indexed by the degradation.

Noise shifts and widens what every layer sees. Its mean and variance a channel are measured on
degraded, unlabelled images, and moved back to those of clean ones, after the normalisation:
for BatchNorm that is the same as statistics of its own a noise level, and it serves GroupNorm
as well. No weight is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Extract = Callable[[Array, Callable[[str, Array], Array]], Array]
"""(images, what to do after each normalisation) -> features."""

Moments = dict[str, tuple[Float[Array, " channel"], Float[Array, " channel"]]]
"""Layer -> mean and mean square of each channel, over images and positions."""

Correction = dict[str, tuple[Float[Array, "... channel"], Float[Array, "... channel"]]]
"""Layer -> factor and summand of each channel; leading axes are levels, or images."""

EPSILON = 1e-6
"""Added to variances: a channel that is always 0 stays finite."""


def measure(extract: Extract, batches: Iterable[Array], target: Moments | None = None) -> Moments:
    """Moments after every normalisation, averaged over the images of all batches.

    With a `target`, each layer's output is moved to the target's moments before it goes on, so
    that a layer is measured on what it will see once those before it are corrected.
    """

    @jax.jit
    def run(images: Array) -> Moments:
        found = {}

        def look(name: str, x: Array) -> Array:
            found[name] = mean, square = _moments(x)
            if target is None:
                return x
            factor, summand = correction(target[name], (mean, square))
            return x * factor + summand

        extract(images, look)
        return found

    each, counts = zip(*((run(images), len(images)) for images in batches), strict=True)
    # The last batch may be short: its images weigh no more than the others.
    weights = np.array(counts, np.float32)
    return jax.tree.map(lambda *parts: np.average(parts, axis=0, weights=weights), *each)


def _moments(x: Float[Array, "batch height width channel"]) -> tuple[Array, Array]:
    x = x.astype(jnp.float32)
    return jnp.mean(x, (0, 1, 2)), jnp.mean(jnp.square(x), (0, 1, 2))


def correction(target: tuple[Array, Array], found: tuple[Array, Array]) -> tuple[Array, Array]:
    r"""Factor a and summand b that take the found moments to the target's.

    .. math:: a = \sqrt{(v_t + \epsilon) / (v_f + \epsilon)}, \qquad b = m_t - a \, m_f
    """
    (mean, square), (other, other_square) = target, found
    variance, other_variance = square - mean**2, other_square - other**2
    factor = jnp.sqrt((variance + EPSILON) / (other_variance + EPSILON))
    return factor, mean - factor * other


def corrections(target: Moments, found: Moments) -> Correction:
    """`correction` of every layer."""
    return {name: correction(target[name], found[name]) for name in target}


def corrected(correction: Correction) -> Callable[[str, Array], Array]:
    """What to do after each normalisation, for a batch with its own correction an image; a layer
    without one stays as it is."""

    def after_norm(name: str, x: Array) -> Array:
        if name not in correction:
            return x
        factor, summand = (part[:, None, None].astype(x.dtype) for part in correction[name])
        return x * factor + summand

    return after_norm
