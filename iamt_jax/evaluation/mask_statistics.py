"""The paper's analyses of the masks, in one pass over any number of images.

Importance (Fig. 4), correlations among features (Table 2) and among attributes (Table 3). What is
kept are sums: memory does not grow with the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from iamt_jax.model.network import IAMT

Matrix = Float[np.ndarray, "variable variable"]


class Spread(NamedTuple):
    """Count, means and sums of products of deviations, of samples of several variables."""

    count: float
    mean: Float[np.ndarray, " variable"]
    product: Matrix

    def merged(self, other: Spread) -> Spread:
        """Of both sets of samples (Chan et al. 1983), float64."""
        count = self.count + other.count
        step = other.mean - self.mean
        product = self.product + other.product
        product = product + np.outer(step, step) * (self.count * other.count / count)
        return Spread(count, self.mean + step * (other.count / count), product)

    def correlation(self) -> Matrix:
        """Pearson's coefficients; 0 where a variable does not vary."""
        spread = np.sqrt(np.diag(self.product))
        scale = np.outer(spread, spread)
        return np.divide(self.product, scale, out=np.zeros_like(scale), where=scale > 0)


class Analysis(NamedTuple):
    """What the masks of a set of images say."""

    importance: Float[np.ndarray, "attribute channel"]
    """Share of channel c in logit k: |contribution| over the sum of all channels', averaged over
    the images; a row sums to 1."""
    features: Float[np.ndarray, "channel channel"]
    """Correlation of two channels' masks over images, attributes and positions (Table 2)."""
    attributes: Float[np.ndarray, "attribute attribute"]
    """Correlation of two attributes' masks over images, channels and positions (Table 3)."""


class Sums(NamedTuple):
    """What is kept of a batch."""

    images: Float[Array, ""]
    importance: Float[Array, "attribute channel"]
    features: Spread
    attributes: Spread


def batch_sums(
    network: IAMT, images: Float[Array, "batch y x 3"], real: Bool[Array, " batch"]
) -> Sums:
    """The sums of one batch; filled-up images do not count. All its masks are held at once."""
    features = network.extractor(images)
    plain, masked = network.heads.contributions(features)
    size = jnp.abs(plain + masked)
    share = size / jnp.maximum(jnp.sum(size, axis=-1, keepdims=True), 1e-30)
    every = jnp.arange(network.heads.attributes)
    masks = network.heads.masks(features, every)  # attribute, batch, height, width, channel
    counted = jnp.broadcast_to(real[:, None, None, None], masks.shape[1:])
    by_attribute = masks.reshape(len(masks), -1).T
    by_channel = masks.reshape(-1, masks.shape[-1])
    each = jnp.broadcast_to(real[:, None, None], masks.shape[:-1]).reshape(-1)
    return Sums(
        jnp.sum(real.astype(jnp.float32)),
        jnp.sum(share * real[:, None, None], axis=0),
        _spread(by_channel, each),
        _spread(by_attribute, counted.reshape(-1)),
    )


def _spread(samples: Float[Array, "sample variable"], counted: Bool[Array, " sample"]) -> Spread:
    weight = counted.astype(jnp.float32)
    count = jnp.sum(weight)
    mean = weight @ samples / count
    deviation = (samples - mean) * weight[:, None]
    return Spread(count, mean, deviation.T @ deviation)


def analyse(batches: Iterator[Sums]) -> Analysis:
    """All batches together; sums are added in float64."""
    importance, features, attributes, images = 0.0, None, None, 0.0
    for sums in batches:
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
        importance = importance + sums.importance
        images += sums.images
        features = sums.features if features is None else features.merged(sums.features)
        attributes = sums.attributes if attributes is None else attributes.merged(sums.attributes)
    return Analysis(importance / images, features.correlation(), attributes.correlation())
