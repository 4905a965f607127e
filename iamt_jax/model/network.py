"""The whole network, returning named outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from iamt_jax.config import ModelConfig
from iamt_jax.model.extractor import AfterNorm, Extractor, unchanged
from iamt_jax.model.heads import AttributeHeads
from iamt_jax.model.initialisation import scaled_normal
from iamt_jax.model.reconstructor import Reconstructor

Tree = Any
"""A nested dict of arrays: parameters or statistics, out of the network that they define."""


class Outputs(NamedTuple):
    """What the network says of a batch; a part that is switched off gives None."""

    features: Float[Array, "batch height width channel"]
    logits: Float[Array, "batch attribute"]
    """Of the heads f_b^k: the product's answer."""
    mask_l1: Float[Array, "batch attribute"]
    """Sum of each mask over positions and channels."""
    multilabel: Float[Array, "batch attribute"] | None
    """Logits of f_m on the plain features."""
    reconstruction: Float[Array, "batch height width 3"] | None


class IAMT(nnx.Module):
    """Extractor, K heads, multi-label classifier and reconstructor (Fig. 2 of the paper)."""

    def __init__(self, config: ModelConfig, attributes: int, *, rngs: nnx.Rngs):
        channels = config.widths[-1]
        self.extractor = Extractor(config, rngs=rngs)
        self.heads = AttributeHeads(attributes, channels, rngs=rngs)
        init = scaled_normal(1)
        self.multilabel = (
            nnx.Linear(channels, attributes, kernel_init=init, rngs=rngs)
            if config.multilabel
            else None
        )
        self.reconstructor = Reconstructor(config, rngs=rngs) if config.reconstructor else None
        self.dropout = config.dropout

    def __call__(
        self, images: Float[Array, "batch height width 3"], keys: Key[Array, " batch"]
    ) -> Outputs:
        """The training pass: batch statistics, dropout by one key an image, T(M) = 1 + M.

        Dropout hits what classifies, not what reconstructs. It must run inside the mapped axis
        `extractor.DATA_AXIS`.
        """
        features = self.extractor(images, train=True)
        kept = drop_channels(features, self.dropout, keys)
        heads = self.heads(kept)
        pooled = jnp.mean(kept, axis=(1, 2), dtype=jnp.float32)
        return Outputs(
            features=features,
            logits=heads.logits,
            mask_l1=heads.mask_l1,
            multilabel=self.multilabel and self.multilabel(pooled),
            reconstruction=self.reconstructor and self.reconstructor(features),
        )

    def predict(
        self,
        images: Float[Array, "batch height width 3"],
        n: Float[Array, "..."] | None = None,
        beta: Float[Array, "..."] | None = None,
        after_norm: AfterNorm = unchanged,
    ) -> Float[Array, "batch attribute"]:
        """Logits at inference, f_b^k((1 + g(M^k; n, beta)) * f) (Eq. 9)."""
        return self.heads(self.extractor(images, after_norm=after_norm), n, beta).logits


def drop_channels(features: Array, rate: float, keys: Key[Array, " batch"]) -> Array:
    """Drops whole channels with probability `rate`, each image by its own key."""
    if rate == 0:
        return features
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, features.shape[-1:]))(keys)
    return features * (keep / (1 - rate)).astype(features.dtype)[:, None, None]
