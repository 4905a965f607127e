"""Images to logits on all devices, with n, beta and sigma as run-time values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key, UInt8

from iamt_jax.data.degradation import gaussian_noise, noise_keys
from iamt_jax.data.pipeline import Records, evaluation_batches
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.network import Network, Tree


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


class Predictor:
    """A network with its weights, on all devices of this process."""

    def __init__(self, definition: nnx.GraphDef, params: Tree, statistics: Tree):
        mesh = Mesh(np.array(jax.local_devices()), (DATA_AXIS,))
        self._split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self.devices = mesh.size
        self._definition = definition
        self.load(params, statistics)

        def logits(params, statistics, images, keys, n, beta, sigma, clip):
            network = nnx.merge(definition, params, statistics)
            clean = images.astype(jnp.float32) / 255
            noisy = gaussian_noise(clean, sigma, keys)
            noisy = jnp.where(clip, jnp.clip(noisy, 0, 1), noisy)
            return network.predict(noisy, n, beta)

        # Noise is drawn only where it is asked for: a second program, compiled on first use.
        def clean(params, statistics, images, n, beta):
            network = nnx.merge(definition, params, statistics)
            return network.predict(images.astype(jnp.float32) / 255, n, beta)

        self._noisy, self._clean = jax.jit(logits), jax.jit(clean)

    def load(self, params: Tree, statistics: Tree) -> None:
        """Takes other weights of the same shapes; nothing compiles again."""
        self._weights = jax.device_put((params, statistics), self._whole)

    def network(self) -> Network:
        """The network itself, for looking inside; call it outside of hot paths."""
        return nnx.merge(self._definition, *self._weights)

    def logits(
        self,
        images: UInt8[np.ndarray, "batch height width 3"],
        setting: Setting = Setting(),
        keys: Key[Array, " batch"] | None = None,
    ) -> Float[Array, "batch attribute"]:
        """Logits of f_b^k((1 + g(M^k; n, beta)) * f) (Eq. 9).

        Args:
          images: at the network's size; the batch must divide by the number of devices.
          setting: its n and beta may be arrays that broadcast to (batch, attribute, channel).
          keys: one an image, for the noise; needed where sigma is above 0.
        """
        images = jax.device_put(images, self._split)
        n, beta = jnp.asarray(setting.n, jnp.float32), jnp.asarray(setting.beta, jnp.float32)
        if not setting.sigma:
            return self._clean(*self._weights, images, n, beta)
        sigma = jnp.asarray(setting.sigma, jnp.float32)
        keys = jax.device_put(keys, self._split)
        return self._noisy(*self._weights, images, keys, n, beta, sigma, jnp.asarray(setting.clip))

    def over(
        self, records: Records, size: int, batch_size: int, setting: Setting = Setting()
    ) -> Iterator[Float[np.ndarray, "batch attribute"]]:
        """Yields the logits of every record once and in order, batch by batch.

        One batch is always computing while the last one is fetched. The batch size changes
        nothing but the speed.
        """
        batch_size = -(-batch_size // self.devices) * self.devices
        waiting = None
        for batch in evaluation_batches(records, size, batch_size):
            names = [records.names[i] for i in batch.indices]
            keys = noise_keys(names, setting.sigma, setting.seed) if setting.sigma else None
            running = self.logits(batch.images, setting, keys), batch.real
            if waiting is not None:
                yield np.asarray(waiting[0])[waiting[1]]
            waiting = running
        if waiting is not None:
            yield np.asarray(waiting[0])[waiting[1]]
