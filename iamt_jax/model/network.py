"""The network of Fig. 2: extractor, heads, multi-label classifier and reconstructor."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from iamt_jax.config import ModelConfig
from iamt_jax.model.extractor import Extractor, convolution, scaled_normal
from iamt_jax.model.heads import AttributeHeads


def depth_to_space(x: Float[Array, "batch height width channel"], block: int) -> Array:
    """Reshapes (b, h, w, block*block*c) to (b, block*h, block*w, c); a position becomes a tile."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * block, w * block, c // block**2)


class Reconstructor(nnx.Module):
    """f_r (Eq. 5): two convolutions around one doubling of the resolution, then a tile of pixels
    for each position.

    It uses depth-to-space instead of transposed convolutions, which draw checkerboards and have a
    slow gradient on CPU.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        channels, self.tile = config.widths[-1], 2 ** (len(config.widths) - 1)
        inner = channels // 2
        common = {"dtype": config.dtype, "kernel_init": scaled_normal(1), "rngs": rngs}
        self.widen = nnx.Conv(
            channels, 4 * inner, (1, 1), conv_general_dilated=convolution, **common
        )
        self.paint = nnx.Conv(inner, 3 * self.tile**2, (3, 3), **common)

    def __call__(
        self, features: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch height width 3"]:
        """Image of the input's size, in its [0, 1] units but not clipped."""
        x = jax.nn.relu(depth_to_space(self.widen(features), 2))
        return 0.5 + depth_to_space(self.paint(x), self.tile)


Tree = Any
"""A nested dict of arrays: parameters or running statistics of a network."""


class Outputs(NamedTuple):
    """Outputs of the network for a batch; None for a part that is switched off."""

    features: Float[Array, "batch height width channel"]
    """f, in the compute type; height and width are the image's divided by the stride."""
    logits: Float[Array, "batch attribute"]
    """Logits of the heads f_b^k, float32: the prediction."""
    mask_l1: Float[Array, "batch attribute"]
    """Sum of each mask over positions and channels, float32."""
    multilabel: Float[Array, "batch attribute"] | None
    """Logits of f_m on the plain features, float32."""
    reconstruction: Float[Array, "batch height width 3"] | None
    """Output of f_r, in the size of the images and in [0, 1] units, not clipped."""


class IAMT(nnx.Module):
    """Extractor, K heads, multi-label classifier and reconstructor (Fig. 2).

    An NNX module. Its parts are the attributes `extractor`, `heads` (an `AttributeHeads`),
    `multilabel` and `reconstructor`; the last two are None where the config switches them off.

    Args:
      config: widths, depth and compute type.
      attributes: K, the number of heads.
      rngs: keys of the initialisation.

    Example:
      >>> import iamt_jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> config = iamt_jax.ModelConfig(widths=(8, 16), blocks=(0, 0), dilations=(2,))
      >>> network = iamt_jax.IAMT(config, attributes=3, rngs=nnx.Rngs(0))
      >>> images = jnp.zeros((2, 32, 32, 3))
      >>> network.extractor(images).shape
      (2, 8, 8, 16)
      >>> network.predict(images, n=4.0, beta=0.5).shape
      (2, 3)
    """

    def __init__(self, config: ModelConfig, attributes: int, *, rngs: nnx.Rngs):
        channels = config.widths[-1]
        self.extractor = Extractor(config, rngs=rngs)
        self.heads = AttributeHeads(attributes, channels, config.mask_bias, rngs=rngs)
        init = scaled_normal(1)
        self.multilabel = (
            nnx.Linear(channels, attributes, kernel_init=init, rngs=rngs)
            if config.multilabel
            else None
        )
        self.reconstructor = Reconstructor(config, rngs=rngs) if config.reconstructor else None
        self.dropout, self.curve_share = config.dropout, config.curve_share
        self.checkerboard = config.checkerboard
        self.own_beta = config.own_beta

    def __call__(
        self,
        images: Float[Array, "batch height width 3"],
        keys: Key[Array, " batch"],
    ) -> Outputs:
        """Forward pass of training: batch statistics, dropout, and T(M) = 1 + M (Eq. 1 to 5).

        A share `config.curve_share` of the images has T(M) = 1 + g(M; 1, 1) = 2 M instead. With
        `config.checkerboard` the heads see every other position, and `mask_l1` is twice their sum.

        Dropout acts on the features of the classifiers, not on those of the reconstructor. With
        BatchNorm it must run inside the mapped axis `extractor.DATA_AXIS`.

        Args:
          images: float32 in [0, 1] units; height and width must be divisible by the stride,
            2 ** len(config.widths), with `config.checkerboard` the width by twice the stride.
          keys: keys of the dropout, the training curve and the checkerboard, one for each image.

        Returns:
          The inputs of `losses.losses`.
        """
        features = self.extractor(images, train=True)
        kept = drop_channels(features, self.dropout, keys)
        looked_at = checkerboard(kept, keys) if self.checkerboard else kept
        heads = self.heads(looked_at, *training_curve(self.curve_share, keys))
        pooled = jnp.mean(kept, axis=(1, 2), dtype=jnp.float32)
        return Outputs(
            features=features,
            logits=heads.logits,
            mask_l1=heads.mask_l1 * (2 if self.checkerboard else 1),
            multilabel=self.multilabel and self.multilabel(pooled),
            reconstruction=self.reconstructor and self.reconstructor(features),
        )

    def predict(
        self,
        images: Float[Array, "batch height width 3"],
        n: Float[Array, "..."] | float | None = None,
        beta: Float[Array, "..."] | float | None = None,
    ) -> Float[Array, "batch attribute"]:
        """Logits at inference, f_b^k((1 + g(M^k; n, beta)) * f) (Eq. 9).

        Args:
          images: float32 in [0, 1] units (noise may leave that range); height and width must be
            divisible by the stride, 2 ** len(config.widths).
          n: power of the tone curve, n >= 0, broadcastable to (batch, attribute, channel); None
            is 1.
          beta: offset of the tone curve, 0 <= beta <= 1, likewise; None is `own_beta`: 1 if the
            network was trained with a share of such curves, else 0.

        Returns:
          Logits, float32. Arguments are not checked.
        """
        if beta is None and self.own_beta:
            beta = self.own_beta
        return self.heads(self.extractor(images), n, beta).logits


def training_curve(
    share: float, keys: Key[Array, " batch"]
) -> tuple[None, Float[Array, "batch 1 1"] | None]:
    """Draws n and beta of each image's training curve: n is 1; beta is 1 with probability `share`,
    else 0. None stands for n = 1, and for a beta that is always 0."""
    if share == 0:
        return None, None
    draw = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 3), share))
    return None, draw(keys).astype(jnp.float32)[:, None, None]


def checkerboard(
    features: Float[Array, "batch height width channel"], keys: Key[Array, " batch"]
) -> Float[Array, "batch height half channel"]:
    """Every other position of each row, the black or the white ones of a checkerboard, by one key
    for each image. Their mean is an unbiased estimate of the mean over all positions."""
    batch, height, width, channels = features.shape
    pairs = features.reshape(batch, height, width // 2, 2, channels)
    colour = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 5)))(keys)
    odd = (jnp.arange(height) + colour[:, None]) % 2 == 1
    return jnp.where(odd[:, :, None, None], pairs[..., 1, :], pairs[..., 0, :])


def drop_channels(features: Array, rate: float, keys: Key[Array, " batch"]) -> Array:
    """Dropout of whole channels with probability `rate`, by one key for each image."""
    if rate == 0:
        return features
    kept = jnp.float32(1 - rate)  # The type decides which numbers are drawn.
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, kept, features.shape[-1:]))(keys)
    return features * (keep / (1 - rate)).astype(features.dtype)[:, None, None]


def build(config: ModelConfig, attributes: int, seed: int = 0) -> tuple[nnx.GraphDef, Tree, Tree]:
    """Initialises a network.

    Args:
      config: of the network.
      attributes: K, the number of heads.
      seed: of the initialisation.

    Returns:
      The network's definition, and its parameters and running statistics as nested dicts.
    """
    return _parts(IAMT(config, attributes, rngs=nnx.Rngs(seed)))


def abstract(config: ModelConfig, attributes: int) -> tuple[nnx.GraphDef, Tree, Tree]:
    """Describes a network without computing it: the result of `build`, with a
    `jax.ShapeDtypeStruct` in place of each array."""
    return _parts(nnx.eval_shape(lambda: IAMT(config, attributes, rngs=nnx.Rngs(0))))


def _parts(network: IAMT) -> tuple[nnx.GraphDef, Tree, Tree]:
    definition, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    return definition, nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
