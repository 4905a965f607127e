"""Figures as PNG files: tone curves (Fig. 3), an atlas of masks (Fig. 4), correlations."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from iamt_jax.progress import progress_bar
from iamt_jax.report.overlays import SIGNED, laid_over, mask_map_png, mask_png, signed_png
from iamt_jax.report.tables import brief

_TILE = 96
"""Side of a picture in the atlas, in pixels."""

_LONGEST_NAME = 30
"""Largest width of a name beside a matrix, in characters."""

_SHOWN_BETAS = (0.0, 0.5, 1.0)

GAP = 2
"""White pixels between pictures."""


def figures(findings: Mapping, arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Draws all figures: file name -> PNG."""
    names = findings["attributes"]
    files = {"curves.png": curves_png(arrays)}
    order = clustered(arrays["correlation_masks"])
    for kind in ("masks", "labels", "predictions"):
        matrix, title = arrays[f"correlation_{kind}"], f"correlations of attributes, {kind}"
        files[f"attributes-{kind}.png"] = heat_map_png(matrix, order, title, names)
    features = arrays["correlation_features"]
    files["features.png"] = heat_map_png(features, clustered(features), "correlations of channels")
    for k, name in enumerate(progress_bar(names, unit="attribute", desc="drawing sheets")):
        files[f"atlas-{k:02}-{in_file_name(name)}.png"] = atlas_png(findings, arrays, k)
    return files


def in_file_name(name: str) -> str:
    """Converts a name to a part of a file name valid on every system; not injective."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:60]


def curves_png(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Draws g(M; n, beta) over M, one panel for each beta (Fig. 3)."""
    n, beta, values = arrays["curve_n"], arrays["curve_beta"], arrays["curves"]
    masks = np.linspace(0, 1, values.shape[2])
    shown = [int(np.argmin(np.abs(beta - b))) for b in _SHOWN_BETAS]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
    for axis, b in zip(axes, shown, strict=True):
        for i, power in enumerate(n):
            axis.plot(masks, values[i, b], ls=dashes[i % len(dashes)], label=f"n = {power:g}")
        axis.set(title=f"β = {beta[b]:g}", xlabel="mask M")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("g(M; n, β)")
    axes[0].legend()
    return _png(figure)


def heat_map_png(
    matrix: Float[np.ndarray, "variable variable"],
    order: np.ndarray,
    title: str,
    names: Sequence[str] | None = None,
) -> bytes:
    """Draws a correlation matrix in the given order: orange negative, purple positive.

    The colour scale ends at the largest absolute value off the diagonal.
    """
    side = 7 if names is None else max(4, 3 + 0.17 * len(names))
    limit = max(0.01, np.abs(matrix - np.diag(np.diag(matrix))).max())
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(matrix[np.ix_(order, order)], cmap=SIGNED, vmin=-limit, vmax=limit)
    axis.set_title(title)
    if names is None:
        axis.set(xlabel="channel, clustered", ylabel="channel, clustered")
    else:
        shown = brief(names, _LONGEST_NAME)
        # An unescaped dollar sign would start a formula.
        labels = [shown[i].replace("_", " ").replace("$", r"\$") for i in order]
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        axis.set_yticks(range(len(labels)), labels, fontsize=7)
    figure.colorbar(picture, ax=axis, shrink=0.7, label="correlation")
    return _png(figure)


def atlas_png(findings: Mapping, arrays: Mapping[str, np.ndarray], k: int) -> bytes:
    """Draws over the photographs of an attribute (columns; those that have it come first) the map
    of its masks, the masks of its top channels, then its summary map (Fig. 4)."""
    images, name = arrays["atlas_images"][k], findings["attributes"][k]
    photographs = [np.asarray(Image.fromarray(x).resize((_TILE, _TILE))) for x in images]
    rows = [(name, np.stack(photographs))]
    maps = map(mask_map_png, arrays["atlas_mask_map"][k])
    tiles = [laid_over(*pair, 0.6, _TILE) for pair in zip(images, maps, strict=True)]
    rows.append(("masks by importance", np.stack(tiles)))
    for i, channel in enumerate(arrays["atlas_channels"][k]):
        share = arrays["importance"][k, channel]
        masks = map(mask_png, arrays["atlas_masks"][k, :, i])
        tiles = [laid_over(*pair, 0.6, _TILE) for pair in zip(images, masks, strict=True)]
        rows.append((f"channel {channel}, {share:.1%}", np.stack(tiles)))
    scale = np.abs(arrays["atlas_summary"][k]).max()
    maps = [signed_png(x, scale) for x in arrays["atlas_summary"][k]]
    tiles = [laid_over(*pair, 1, _TILE, grey=True) for pair in zip(images, maps, strict=True)]
    rows.append(("gradients: for / against", np.stack(tiles)))
    buffer = io.BytesIO()
    # A palette keeps the files small: there is one sheet for each attribute.
    labelled_rows(rows).quantize(256, Image.Quantize.FASTOCTREE).save(buffer, "PNG")
    return buffer.getvalue()


def labelled_rows(
    rows: Sequence[tuple[str, UInt8[np.ndarray, "count height width 3"]]], scale: int = 1
) -> Image.Image:
    """Arranges rows of equally sized pictures below one another, with their names at the left.

    Args:
      rows: name and pictures of each row; if all names are empty, there is no margin for them.
      scale: factor by which pictures are enlarged, without smoothing.
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


def clustered(matrix: Float[np.ndarray, "variable variable"]) -> Int[np.ndarray, " variable"]:
    """Order of the variables of a correlation matrix in which correlated ones are neighbours.

    Leaves of average linkage on the distance 1 - r, in optimal order (Bar-Joseph et al. 2001).
    """
    if len(matrix) < 2:
        return np.arange(len(matrix))
    distance = 1 - np.nan_to_num(np.asarray(matrix, np.float64))
    distance = np.clip((distance + distance.T) / 2, 0, 2)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    return leaves_list(linkage(condensed, "average", optimal_ordering=True))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
