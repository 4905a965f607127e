"""Explanation maps of other methods, computed on our extractor and our logits.

All are (batch, some attributes, y, x) at the image's size; a larger value is more evidence for the
network's answer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from iamt_jax.model.network import IAMT
from iamt_jax.model.tone_curve import tone_curve

_Maps = Float[Array, "batch some y x"]


def grad_cam(
    network: IAMT, images: Float[Array, "batch y x 3"], chosen: Int[Array, " some"]
) -> _Maps:
    """Grad-CAM (Selvaraju et al. 2017) at the extractor's last layer, for the network's answer (yes
    or no): the positive part of the features, weighted by the mean derivative of their channel."""
    features = network.extractor(images)

    def one(k: Array) -> Array:
        answer = lambda f: _answer(network, f, k)  # noqa: E731
        weight = jnp.mean(jax.grad(answer)(features), axis=(1, 2), keepdims=True)
        return jnp.maximum(jnp.sum(weight * features, axis=-1), 0)

    return _resized(jax.vmap(one, out_axes=1)(chosen), images.shape[1])


def gradient_times_input(
    network: IAMT, images: Float[Array, "batch y x 3"], chosen: Int[Array, " some"]
) -> _Maps:
    """Derivative of the network's answer in the pixels, times the pixels minus mid-grey."""

    def one(k: Array) -> Array:
        answer = lambda x: _answer(network, network.extractor(x), k)  # noqa: E731
        return jnp.sum(jax.grad(answer)(images) * (images - 0.5), axis=-1)

    return jax.vmap(one, out_axes=1)(chosen)


def mean_mask(
    network: IAMT, images: Float[Array, "batch y x 3"], chosen: Int[Array, " some"]
) -> _Maps:
    """Mean of the mask over its channels, as in Attention Branch Networks (Fukui et al. 2019)."""
    masks = network.heads.masks(network.extractor(images), chosen)
    return _resized(jnp.mean(masks, axis=-1).swapaxes(0, 1), images.shape[1])


def centred_gaussian(batch: int, some: int, side: int) -> _Maps:
    """Gaussian at the centre, where faces are; its standard deviation is a quarter of the side."""
    bell = jnp.exp(-jnp.square((jnp.arange(side) - (side - 1) / 2) / (side / 4)) / 2)
    return jnp.broadcast_to(bell[:, None] * bell, (batch, some, side, side))


def random_map(key: Key[Array, ""], batch: int, some: int, side: int) -> _Maps:
    """Uniform random map."""
    return jax.random.uniform(key, (batch, some, side, side))


def _answer(network: IAMT, features: Array, k: Array) -> Array:
    """Sum over the batch of |logit k|, the logit of the network's answer (yes or no)."""
    weights, bias = network.heads.classifiers(k[None])
    curve = tone_curve(network.heads.masks(features, k[None])[0], 1.0, network.own_beta)
    masked = (1 + curve) * features
    logit = jnp.mean(masked, axis=(1, 2)) @ weights[0] + bias[0]
    return jnp.sum(logit * jax.lax.stop_gradient(jnp.sign(logit)))


def _resized(maps: Float[Array, "batch some height width"], side: int) -> _Maps:
    return jax.image.resize(maps, (*maps.shape[:2], side, side), "bilinear")
