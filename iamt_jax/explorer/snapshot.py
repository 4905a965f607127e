"""A PNG of what the page shows, to be saved."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iamt_jax.explorer.drawing import MASK_OPACITY, sorted_attributes
from iamt_jax.explorer.verdict import judged, picture_titles, sentences
from iamt_jax.explorer.view import CURVE_POINTS, Picture, Settings, ViewResult
from iamt_jax.report.overlays import laid_over, mask_map_png, mask_png, signed_png

_DPI = 100
_SIDE = 200
"""Height and width at which pictures are drawn, in pixels."""

_BARS = 40
"""Largest number of attributes in the bar chart."""

_PURPLE, _RED, _GREY = "#4b3a86", "#a11616", "#575c60"


def snapshot_png(
    names: Sequence[str],
    result: ViewResult,
    settings: Settings,
    picture: Picture,
    order: str,
    title: str,
) -> bytes:
    """Draws pictures, maps, tone curve and probabilities in one PNG, 1280 pixels wide.

    Args:
      names: attributes.
      result: arrays that the page shows.
      settings: of the result.
      picture: with its labels.
      order: of the attributes, one of `drawing.ORDERS`.
      title: of the network.
    """
    figure = Figure(figsize=(12.8, 9.6), dpi=_DPI, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, 2])
    verdict, why = judged(names, result, picture), result.explanation
    said = " ".join(sentences(verdict, result, settings))
    left.suptitle(f"{title}\n" + textwrap.fill(said, 95), x=0.01, ha="left", fontsize=10)
    axes = left.subplots(4, 3)

    k = names.index(settings.attribute)
    titles = picture_titles(result, settings)
    for place, (pixels, words) in enumerate(
        zip((result.clean, result.damaged, result.treated), titles, strict=True)
    ):
        answer = "yes" if verdict.answers[place, k] else "no"
        answer += f", {100 * result.probabilities[place, k]:.0f} %; {verdict.count(place)}"
        _show(axes[0, place], pixels, f"{words}\n{_plain(settings.attribute)}: {answer}")
    maps = (
        (mask_map_png(why.mask_map), MASK_OPACITY, False, "where the masks look"),
        (_signed_png(result.masked), 1, True, "masked contributions"),
        (_signed_png(why.summary), 1, True, "gradients"),
    )
    for axis, (overlay, opacity, grey, words) in zip(axes[1], maps, strict=True):
        _show(axis, laid_over(result.treated, overlay, opacity, _SIDE, grey), words)
    for axis, channel, mask in zip(axes[2:].flat, why.channels, why.masks, strict=False):
        overlay = mask_png(mask.astype(np.float32))
        words = f"mask of channel {channel}: {why.contributions[channel]:+.2f}"
        _show(axis, laid_over(result.treated, overlay, MASK_OPACITY, _SIDE), words)
    _draw_curve(axes[3, 2], result)
    _draw_bars(right.subplots(), names, result, picture, order)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plain(attribute: str) -> str:
    return attribute.replace("_", " ").replace("$", r"\$")


def _signed_png(values: np.ndarray) -> bytes:
    return signed_png(values, np.abs(values).max())


def _show(axis: Axes, pixels: UInt8[np.ndarray, "y x 3"], words: str) -> None:
    axis.imshow(pixels, interpolation="bilinear")
    axis.set_title(words, fontsize=8)
    axis.axis("off")


def _draw_curve(axis: Axes, result: ViewResult) -> None:
    """The tone curve; under `auto` the middle 80 % of the chosen ones."""
    axis.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    if result.chosen:
        axis.fill_between(
            CURVE_POINTS, result.curves[0], result.curves[-1], color=_PURPLE, alpha=0.2
        )
    axis.plot(CURVE_POINTS, result.curves[len(result.curves) // 2], color=_PURPLE)
    axis.set(xlim=(0, 1), ylim=(-1, 1), xlabel="mask M", box_aspect=1)
    axis.set_title("tone curve g(M)", fontsize=8)
    axis.tick_params(labelsize=7)


def _draw_bars(
    axis: Axes, names: Sequence[str], result: ViewResult, picture: Picture, order: str
) -> None:
    """Probabilities, with that of the clean picture as a tick; bad answers are red."""
    shown = sorted_attributes(names, result, order)[:_BARS]
    verdict, places = judged(names, result, picture), np.arange(len(shown))
    percent = 100 * result.probabilities[:, shown]
    colours = [_RED if verdict.bad[2, k] else _PURPLE for k in shown]
    axis.barh(places, percent[2], color=colours, height=0.6)
    axis.scatter(percent[0], places, marker="|", color="black", s=60, label="clean picture")
    axis.set_yticks(places, [_plain(names[k]) for k in shown], fontsize=8)
    axis.set(xlim=(0, 100), xlabel="probability, %")
    axis.invert_yaxis()
    axis.margins(y=0.01)
    kind = "wrong" if verdict.is_labelled else "flipped"
    axis.set_title(f"answers (red: {kind}; tick: clean picture)", fontsize=9)
