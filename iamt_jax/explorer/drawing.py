"""What the page shows, as pieces of HTML: tables, a curve, overlays; numbers in, text out."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from iamt_jax.explorer.view import POINTS, QUANTILES, Chosen, Seen, Settings
from iamt_jax.report.overlays import data_uri, mask_png, photograph_webp, signed_png

ORDERS = ("probability", "change", "name")
"""How the table may be sorted."""

Order = Literal[ORDERS]

OVER = 0.6
"""Opacity of a mask over its photograph, as in the report."""

WIDTH, HEIGHT, MARGIN = 320, 240, 34
"""Of the curve's drawing, in its own units; the margin is at the left and below."""

SMALL = 0.0005
"""A change that is shown as none."""


def pictures(seen: Seen, settings: Settings) -> str:
    """The picture, what the transformation made of it, what speaks for and against the attribute,
    and the masks of the channels that count most."""
    name, why = spoken(settings.attribute), seen.explanation
    noisy = treated = data_uri(photograph_webp(seen.noisy), "webp")
    tiles = [_tile(noisy, None, f"picture, noise {settings.sigma:.2f}")]
    if seen.chosen:
        treated = data_uri(photograph_webp(seen.treated), "webp")
        tiles.append(_tile(treated, None, f"denoised for sigma {seen.chosen.sigma:.2f}"))
    signed = signed_png(why.summary, np.abs(why.summary).max())
    tiles.append(
        _tile(treated, (signed, 1), f"for (purple) and against (orange) {name}", grey=True)
    )
    for channel, mask in zip(why.channels, why.masks.astype(np.float32), strict=True):
        added = _signed(float(why.contributions[channel]), 2)
        tiles.append(_tile(treated, (mask_png(mask), OVER), f"mask of channel {channel}: {added}"))
    logit = float(why.logits)
    total = (
        f"<b>{name}</b>: {'yes' if logit > 0 else 'no'}, logit {_signed(logit, 2)}; each mask's "
        "number is what its channel adds to it. Masks are yellow where they are open, dark blue "
        "where they are closed."
    )
    return f'<p class="said">{total}</p><div class="tiles">{"".join(tiles)}</div>'


def table(
    names: Sequence[str],
    seen: Seen,
    order: Order = "probability",
) -> str:
    """Probabilities of all attributes as bars, with their change against n = 1, beta = 0."""
    change = seen.probabilities - seen.plain
    keys: dict[str, Callable[[int], object]] = {
        "probability": lambda k: -seen.probabilities[k],
        "change": lambda k: -abs(change[k]),
        "name": lambda k: names[k].lower(),
    }
    rows = []
    for k in sorted(range(len(names)), key=keys[order]):
        percent, moved = 100 * seen.probabilities[k], change[k]
        kind = "none" if abs(moved) < SMALL else "up" if moved > 0 else "down"
        words = "0" if kind == "none" else _signed(100 * moved, 1)
        rows.append(
            f'<tr data-attribute="{html.escape(names[k])}"><th scope="row">{spoken(names[k])}</th>'
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


def curve(seen: Seen, settings: Settings) -> str:
    """The tone curve as a drawing and in words; under `auto` the spread of the chosen ones."""
    if seen.chosen:
        low, high = seen.curves[-1], seen.curves[0]  # A larger beta bends further down.
        band = f'<polygon class="band" points="{_path(high)} {_path(low, backwards=True)}"/>'
        line, words = seen.curves[2], _chosen(seen.chosen, spoken(settings.attribute))
    else:
        band, line = "", seen.curves[0]
        words = (
            f'<p class="said">g(M) at <b>n = {settings.n:g}</b>, <b>β = {settings.beta:.2f}</b></p>'
        )
    identity = f'<polyline class="identity" points="{_path(POINTS)}"/>'
    bent = f'<polyline class="bent" points="{_path(line)}"/>'
    label = "Tone curve: the transformed mask over the mask, from 0 to 1; dashed, the identity"
    return (
        f'{words}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{_axes()}{band}{identity}{bent}</svg>"
    )


def problem(message: str) -> str:
    """A line that says what is wrong."""
    return f'<p class="problem" role="alert">{html.escape(message)}</p>'


def note(message: str) -> str:
    """A line that says something else."""
    return f'<p class="note" role="status">{html.escape(message)}</p>'


def spoken(attribute: str) -> str:
    """An attribute's name for people, safe in HTML."""
    return html.escape(attribute.replace("_", " "))


def _chosen(chosen: Chosen, attribute: str) -> str:
    """The pair that the transformation chose, in words and numbers."""
    left = " It takes the picture for clean and leaves it alone." if chosen.sigma == 0 else ""
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
    """A photograph under an overlay and over a caption, whose names are safe already."""
    above = ""
    if overlay:
        above = f'<img src="{data_uri(overlay[0], "png")}" alt="" style="opacity:{overlay[1]}">'
    return (
        f'<figure><div class="stack{" grey" if grey else ""}"><img src="{photograph}" alt="">'
        f"{above}</div><figcaption>{caption}</figcaption></figure>"
    )


def _axes() -> str:
    """A frame with a number at its ends; g reaches from -1 to 1, the mask from 0 to 1."""
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
    """A point of the curve in the drawing."""
    x = MARGIN + mask * (WIDTH - MARGIN - 8)
    return x, 8 + (1 - value) / 2 * (HEIGHT - MARGIN - 8)


def _path(values: Float[np.ndarray, " point"], backwards: bool = False) -> str:
    points = [_place(*point) for point in zip(POINTS, values, strict=True)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (points[::-1] if backwards else points))


def _signed(value: float, digits: int) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.{digits}f}"
