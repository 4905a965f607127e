"""Attention pooling: features and head parameters in, pooled masked features out (Eq. 9).

The masks of all K heads are by far the largest tensor of the method. They are never stored: they
are computed tile by tile, and again in the backward pass.

The tiled form (ops/tiled.py) runs on any device; Pallas kernels (ops/kernels.py) exist for GPU and
TPU. A program takes the form of the platform that it is lowered for, by the table `FORMS`. The
environment variable IAMT_POOLING, read when a program is traced, overrides the table:

- `auto`, or unset: the table's form.
- `tiled`: the tiled form on every platform.
- `kernel`: kernels on GPU and TPU; the tiled form on a CPU, which cannot run them.
- `interpret`: the GPU's kernels in Pallas' interpret mode, on any platform; slow, for tests.

Arrays of a shape or type that a platform's kernels do not support always take the tiled form.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from iamt_jax.errors import InputError
from iamt_jax.ops import kernels
from iamt_jax.ops.kernels import kernel_derivatives, kernel_sums
from iamt_jax.ops.tiled import Limits, tiled_derivatives, tiled_sums


class Form(NamedTuple):
    """Form of the pooling on one kind of device."""

    platform: str
    generations: tuple[str, ...]
    """First letters of the device's kind or, with CUDA, of its compute capability."""
    kernels: bool
    """Kernels, for arrays that they support."""
    limits: Limits
    """Of the tiled form."""


FORMS = (
    # Measured: in cache, and fast even with wide vector units.
    Form("cpu", ("",), kernels=False, limits=Limits(heads=5, rows=2048)),
    # Heads beside one another are moved between layouts for more than half of the time, hence one
    # head in a tile. Estimated by the schedule, 256 positions: kernels 4.6 ms, tiles 8.3.
    Form("tpu", ("TPU v6",), kernels=True, limits=Limits(heads=1, rows=8192)),
    # Estimated likewise for a v5e: kernels 5.5 ms, tiles 3.5, with the limits of a CPU 7.8.
    Form("tpu", ("",), kernels=False, limits=Limits(heads=1, rows=8192)),
    # Before Ampere the kernels have not been compiled, and a T4 lacks the shared memory for them.
    # The limits are those of few launches: 192 in 364 MB; with those of a CPU 2,639 in 68 MB.
    Form("cuda", ("5", "6", "7"), kernels=False, limits=Limits(heads=5, rows=65536)),
    # Ampere (8.0) and Hopper (9.0): 12 launches, 72 MB, and no register spills.
    Form("cuda", ("",), kernels=True, limits=Limits(heads=5, rows=65536)),
)
"""Form of each platform and generation; the first row that fits counts.

The figures are the compiler's (docs/performance.md). The kernels have run on an H100, but the forms
were not timed against each other there; no TPU has run any of them. benchmarks/forms.py does it.
"""

VARIABLE = "IAMT_POOLING"
CHOICES = ("auto", "tiled", "kernel", "interpret")


def attention_pool(
    features: Float[Array, "batch height width channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "..."] | None = None,
    beta: Float[Array, "..."] | None = None,
) -> tuple[Float[Array, "batch attribute channel"], Float[Array, "batch attribute"]]:
    r"""Pools `(1 + g(M; n, beta)) * features` over positions, and sums the masks.

    .. math::
      M^k = \mathrm{sigmoid}(f W^k + a^k), \qquad
      p^k = \frac{1}{HW} \sum_{hw} (1 + g(M^k; n, \beta))_{hw} f_{hw}

    Derivatives with respect to all inputs are exact, and finite even where masks saturate.

    Args:
      features: f, float32 or bfloat16; matrix products take this type and accumulate in float32.
      kernel: W^k, the heads' 1x1 convolutions, float32.
      bias: a^k, float32.
      n: power of the tone curve, n >= 0, broadcastable to (batch, attribute, channel). None means
        1, and computes no power.
      beta: offset of the tone curve, 0 <= beta <= 1, broadcastable likewise. None means 0.

    Returns:
      Pooled features, and the sum of each mask M^k (before the curve) over positions and
      channels; float32.
    """
    shape = (features.shape[0], *bias.shape)
    if n is not None:
        n = jnp.broadcast_to(jnp.asarray(n, jnp.float32), shape)[None]
    sums, masks = _sums(features, kernel, bias, n)
    plain = jnp.mean(features, axis=(1, 2), dtype=jnp.float32)[:, None]
    curved = sums[0] / _positions(features)
    if beta is None:
        return plain + curved, jnp.sum(masks, axis=-1)
    beta = jnp.asarray(beta, jnp.float32)
    pooled = (1 - beta) * plain + (1 + beta) * curved
    return pooled, jnp.sum(masks, axis=-1)


def pool_powers(
    features: Float[Array, "batch height width channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n_values: Float[Array, " n"],
) -> Float[Array, "n batch attribute channel"]:
    r"""Means over positions of h(M; n) f (Eq. 8) for several n; masks are computed once.

    These means give the pooled features for any beta, since g is affine in beta:

    .. math::
      \mathrm{mean}((1 + g(M; n, \beta)) f)
      = (1 - \beta) \, \mathrm{mean}(f) + (1 + \beta) \, \mathrm{mean}(h(M; n) f)
    """
    n = jnp.asarray(n_values, jnp.float32)[:, None, None, None]
    n = jnp.broadcast_to(n, (len(n), features.shape[0], *bias.shape))
    return _sums(features, kernel, bias, n)[0] / _positions(features)


def _positions(features: Array) -> int:
    return features.shape[1] * features.shape[2]


def _sums(features: Array, kernel: Array, bias: Array, n: Array | None) -> tuple[Array, Array]:
    flat = features.reshape(features.shape[0], -1, features.shape[-1])
    return curved_sums(flat, kernel, bias, n)


@jax.custom_vjp
def curved_sums(
    features: Float[Array, "batch position channel"],
    kernel: Float[Array, "attribute channel channel"],
    bias: Float[Array, "attribute channel"],
    n: Float[Array, "curve batch attribute channel"] | None,
) -> tuple[Float[Array, "curve batch attribute channel"], Float[Array, "batch attribute channel"]]:
    """Sums over positions: h(M; n) f for each curve, and the masks M.

    With n = None there is one curve, n = 1, for which h(M; 1) = M. `tiled.tiled_sums` describes the
    arguments and the results.
    """
    return dispatched_sums(features, kernel, bias, n)


def _forward(features, kernel, bias, n):
    return curved_sums(features, kernel, bias, n), (features, kernel, bias, n)


def _backward(saved, derivatives):
    return dispatched_derivatives(*saved, *derivatives)


curved_sums.defvjp(_forward, _backward)


def dispatched_sums(features, kernel, bias, n):
    """Runs `tiled_sums` or the kernels' `kernel_sums`."""
    return _dispatch(tiled_sums, kernel_sums, features, kernel, bias, n)


def dispatched_derivatives(features, kernel, bias, n, to_sums, to_masks):
    """Runs `tiled_derivatives` or the kernels' `kernel_derivatives`."""
    inputs = features, kernel, bias, n, to_sums, to_masks
    return _dispatch(tiled_derivatives, kernel_derivatives, *inputs)


def _dispatch(
    tiled: Callable, by_kernels: Callable, features, kernel, bias, n, *derivatives
) -> Any:
    choice = _choice()
    inputs = features, kernel, bias, n, *derivatives
    default = functools.partial(tiled, limits=form_of("cpu").limits)
    if not isinstance(features.shape[0], int):  # An exported program of any batch size: one tile.
        return default(*inputs)
    if choice == "interpret":
        fits = kernels.fits(features, kernel, n, "cuda")
        return by_kernels(*inputs, platform="cuda", interpret=True) if fits else default(*inputs)
    branches = {}
    for platform in kernels.TARGETS:
        form = form_of(platform)
        if (
            (choice == "kernel" or (choice == "auto" and form.kernels))
            and kernels.fits(features, kernel, n, platform)
            and kernels.accepted(platform)
        ):
            branches[platform] = functools.partial(by_kernels, platform=platform)
        else:
            branches[platform] = functools.partial(tiled, limits=form.limits)
    return lax.platform_dependent(*inputs, default=default, **branches)


def form_of(platform: str) -> Form:
    """The table's row for a platform: that of the default device if it is of this platform, else
    the last, which a program that is compiled for another machine takes."""
    rows = [form for form in FORMS if form.platform == platform]
    device = jax.devices()[0]
    if {"gpu": "cuda"}.get(device.platform, device.platform) != platform:
        return rows[-1]
    generation = getattr(device, "compute_capability", device.device_kind)
    return next(form for form in rows if generation.startswith(form.generations))


def _choice() -> str:
    choice = os.environ.get(VARIABLE, CHOICES[0])
    if choice not in CHOICES:
        raise InputError(f"{VARIABLE}: found {choice!r}, expected one of {', '.join(CHOICES)}")
    return choice
