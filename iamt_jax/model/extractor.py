"""The feature extractor f_f: a dilation network (Yu & Koltun, ICLR 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from iamt_jax.config import GROUPS, ModelConfig


def scaled_normal(scale: float) -> Callable:
    """Initialiser: a truncated normal of variance `scale` / fan-in.

    Scale 1 is LeCun's, 2 is He's, for layers before a ReLU. The values are those of
    `jax.nn.initializers`, but drawn flat and then reshaped: for each new shape, XLA's CPU compiler
    takes 0.4 s for a flat draw and up to 1.1 s for one of four dimensions (docs/log.md).
    """

    def draw(key, shape, dtype=jnp.float32, out_sharding=None):
        # 0.8796 is the standard deviation of a normal truncated at +-2.
        deviation = math.sqrt(scale / math.prod(shape[:-1])) / 0.87962566103423978
        flat = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
        return (flat * deviation).reshape(shape)

    return draw


DATA_AXIS = "data"
"""Mapped axis of the training step, over which BatchNorm averages its statistics."""

STATISTICS_MOMENTUM = 0.95
"""Decay of BatchNorm's running statistics per step; low, so that short runs forget their start."""


class BatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` over all axes but the last, in float32; on a CPU its sums are products.

    XLA reduces the leading axes of an array on one CPU thread; a product with ones uses all of
    them, forward and backward, and made the layer 3 to 6 times as fast (docs/log.md). Elsewhere
    XLA joins sums with their surroundings, and products would be launches of their own.
    """

    def __call__(self, x: Array, use_running_average: bool) -> Array:
        """Normalised x; without the running average, by its own statistics, which update it."""
        x32 = x.astype(jnp.float32)
        if use_running_average:
            slope, offset = self._affine(self.mean[...], self.var[...])
            return (x32 * slope + offset).astype(self.dtype)
        flat = x32.reshape(-1, x.shape[-1])
        moments = jax.lax.platform_dependent(flat, cpu=_moments_by_products, default=_moments)
        if self.axis_name:
            moments = jax.lax.pmean(moments, self.axis_name)
        mean, variance = moments[0], jnp.maximum(moments[1] - moments[0] ** 2, 0)
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * mean
        self.var[...] = keep * self.var[...] + (1 - keep) * variance
        affine = self._affine(mean, variance)
        y = jax.lax.platform_dependent(flat, affine, cpu=_line_by_products, default=_line)
        return y.reshape(x.shape).astype(self.dtype)

    def _affine(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Slope and offset of the normalisation, by channel."""
        slope = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        return slope, self.bias[...] - mean * slope


def _moments(x: Array) -> Float[Array, "2 channel"]:
    """Means of x and of its square, by channel."""
    return jnp.stack([jnp.mean(x, axis=0), jnp.mean(x * x, axis=0)])


def _moments_by_products(x: Array) -> Float[Array, "2 channel"]:
    ones = jnp.ones((1, len(x)), jnp.float32)
    return jnp.concatenate([ones @ x, ones @ (x * x)]) / len(x)


def _line(x: Array, affine: tuple[Array, Array]) -> Array:
    """slope x + offset, by channel."""
    slope, offset = affine
    return x * slope + offset


def _line_by_products(x: Array, affine: tuple[Array, Array]) -> Array:
    slope, offset = affine
    ones = jnp.ones((len(x), 1), jnp.float32)
    return x * (ones @ slope[None]) + ones @ offset[None]


def normalisation(channels: int, config: ModelConfig, rngs: nnx.Rngs) -> nnx.Module:
    """Builds one normalisation layer."""
    if config.norm == "group":
        return nnx.GroupNorm(channels, num_groups=GROUPS, dtype=config.dtype, rngs=rngs)
    return BatchNorm(
        channels,
        momentum=STATISTICS_MOMENTUM,
        axis_name=DATA_AXIS,
        dtype=config.dtype,
        rngs=rngs,
    )


def convolution(x: Array, kernel: Array, strides: tuple[int, ...], padding: str, **others) -> Array:
    """`lax.conv_general_dilated` for channels last; 1x1 kernels are one matrix product, which is
    faster on a CPU."""
    if kernel.shape[:2] == (1, 1) and set(strides) == {1}:
        return jnp.dot(x, kernel[0, 0])
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **others)


class ConvNorm(nnx.Module):
    """A 3x3 convolution without bias, followed by normalisation; dilation 0 makes it 1x1."""

    def __init__(
        self, inputs: int, outputs: int, config: ModelConfig, *, stride=1, dilation=1, rngs
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (3, 3) if dilation else (1, 1),
            strides=stride,
            kernel_dilation=dilation or 1,
            use_bias=False,
            dtype=config.dtype,
            kernel_init=scaled_normal(2),
            conv_general_dilated=convolution,
            rngs=rngs,
        )
        self.norm = normalisation(outputs, config, rngs)

    def __call__(self, x: Array, train: bool) -> Array:
        """`train`: normalise by the batch's statistics, and update the running ones."""
        x = self.conv(x)
        if isinstance(self.norm, nnx.BatchNorm):
            return self.norm(x, use_running_average=not train)
        return self.norm(x)


class Block(nnx.Module):
    """A residual block of two convolutions of the same dilation."""

    def __init__(self, channels: int, config: ModelConfig, *, dilation: int, rngs: nnx.Rngs):
        self.first = ConvNorm(channels, channels, config, dilation=dilation, rngs=rngs)
        self.second = ConvNorm(channels, channels, config, dilation=dilation, rngs=rngs)

    def __call__(self, x: Array, train: bool) -> Array:
        """Adds the two convolutions to their input; `train` as for `ConvNorm`."""
        y = jax.nn.relu(self.first(x, train))
        return jax.nn.relu(x + self.second(y, train))


def with_coordinates(x: Float[Array, "batch y x c"]) -> Float[Array, "batch y x c+2"]:
    """Adds two channels, the height and the width of each pixel from -1 to 1 (Liu et al. 2018)."""
    y, x_ = jnp.meshgrid(
        *(jnp.linspace(-1, 1, side, dtype=x.dtype) for side in x.shape[1:3]), indexing="ij"
    )
    place = jnp.stack([y, x_], axis=-1)
    return jnp.concatenate([x, jnp.broadcast_to(place, (*x.shape[:3], 2))], axis=-1)


class Extractor(nnx.Module):
    """f_f: a front end with strides, then a context module of dilated residual blocks.

    The front end halves the image for each entry of `config.widths`; the context module works at
    that resolution. How far a position of the features sees, `config.receptive_field`, decides
    what its mask can say of the place: with the whole face in view, masks point nowhere.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        inputs, names = 5 if config.coordinates else 3, []

        def add(name: str, module: nnx.Module) -> None:
            setattr(self, name, module)
            names.append(name)

        for i, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            add(f"down{i}", ConvNorm(inputs, width, config, stride=2, rngs=rngs))
            for j in range(blocks):
                add(f"block{i}_{j}", Block(width, config, dilation=1, rngs=rngs))
            inputs = width
        for i, dilation in enumerate(config.dilations):
            add(f"context{i}", Block(inputs, config, dilation=dilation, rngs=rngs))
        self.names = tuple(names)
        self.dtype, self.mirror, self.coordinates = config.dtype, config.mirror, config.coordinates

    def __call__(
        self, images: Float[Array, "batch height width 3"], train: bool = False
    ) -> Float[Array, "batch height width channel"]:
        """Features f of images; with `config.mirror`, at inference, the mean of those of an image
        and of its mirror image.

        Args:
          images: in [0, 1] units; noise may leave that range.
          train: normalise by the statistics of the batch, and update the running ones.

        Returns:
          Features in the compute type; height and width are those of the images divided by the
          stride, 2 ** len(widths).
        """
        if train or not self.mirror:
            return self._once(images, train)
        turned = self._once(images[:, :, ::-1], train=False)[:, :, ::-1]
        return (self._once(images, train=False) + turned) / 2

    def _once(self, images: Array, train: bool) -> Array:
        x = (images - 0.5) * 4
        if self.coordinates:
            x = with_coordinates(x)
        x = x.astype(self.dtype)
        for name in self.names:
            x = getattr(self, name)(x, train)
            if name.startswith("down"):
                x = jax.nn.relu(x)
        return x
