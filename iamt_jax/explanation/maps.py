"""Maps that are compared with each other: ours, and those of other methods on the same network.

All are (batch, some attributes, y, x) at the image's size. Those that have a sign show evidence
for the network's answer, yes or no, or with `answer=False` evidence for yes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from iamt_jax.explanation.explain import explain, mask_map
from iamt_jax.model.network import IAMT
from iamt_jax.model.tone_curve import contrast, tone_curve

Images = Float[Array, "batch y x 3"]
Chosen = Int[Array, " some"]
Maps = Float[Array, "batch some y x"]


def weighted_masks(network: IAMT, images: Images, chosen: Chosen, answer: bool = True) -> Maps:
    """Masks weighted by importance, without derivatives and without a sign (`mask_map`), from
    their least value: a mask is above 0 everywhere, and what counts is how far it rises."""
    features = network.extractor(images)
    weights, _ = network.heads.classifiers(chosen)
    each = jax.vmap(mask_map, (0, None, 0), 1)(
        network.heads.masks(features, chosen), features, weights
    )
    return _resized(each - jnp.min(each, axis=(2, 3), keepdims=True), images.shape[1])


def masked_contributions(
    network: IAMT, images: Images, chosen: Chosen, answer: bool = True, n: float | Array = 1.0
) -> Maps:
    """Contributions of the masked features to the logit, w h(M; n) f, by position; no
    derivatives."""
    features = network.extractor(images)
    weights, _ = network.heads.classifiers(chosen)
    found = contrast(network.heads.masks(features, chosen), n)
    added = jnp.einsum("sbhwc,bhwc,sc->bshw", found, features, weights)
    if answer:
        added *= jnp.sign(network.predict(images)[:, chosen])[..., None, None]
    return _resized(added, images.shape[1])


def gradients(network: IAMT, images: Images, chosen: Chosen, answer: bool = True) -> Maps:
    """The summary map, by derivatives in the pixels."""
    found = explain(network, images, chosen, top=1)
    sign = jnp.sign(found.logits)[..., None, None] if answer else 1
    return found.summary * sign


def grad_cam(network: IAMT, images: Images, chosen: Chosen, answer: bool = True) -> Maps:
    """Grad-CAM (Selvaraju et al. 2017) at the extractor's last layer: the positive part of the
    features, weighted by the mean derivative of their channel."""
    features = network.extractor(images)

    def one(k: Array) -> Array:
        logit = lambda f: _total(network, f, k, answer)  # noqa: E731
        weight = jnp.mean(jax.grad(logit)(features), axis=(1, 2), keepdims=True)
        return jnp.maximum(jnp.sum(weight * features, axis=-1), 0)

    return _resized(jax.vmap(one, out_axes=1)(chosen), images.shape[1])


def gradient_times_input(
    network: IAMT, images: Images, chosen: Chosen, answer: bool = True
) -> Maps:
    """Derivative of the logit in the pixels, times the pixels minus mid-grey."""

    def one(k: Array) -> Array:
        logit = lambda x: _total(network, network.extractor(x), k, answer)  # noqa: E731
        return jnp.sum(jax.grad(logit)(images) * (images - 0.5), axis=-1)

    return jax.vmap(one, out_axes=1)(chosen)


def mean_mask(network: IAMT, images: Images, chosen: Chosen, answer: bool = True) -> Maps:
    """Mean of the mask over its channels, as in Attention Branch Networks (Fukui et al. 2019);
    without a sign."""
    found = network.heads.masks(network.extractor(images), chosen)
    return _resized(jnp.mean(found, axis=-1).swapaxes(0, 1), images.shape[1])


NETWORK_MAPS: dict[str, Callable[..., Maps]] = {
    "masks": weighted_masks,
    "masked contributions": masked_contributions,
    "gradients": gradients,
    "Grad-CAM": grad_cam,
    "gradient x input": gradient_times_input,
    "mean mask": mean_mask,
}
"""Name -> map of a network; the first three are ours."""


def centred_gaussian(batch: int, some: int, side: int) -> Maps:
    """Gaussian at the centre, where faces are; its standard deviation is a quarter of the side."""
    bell = jnp.exp(-jnp.square((jnp.arange(side) - (side - 1) / 2) / (side / 4)) / 2)
    return jnp.broadcast_to(bell[:, None] * bell, (batch, some, side, side))


def random_map(key: Key[Array, ""], batch: int, some: int, side: int) -> Maps:
    """Uniform random map."""
    return jax.random.uniform(key, (batch, some, side, side))


def _total(network: IAMT, features: Array, k: Array, answer: bool) -> Array:
    """Sum over the batch of logit k, or of |logit k|, the logit of the network's answer."""
    weights, bias = network.heads.classifiers(k[None])
    curve = tone_curve(network.heads.masks(features, k[None])[0], 1.0, network.own_beta)
    logit = jnp.mean((1 + curve) * features, axis=(1, 2)) @ weights[0] + bias[0]
    return jnp.sum(logit * jax.lax.stop_gradient(jnp.sign(logit)) if answer else logit)


def _resized(maps: Float[Array, "batch some height width"], side: int) -> Maps:
    return jax.image.resize(maps, (*maps.shape[:2], side, side), "bilinear")
