"""Classical restoration by scikit-image, told the degradation and its severity.

Blurs that are a convolution are inverted by a Wiener filter with their true kernel (Wiener 1949),
contrast is stretched so that an image's percentiles become the average ones of clean photographs,
and the rest is smoothed by total variation (Chambolle 2004). The one parameter of each is chosen
for the highest PSNR on training photographs; None, which changes nothing, is one of the choices.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key
from skimage.restoration import denoise_tv_chambolle, wiener

from iamt_jax.degradation.families import degrade

CONVOLUTIONS = ("gaussian_blur", "defocus_blur", "motion_blur")
CONTRASTS = ("fog", "brightness", "contrast", "saturate")

BALANCES = (None, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Weights of the Wiener filter's prior."""

PERCENTILES = (None, 0.0, 0.5, 1.0, 2.0, 5.0)
"""Per cent of the pixels that are cut off at either end."""

WEIGHTS = (None, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
"""Weights of total variation."""

MARGIN = 16
"""Pixels by which images are extended before they are deconvolved."""

_Images = Float[np.ndarray, "batch height width 3"]


def choices(family: str) -> tuple[float | None, ...]:
    """Parameters to choose from."""
    if family in CONVOLUTIONS:
        return BALANCES
    return PERCENTILES if family in CONTRASTS else WEIGHTS


class Method(NamedTuple):
    """How a degradation is undone."""

    family: str
    parameter: float | None
    """One of `choices`."""
    low: float = 0.0
    """Average low percentile of clean photographs."""
    high: float = 1.0


def choose(clean: _Images, family: str, severity: int, keys: Key[Array, " batch"]) -> Method:
    """The method with the highest mean PSNR.

    Args:
      clean: photographs in [0, 1].
      family: one of `severities.FAMILIES`.
      severity: 1 to 5.
      keys: of their degradation, one an image.
    """
    images = np.asarray(degrade(clean, family, severity, keys))
    kernels = blur_kernels(clean.shape, family, severity, keys)

    def method(parameter: float | None) -> Method:
        if family not in CONTRASTS or parameter is None:
            return Method(family, parameter)
        limits = np.percentile(clean, (parameter, 100 - parameter), axis=(1, 2, 3)).mean(1)
        return Method(family, parameter, *limits.tolist())

    def psnr(chosen: Method) -> float:
        found = restore_classically(images, chosen, kernels)
        return -10 * np.log10(np.square(found - clean).mean((1, 2, 3)) + 1e-9).mean()

    return max(map(method, choices(family)), key=psnr)


def blur_kernels(
    shape: tuple[int, ...], family: str, severity: int, keys: Key[Array, " batch"]
) -> Float[np.ndarray, "batch height width"] | None:
    """Kernels of the images' blur: what becomes of one bright pixel. None for other families."""
    if family not in CONVOLUTIONS:
        return None
    point = np.zeros(shape, np.float32)
    point[:, shape[1] // 2, shape[2] // 2] = 1
    return np.asarray(degrade(point, family, severity, keys))[..., 0]


def restore_classically(
    images: _Images, method: Method, kernels: Float[np.ndarray, "batch height width"] | None
) -> _Images:
    """Restores degraded images, in one thread a processor.

    Args:
      images: in [0, 1].
      method: from `choose`.
      kernels: of the images' blur, from `blur_kernels`.
    """
    if method.parameter is None:
        return images

    def restored(image: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
        if kernel is not None:
            wide = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
            planes = [wiener(wide[..., c], kernel, method.parameter, clip=False) for c in range(3)]
            return np.stack(planes, -1)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        if method.family in CONTRASTS:
            cut = np.percentile(image, (method.parameter, 100 - method.parameter))
            scale = (method.high - method.low) / max(1e-3, cut[1] - cut[0])
            return method.low + (image - cut[0]) * scale
        return denoise_tv_chambolle(image, method.parameter, channel_axis=-1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(restored, images, [None] * len(images) if kernels is None else kernels)
        return np.clip(np.stack(list(found)), 0, 1).astype(np.float32)
