"""Sheets: many small pictures on one, as people like to look at them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

Pictures = UInt8[np.ndarray, "count height width 3"]

COLOURS = "viridis"
"""Colour map of masks: even in lightness, and readable by the colour-blind."""

GAP = 2
"""White pixels between pictures."""


def contact_sheet(pictures: Pictures, columns: int, scale: int = 1) -> Image.Image:
    """Lays pictures out in rows of `columns`, each enlarged `scale` times without smoothing."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    return labelled_rows([("", row) for row in rows], scale)


def labelled_rows(rows: Sequence[tuple[str, Pictures]], scale: int = 1) -> Image.Image:
    """Lays rows of equally sized pictures under one another, each with its name at the left.

    Args:
      rows: name and pictures of each row; without any name, no margin is kept for them.
      scale: each pixel becomes this many, both ways.
    """
    height, width = rows[0][1].shape[1] * scale, rows[0][1].shape[2] * scale
    margin = 170 if any(name for name, _ in rows) else 0
    longest = max(len(pictures) for _, pictures in rows)
    sheet = Image.new(
        "RGB", (margin + longest * (width + GAP), len(rows) * (height + GAP)), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for row, (name, pictures) in enumerate(rows):
        top = row * (height + GAP)
        pen.text((4, top + height // 2 - 8), name.replace("_", " "), fill="black", font=font)
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + column * (width + GAP), top))
    return sheet


def heat(maps: Float[np.ndarray, "count height width"], size: int) -> Pictures:
    """Maps as colours, each from its own least (dark) to its own greatest value (light), enlarged
    to `size` pixels."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    scaled = (maps - low) / np.maximum(high - low, 1e-12)
    colours = (colormaps[COLOURS](scaled)[..., :3] * 255).astype(np.uint8)
    return np.stack(
        [
            np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC))
            for c in colours
        ]
    )
