"""JPEG and back in integers, bit by bit as libjpeg (and so Pillow) does it; no entropy coding."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Images = Float[Array, "batch height width 3"]
Plane = Int[Array, "batch height width"]

LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Quantisation steps of brightness at quality 50 (ITU-T T.81, table K.1)."""

CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
"""Quantisation steps of colour at quality 50 (ITU-T T.81, table K.2)."""

_LEFT = np.array(
    [
        [8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260],
        [10703, 4433, -4433, -10703],
        [9633, -2259, -11362, -6436],
        [8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633],
        [4433, -10704, 10704, -4433],
        [2260, -6436, 9633, -11363],
    ],
    np.int32,
)
_PARITY = np.array([1, -1] * 4, np.int32)[:, None]
DCT = np.concatenate([_LEFT, _PARITY * _LEFT[:, ::-1]], axis=1)
"""sqrt(8) 2^13 times the orthonormal DCT: what libjpeg's jfdctint.c and, transposed, jidctint.c
multiply by. Their butterflies are linear up to one rounding a pass, so a matrix does the same."""


def jpeg_compression(images: Images, quality: int) -> Images:
    """What is left of an image after JPEG at `quality` 1 to 100, colour at half resolution.

    Equals Pillow's `save(quality=quality)` and `open`, for images at least 5 pixels wide.
    Pixels are rounded to 8 bits first, and the result is a multiple of 1/255.
    """
    height, width = images.shape[1:3]
    levels = jnp.round(images * 255).astype(jnp.int32)
    luma, blue, red = _to_ycc(levels)
    luma = _code(luma, _steps(LUMA, quality))[:, :height, :width]
    blue, red = (
        _double(_code(_halve(colour), _steps(CHROMA, quality)), height, width)
        for colour in (blue, red)
    )
    return _to_rgb(luma, blue, red).astype(jnp.float32) / 255


def _to_ycc(levels: Int[Array, "batch height width 3"]) -> tuple[Plane, Plane, Plane]:
    r, g, b = levels[..., 0], levels[..., 1], levels[..., 2]
    centre = (128 << 16) + (1 << 15) - 1
    return (
        (19595 * r + 38470 * g + 7471 * b + (1 << 15)) >> 16,
        (-11059 * r - 21709 * g + 32768 * b + centre) >> 16,
        (32768 * r - 27439 * g - 5329 * b + centre) >> 16,
    )


def _to_rgb(luma: Plane, blue: Plane, red: Plane) -> Int[Array, "batch height width 3"]:
    blue, red = blue - 128, red - 128
    r = luma + _shift(91881 * red, 16)
    g = luma + _shift(-22554 * blue - 46802 * red, 16)
    b = luma + _shift(116130 * blue, 16)
    return jnp.clip(jnp.stack([r, g, b], axis=-1), 0, 255)


def _steps(table: Int[np.ndarray, "8 8"], quality: int) -> Int[np.ndarray, "8 8"]:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((table * percent + 50) // 100, 1, 255).astype(np.int32)


def _code(plane: Plane, steps: Int[np.ndarray, "8 8"]) -> Plane:
    """Rounds the cosine coefficients of 8 x 8 blocks; the plane grows to whole blocks."""
    plane = _extend(plane, -plane.shape[1] % 8, -plane.shape[2] % 8)
    batch, height, width = plane.shape
    blocks = plane.reshape(batch, height // 8, 8, width // 8, 8) - 128
    rows = _shift(jnp.einsum("uj,bxiyj->bxiyu", DCT, blocks), 11)
    coefficients = _shift(jnp.einsum("vi,bxiyu->bxvyu", DCT, rows), 15)  # 8 times orthonormal
    steps = steps[:, None, :]
    size = (jnp.abs(coefficients) + 4 * steps) // (8 * steps)
    coefficients = jnp.sign(coefficients) * size * steps
    columns = _shift(jnp.einsum("vi,bxvyu->bxiyu", DCT, coefficients), 11)
    blocks = _shift(jnp.einsum("uj,bxiyu->bxiyj", DCT, columns), 18)
    return jnp.clip(blocks + 128, 0, 255).reshape(batch, height, width)


def _halve(plane: Plane) -> Plane:
    """Means of 2 x 2, halves rounded down and up in turns; columns to whole blocks of 16."""
    plane = _extend(plane, plane.shape[1] % 2, -plane.shape[2] % 16)
    pairs = plane[:, ::2] + plane[:, 1::2]
    total = pairs[..., ::2] + pairs[..., 1::2]
    return (total + 1 + jnp.arange(total.shape[2]) % 2) >> 2


def _double(plane: Plane, height: int, width: int) -> Plane:
    """Interpolates 3 : 1 between neighbours in both directions ("fancy upsampling")."""
    plane = plane[:, : (height + 1) // 2, : (width + 1) // 2]
    rows = jnp.pad(plane, ((0, 0), (1, 1), (0, 0)), mode="edge")
    near = 3 * rows[:, 1:-1]
    rows = jnp.stack([near + rows[:, :-2], near + rows[:, 2:]], axis=2)
    rows = rows.reshape(len(plane), -1, plane.shape[2])
    columns = jnp.pad(rows, ((0, 0), (0, 0), (1, 1)), mode="edge")
    near = 3 * columns[..., 1:-1]
    both = [(near + columns[..., :-2] + 8) >> 4, (near + columns[..., 2:] + 7) >> 4]
    return jnp.stack(both, axis=-1).reshape(*rows.shape[:2], -1)[:, :height, :width]


def _extend(plane: Plane, rows: int, columns: int) -> Plane:
    return jnp.pad(plane, ((0, 0), (0, rows), (0, columns)), mode="edge")


def _shift(values: Int[Array, "..."], bits: int) -> Int[Array, "..."]:
    """Division by 2^bits, rounded, halves up."""
    return (values + (1 << bits - 1)) >> bits
