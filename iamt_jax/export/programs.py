"""The network as StableHLO with its weights, for any batch, on any platform, n and beta free."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array, Float

from iamt_jax.inference.predictor import probability
from iamt_jax.model.network import IAMT
from iamt_jax.robust.transform import Transformation, transform

PLATFORMS = ("cpu", "cuda", "tpu")
"""What the programs are lowered for; which of them runs is decided where they are called."""

Curved = Callable[
    [Float[Array, "batch size size 3"], Float[Array, ""], Float[Array, ""]],
    Float[Array, "batch attribute"],
]
"""(images, n, beta) -> probabilities; images in [0, 1] units, which noise may leave."""


def by_curve(network: IAMT) -> Curved:
    """Eq. 9 and a sigmoid, with the weights as constants."""
    merged = _frozen(network)

    def run(images: Array, n: Array, beta: Array) -> Array:
        return probability(merged().predict(images, n, beta))

    return run


def curve_program(network: IAMT, size: int) -> bytes:
    """`by_curve` in `jax.export`'s format: images float32 (batch, size, size, 3), n and beta
    float32 scalars, probabilities float32 (batch, attribute)."""
    number = jax.ShapeDtypeStruct((), jnp.float32)
    return _exported(by_curve(network), size, number, number)


def automatic_program(network: IAMT, size: int, transformation: Transformation) -> bytes:
    """`images -> (probabilities, sigma)`: each image under the calibrated transformation, and the
    noise that it was chosen for, float32 (batch,)."""
    merged = _frozen(network)
    transformation = jax.tree.map(np.asarray, transformation)

    def run(images: Array) -> tuple[Array, Float[Array, " batch"]]:
        done = transform(images, transformation, jnp.full(images.shape[:1], jnp.nan))
        logits = merged().predict(done.images, None, done.beta)
        return probability(logits), done.sigma

    return _exported(run, size)


def _frozen(network: IAMT) -> Callable[[], IAMT]:
    """The network with constants for weights: a program then needs nothing beside itself."""
    definition, weights = nnx.split(network)
    weights = jax.tree.map(np.asarray, nnx.to_pure_dict(weights))
    return lambda: nnx.merge(definition, weights)


def _exported(run: Callable, size: int, *others: jax.ShapeDtypeStruct) -> bytes:
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    return bytes(export.export(jax.jit(run), platforms=PLATFORMS)(images, *others).serialize())
