"""Paints nose, mouth and beard."""

from __future__ import annotations

import numpy as np

from iamt_jax.synthetic.head import face_outline
from iamt_jax.synthetic.palette import hsv, mix, rgb
from iamt_jax.synthetic.scene import DEPTH, Scene
from iamt_jax.synthetic.shapes import bump, column, egg, ellipse, leaf, ramp, wave

_NOSE_BOX, _NOSE_DEPTH = (-0.22, -0.2, 0.22, 0.28), 0.08
_MOUTH_BOX = (-0.28, 0.14, 0.28, 0.54)


def nose(scene: Scene) -> None:
    """Paints a nose with narrow or wide wings, a round or a pointed tip."""
    skin, big = scene.anatomy.skin, scene.has("Big_Nose")
    wing = 0.075 + 0.06 * big

    def flank(x, y):
        return bump(scene.fold(x) - 0.055 - 0.03 * big, y - 0.02, 0.05, 0.16)

    def wings(x, y):
        return ellipse(scene.fold(x) - wing * 0.7, y - 0.12, 0.45 * wing, 0.045 + 0.02 * big)

    def ball(x, y):
        return ellipse(x, y - 0.105, 0.045 + 0.035 * big, 0.055 + 0.015 * big)

    def nostrils(x, y):
        return ellipse(scene.fold(x) - wing * 0.55, y - 0.155 - 0.015 * big, 0.3 * wing, 0.017)

    scene.tint(_NOSE_BOX, flank, rgb(0.84, 0.80, 0.78), depth=_NOSE_DEPTH)
    scene.paint(_NOSE_BOX, wings, skin * rgb(0.8, 0.72, 0.7), depth=_NOSE_DEPTH)
    scene.paint(
        _NOSE_BOX,
        ball,
        skin,
        0.9,
        depth=_NOSE_DEPTH,
        shade=lambda x, y: 1.06 - np.float32(2.2) * np.maximum(y - 0.08, 0),
    )
    scene.paint(_NOSE_BOX, nostrils, skin * rgb(0.34, 0.24, 0.22), 0.9, depth=_NOSE_DEPTH)
    _pointed_tip(scene.only(scene.has("Pointy_Nose") > 0))


def _pointed_tip(scene: Scene) -> None:
    """Paints a thin bright ridge down to a tip that ends in a V of shadow."""
    skin = scene.anatomy.skin
    tip = 0.2 + 0.02 * scene.has("Big_Nose")

    def wedge(grow):
        return lambda x, y: np.maximum(np.abs(x) * 1.2 + 0.75 * (y - tip - grow), 0.08 - y)

    def ridge(x, y):
        return leaf(y, x, 0.17, 0.02, 0.02)

    bright = np.minimum(skin * rgb(1.28, 1.32, 1.36) + 12, 255)
    scene.paint(_NOSE_BOX, wedge(0.045), skin * rgb(0.56, 0.47, 0.44), depth=_NOSE_DEPTH)
    scene.paint(_NOSE_BOX, wedge(0.0), skin * rgb(1.06, 1.06, 1.06), depth=_NOSE_DEPTH)
    scene.paint(_NOSE_BOX, ridge, bright, 0.55, depth=_NOSE_DEPTH)


def _lips(scene: Scene):
    """Returns the signed distance to a leaf around the line of the mouth.

    The line rises in a smile, and slants if Attractive is off.
    """
    body, given, smile = scene.anatomy, scene.nuisance, scene.has("Smiling")
    width = 0.145 + 0.04 * smile + given.mouth_width
    bend = np.float32(0.08) * smile - 0.015
    side = np.where(given.blemishes < 0.5, np.float32(-0.12), np.float32(0.12))
    slant = side * (1 - scene.has("Attractive"))

    def lips(x, y, up, down, grow=0.0, lowest=9.0):
        level = y - body.mouth_y - 0.35 * bend - slant * x
        middle = level + bend * (x / width) ** 2
        return np.maximum(leaf(x, level, width + grow, up, down, bend), middle - lowest)

    return lips


def mouth(scene: Scene) -> None:
    """Paints lips and, where they part, the dark between them and teeth."""
    skin, hue = scene.anatomy.skin, scene.nuisance.lipstick_hue
    parted, lipstick = scene.has("Mouth_Slightly_Open"), scene.has("Wearing_Lipstick")
    lips = _lips(scene)
    thick = 0.026 + 0.032 * scene.has("Big_Lips")
    up, down = np.float32(0.022) * parted, np.float32(0.055) * parted
    paint = hsv(0.93 + 0.08 * hue, np.float32(0.8), 0.6 + 0.3 * hue)
    colour = mix(skin * rgb(0.84, 0.65, 0.61), paint, lipstick)

    scene.paint(
        _MOUTH_BOX, lambda x, y: lips(x, y, up + thick, down + thick * 1.3), colour, depth=DEPTH
    )
    scene.paint(
        _MOUTH_BOX,
        lambda x, y: lips(x, y, up + 0.008, down + 0.008, -0.012),
        rgb(64, 18, 24),
        0.6 + 0.4 * parted,
        depth=DEPTH,
    )
    _teeth(scene.only(parted > 0))
    _dimples(scene.only(scene.has("Smiling") > 0))


def _teeth(scene: Scene) -> None:
    lips = _lips(scene)
    scene.paint(
        _MOUTH_BOX,
        lambda x, y: lips(x, y, 0.024, 0.055, -0.03, 0.018),
        rgb(240, 236, 228),
        depth=DEPTH,
    )


def _dimples(scene: Scene) -> None:
    """Paints creases where a smile meets the cheeks."""
    level = scene.anatomy.mouth_y - 0.045

    def crease(x, y):
        return leaf(y - level, scene.fold(x) - 0.235, 0.06, 0.012, 0.012, -0.02)

    scene.paint(
        (-0.3, 0.16, 0.3, 0.4),
        crease,
        scene.anatomy.skin * rgb(0.66, 0.58, 0.55),
        0.75,
        depth=DEPTH,
    )


def beard(scene: Scene) -> None:
    """Paints stubble, a beard along the jaw, goatee and mustache.

    If `No_Beard` is off, there is at least the beard along the jaw.
    """
    _stubble(scene.only(scene.has("5_o_Clock_Shadow") > 0))
    _jaw_beard(scene.only(scene.has("No_Beard") < 1))
    _goatee(scene.only(scene.has("Goatee") > 0))
    _mustache(scene.only(scene.has("Mustache") > 0))


def _beard_colour(scene: Scene):
    """Returns a colour darker than hair and skin, so that a beard is visible on both."""
    return np.minimum(scene.anatomy.hair * np.float32(0.6), scene.anatomy.skin * np.float32(0.45))


def _growth(scene: Scene, x, y):
    """Returns a soft weight of the lower face, under the nose and along the jaw."""
    inside = ramp(-face_outline(scene, x, y), 0.0, 0.03)
    return inside * ramp(y + np.float32(0.3) * np.abs(x), 0.19, 0.27)


def _stubble(scene: Scene) -> None:
    """Paints a bluish shadow with grains."""

    def weight(x, y):
        grains = wave(x * 9.0 + 0.25 * wave(y * 5.0)) * wave(y * 9.0)
        return _growth(scene, x, y) * (np.float32(0.85) + np.float32(0.3) * grains)

    scene.tint((-0.6, 0.08, 0.6, 0.64), weight, rgb(0.58, 0.62, 0.70))


def _jaw_beard(scene: Scene) -> None:
    body = scene.anatomy

    def strap(x, y):
        band = np.abs(face_outline(scene, x, y) + 0.02) - 0.04
        return np.maximum(band, 0.14 - y)

    scene.paint(
        (-0.62, 0.1, 0.62, 0.66),
        strap,
        _beard_colour(scene),
        0.85,
        shade=lambda x, y: 1 + 0.15 * wave((x + y) * 8) + 0 * body.chin,
    )


def _goatee(scene: Scene) -> None:
    chin, mouth_y = scene.anatomy.chin, scene.anatomy.mouth_y

    def patch(x, y):
        tuft = egg(x, y - chin + 0.04, 0.16, 0.09, 0.12)
        return np.minimum(tuft, column(x, y, mouth_y + 0.085, chin, 0.045, 0.08))

    scene.paint(
        (-0.2, 0.3, 0.2, 0.76),
        patch,
        _beard_colour(scene),
        0.95,
        shade=lambda x, y: 1 + np.float32(0.2) * wave(x * 9),
    )


def _mustache(scene: Scene) -> None:
    level = scene.anatomy.mouth_y - 0.062

    def brush(x, y):
        return leaf(x, y - level, 0.2, 0.042, 0.03, -0.06)

    scene.paint((-0.24, 0.14, 0.24, 0.42), brush, _beard_colour(scene), 0.95, depth=DEPTH)


def sideburns(scene: Scene) -> None:
    """Paints hair that grows down in front of the ears."""
    scene = scene.only(scene.has("Sideburns") > 0)
    edge = scene.anatomy.half_width

    def strips(x, y):
        return column(np.abs(x) - edge + 0.035, y, -0.24, 0.2, 0.05, 0.05)

    scene.paint((-0.62, -0.26, 0.62, 0.22), strips, _beard_colour(scene), 0.95)
