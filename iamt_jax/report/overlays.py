"""Small pictures of maps and photographs: paletted PNGs to overlay on a photograph."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image

MASKS, SIGNED = "viridis", "PuOr"
"""Colour maps of masks and of correlations; both are readable by the colour-blind."""

_FOR, _AGAINST = (0.33, 0.15, 0.72), (1.0, 0.55, 0.0)
"""Colours of evidence for and against an attribute, over a grey photograph."""

_LEVELS = 64
"""Number of colours of a map: steps are invisible, and files are small."""

_LARGEST = 128
"""Longest side of a map in the page, in pixels."""

_OPAQUE = 0.85
"""Opacity of a signed map at its maximum; where the map is 0 it is transparent."""

_Picture = UInt8[np.ndarray, "y x 3"]


def mask_png(mask: Float[np.ndarray, "height width"]) -> bytes:
    """Encodes a mask in [0, 1] as an opaque PNG at its own size."""
    colours = colormaps[MASKS](np.linspace(0, 1, _LEVELS))[:, :3]
    return _paletted(np.clip(mask, 0, 1), colours, None)


def mask_map_png(values: Float[np.ndarray, "height width"]) -> bytes:
    """Encodes a map of masks like a mask, from its least value (dark) to its greatest (light)."""
    low, high = values.min(), values.max()
    return mask_png((values - low) / max(high - low, 1e-30))


def signed_png(values: Float[np.ndarray, "y x"], scale: float) -> bytes:
    """Encodes a signed map as PNG: purple for, orange against, transparent at 0, full colour at
    `scale`."""
    strength = np.linspace(-1, 1, _LEVELS)
    colours = np.where(strength[:, None] > 0, _FOR, _AGAINST)
    # The square root makes faint values visible; values near 0 stay transparent.
    opacity = _OPAQUE * np.sqrt(np.maximum(np.abs(strength) - 2 / _LEVELS, 0))
    return _paletted(0.5 + 0.5 * np.clip(values / max(scale, 1e-12), -1, 1), colours, opacity)


def _paletted(
    values: Float[np.ndarray, "y x"],
    colours: Float[np.ndarray, "level 3"],
    opacity: Float[np.ndarray, " level"] | None,
) -> bytes:
    """Encodes values in [0, 1] as a PNG of `_LEVELS` colours."""
    if max(values.shape) > _LARGEST:
        smaller = Image.fromarray(np.asarray(values, np.float32))
        smaller.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BILINEAR)
        values = np.asarray(smaller)
    index = np.rint(np.nan_to_num(values) * (_LEVELS - 1)).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(np.rint(colours * 255).astype(np.uint8).tobytes())
    transparency = None if opacity is None else np.rint(opacity * 255).astype(np.uint8).tobytes()
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=transparency)
    return buffer.getvalue()


def photograph_webp(image: _Picture) -> bytes:
    """Encodes a photograph for the page."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((2 * _LARGEST, 2 * _LARGEST))
    picture.save(buffer, "WEBP", quality=90)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Encodes a picture as a data URI, so that the page needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def laid_over(
    image: _Picture, overlay: bytes, opacity: float, size: int, grey: bool = False
) -> _Picture:
    """Blends an overlay with its photograph at `size` pixels, for PNG sheets."""
    below = Image.fromarray(image).convert("L" if grey else "RGB").convert("RGBA")
    below = below.resize((size, size), Image.Resampling.BICUBIC)
    above = Image.open(io.BytesIO(overlay)).convert("RGBA")
    above = above.resize((size, size), Image.Resampling.BICUBIC)
    above.putalpha(above.getchannel("A").point(lambda a: int(a * opacity)))
    return np.asarray(Image.alpha_composite(below, above).convert("RGB"))
