"""HTML fragments of the page: table, tone curve, overlays. Numbers in, text out."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from iamt_jax.explorer.view import CURVE_POINTS, QUANTILES, AutoChoice, Settings, ViewResult
from iamt_jax.report.overlays import data_uri, mask_map_png, mask_png, photograph_webp, signed_png

ORDERS = ("probability", "change", "name")
"""Sort orders of the table."""

Order = Literal[ORDERS]

MASK_OPACITY = 0.6
"""Opacity of a mask over the photograph, as in the report."""

WIDTH, HEIGHT, MARGIN = 320, 240, 34
"""Size of the tone curve's drawing, in SVG units; the margin is at the left and below."""

SMALLEST_CHANGE = 0.0005
"""Smaller changes of a probability are shown as 0."""


def pictures_html(result: ViewResult, settings: Settings) -> str:
    """Tiles: the picture, the denoised picture under `auto`, the map of the attribute's masks, its
    summary map, and the masks of the channels with the largest contributions."""
    name, why = display_name(settings.attribute), result.explanation
    noisy = treated = data_uri(photograph_webp(result.noisy), "webp")
    tiles = [_tile(noisy, None, f"picture, noise {settings.sigma:.2f}")]
    if result.chosen:
        treated = data_uri(photograph_webp(result.treated), "webp")
        tiles.append(_tile(treated, None, f"denoised for sigma {result.chosen.sigma:.2f}"))
    places = mask_map_png(why.mask_map)
    tiles.append(_tile(treated, (places, MASK_OPACITY), f"where the masks of {name} look"))
    signed = signed_png(why.summary, np.abs(why.summary).max())
    tiles.append(
        _tile(treated, (signed, 1), f"for (purple) and against (orange) {name}", grey=True)
    )
    for channel, mask in zip(why.channels, why.masks.astype(np.float32), strict=True):
        added = _signed(float(why.contributions[channel]), 2)
        tiles.append(
            _tile(treated, (mask_png(mask), MASK_OPACITY), f"mask of channel {channel}: {added}")
        )
    logit = float(why.logits)
    total = (
        f"<b>{name}</b>: {'yes' if logit > 0 else 'no'}, logit {_signed(logit, 2)}; each mask's "
        "number is the contribution of its channel. Masks are yellow where they are open, dark "
        "blue where they are closed."
    )
    return f'<p class="said">{total}</p><div class="tiles">{"".join(tiles)}</div>'


def table_html(
    names: Sequence[str],
    result: ViewResult,
    order: Order = "probability",
) -> str:
    """Table of all attributes' probabilities, with bars and the change against the network's own
    curve."""
    change = result.probabilities - result.plain
    keys: dict[str, Callable[[int], object]] = {
        "probability": lambda k: -result.probabilities[k],
        "change": lambda k: -abs(change[k]),
        "name": lambda k: names[k].lower(),
    }
    rows = []
    for k in sorted(range(len(names)), key=keys[order]):
        percent, moved = 100 * result.probabilities[k], change[k]
        kind = "none" if abs(moved) < SMALLEST_CHANGE else "up" if moved > 0 else "down"
        words = "0" if kind == "none" else _signed(100 * moved, 1)
        rows.append(
            f'<tr data-attribute="{html.escape(names[k])}">'
            f'<th scope="row">{display_name(names[k])}</th>'
            f'<td class="bar"><i style="width:{percent:.1f}%"></i></td>'
            f'<td>{percent:.1f}</td><td class="{kind}">{words}</td></tr>'
        )
    head = (
        '<th scope="col">attribute</th><th scope="col" colspan="2">probability, %</th>'
        '<th scope="col">change</th>'
    )
    return (
        '<div class="scroll" tabindex="0"><table><caption>Change is in points, against n = 1, '
        f"β = 0.</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def curve_html(result: ViewResult, settings: Settings) -> str:
    """The tone curve as text and drawing; under `auto` the spread of the chosen curves."""
    if result.chosen:
        low, high = result.curves[-1], result.curves[0]  # A larger beta bends further down.
        band = f'<polygon class="band" points="{_path(high)} {_path(low, backwards=True)}"/>'
        line, words = result.curves[2], _chosen(result.chosen, display_name(settings.attribute))
    else:
        band, line = "", result.curves[0]
        n, beta = result.curve
        words = f'<p class="said">g(M) at <b>n = {n:g}</b>, <b>β = {beta:.2f}</b></p>'
    identity = f'<polyline class="identity" points="{_path(CURVE_POINTS)}"/>'
    bent = f'<polyline class="bent" points="{_path(line)}"/>'
    label = "Tone curve: the transformed mask over the mask, from 0 to 1; dashed, the identity"
    return (
        f'{words}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{_axes()}{band}{identity}{bent}</svg>"
    )


def error_html(message: str) -> str:
    """An error message, escaped."""
    return f'<p class="problem" role="alert">{html.escape(message)}</p>'


def note_html(message: str) -> str:
    """A status message, escaped."""
    return f'<p class="note" role="status">{html.escape(message)}</p>'


def display_name(attribute: str) -> str:
    """An attribute's name with spaces, escaped for HTML."""
    return html.escape(attribute.replace("_", " "))


def _chosen(chosen: AutoChoice, attribute: str) -> str:
    """Text and table of the curves that the transformation chose."""
    left = " The picture is treated as clean and left unchanged." if chosen.sigma == 0 else ""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{mean:.2f}</td>'
        + "".join(f"<td>{x:.2f}</td>" for x in quantiles)
        + "</tr>"
        for name, mean, quantiles in zip(
            ("all", attribute), chosen.mean, chosen.quantiles, strict=True
        )
    )
    heads = "".join(f'<th scope="col">{100 * q:.0f}%</th>' for q in QUANTILES)
    return (
        f'<p class="said">auto: estimated <b>sigma = {chosen.sigma:.3f}</b>, n = 1, a β for each '
        f"channel and attribute, mean <b>β = {chosen.mean[0]:.2f}</b>; "
        f"applies {', '.join(chosen.members)}.{left}</p>"
        f'<table class="betas"><caption>Chosen β. Below, {attribute}: the median curve, and the '
        f"middle 80 % as a band.</caption><thead><tr><th></th>"
        f'<th scope="col">mean</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _tile(
    photograph: str, overlay: tuple[bytes, float] | None, caption: str, grey: bool = False
) -> str:
    """A photograph with an overlay and a caption; names in the caption are already escaped."""
    above = ""
    if overlay:
        above = f'<img src="{data_uri(overlay[0], "png")}" alt="" style="opacity:{overlay[1]}">'
    return (
        f'<figure><div class="stack{" grey" if grey else ""}"><img src="{photograph}" alt="">'
        f"{above}</div><figcaption>{caption}</figcaption></figure>"
    )


def _axes() -> str:
    """Grid lines and axis labels; g from -1 to 1, the mask from 0 to 1."""
    parts = []
    for value in (-1, -0.5, 0, 0.5, 1):
        y = _place(0, value)[1]
        parts += [
            f'<line class="rule" x1="{MARGIN}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>',
            _text(MARGIN - 6, y + 4, f"{value:g}".replace("-", "−"), "end"),
        ]
    for value in (0, 0.5, 1):
        parts.append(_text(_place(value, 0)[0], HEIGHT - MARGIN + 14, f"{value:g}", "middle"))
    parts.append(_text(_place(0.5, 0)[0], HEIGHT - 4, "mask M", "middle"))
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _place(mask: float, value: float) -> tuple[float, float]:
    """SVG coordinates of a point of the curve."""
    x = MARGIN + mask * (WIDTH - MARGIN - 8)
    return x, 8 + (1 - value) / 2 * (HEIGHT - MARGIN - 8)


def _path(values: Float[np.ndarray, " point"], backwards: bool = False) -> str:
    points = [_place(*point) for point in zip(CURVE_POINTS, values, strict=True)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (points[::-1] if backwards else points))


def _signed(value: float, digits: int) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.{digits}f}"
