"""The network as StableHLO with its weights, for any batch, on any platform, n and beta free."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array, Float

from iamt_jax.model.network import IAMT
from iamt_jax.transformation.statistics import corrected
from iamt_jax.transformation.whole import Transformation, transform

PLATFORMS = ("cpu", "cuda", "tpu")
"""What the programs are lowered for; which of them runs is decided where they are called."""


def curve_program(network: IAMT, size: int) -> bytes:
    """`(images, n, beta) -> probabilities`, Eq. 9 and a sigmoid, in `jax.export`'s format.

    Images are float32 (batch, size, size, 3) in [0, 1] units (noise may leave them), n and beta
    float32 scalars, probabilities float32 (batch, attribute).
    """

    def run(network: IAMT, images: Array, n: Array, beta: Array) -> Array:
        return jax.nn.sigmoid(network.predict(images, n, beta))

    number = jax.ShapeDtypeStruct((), jnp.float32)
    return _exported(run, network, size, number, number)


def automatic_program(network: IAMT, size: int, transformation: Transformation) -> bytes:
    """`images -> (probabilities, sigma)`: each image under the calibrated transformation, and the
    noise that it was chosen for, float32 (batch,)."""
    transformation = jax.tree.map(np.asarray, transformation)

    def run(network: IAMT, images: Array) -> tuple[Array, Float[Array, " batch"]]:
        done = transform(images, transformation, jnp.full(images.shape[:1], jnp.nan))
        after_norm = corrected(done.correction)
        logits = network.predict(done.images, None, done.beta, after_norm)
        return jax.nn.sigmoid(logits), done.sigma

    return _exported(run, network, size)


def _exported(run: Callable, network: IAMT, size: int, *others: jax.ShapeDtypeStruct) -> bytes:
    definition, weights = nnx.split(network)
    # As constants: the file then needs nothing beside it, and a caller passes no weights.
    weights = jax.tree.map(np.asarray, nnx.to_pure_dict(weights))

    def whole(images: Array, *others: Array):
        return run(nnx.merge(definition, weights), images, *others)

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    lowered = export.export(jax.jit(whole), platforms=PLATFORMS)(images, *others)
    return bytes(lowered.serialize())
