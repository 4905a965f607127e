"""Colours of skin, hair and objects: float32 arrays (3, batch) in 0..255."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

Colours = Float32[np.ndarray, "3 batch"]


def rgb(red: float, green: float, blue: float) -> Float32[np.ndarray, "3 1"]:
    """Returns one colour for a whole batch."""
    return np.array([[red], [green], [blue]], np.float32)


def hsv(hue, saturation, value) -> Colours:
    """Converts hue, saturation and value in 0..1 to colours; the hue wraps around."""
    offset = np.array([[1], [2 / 3], [1 / 3]], np.float32)
    turns = hue + offset
    pure = np.clip(np.abs((turns - np.floor(turns)) * 6 - 3) - 1, 0, 1)
    return np.float32(255) * value * (1 - saturation + saturation * pure)


def mix(first, second, share):
    """Interpolates between two colours; `share` 0 gives the first, 1 the second."""
    return first + share * (second - first)


_FAIR, _TAN, _DEEP = rgb(240, 196, 160), rgb(212, 160, 120), rgb(146, 98, 70)
_PALE = rgb(253, 232, 225)
_COPPER, _WINE = rgb(178, 96, 56), rgb(122, 42, 52)
_HAIR = np.concatenate(
    [rgb(30, 26, 30), rgb(232, 194, 112), rgb(100, 64, 40), rgb(176, 178, 184)], 1
)


def skin_colours(tone, hue, pale) -> Colours:
    """Returns skin colours from fair (tone 0) to deep (1), rosier or yellower by hue, or pale."""
    tone = tone * (0.6 + 0.4 * tone)  # Fair skin more often than deep, as in CelebA.
    colour = np.where(tone < 0.5, mix(_FAIR, _TAN, 2 * tone), mix(_TAN, _DEEP, 2 * tone - 1))
    colour = colour + rgb(0, 4, -5) * hue
    return mix(colour, _PALE + rgb(0, 1, -2) * hue, np.float32(0.95) * pale)


def hair_colours(named, hue, shade) -> Colours:
    """Returns hair colours; red hair where no colour is named.

    Args:
      named: (4, batch), 1 where hair is black, blond, brown or gray; several at once, which no
        sampled face has, give the mean of their colours.
      hue: of red hair, 0..1.
      shade: factor on the brightness.
    """
    count = named.sum(axis=0)
    named_colour = (_HAIR[:, :, None] * named[None]).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, named_colour, mix(_COPPER, _WINE, hue)) * shade
