"""HTML fragments of the page: pictures, maps, table, tone curve. Numbers in, text out."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from iamt_jax.explorer.damage import is_damaging, kind_name
from iamt_jax.explorer.verdict import judged, picture_titles, sentences
from iamt_jax.explorer.view import (
    CURVE_POINTS,
    QUANTILES,
    AutoChoice,
    Picture,
    Settings,
    Square,
    ViewResult,
)
from iamt_jax.report.overlays import data_uri, mask_map_png, mask_png, photograph_webp, signed_png

ORDERS = ("probability", "change", "name")
"""Sort orders of the table."""

Order = Literal[ORDERS]

MASK_OPACITY = 0.6
"""Opacity of a mask over the photograph, as in the report."""

WIDTH, HEIGHT, MARGIN = 320, 240, 34
"""Size of the tone curve's drawing, in SVG units; the margin is at the left and below."""

BAD = "\N{NO-BREAK SPACE}✗"
"""Mark of an answer that is wrong or flipped."""


def compared_html(
    names: Sequence[str], result: ViewResult, settings: Settings, picture: Picture
) -> str:
    """The clean, the damaged and the treated picture side by side with their answers, and what
    damage and treatment did. A picture that equals the one before it is left out."""
    verdict, k = judged(names, result, picture), names.index(settings.attribute)

    titles = picture_titles(result, settings)

    def tile(place: int, pixels: Square) -> str:
        answer = "yes" if verdict.answers[place, k] else "no"
        cross = BAD if verdict.bad[place, k] else ""
        says = f"{answer}, {100 * result.probabilities[place, k]:.0f}\N{NO-BREAK SPACE}%{cross}"
        words = f"<b>{titles[place]}</b><br>{display_name(settings.attribute)}: {says}"
        words += f"<br>{verdict.count(place)}"
        return _tile(data_uri(photograph_webp(pixels), "webp"), None, words)

    tiles = [
        tile(0, result.clean),
        tile(1, result.damaged)
        if is_damaging(settings.damage)
        else _empty(titles[1], "move the noise slider"),
        _empty(titles[2], "move n or β, or use auto") if result.is_own else tile(2, result.treated),
    ]
    said = "".join(f"<span>{x}</span>" for x in sentences(verdict, result, settings))
    return (
        f'<div class="compared">{"".join(tiles)}</div>'
        f'<p class="said verdict" role="status">{said}</p>'
    )


def maps_html(result: ViewResult, settings: Settings) -> str:
    """Evidence for an attribute's answer: the map of its masks, its masked contributions, the
    summary map, and the masks of the channels with the largest contributions."""
    name, why = display_name(settings.attribute), result.explanation
    below = data_uri(photograph_webp(result.treated), "webp")
    masked, summary = (
        (signed_png(values, np.abs(values).max()), 1) for values in (result.masked, why.summary)
    )
    maps = [
        _tile(below, (mask_map_png(why.mask_map), MASK_OPACITY), f"where the masks of {name} look"),
        _tile(below, masked, f"masked contributions, for and against {name}", grey=True),
        _tile(below, summary, "second opinion: gradients in the pixels", grey=True),
    ]
    masks = [
        _tile(
            below,
            (mask_png(mask), MASK_OPACITY),
            f"mask of channel {channel}: {_signed(float(why.contributions[channel]), 2)}",
        )
        for channel, mask in zip(why.channels, why.masks.astype(np.float32), strict=True)
    ]
    logit = float(why.logits)
    others, rest = len(why.contributions) - len(masks), logit
    rest -= float(why.contributions[why.channels].sum())
    return (
        f'<p class="said"><b>{name}</b>: {"yes" if logit > 0 else "no"}, logit '
        f"{_signed(logit, 2)}. Masks are yellow where they are open and dark blue where they are "
        "closed; purple speaks for the attribute, orange against it.</p>"
        f'<div class="tiles maps">{"".join(maps)}</div>'
        '<p class="said">The channels that count most, each with what it adds to the logit; the '
        f"other {others} and the bias add {_signed(rest, 2)}. Where β is below 1, a channel counts "
        "even if its mask is closed.</p>"
        f'<div class="tiles masks">{"".join(masks)}</div>'
    )


def table_html(
    names: Sequence[str],
    result: ViewResult,
    settings: Settings,
    picture: Picture,
    order: Order = "probability",
) -> str:
    """Table of all attributes: true label, and probabilities of the three pictures of
    `compared_html`; wrong or flipped answers are marked."""
    verdict, percent = judged(names, result, picture), 100 * result.probabilities
    treated = "auto" if result.chosen else "curve"
    heads = {
        "clean": True,
        "damaged": is_damaging(settings.damage),
        treated: not result.is_own,
    }
    rows = []
    for k in sorted_attributes(names, result, order):
        cells = "".join(
            f'<td class="{"bad" if verdict.bad[i, k] else "good"}">{percent[i, k]:.1f}'
            f"{BAD if verdict.bad[i, k] else ''}</td>"
            if applies
            else '<td class="same">–</td>'
            for i, applies in enumerate(heads.values())
        )
        label = ""
        if verdict.is_labelled:
            label = {True: "yes", False: "no", None: "–"}[verdict.labels[k]]
            label = f'<td class="label">{label}</td>'
        rows.append(
            f'<tr data-attribute="{html.escape(names[k])}" data-now="{percent[2, k]:.2f}">'
            f'<th scope="row">{display_name(names[k])}</th>{label}{cells}'
            f'<td class="bar"><i style="width:{percent[2, k]:.1f}%"></i></td></tr>'
        )
    head = '<th scope="col">attribute</th>'
    head += '<th scope="col" class="label">true</th>' if verdict.is_labelled else ""
    head += "".join(f'<th scope="col" class="number">{column}</th>' for column in heads)
    against = "the true label" if verdict.is_labelled else "the answer to the clean picture"
    return (
        f'<div class="scroll" tabindex="0"><table><caption>Probabilities, %.{BAD} differs from '
        f"{against}; the answer is yes above 50 %.</caption>"
        f'<thead><tr>{head}<th class="bar"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def sorted_attributes(names: Sequence[str], result: ViewResult, order: Order) -> list[int]:
    """Indices of the attributes in an order of the table."""
    now, change = result.probabilities[2], result.probabilities[2] - result.probabilities[0]
    keys: dict[str, Callable[[int], object]] = {
        "probability": lambda k: -now[k],
        "change": lambda k: -abs(change[k]),
        "name": lambda k: names[k].lower(),
    }
    return sorted(range(len(names)), key=keys[order])


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


def progress_html(words: str, done: float) -> str:
    """A progress bar with words, escaped; `done` from 0 to 1, where 0 means unknown."""
    value = f' value="{done:.3f}"' if done else ""
    return (
        f'<p class="note" role="status">{html.escape(words)}</p>'
        f'<progress max="1"{value} aria-label="progress"></progress>'
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
    if chosen.restored:
        found = f"recognised and undid <b>{kind_name(chosen.restored)}</b>"
    elif chosen.sigma:
        found = f"estimated <b>noise of sigma {chosen.sigma:.3f}</b>"
    else:
        found = "<b>recognised no degradation</b> and left the picture unchanged"
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
        f'<p class="said">auto: {found}; n = 1, a β for each channel and attribute, mean '
        f"<b>β = {chosen.mean[0]:.2f}</b>; has {', '.join(chosen.members)}.</p>"
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


def _empty(title: str, hint: str) -> str:
    """A frame without a picture, of the size of a tile."""
    return (
        f'<figure><div class="stack empty"><span>{hint}</span></div>'
        f"<figcaption><b>{title}</b></figcaption></figure>"
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
