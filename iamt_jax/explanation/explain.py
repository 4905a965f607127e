"""Explanations of chosen logits: what each channel adds, through which mask, from which pixels."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from iamt_jax.model.heads import Attentive
from iamt_jax.model.tone_curve import tone_curve


def blurred(images: Float[Array, "*batch y x"], spread: float) -> Float[Array, "*batch y x"]:
    """Blurs by one matrix product an axis; rows of the matrices sum to 1, so that a constant stays
    constant.

    Args:
      images: colours in front if there are any.
      spread: standard deviation as a share of the shorter side.
    """
    deviation = spread * min(images.shape[-2:])

    def blur(length: int) -> Array:
        place = jnp.arange(length, dtype=jnp.float32)
        exponent = -jnp.square((place[:, None] - place) / deviation) / 2
        return jax.nn.softmax(exponent, axis=1).astype(images.dtype)

    down, across = map(blur, images.shape[-2:])
    return jnp.einsum("...yx,vy,ux->...vu", images, down, across)


def coarse(images: Float[Array, "*batch y x 3"]) -> Float[Array, "*batch y x 3"]:
    """The image with everything finer than a tenth of its shorter side blurred away: what stands
    in where a pixel is hidden."""
    return jnp.moveaxis(blurred(jnp.moveaxis(images, -1, -3), 0.1), -3, -1)


SPREAD = 1 / 32
"""Standard deviation of the smoothing of sensitivity, as a share of the image's side; evidence is
smoothed by half of it."""


class Explanation(NamedTuple):
    """What `explain` finds of a batch and some attributes, all of it under one tone curve.

    Example:
      >>> import iamt_jax
      >>> import numpy as np
      >>> images = np.zeros((2, 218, 178, 3), np.uint8)
      >>> found = iamt_jax.load("W").explain(images, ["Smiling"])
      >>> np.allclose(found.contributions.sum(-1) + found.bias, found.logits, atol=1e-4)
      True
    """

    logits: Float[Array, "batch some"]
    """Of the chosen attributes; as everything here but `channels`, float32."""
    bias: Float[Array, "batch some"]
    """Of the classifiers, what no channel adds; the same for every image."""
    contributions: Float[Array, "batch some channel"]
    """What each channel adds: with the bias they sum to the logit, exactly, since the head is
    linear in masked features."""
    maps: Float[Array, "batch some height width"]
    """The same by position of the features: their sum and the bias are the logit, too."""
    channels: Int[Array, "batch some top"]
    """Those that add or take away most, the greatest first."""
    masks: Float[Array, "batch some top height width"]
    """g(M; n, beta) of those channels."""
    summary: Float[Array, "batch some y x"]
    """At the size of the network's input: for (positive) and against (negative) the attribute, in
    logits a pixel. See `iamt_jax.explanation.explain.summary`."""


def explain(
    network: Attentive,
    images: Float[Array, "batch y x 3"],
    chosen: Int[Array, " some"],
    n: Float[Array, ""] | float = 1.0,
    beta: Float[Array, ""] | float = 0.0,
    top: int = 5,
) -> Explanation:
    """Explains the logits of the chosen attributes under the tone curve (n, beta).

    Masks of the chosen attributes are held at once. Nothing is compiled here: put it into
    `nnx.jit`, as the example does.

    Args:
      network: `IAMT`, or any module with `extractor` and `heads`.
      images: float32, what its extractor takes; for `IAMT` in [0, 1] units, at any size that its
        strides divide.
      chosen: indices of attributes.
      n: tone curve's power, n >= 0.
      beta: tone curve's offset, 0 <= beta <= 1.
      top: how many channels' masks to give; a static number, at most the channels there are.

    Returns:
      An `Explanation`; its arrays start with the image, then the attribute.

    Example:
      >>> import iamt_jax
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> network, images = iamt_jax.load("W").network, jnp.zeros((2, 32, 32, 3))
      >>> compiled = nnx.jit(iamt_jax.explain, static_argnames="top")
      >>> found = compiled(network, images, jnp.array([0, 31]), top=3)
      >>> found.contributions.shape, found.masks.shape, found.summary.shape
      ((2, 2, 16), (2, 2, 3, 4, 4), (2, 2, 32, 32))
    """
    chosen = jnp.asarray(chosen)
    features, pull = jax.vjp(network.extractor, images)
    positions = features.shape[1] * features.shape[2]

    def of_one(k: Array) -> tuple[Array, Array, Array]:
        """Contributions and mask by position and channel, and the derivative in the pixels."""
        weight, _ = network.heads.classifiers(k[None])

        def added(features: Array) -> tuple[Array, Array]:
            mask = tone_curve(network.heads.masks(features, k[None])[0], n, beta)
            return weight[0] * (1 + mask) * features / positions, mask

        added_here, back, mask = jax.vjp(added, features, has_aux=True)
        (to_features,) = back(jnp.ones_like(added_here))
        return added_here, mask, pull(to_features)[0]

    # One attribute at a time, so that no derivative is a sum over attributes: XLA's YNNPACK
    # fusions get such sums wrong on some CPUs (docs/log.md).
    added, masks, gradients = jax.vmap(of_one)(chosen)
    gradients = gradients.swapaxes(0, 1)
    contributions = jnp.sum(added, axis=(2, 3)).swapaxes(0, 1)
    maps = jnp.sum(added, axis=-1).swapaxes(0, 1)
    _, bias = network.heads.classifiers(chosen)
    _, channels = jax.lax.top_k(jnp.abs(contributions), top)
    by_image = masks.transpose(1, 0, 4, 2, 3)  # batch, some, channel, height, width
    bias = jnp.broadcast_to(bias, contributions.shape[:2])
    return Explanation(
        logits=jnp.sum(contributions, axis=-1) + bias,
        bias=bias,
        contributions=contributions,
        maps=maps,
        channels=channels,
        masks=jnp.take_along_axis(by_image, channels[..., None, None], axis=2),
        summary=summary(images, gradients),
    )


def summary(
    images: Float[Array, "batch y x 3"],
    gradients: Float[Array, "batch some y x 3"],
) -> Float[Array, "batch some y x"]:
    r"""One signed map an attribute, at the image's size, in logits a pixel.

    Each position of the features sees most of the face, so contributions by position point
    coarsely. Their sum is followed back to the pixels: what it would lose, to first order, were
    they hidden, and there where it can be moved most,

    .. math::
      S = \left(G_{\sigma/2} * \sum_{rgb} \frac{\partial z_k}{\partial x} (x - \bar x)\right)
      \frac{E}{\max E}, \qquad
      E = G_\sigma * \sum_{rgb} \left( \frac{\partial z_k}{\partial x} \right)^2

    with x-bar the image blurred. On synthetic faces this has several times the energy inside the
    true region that Grad-CAM has (docs/explain.md).

    Args:
      images: float32, in the units that the network takes.
      gradients: of each logit in the pixels, logits a unit.

    Returns:
      The map, in the gradients' type.
    """
    evidence = jnp.sum(gradients * (images - coarse(images))[:, None], axis=-1)
    energy = blurred(jnp.sum(jnp.square(gradients), axis=-1), SPREAD)
    energy /= jnp.maximum(jnp.max(energy, axis=(2, 3), keepdims=True), 1e-30)
    return blurred(evidence, SPREAD / 2) * energy
