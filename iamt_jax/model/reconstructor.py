"""The reconstructor f_r: features -> input image (Eq. 5)."""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

from iamt_jax.config import ModelConfig
from iamt_jax.model.initialisation import scaled_normal


def depth_to_space(x: Float[Array, "batch height width channel"], block: int) -> Array:
    """(b, h, w, block*block*c) -> (b, block*h, block*w, c), each position becoming a tile."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * block, w * block, c // block**2)


class Reconstructor(nnx.Module):
    """Two convolutions around one doubling, then a tile of pixels a position.

    Depth-to-space instead of transposed convolutions: no checkerboard, and their gradient is
    slow on CPU.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        channels, self.tile = config.widths[-1], 2 ** (len(config.widths) - 1)
        inner = channels // 2
        common = {"dtype": config.dtype, "kernel_init": scaled_normal(1), "rngs": rngs}
        self.widen = nnx.Conv(channels, 4 * inner, (1, 1), **common)
        self.paint = nnx.Conv(inner, 3 * self.tile**2, (3, 3), **common)

    def __call__(
        self, features: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch height width 3"]:
        """Features -> an image of the input's size, in its [0, 1] units (not clipped)."""
        x = jax.nn.relu(depth_to_space(self.widen(features), 2))
        return 0.5 + depth_to_space(self.paint(x), self.tile)
