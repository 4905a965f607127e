"""Logits of images on all devices, under a tone curve or under the calibrated transformation.

n, beta and sigma are run-time values; changing them never recompiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
from scipy.special import expit

from iamt_jax.data.batches import Records, evaluation_batches
from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys, gaussian_noise, noise_keys
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.heads import sweep
from iamt_jax.model.network import IAMT, Tree
from iamt_jax.robust.treatment import ToneCurve, Treatment, predict

ImageBatch = UInt8[Array, "batch height width 3"] | Float[Array, "batch height width 3"]
"""uint8, or float in [0, 1] units; with noise, values may leave that range."""

_Item = TypeVar("_Item")

_ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))


def probability(
    logits: Float[np.ndarray, "..."] | Float[Array, "..."],
) -> Float[np.ndarray, "..."] | Float[Array, "..."]:
    """Sigmoid of logits, greater than 0.5 exactly where the logit is positive.

    The decision p > 0.5 is then the decision of the evaluation, logit > 0. In float32 the sigmoid
    itself is 0.5 for logits up to 1e-7; here it is the next larger number.

    Args:
      logits: a NumPy array or, inside a compiled function, a JAX array.

    Returns:
      From 0 to 1, float32, NumPy or JAX as the input.
    """
    on_host = isinstance(logits, np.ndarray)
    xp, sigmoid = (np, expit) if on_host else (jnp, jax.nn.sigmoid)
    found = sigmoid(logits.astype(np.float32))
    return xp.where(logits > 0, xp.maximum(found, _ABOVE_HALF), found)


class Noise(NamedTuple):
    """Gaussian noise on the network's input; changing a value never recompiles."""

    sigma: float = 0.0
    """Standard deviation, [0, 1] pixel units."""
    clip: bool = False
    """Clip noisy images to [0, 1]."""
    seed: int = 0

    def keys(self, names: Sequence[str]) -> Key[Array, " batch"] | None:
        """One key an image; None without noise."""
        return noise_keys(names, self.sigma, self.seed) if self.sigma else None


class Degradation(NamedTuple):
    """A degradation of the network's input, of ImageNet-C."""

    family: str
    """One of `degradation.severities.FAMILIES`."""
    severity: int
    """1 to 5."""
    seed: int = 0

    def keys(self, names: Sequence[str]) -> Key[Array, " batch"]:
        """One key an image."""
        return degradation_keys(names, self.family, self.severity, self.seed)


class Answer(NamedTuple):
    """Predictions for a batch, NumPy or JAX arrays."""

    logits: Float[Array, "batch attribute"]
    sigma: Float[Array, " batch"] | None
    """Noise level that the images were transformed for; None under a tone curve."""
    state: Int[Array, " batch"] | None
    """Index in `robust.states.STATES` of the degradation that was undone, 0 for none; None under a
    tone curve."""


class Predictor:
    """A network with its weights on all devices of this process."""

    def __init__(self, definition: nnx.GraphDef, params: Tree, statistics: Tree):
        mesh = Mesh(np.array(jax.local_devices()), (DATA_AXIS,))
        self._split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self.devices = mesh.size
        if self.devices == 1:
            # jax 0.7.2 cannot vmap a convolution's gradient on a mesh, which `explain` needs.
            self._split = self._whole = SingleDeviceSharding(jax.local_devices()[0])
        self._definition = definition
        self.load(params, statistics)

        # Noise is a separate program, so that it is compiled and drawn only if needed.
        def noisy(images, keys, sigma, clip):
            noisy = gaussian_noise(as_float(images), sigma, keys)
            return jnp.where(clip, jnp.clip(noisy, 0, 1), noisy)

        def answer(network, images, treatment, sigma):
            logits, treated = predict(network, as_float(images), treatment, sigma)
            return Answer(logits, treated.sigma, treated.state)

        def grid(network, images, n_values, beta_values):
            return sweep(network, as_float(images), n_values, beta_values)

        def masks(network, images, chosen):
            features = network.extractor(as_float(images))
            return jnp.moveaxis(network.heads.masks(features, chosen), 0, 1)

        self._noisy = jax.jit(noisy)
        self._answer, self._grid, self._masks = map(self.program, (answer, grid, masks))

    def load(self, params: Tree, statistics: Tree) -> None:
        """Replaces the weights by others of the same shapes, without recompilation."""
        self._weights = self.placed((params, statistics))

    def placed(self, values: _Item) -> _Item:
        """Copies a tree of arrays to all devices, once for all calls."""
        return jax.device_put(values, self._whole)

    @property
    def weights(self) -> tuple[Tree, Tree]:
        """Parameters and statistics on the devices."""
        return self._weights

    def network(self) -> IAMT:
        """Builds the network module with these weights; slow, so keep it out of loops."""
        return nnx.merge(self._definition, *self._weights)

    def program(self, function: Callable) -> Callable:
        """Compiles `function(network, images, *others)` into a function of `images` and `others`.

        Images are sharded over the devices, the others are not. Each call uses the weights that
        the predictor has at that time.
        """

        def merged(weights, *inputs):
            return function(nnx.merge(self._definition, *weights), *inputs)

        compiled = jax.jit(merged)

        def run(images, *others):
            return compiled(self._weights, jax.device_put(images, self._split), *others)

        return run

    def degraded(
        self,
        images: ImageBatch,
        noise: Noise | Degradation,
        keys: Key[Array, " batch"] | None = None,
    ) -> ImageBatch:
        """Degrades the images, drawn by one key an image; noise of sigma 0 changes nothing."""
        images = jax.device_put(images, self._split)
        if keys is not None:
            keys = jax.device_put(keys, self._split)
        if isinstance(noise, Degradation):
            return degrade(as_float(images), noise.family, noise.severity, keys)
        if not noise.sigma:
            return images
        sigma = jnp.asarray(noise.sigma, jnp.float32)
        return self._noisy(images, keys, sigma, jnp.asarray(noise.clip))

    def predict(
        self,
        images: ImageBatch,
        treatment: Treatment = ToneCurve(),
        sigma: Float[np.ndarray, " batch"] | float | None = None,
    ) -> Answer:
        """Logits of f_b^k((1 + g(M^k; n, beta)) * f) (Eq. 9) under a treatment.

        Args:
          images: at the network's size, uint8, or float in [0, 1] units; the batch must be a
            multiple of the number of devices.
          treatment: a tone curve for all images, or the calibrated transformation.
          sigma: noise level of the images if known; None lets the transformation estimate it.
        """
        if isinstance(treatment, ToneCurve):  # A number of another type would recompile.
            treatment = ToneCurve(
                *(None if x is None else jnp.asarray(x, jnp.float32) for x in treatment)
            )
        return self._answer(images, treatment, sigma)

    def masks(
        self, images: ImageBatch, chosen: Int[np.ndarray, " some"]
    ) -> Float[Array, "batch some height width channel"]:
        """Masks M^k of the chosen attributes (indices), in (0, 1)."""
        return self._masks(images, chosen)

    def sweep(
        self,
        images: ImageBatch,
        n_values: Float[np.ndarray, " n"],
        beta_values: Float[np.ndarray, " beta"],
    ) -> Float[Array, "n beta batch attribute"]:
        """Logits under every tone curve of a grid. Features and masks are computed once; each
        value of n costs one more power, a value of beta nothing."""
        return self._grid(images, np.asarray(n_values), np.asarray(beta_values))

    def batches(
        self, records: Records, size: int, batch_size: int, noise: Noise | Degradation = Noise()
    ) -> Iterator[tuple[ImageBatch, Bool[np.ndarray, " batch"]]]:
        """Yields all records in order, degraded, and which rows are real.

        The last batch is padded with copies, which are not real. A batch is a multiple of the
        number of devices, and not larger than the records need.
        """
        batch_size = -(-min(batch_size, len(records)) // self.devices) * self.devices
        for batch in evaluation_batches(records, size, batch_size):
            names = [records.names[i] for i in batch.indices]
            yield self.degraded(batch.images, noise, noise.keys(names)), batch.real

    def predict_batches(
        self,
        records: Records,
        size: int,
        batch_size: int,
        treatment: Treatment = ToneCurve(),
        noise: Noise | Degradation = Noise(),
    ) -> Iterator[Answer]:
        """Yields the predictions for all records in order, batch by batch, as NumPy arrays.

        The batch size affects the speed only.
        """
        treatment = self.placed(treatment)
        running = (
            (self.predict(images, treatment), real)
            for images, real in self.batches(records, size, batch_size, noise)
        )
        for answer, real in one_behind(running):
            yield jax.tree.map(lambda x, real=real: np.asarray(x)[real], answer)


def one_behind(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yields each item after the next one was requested: since JAX computes asynchronously, the
    next batch is computed while the caller fetches this one."""
    waiting = next(items, None)
    for item in items:
        yield waiting
        waiting = item
    if waiting is not None:
        yield waiting


def as_float(images: ImageBatch) -> Float[Array, "batch height width 3"]:
    """Converts uint8 or float images to float32 in [0, 1] units."""
    scale = 255 if images.dtype == jnp.uint8 else 1
    return images.astype(jnp.float32) / scale
