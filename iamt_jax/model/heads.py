"""The K attribute heads: mask M^k and classifier f_b^k of each attribute (Eq. 1, 2 and 9)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from iamt_jax.model.extractor import scaled_normal
from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.ops.attention_pool import attention_pool, pool_powers

ALL = slice(None)
"""Every attribute."""


class HeadOutputs(NamedTuple):
    """Outputs of all heads for a batch."""

    logits: Float[Array, "batch attribute"]
    """Logits of f_b^k, float32."""
    mask_l1: Float[Array, "batch attribute"]
    """Sum of each mask M^k, before the tone curve, over positions and channels, float32."""


class Head(nnx.Module):
    """The head of one attribute: its mask M^k, and its classifier f_b^k of the masked features."""

    def __init__(self, channels: int, mask_bias: float = 0.0, *, rngs: nnx.Rngs):
        init = scaled_normal(1)
        bias = nnx.initializers.constant(mask_bias)
        # A 1x1 convolution.
        self.mask = nnx.Linear(channels, channels, kernel_init=init, bias_init=bias, rngs=rngs)
        self.classifier = nnx.Linear(channels, 1, kernel_init=init, rngs=rngs)

    def attend(self, features: Float[Array, "batch height width channel"]) -> Array:
        """Mask M^k = sigmoid(f W^k + a^k) in (0, 1), in the shape of the features f."""
        return jax.nn.sigmoid(self.mask(features))

    def __call__(
        self,
        features: Float[Array, "batch height width channel"],
        n: Float[Array, "batch channel"],
        beta: Float[Array, "batch channel"],
    ) -> Float[Array, " batch"]:
        """Logits of f_b^k((1 + g(M^k; n, beta)) * f), the plain form of Eq. 9."""
        curve = tone_curve(self.attend(features), n[:, None, None], beta[:, None, None])
        pooled = jnp.mean((1 + curve) * features, axis=(1, 2))
        return self.classifier(pooled)[:, 0]


class AttributeHeads(nnx.Module):
    """K attribute heads with stacked parameters, on the feature map of any backbone.

    An NNX module. Features are float32 or bfloat16, channels last; parameters have the attribute
    as their first axis.

    Args:
      attributes: K, the number of heads.
      channels: C, the number of channels of the features.
      mask_bias: initial bias of the masks' logits.
      rngs: keys of the initialisation.

    Example:
      >>> import iamt_jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> heads = iamt_jax.AttributeHeads(attributes=3, channels=8, rngs=nnx.Rngs(0))
      >>> features = jnp.ones((2, 4, 4, 8))
      >>> heads(features, n=4.0, beta=0.5).logits.shape
      (2, 3)
      >>> heads.masks(features, jnp.array([0, 2])).shape
      (2, 2, 4, 4, 8)
    """

    def __init__(self, attributes: int, channels: int, mask_bias: float = 0.0, *, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=attributes)
        @nnx.vmap(in_axes=0, out_axes=0)
        def build(rngs: nnx.Rngs) -> Head:
            return Head(channels, mask_bias, rngs=rngs)

        self.stacked = build(rngs)
        self.attributes = attributes

    def classifiers(
        self, chosen: Int[Array, " some"] | slice = ALL
    ) -> tuple[Float[Array, "some channel"], Float[Array, " some"]]:
        """Weights and biases of the chosen attributes' classifiers f_b^k.

        Args:
          chosen: indices of attributes; by default all.

        Returns:
          The weight of each channel and the bias, float32.
        """
        classifier = self.stacked.classifier
        return classifier.kernel[...][chosen, :, 0], classifier.bias[...][chosen, 0]

    def mask_parameters(
        self, chosen: Int[Array, " some"] | slice = ALL
    ) -> tuple[Float[Array, "some channel channel"], Float[Array, "some channel"]]:
        """Kernels W^k and biases a^k of the chosen attributes' masks.

        Args:
          chosen: indices of attributes; by default all.

        Returns:
          The kernels of the 1x1 convolutions, with input channels before output channels, and the
          biases; float32.
        """
        mask = self.stacked.mask
        return mask.kernel[...][chosen], mask.bias[...][chosen]

    def __call__(
        self,
        features: Float[Array, "batch height width channel"],
        n: Float[Array, "..."] | float | None = None,
        beta: Float[Array, "..."] | float | None = None,
    ) -> HeadOutputs:
        """Logits of f_b^k((1 + g(M^k; n, beta)) * f) (Eq. 9), computed without storing the masks.

        Args:
          features: f, from any backbone.
          n: power of the tone curve, n >= 0, broadcastable to (batch, attribute, channel); None
            is 1.
          beta: offset of the tone curve, 0 <= beta <= 1, likewise; None is 0. Without both, it is
            the form of training, T(M) = 1 + M (Eq. 1 and 2).

        Returns:
          Logits and the sum of each mask.
        """
        pooled, mask_l1 = attention_pool(features, *self.mask_parameters(), n, beta)
        weights, bias = self.classifiers()
        return HeadOutputs(_exact("bkc,kc->bk", pooled, weights) + bias, mask_l1)

    def contributions(
        self, features: Float[Array, "batch height width channel"]
    ) -> tuple[Float[Array, "batch attribute channel"], Float[Array, "batch attribute channel"]]:
        """Contributions of each channel to each logit of Eq. 1, of f and of M * f separately.

        Their sum over channels and the classifier's bias is the logit of (1 + M) * f.

        Args:
          features: f, from any backbone.

        Returns:
          Contributions of f and of M * f, in logits, float32.
        """
        pooled, _ = attention_pool(features, *self.mask_parameters())
        plain = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)[:, None]
        weights, _ = self.classifiers()
        return plain * weights, (pooled - plain) * weights

    def sweep(
        self,
        features: Float[Array, "batch height width channel"],
        n_values: Float[Array, " n"],
        beta_values: Float[Array, " beta"],
    ) -> Float[Array, "n beta batch attribute"]:
        """Logits under each tone curve of a grid (Eq. 9); masks are computed once.

        Args:
          features: f, from any backbone.
          n_values: powers of the tone curve, each >= 0.
          beta_values: offsets of the tone curve, each from 0 to 1.

        Returns:
          Logits, float32.
        """
        weights, bias = self.classifiers()
        plain = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)
        plain = _exact("bc,kc->bk", plain, weights)
        powers = pool_powers(features, *self.mask_parameters(), n_values)
        curved = _exact("nbkc,kc->nbk", powers, weights)
        beta = jnp.asarray(beta_values, jnp.float32)[:, None, None]
        return (1 - beta) * plain + (1 + beta) * curved[:, None] + bias

    def reference(
        self,
        features: Float[Array, "batch height width channel"],
        n: Float[Array, "..."] | float = 1.0,
        beta: Float[Array, "..."] | float = 0.0,
    ) -> Float[Array, "batch attribute"]:
        """Logits of Eq. 9 by vmapping `Head`: the plain form, which the faster ones must equal.

        Args:
          features: f, from any backbone.
          n: power of the tone curve, n >= 0, broadcastable to (batch, attribute, channel).
          beta: offset of the tone curve, 0 <= beta <= 1, likewise.

        Returns:
          Logits, float32.
        """
        shape = (features.shape[0], self.attributes, features.shape[-1])
        n, beta = jnp.broadcast_to(n, shape), jnp.broadcast_to(beta, shape)
        run = nnx.vmap(Head.__call__, in_axes=(0, None, 1, 1), out_axes=1)
        return run(self.stacked, features, n, beta)

    def masks(
        self,
        features: Float[Array, "batch height width channel"],
        chosen: Int[Array, " some"],
    ) -> Float[Array, "some batch height width channel"]:
        """Masks M^k of the chosen attributes; each is as large as the features.

        Args:
          features: f, from any backbone.
          chosen: indices of attributes.

        Returns:
          M^k in (0, 1), before the tone curve. Always float32, so that contributions of masked
          features add up to the logits.
        """
        some = jax.tree.map(lambda x: x[chosen], nnx.state(self.stacked))
        head = nnx.merge(nnx.graphdef(self.stacked), some)
        return nnx.vmap(Head.attend, in_axes=(0, None))(head, features)


def _exact(axes: str, *factors: Array) -> Array:
    """Product in float32 on every platform, so that contributions add up to the logits."""
    return jnp.einsum(axes, *factors, precision="highest")


class Attentive(Protocol):
    """Interface of a network for `explain` and `sweep`: `IAMT`, or any NNX module with these two
    attributes."""

    heads: AttributeHeads
    """The heads; their number of channels is that of the extractor's features."""

    def extractor(
        self, images: Float[Array, "batch y x 3"]
    ) -> Float[Array, "batch height width channel"]:
        """Features f at inference; usually a module.

        Args:
          images: float32, in the units of this network.

        Returns:
          Features, float32 or bfloat16.
        """


def sweep(
    network: Attentive,
    images: Float[Array, "batch y x 3"],
    n_values: Float[Array, " n"],
    beta_values: Float[Array, " beta"],
) -> Float[Array, "n beta batch attribute"]:
    r"""Logits under each tone curve of a grid (Eq. 9); features and masks are computed once.

    Another value of n costs one power, another value of beta nothing, since g is affine in beta:

    .. math::
      z(n, \beta) = (1 - \beta) \, \mathrm{mean}(f) \, w
      + (1 + \beta) \, \mathrm{mean}(h(M; n) f) \, w + b

    Args:
      network: `IAMT`, or any module with `extractor` and `heads`.
      images: float32, in the units of its extractor; for `IAMT`, [0, 1].
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
