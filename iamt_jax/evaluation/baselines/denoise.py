"""Classical denoising before the network: wavelets, non-local means, total variation.

Every parameter is a rule of sigma, tuned for the highest mean PSNR on 32 photographs at 64 pixels
and sigma 0.05 to 0.5 (docs/log.md): what the transformation is compared with should be strong.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from jaxtyping import Float
from skimage.restoration import (
    cycle_spin,
    denoise_nl_means,
    denoise_tv_chambolle,
    denoise_wavelet,
)

Method = Literal["wavelet", "nlm", "tv"]
Image = Float[np.ndarray, "height width 3"]
Plane = Float[np.ndarray, "height width"]

_COLOURS = np.array([[2, 2, 2], [3, 0, -3], [1, -2, 1]]) / np.sqrt([[12], [18], [6]])
"""Orthonormal rows: brightness, red against blue, green against both. Noise stays white of the
same sigma, and most of what a photograph shows is gathered in the first plane."""


def denoise(
    images: Float[np.ndarray, "batch height width 3"], sigma: float, method: Method
) -> Float[np.ndarray, "batch height width 3"]:
    """Removes white Gaussian noise of a known strength from each image by itself.

    The result is cut to [0, 1], where clean images lie: that only brings it nearer to them.

      wavelet  BayesShrink on Daubechies-2 coefficients, averaged over four shifts (Chang, Yu and
               Vetterli, 2000; Coifman and Donoho, 1995)
      nlm      non-local means (Buades, Coll and Morel, 2005; Darbon et al., 2008)
      tv       total variation (Rudin, Osher and Fatemi, 1992; Chambolle, 2004)

    The images are dealt to one thread a processor.

    Args:
      images: any float type; noise may leave [0, 1], and should not have been clipped.
      sigma: standard deviation of the noise, [0, 1] pixel units, 0 or more; 0 only clips.
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


def _wavelet(image: Image, sigma: float) -> Image:
    levels = max(1, int(np.log2(min(image.shape[:2]) / 3)))  # as deep as four taps allow
    options = {"sigma": sigma, "wavelet": "db2", "wavelet_levels": levels}
    return _by_plane(
        image, lambda plane, _: cycle_spin(plane, denoise_wavelet, 1, workers=1, func_kw=options)
    )


def _nlm(image: Image, sigma: float) -> Image:
    # scikit-image's example has h = 0.8 sigma, which blurs strong noise too much.
    return denoise_nl_means(
        image,
        patch_size=5,
        patch_distance=6,
        h=0.9 * sigma / (1 + 2.5 * sigma),
        sigma=sigma,
        fast_mode=True,
        channel_axis=-1,
    )


def _tv(image: Image, sigma: float) -> Image:
    # Brightness holds the edges; colours are smoother.
    brightness, colour = (0.5 + sigma) * sigma, (1 + 5 * sigma) * sigma
    weights = (brightness, colour, colour)
    return _by_plane(image, lambda plane, c: denoise_tv_chambolle(plane, weights[c]))


def _by_plane(image: Image, clean: Callable[[Plane, int], Plane]) -> Image:
    return np.stack([clean(image[..., c], c) for c in range(3)], axis=-1)


_METHODS = {"wavelet": _wavelet, "nlm": _nlm, "tv": _tv}
