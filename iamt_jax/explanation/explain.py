"""Explanations of logits: contributions of channels, their masks, and a map of the pixels."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from iamt_jax.model.heads import Attentive
from iamt_jax.model.tone_curve import contrast, tone_curve


def blurred(images: Float[Array, "*batch y x"], spread: float) -> Float[Array, "*batch y x"]:
    """Gaussian blur of the last two axes; a constant image stays constant.

    Args:
      images: of any type and number of leading axes.
      spread: standard deviation as a share of the shorter side.
    """
    deviation = spread * min(images.shape[-2:])

    def blur(length: int) -> Array:
        position = jnp.arange(length, dtype=jnp.float32)
        exponent = -jnp.square((position[:, None] - position) / deviation) / 2
        return jax.nn.softmax(exponent, axis=1).astype(images.dtype)

    down, across = map(blur, images.shape[-2:])
    return jnp.einsum("...yx,vy,ux->...vu", images, down, across)


def coarse(images: Float[Array, "*batch y x 3"]) -> Float[Array, "*batch y x 3"]:
    """Blurs images by a tenth of their shorter side; the result replaces hidden pixels."""
    return jnp.moveaxis(blurred(jnp.moveaxis(images, -1, -3), 0.1), -3, -1)


SENSITIVITY_SPREAD, EVIDENCE_SPREAD = 1 / 32, 1 / 40
"""Widths of the two blurs in `summary_map`: standard deviations, as shares of the image's side."""


class Explanation(NamedTuple):
    """Results of `explain` for a batch and the chosen attributes, under one tone curve.

    All arrays but `channels` are float32.

    Example:
      >>> import iamt_jax
      >>> import numpy as np
      >>> images = np.zeros((2, 218, 178, 3), np.uint8)
      >>> found = iamt_jax.load("W").explain(images, ["Smiling"])
      >>> np.allclose(found.contributions.sum(-1) + found.bias, found.logits, atol=1e-4)
      True
      >>> found
      Explanation of 2 images, 1 attribute
        logits         (2, 1)
        bias           (2, 1)
        contributions  (2, 1, 16)
        maps           (2, 1, 4, 4)
        channels       (2, 1, 5)
        masks          (2, 1, 5, 4, 4)
        mask_map       (2, 1, 4, 4)
        summary        (2, 1, 32, 32)
    """

    logits: Float[Array, "batch some"]
    """Logits of the chosen attributes."""
    bias: Float[Array, "batch some"]
    """Biases of the classifiers; the same for every image."""
    contributions: Float[Array, "batch some channel"]
    """Contribution of each channel to the logit. With the bias they sum to it exactly, since the
    head is linear in the masked features."""
    maps: Float[Array, "batch some height width"]
    """Contributions of the positions of the features; with the bias they sum to the logit, too."""
    channels: Int[Array, "batch some top"]
    """Channels with the largest absolute contributions, the largest first."""
    masks: Float[Array, "batch some top height width"]
    """g(M; n, beta) of those channels (Eq. 7)."""
    mask_map: Float[Array, "batch some height width"]
    """Masks weighted by the importance of their channels, without any derivative, in logits: where
    the network looks, for or against the attribute. See `mask_map`."""
    summary: Float[Array, "batch some y x"]
    """Map at the size of the network's input, in logits per pixel: positive is evidence for the
    attribute, negative against it. See `iamt_jax.explanation.explain.summary_map`."""

    def __repr__(self) -> str:
        # JAX may put anything that is no array into a tree.
        shapes = [tuple(getattr(x, "shape", ())) for x in self]
        counts = zip(("image", "attribute"), ((1,) + shapes[0])[-2:], strict=False)
        of = ", ".join(f"{count} {noun}{'s' * (count != 1)}" for noun, count in counts)
        lines = [f"  {name:13}  {shape}" for name, shape in zip(self._fields, shapes, strict=True)]
        return "\n".join([f"{type(self).__name__} of {of}", *lines])


def explain(
    network: Attentive,
    images: Float[Array, "batch y x 3"],
    chosen: Int[Array, " some"],
    n: Float[Array, ""] | float | None = None,
    beta: Float[Array, ""] | float | None = None,
    top: int = 5,
) -> Explanation:
    """Explains the logits of the chosen attributes under the tone curve (n, beta).

    The masks of all chosen attributes are in memory at once, for the images and the half-blurred
    ones. The function is not compiled: use `nnx.jit`, as in the example.

    Args:
      network: `IAMT`, or any module with `extractor` and `heads`.
      images: float32, in the units of its extractor; for `IAMT`, [0, 1]. Height and width must be
        divisible by its stride.
      chosen: indices of attributes.
      n: power of the tone curve, n >= 0; None is 1.
      beta: offset of the tone curve, 0 <= beta <= 1; None is the network's `own_beta`, 0 if it
        has none.
      top: number of channels whose masks are returned; static, at most the number of channels.

    Returns:
      An `Explanation`; the first axis of its arrays is the image, the second the attribute.

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
    n, beta = 1.0 if n is None else n, own_beta(network) if beta is None else beta
    features, pull = jax.vjp(network.extractor, images)
    halfway, pull_halfway = jax.vjp(network.extractor, (images + coarse(images)) / 2)
    positions = features.shape[1] * features.shape[2]

    def of_one(k: Array) -> tuple[Array, Array, Array, Array]:
        """Contributions and mask by position and channel, the map of the masks, and the derivatives
        in the pixels of the image and of the half-blurred one."""
        weight, _ = network.heads.classifiers(k[None])

        def added(features: Array) -> tuple[Array, tuple[Array, Array]]:
            mask = network.heads.masks(features, k[None])[0]
            curved = tone_curve(mask, n, beta)
            places = mask_map(contrast(mask, n), features, weight[0])
            return weight[0] * (1 + curved) * features / positions, (curved, places)

        added_here, back, (mask, places) = jax.vjp(added, features, has_aux=True)
        _, back_halfway, _ = jax.vjp(added, halfway, has_aux=True)
        ones = jnp.ones_like(added_here)
        derivatives = pull(*back(ones)) + pull_halfway(*back_halfway(ones))
        return added_here, mask, places, jnp.stack(derivatives)

    # One attribute at a time, so that no derivative is a sum over attributes: XLA's YNNPACK
    # fusions compute such sums wrongly on some CPUs (docs/log.md).
    added, masks, places, gradients = jax.vmap(of_one)(chosen)
    gradients = gradients.transpose(1, 2, 0, 3, 4, 5)  # 2, batch, some, y, x, 3
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
        mask_map=places.swapaxes(0, 1),
        summary=summary_map(images, gradients, places.swapaxes(0, 1)),
    )


def mask_map(
    mask: Float[Array, "batch height width channel"],
    features: Float[Array, "batch height width channel"],
    weight: Float[Array, " channel"],
) -> Float[Array, "batch height width"]:
    r"""One map of an attribute's mask: its channels, weighted by their importance.

    The importance of a channel is the size of what the masked channel adds to the logit,

    .. math::
      A(p) = \sum_c \Big| \frac{1}{HW} \sum_q w_c M_c(q) f_c(q) \Big| \, M_c(p)

    Args:
      mask: M, or h(M; n).
      features: f.
      weight: w, of the attribute's classifier.
    """
    importance = jnp.abs(jnp.mean(mask * features, axis=(1, 2)) * weight)
    return jnp.einsum("bhwc,bc->bhw", mask, importance)


def own_beta(network: Attentive) -> float:
    """beta of the curve that a network applies by default: `IAMT.own_beta`, 0 for others."""
    return getattr(network, "own_beta", 0.0)


def summary_map(
    images: Float[Array, "batch y x 3"],
    gradients: Float[Array, "2 batch some y x 3"],
    places: Float[Array, "batch some height width"],
) -> Float[Array, "batch some y x"]:
    r"""Signed map of the pixels for each attribute, in logits per pixel.

    Contributions by position are as coarse as the features. The map therefore uses derivatives in
    the pixels: the evidence of a pixel is what the logit would lose if it were blurred away. To
    first order that is (x - x-bar) times the derivative at the image, where x-bar is the blurred
    image; the mean with the derivative at the half-blurred image also sees evidence for which the
    logit has saturated (integrated gradients, Sundararajan et al. 2017, at two points). The
    evidence is weighted by the sensitivity E and by the square of the masks' map A, above its least
    value,

    .. math::
      S = \left(G_e * \sum_{rgb}
      \left\langle \frac{\partial z_k}{\partial x} \right\rangle (x - \bar x) \right)
      \frac{E}{\max E} \left(\frac{A - \min A}{\max A - \min A}\right)^2, \qquad
      E = G_s * \sum_{rgb}
      \left\langle \left( \frac{\partial z_k}{\partial x} \right)^2 \right\rangle

    where angle brackets are means over both points, and G_e and G_s are the blurs by
    `EVIDENCE_SPREAD` and `SENSITIVITY_SPREAD`. On synthetic faces its energy inside the true region
    is above that of Grad-CAM (docs/explain.md).

    Args:
      images: float32, in the units of the network.
      gradients: derivatives of each logit in the pixels of the images, and of the half-blurred
        images, logits per unit.
      places: A, the map of the masks (`mask_map`).

    Returns:
      The map, in the gradients' type.
    """
    evidence = jnp.sum(jnp.mean(gradients, axis=0) * (images - coarse(images))[:, None], axis=-1)
    energy = jnp.mean(jnp.sum(jnp.square(gradients), axis=-1), axis=0)
    energy = blurred(energy, SENSITIVITY_SPREAD)
    energy /= jnp.maximum(jnp.max(energy, axis=(2, 3), keepdims=True), 1e-30)
    places = places - jnp.min(places, axis=(2, 3), keepdims=True)
    places /= jnp.maximum(jnp.max(places, axis=(2, 3), keepdims=True), 1e-30)
    places = jax.image.resize(places, energy.shape, "bilinear")
    return blurred(evidence, EVIDENCE_SPREAD) * energy * jnp.square(places)
