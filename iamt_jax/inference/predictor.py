"""Images to logits on all devices: by the tone curve, with n, beta and sigma as run-time values,
or by the calibrated transformation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array, Float, Int, Key, UInt8
from scipy.special import expit

from iamt_jax.data.batches import Records, evaluation_batches
from iamt_jax.degradation import gaussian_noise, noise_keys
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.heads import sweep
from iamt_jax.model.network import IAMT, Tree
from iamt_jax.robust.transform import Transformation, transform

Images = UInt8[Array, "batch height width 3"] | Float[Array, "batch height width 3"]
"""uint8, or float in [0, 1] units; noise may leave that range."""


_ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))


def probability(
    logits: Float[np.ndarray, "..."] | Float[Array, "..."],
) -> Float[np.ndarray, "..."] | Float[Array, "..."]:
    """The sigmoid of logits, above 0.5 exactly where the logit is above 0, as evaluation decides.

    In float32 the sigmoid itself is 0.5 up to a logit of 1e-7; there it is the next number above.

    Args:
      logits: an array of NumPy or, inside a program, of JAX.

    Returns:
      From 0 to 1, float32, of the same kind.
    """
    on_host = isinstance(logits, np.ndarray)
    xp, sigmoid = (np, expit) if on_host else (jnp, jax.nn.sigmoid)
    found = sigmoid(logits.astype(np.float32))
    return xp.where(logits > 0, xp.maximum(found, _ABOVE_HALF), found)


class Setting(NamedTuple):
    """What is done to the images and to the masks; run-time values, none of them compiles."""

    n: float = 1.0
    """Power of the tone curve, n >= 0."""
    beta: float = 0.0
    """Offset of the tone curve, 0 <= beta <= 1."""
    sigma: float = 0.0
    """Standard deviation of Gaussian noise on the network's input, [0, 1] pixel units."""
    clip: bool = False
    """Cut noisy images to [0, 1]."""
    seed: int = 0
    """Seed of the noise."""


class Answer(NamedTuple):
    """What is said of a batch."""

    logits: Float[np.ndarray, "batch attribute"]
    sigma: Float[np.ndarray, " batch"] | None = None
    """Noise that the transformation was made for; None without one."""


class Predictor:
    """A network with its weights, on all devices of this process."""

    def __init__(self, definition: nnx.GraphDef, params: Tree, statistics: Tree):
        mesh = Mesh(np.array(jax.local_devices()), (DATA_AXIS,))
        self._split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self.devices = mesh.size
        if self.devices == 1:
            # jax 0.7.2 cannot vmap the way back through a convolution on a mesh: `explain` does.
            self._split = self._whole = SingleDeviceSharding(jax.local_devices()[0])
        self._definition = definition
        self.load(params, statistics)

        # Noise is a program of its own: who asks for none compiles and draws none.
        def noisy(images, keys, sigma, clip):
            noisy = gaussian_noise(as_float(images), sigma, keys)
            return jnp.where(clip, jnp.clip(noisy, 0, 1), noisy)

        def curve(params, statistics, images, n, beta):
            network = nnx.merge(definition, params, statistics)
            return network.predict(as_float(images), n, beta)

        def automatic(params, statistics, images, transformation, sigma):
            network = nnx.merge(definition, params, statistics)
            done = transform(as_float(images), transformation, sigma)
            return network.predict(done.images, None, done.beta), done.sigma

        def grid(network, images, n_values, beta_values):
            return sweep(network, as_float(images), n_values, beta_values)

        def masks(network, images, chosen):
            features = network.extractor(as_float(images))
            return jnp.moveaxis(network.heads.masks(features, chosen), 0, 1)

        self._noisy, self._curve, self._automatic = map(jax.jit, (noisy, curve, automatic))
        self._grid, self._masks = self.program(grid), self.program(masks)

    def load(self, params: Tree, statistics: Tree) -> None:
        """Takes other weights of the same shapes; nothing compiles again."""
        self._weights = jax.device_put((params, statistics), self._whole)

    @property
    def weights(self) -> tuple[Tree, Tree]:
        """Parameters and statistics, on the devices."""
        return self._weights

    def network(self) -> IAMT:
        """The network itself, for looking inside; call it outside of hot paths."""
        return nnx.merge(self._definition, *self._weights)

    def program(self, function: Callable) -> Callable:
        """Compiles `function(network, images, *others)`: a call gives images, which are split over
        the devices, and others, which are not; the weights are this predictor's at that time."""
        merged = lambda weights, *inputs: function(  # noqa: E731
            nnx.merge(self._definition, *weights), *inputs
        )
        compiled = jax.jit(merged)

        def run(images, *others):
            return compiled(self._weights, jax.device_put(images, self._split), *others)

        return run

    def degraded(
        self, images: Images, setting: Setting, keys: Key[Array, " batch"] | None = None
    ) -> Images:
        """The images with the setting's noise; without any, as they are."""
        images = jax.device_put(images, self._split)
        if not setting.sigma:
            return images
        keys, sigma = jax.device_put(keys, self._split), jnp.asarray(setting.sigma, jnp.float32)
        return self._noisy(images, keys, sigma, jnp.asarray(setting.clip))

    def logits(
        self,
        images: Images,
        setting: Setting = Setting(),
        keys: Key[Array, " batch"] | None = None,
    ) -> Float[Array, "batch attribute"]:
        """Logits of f_b^k((1 + g(M^k; n, beta)) * f) (Eq. 9).

        Args:
          images: at the network's size, uint8, or float in [0, 1] units; the batch must divide
            by the number of devices.
          setting: its n and beta may be arrays that broadcast to (batch, attribute, channel).
          keys: one an image, for the noise; needed where sigma is above 0.
        """
        n, beta = jnp.asarray(setting.n, jnp.float32), jnp.asarray(setting.beta, jnp.float32)
        return self._curve(*self._weights, self.degraded(images, setting, keys), n, beta)

    def automatic(
        self,
        images: Images,
        transformation: Transformation,
        sigma: Float[np.ndarray, " batch"] | float | None = None,
    ) -> tuple[Float[Array, "batch attribute"], Float[Array, " batch"]]:
        """Logits under the calibrated transformation, and the sigma it was chosen for.

        Args:
          images: as for `logits`, noise included.
          transformation: of `iamt_jax.robust.calibration`.
          sigma: of the images' noise where it is known; None estimates it, image by image.
        """
        known = np.nan if sigma is None else sigma
        known = np.broadcast_to(np.asarray(known, np.float32), (len(images),))
        images, known = jax.device_put((images, known), self._split)
        return self._automatic(*self._weights, images, transformation, known)

    def masks(
        self, images: Images, chosen: Int[np.ndarray, " some"]
    ) -> Float[Array, "batch some height width channel"]:
        """Masks M^k of the chosen attributes, in (0, 1)."""
        return self._masks(images, chosen)

    def sweep(
        self,
        images: Images,
        n_values: Float[np.ndarray, " n"],
        beta_values: Float[np.ndarray, " beta"],
    ) -> Float[Array, "n beta batch attribute"]:
        """Logits of a whole grid of tone curves: features and masks are computed once, a value
        of n costs one power more, a value of beta nothing."""
        return self._grid(images, np.asarray(n_values), np.asarray(beta_values))

    def over(
        self,
        records: Records,
        size: int,
        batch_size: int,
        setting: Setting = Setting(),
        transformation: Transformation | None = None,
    ) -> Iterator[Answer]:
        """Yields what is said of every record, once and in order, batch by batch.

        One batch is always computing while the last one is fetched. The batch size changes
        nothing but the speed. With a transformation, n and beta are not looked at.
        """
        batch_size = -(-min(batch_size, len(records)) // self.devices) * self.devices
        if transformation is not None:
            transformation = jax.device_put(transformation, self._whole)
        waiting = None
        for batch in evaluation_batches(records, size, batch_size):
            names = [records.names[i] for i in batch.indices]
            keys = noise_keys(names, setting.sigma, setting.seed) if setting.sigma else None
            if transformation is None:
                running = (self.logits(batch.images, setting, keys),)
            else:
                noisy = self.degraded(batch.images, setting, keys)
                running = self.automatic(noisy, transformation)
            if waiting is not None:
                yield _fetched(*waiting)
            waiting = running, batch.real
        if waiting is not None:
            yield _fetched(*waiting)


def _fetched(running: tuple[Array, ...], real: np.ndarray) -> Answer:
    return Answer(*(np.asarray(part)[real] for part in running))


def as_float(images: Images) -> Float[Array, "batch height width 3"]:
    """uint8 or float images in [0, 1] units, float32."""
    scale = 255 if images.dtype == jnp.uint8 else 1
    return images.astype(jnp.float32) / scale
