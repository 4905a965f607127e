"""Any network that looks: attribute heads on the feature map of whatever extractor."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Array, Float

from iamt_jax.model.heads import AttributeHeads


class Attentive(Protocol):
    """What `explain` and `sweep` ask of a network; `IAMT` is one, and so is any NNX module with
    these two attributes."""

    heads: AttributeHeads
    """The heads, made for as many channels as the extractor gives."""

    def extractor(
        self, images: Float[Array, "batch y x 3"]
    ) -> Float[Array, "batch height width channel"]:
        """The features f that the heads look at, at inference; usually a module.

        Args:
          images: float32, in the units that this network takes.

        Returns:
          Features, float32 or bfloat16.
        """


def sweep(
    network: Attentive,
    images: Float[Array, "batch y x 3"],
    n_values: Float[Array, " n"],
    beta_values: Float[Array, " beta"],
) -> Float[Array, "n beta batch attribute"]:
    r"""Logits of a whole grid of tone curves; features and masks are computed once.

    A value of n costs one power more, a value of beta nothing: g is affine in beta, so that

    .. math::
      z(n, \beta) = (1 - \beta) \, \mathrm{mean}(f) \, w
      + (1 + \beta) \, \mathrm{mean}(h(M; n) f) \, w + b

    Args:
      network: `IAMT`, or any module with `extractor` and `heads`.
      images: float32, what its extractor takes; for `IAMT` in [0, 1] units.
      n_values: powers of the tone curve, each >= 0.
      beta_values: offsets, each from 0 to 1.

    Returns:
      Logits, float32.

    Example:
      >>> import iamt_jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> network, images = iamt_jax.load("W").network, jnp.zeros((2, 32, 32, 3))
      >>> n_values, beta_values = jnp.array([1.0, 4.0]), jnp.array([0.0, 0.5, 1.0])
      >>> nnx.jit(iamt_jax.sweep)(network, images, n_values, beta_values).shape
      (2, 3, 2, 40)
    """
    return network.heads.sweep(network.extractor(images), n_values, beta_values)
