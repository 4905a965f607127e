"""Maps as small pictures: paletted PNGs to lay over a photograph, and the photograph itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image

MASKS, SIGNED = "viridis", "PuOr"
"""Colour maps of masks and of correlations; both are readable by the colour-blind."""

FOR, AGAINST = (0.33, 0.15, 0.72), (1.0, 0.55, 0.0)
"""Ends of the signed map over a grey photograph."""

LEVELS = 64
"""Colours of a map; the eye sees no steps, and files are small."""

LARGEST = 128
"""Longest side of a picture in the page, pixels."""

OPAQUE = 0.85
"""Opacity of the strongest place of a signed map; where it is 0, the photograph shows."""

Picture = UInt8[np.ndarray, "y x 3"]


def mask_png(mask: Float[np.ndarray, "height width"]) -> bytes:
    """A mask in [0, 1] at its own size, opaque."""
    colours = colormaps[MASKS](np.linspace(0, 1, LEVELS))[:, :3]
    return _paletted(np.clip(mask, 0, 1), colours, None)


def signed_png(values: Float[np.ndarray, "y x"], scale: float) -> bytes:
    """A signed map: purple for, orange against, clear at 0; full colour at `scale`."""
    strength = np.linspace(-1, 1, LEVELS)
    colours = np.where(strength[:, None] > 0, FOR, AGAINST)
    # The root shows what is faint; where there is nothing, nothing is laid over.
    opacity = OPAQUE * np.sqrt(np.maximum(np.abs(strength) - 2 / LEVELS, 0))
    return _paletted(0.5 + 0.5 * np.clip(values / max(scale, 1e-12), -1, 1), colours, opacity)


def _paletted(
    values: Float[np.ndarray, "y x"],
    colours: Float[np.ndarray, "level 3"],
    opacity: Float[np.ndarray, " level"] | None,
) -> bytes:
    """Values in [0, 1] as a PNG of `LEVELS` colours."""
    values = smaller(values)
    index = np.rint(np.nan_to_num(values) * (LEVELS - 1)).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(np.rint(colours * 255).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    alpha = {}
    if opacity is not None:
        alpha["transparency"] = np.rint(opacity * 255).astype(np.uint8).tobytes()
    picture.save(buffer, "PNG", optimize=True, **alpha)
    return buffer.getvalue()


def smaller(values: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """At most `LARGEST` pixels a side."""
    if max(values.shape) <= LARGEST:
        return values
    picture = Image.fromarray(np.asarray(values, np.float32))
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def photograph_webp(image: Picture) -> bytes:
    """The photograph as the page shows it."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((2 * LARGEST, 2 * LARGEST))
    picture.save(buffer, "WEBP", quality=90)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """A picture inside the page: no other file, no network."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def laid_over(
    image: Picture, overlay: bytes, opacity: float, size: int, grey: bool = False
) -> Picture:
    """An overlay on its photograph at `size` pixels, for PNG sheets."""
    below = Image.fromarray(image).convert("L" if grey else "RGB").convert("RGBA")
    below = below.resize((size, size), Image.Resampling.BICUBIC)
    above = Image.open(io.BytesIO(overlay)).convert("RGBA")
    above = above.resize((size, size), Image.Resampling.BICUBIC)
    above.putalpha(above.getchannel("A").point(lambda a: int(a * opacity)))
    return np.asarray(Image.alpha_composite(below, above).convert("RGB"))
