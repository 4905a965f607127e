"""What others would draw: maps after the fact, on our extractor and our logits.

All are (batch, some attributes, y, x) at the image's size; greater is more evidence for what the
network says.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from iamt_jax.model.network import IAMT

Maps = Float[Array, "batch some y x"]


def grad_cam(
    network: IAMT, images: Float[Array, "batch y x 3"], chosen: Int[Array, " some"]
) -> Maps:
    """Grad-CAM (Selvaraju et al. 2017) at the extractor's last layer, for what is said (yes or
    no): the positive part of the features, weighted by the mean derivative of their channel."""
    features = network.extractor(images)

    def one(k: Array) -> Array:
        said = lambda f: _said(network, f, k)  # noqa: E731
        weight = jnp.mean(jax.grad(said)(features), axis=(1, 2), keepdims=True)
        return jnp.maximum(jnp.sum(weight * features, axis=-1), 0)

    return _resized(jax.vmap(one, out_axes=1)(chosen), images.shape[1])


def gradient_times_input(
    network: IAMT, images: Float[Array, "batch y x 3"], chosen: Int[Array, " some"]
) -> Maps:
    """Derivative of what is said in the pixels, times the pixels' distance from mid-grey."""

    def one(k: Array) -> Array:
        said = lambda x: _said(network, network.extractor(x), k)  # noqa: E731
        return jnp.sum(jax.grad(said)(images) * (images - 0.5), axis=-1)

    return jax.vmap(one, out_axes=1)(chosen)


def mean_mask(
    network: IAMT, images: Float[Array, "batch y x 3"], chosen: Int[Array, " some"]
) -> Maps:
    """One map an attribute, as Attention Branch Networks have it (Fukui et al. 2019): the mean of
    the mask over its channels."""
    masks = network.heads.masks(network.extractor(images), chosen)
    return _resized(jnp.mean(masks, axis=-1).swapaxes(0, 1), images.shape[1])


def centred_gaussian(batch: int, some: int, side: int) -> Maps:
    """A bump in the middle, standard deviation a quarter of the side: faces are centred."""
    bell = jnp.exp(-jnp.square((jnp.arange(side) - (side - 1) / 2) / (side / 4)) / 2)
    return jnp.broadcast_to(bell[:, None] * bell, (batch, some, side, side))


def random_map(key: Key[Array, ""], batch: int, some: int, side: int) -> Maps:
    """Uniform numbers."""
    return jax.random.uniform(key, (batch, some, side, side))


def _said(network: IAMT, features: Array, k: Array) -> Array:
    """Logit k, turned to be positive where it answers no; summed over the batch."""
    weights, bias = network.heads.classifiers(k[None])
    masked = (1 + network.heads.masks(features, k[None])[0]) * features
    logit = jnp.mean(masked, axis=(1, 2)) @ weights[0] + bias[0]
    return jnp.sum(logit * jax.lax.stop_gradient(jnp.sign(logit)))


def _resized(maps: Float[Array, "batch some height width"], side: int) -> Maps:
    return jax.image.resize(maps, (*maps.shape[:2], side, side), "bilinear")
