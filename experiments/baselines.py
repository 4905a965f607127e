"""Methods that the transformation is compared with: refitted temperatures and thresholds, batch
statistics estimated again, TENT, and classical denoising before the network."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int8
from scipy.optimize import minimize_scalar
from skimage.restoration import (
    cycle_spin,
    denoise_nl_means,
    denoise_tv_chambolle,
    denoise_wavelet,
)

from iamt_jax.config import MISSING
from iamt_jax.model.extractor import ConvNorm
from iamt_jax.model.network import IAMT, Tree

TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature; without them it would go to 0 for an attribute without errors."""

_BEYOND = 1.0
"""Distance from the logits of the thresholds that predict always, or never."""


class Refit(NamedTuple):
    """Result of `refit`, in units of logits."""

    threshold: Float[np.ndarray, " attribute"]
    temperature: Float[np.ndarray, " attribute"]

    def apply(
        self, logits: Float[np.ndarray, "image attribute"]
    ) -> Float[np.ndarray, "image attribute"]:
        """(logits - threshold) / temperature, whose sign at 0 is the decision; float64."""
        return (np.asarray(logits, np.float64) - self.threshold) / self.temperature


def refit(
    logits: Float[np.ndarray, "image attribute"], labels: Int8[np.ndarray, "image attribute"]
) -> Refit:
    r"""Fits a threshold and a temperature for each attribute on clean validation images.

    The transformation also scales and shifts logits; whatever a refit achieves as well is not
    robustness.

    The threshold t gives the highest accuracy; among equally good ones it is the nearest to 0, so
    that 0 is kept unless another is better. The temperature T then gives the lowest binary
    cross-entropy of

    .. math:: \mathrm{sigmoid}\big((z - t) / T\big).

    An attribute with labels of fewer than two classes keeps t = 0 and T = 1: its best threshold
    would predict always or never, its best temperature would be 0.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Args:
      logits: (image, attribute), any float type, finite.
      labels: (image, attribute), int8: 1, 0, or `MISSING`, which is left out.

    Returns:
      `Refit`, float64.

    Raises:
      ValueError: the shapes disagree, a logit is not finite, a label is none of the three values.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or logits.shape != labels.shape:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must both be (image, attribute)"
        )
    if not np.isfinite(logits).all():
        raise ValueError(f"{np.sum(~np.isfinite(logits))} of {logits.size} logits are not finite")
    if not np.isin(labels, (0, 1, MISSING)).all():
        raise ValueError(f"labels must be 1, 0 or {MISSING}, found {np.unique(labels)[:5]}")

    attributes = labels.shape[1]
    found = Refit(threshold=np.zeros(attributes), temperature=np.ones(attributes))
    for k in range(attributes):
        known = labels[:, k] != MISSING
        z, positive = logits[known, k], labels[known, k] == 1
        if 0 < positive.sum() < len(positive):
            found.threshold[k] = _threshold(z, positive)
            found.temperature[k] = _temperature(z - found.threshold[k], positive)
    return found


def _threshold(z: np.ndarray, positive: np.ndarray) -> float:
    """The most accurate threshold among 0, midpoints between logits, and beyond all of them."""
    values = np.unique(z)
    middles = (values[1:] + values[:-1]) / 2
    candidates = np.concatenate([[0, values[0] - _BEYOND, values[-1] + _BEYOND], middles])
    candidates = candidates[np.argsort(np.abs(candidates), kind="stable")]
    # Correct at threshold t: negatives up to t, and positives above it.
    negatives_up_to = np.searchsorted(np.sort(z[~positive]), candidates, side="right")
    positives_up_to = np.searchsorted(np.sort(z[positive]), candidates, side="right")
    return candidates[np.argmax(negatives_up_to - positives_up_to)]


def _temperature(z: np.ndarray, positive: np.ndarray) -> float:
    """The temperature with the lowest cross-entropy, which has one minimum along log T."""
    margin = np.where(positive, z, -z)

    def cross_entropy(log_temperature: float) -> float:
        return np.mean(np.logaddexp(0, -margin / np.exp(log_temperature)))

    bounds = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))


def reestimated_logits(
    definition: nnx.GraphDef,
    params: Tree,
    statistics: Tree,
    images: Float[Array, "batch height width 3"],
    prior: float = 0.0,
) -> Float[Array, "batch attribute"]:
    r"""Logits with the statistics of each BatchNorm estimated again on this batch.

    With a prior of N images, the running mean and variance have the weight of N images, those of
    the batch the weight of its B images:

    .. math::
      \mu = \frac{N \mu_{run} + B \mu_{batch}}{N + B}, \qquad
      \sigma^2 = \frac{N \sigma^2_{run} + B \sigma^2_{batch}}{N + B}

    A prior of 0 is prediction-time batch normalisation (Nado et al., 2020), above 0 it is
    Schneider et al. (NeurIPS 2020). The masks keep T(M) = 1 + M. The logits of an image depend on
    the rest of the batch, so a batch must not be padded with copies.

    Args:
      definition: of an `IAMT`, from `nnx.split(network, nnx.Param, nnx.BatchStat)`.
      params: its parameters.
      statistics: its running statistics.
      images: float32 in [0, 1] units, beyond them if noisy.
      prior: N, 0 or more, finite; changing it never recompiles.

    Returns:
      Logits, float32.

    Raises:
      ValueError: the network has no running statistics (`norm="group"`), or `prior` is negative.
    """
    if not jax.tree.leaves(statistics):
        raise ValueError(
            "the network has no batch statistics to estimate again: it was trained with "
            "model.norm = group, which needs none"
        )
    if not prior >= 0:
        raise ValueError(f"prior must be 0 or more images, not {prior}")
    return _logits(definition, params, statistics, images, prior)


@functools.partial(jax.jit, static_argnames="definition")
def _logits(definition, params, statistics, images, prior):
    return with_batch_statistics(nnx.merge(definition, params, statistics), prior).predict(images)


def with_batch_statistics(network: IAMT, prior: Float[Array, ""] | float = 0.0) -> IAMT:
    """Changes a network so that `predict` normalises by its batch, as in `reestimated_logits`.

    If images are sharded under one jit, the batch is all of them, without a mapped axis.
    Gradients flow through the statistics. A network without BatchNorm is not changed.

    Args:
      network: changed in place; its statistics also change in each call, so merge a network for
        a single use.
      prior: as in `reestimated_logits`.

    Returns:
      The same network.
    """
    for _, module in nnx.iter_modules(network):
        if isinstance(module, ConvNorm) and isinstance(module.norm, nnx.BatchNorm):
            module.norm = functools.partial(_normalise, module.norm, prior)
    return network


def _normalise(norm: nnx.BatchNorm, prior, x: Float[Array, "batch height width channel"]) -> Array:
    """Output of the layer with the statistics of x, mixed with the running ones."""
    wide = x.astype(jnp.float32)
    weight = prior / (prior + len(x))
    for running, batch in (
        (norm.mean, wide.mean(axis=(0, 1, 2))),
        (norm.var, wide.var(axis=(0, 1, 2))),
    ):
        running[...] = weight * running[...] + (1 - weight) * batch
    return norm(x, use_running_average=True)


TENT_LEARNING_RATE = 1e-3
"""Learning rate of Adam; that of the TENT paper for CIFAR-10-C."""


class Adapted(NamedTuple):
    """State of TENT between the batches of a condition."""

    params: Tree
    optimiser: Tree


def begin_tent(params: Tree) -> Adapted:
    """State before the first batch of a condition: trained parameters, initial state of Adam."""
    return Adapted(params, _optimiser(params, TENT_LEARNING_RATE).init(params))


@functools.partial(jax.jit, static_argnames="definition")
def adapt_by_tent(
    definition: nnx.GraphDef,
    statistics: Tree,
    state: Adapted,
    images: Float[Array, "batch height width 3"],
    learning_rate: Float[Array, ""] | float = TENT_LEARNING_RATE,
) -> tuple[Float[Array, "batch attribute"], Adapted]:
    r"""Predicts one batch and takes one step of Adam on scale and bias of each normalisation.

    The step minimises the entropy of the predictions; the classes of the TENT paper's softmax
    become two for each head,

    .. math:: \frac{1}{B} \sum_b \sum_k H(\mathrm{sigmoid}(z_{bk})),

    BatchNorm normalises by the statistics of the batch; GroupNorm is unchanged. The masks keep
    T(M) = 1 + M. The logits are those of the same forward pass, before the step, as in the code
    of the TENT paper: for a first batch they equal `reestimated_logits`.

    Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021.

    Args:
      definition: of an `IAMT`, from `nnx.split(network, nnx.Param, nnx.BatchStat)`.
      statistics: its running statistics; only their shapes matter.
      state: `begin_tent(params)` for the first batch of a condition, then that of the last batch.
      images: float32 in [0, 1] units, beyond them if noisy; not padded with copies.
      learning_rate: changing it never recompiles.

    Returns:
      Logits, float32, and the state for the next batch.
    """

    def objective(params):
        network = with_batch_statistics(nnx.merge(definition, params, statistics))
        logits = network.predict(images)
        return jnp.mean(jnp.sum(binary_entropy(logits), axis=1)), logits

    gradients, logits = jax.grad(objective, has_aux=True)(state.params)
    optimiser = _optimiser(state.params, learning_rate)
    updates, moments = optimiser.update(gradients, state.optimiser)
    return logits, Adapted(optax.apply_updates(state.params, updates), moments)


def binary_entropy(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Entropy of a Bernoulli variable with p = sigmoid(logits), in nats, from 0 to log 2."""
    return jax.nn.softplus(logits) - logits * jax.nn.sigmoid(logits)


def _optimiser(params: Tree, learning_rate) -> optax.GradientTransformation:
    """Adam on the parameters of the normalisation layers; the others are fixed."""

    def part(path, _):
        return "affine" if jax.tree_util.DictKey("norm") in path else "fixed"

    return optax.partition(
        {"affine": optax.adam(learning_rate), "fixed": optax.set_to_zero()},
        jax.tree_util.tree_map_with_path(part, params),
    )


DenoisingMethod = Literal["wavelet", "nlm", "tv"]
_Image = Float[np.ndarray, "height width 3"]
_Plane = Float[np.ndarray, "height width"]

_COLOURS = np.array([[2, 2, 2], [3, 0, -3], [1, -2, 1]]) / np.sqrt([[12], [18], [6]])
"""Orthonormal colour transform: brightness, red - blue, green - both. White noise stays white with
the same sigma, and the first plane holds most of the content of a photograph."""


def denoise_classically(
    images: Float[np.ndarray, "batch height width 3"], sigma: float, method: DenoisingMethod
) -> Float[np.ndarray, "batch height width 3"]:
    """Removes white Gaussian noise of known sigma from each image.

    The parameters are functions of sigma, tuned for the highest mean PSNR on 32 photographs at 64
    pixels and sigma 0.05 to 0.5 (docs/log.md). The result is clipped to [0, 1], the range of clean
    images, which can only reduce its error.

      wavelet  BayesShrink on Daubechies-2 coefficients, averaged over four shifts (Chang, Yu and
               Vetterli, 2000; Coifman and Donoho, 1995)
      nlm      non-local means (Buades, Coll and Morel, 2005; Darbon et al., 2008)
      tv       total variation (Rudin, Osher and Fatemi, 1992; Chambolle, 2004)

    The images are processed in one thread a processor.

    Args:
      images: any float type, in [0, 1] units; the noise should not have been clipped.
      sigma: standard deviation of the noise, in [0, 1] pixel units, 0 or more; with 0 the images
        are only clipped.
      method: one of the above.

    Returns:
      The denoised images, float32.

    Raises:
      ValueError: an unknown method, a sigma below 0, images of another shape, or integers.
    """
    images = np.asarray(images)
    if method not in _METHODS:
        raise ValueError(f"method {method!r}: unknown, expected one of {', '.join(_METHODS)}")
    if sigma < 0:
        raise ValueError(f"sigma must be 0 or more, not {sigma}")
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype.kind != "f":
        raise ValueError(
            f"images must be (batch, height, width, 3) of floats, not {images.shape} of "
            f"{images.dtype}"
        )
    images = images.astype(np.float32)
    if sigma == 0 or not len(images):
        return np.clip(images, 0, 1)
    colours, clean = _COLOURS.astype(np.float32), _METHODS[method]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        denoised = list(pool.map(lambda image: clean(image, sigma), images @ colours.T))
    return np.clip(np.stack(denoised) @ colours, 0, 1)


def _wavelet(image: _Image, sigma: float) -> _Image:
    levels = max(1, int(np.log2(min(image.shape[:2]) / 3)))  # The deepest that four taps allow.
    options = {"sigma": sigma, "wavelet": "db2", "wavelet_levels": levels}
    return _by_plane(
        image, lambda plane, _: cycle_spin(plane, denoise_wavelet, 1, workers=1, func_kw=options)
    )


def _nlm(image: _Image, sigma: float) -> _Image:
    # h = 0.8 sigma, as in scikit-image's example, blurs too much for strong noise.
    return denoise_nl_means(
        image,
        patch_size=5,
        patch_distance=6,
        h=0.9 * sigma / (1 + 2.5 * sigma),
        sigma=sigma,
        fast_mode=True,
        channel_axis=-1,
    )


def _tv(image: _Image, sigma: float) -> _Image:
    # Edges are mostly in the brightness; the colours are smoother.
    brightness, colour = (0.5 + sigma) * sigma, (1 + 5 * sigma) * sigma
    weights = (brightness, colour, colour)
    return _by_plane(image, lambda plane, c: denoise_tv_chambolle(plane, weights[c]))


def _by_plane(image: _Image, clean: Callable[[_Plane, int], _Plane]) -> _Image:
    return np.stack([clean(image[..., c], c) for c in range(3)], axis=-1)


_METHODS = {"wavelet": _wavelet, "nlm": _nlm, "tv": _tv}
