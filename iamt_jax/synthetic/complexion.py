"""Paints details of the skin: cheekbones, blush, fullness, age and blemishes."""

from __future__ import annotations

import numpy as np

from iamt_jax.synthetic.palette import rgb
from iamt_jax.synthetic.scene import DEPTH, Scene
from iamt_jax.synthetic.shapes import bump, ellipse, leaf

_CHEEKS = (-0.52, -0.1, 0.52, 0.5)


def cheeks(scene: Scene) -> None:
    """Tints the cheeks of faces with high cheekbones, rosy cheeks or a chubby face."""
    _blush(scene.only(scene.has("Rosy_Cheeks") > 0))
    _cheekbones(scene.only(scene.has("High_Cheekbones") > 0))
    _fullness(scene.only(scene.has("Chubby") > 0))


def _cheekbones(scene: Scene) -> None:
    """Paints a bright ridge that rises to the ear, and the hollow under it."""

    def ridge(x, y):
        across = scene.fold(x) - 0.3
        return bump(across, y - 0.08 + 0.35 * across, 0.14, 0.06)

    def hollow(x, y):
        across = scene.fold(x) - 0.33
        return bump(across, y - 0.2 + 0.6 * across, 0.15, 0.075)

    scene.tint(_CHEEKS, ridge, rgb(1.2, 1.2, 1.19), depth=DEPTH)
    scene.tint(_CHEEKS, hollow, rgb(0.72, 0.67, 0.65), depth=DEPTH)


def _blush(scene: Scene) -> None:
    def patch(x, y):
        return np.sqrt(bump(scene.fold(x) - 0.28, y - 0.14, 0.16, 0.12))

    scene.tint(_CHEEKS, patch, rgb(1.06, 0.64, 0.66), depth=DEPTH)


def _fullness(scene: Scene) -> None:
    """Paints round cheeks: a highlight on each, and a crease towards the mouth."""

    def highlight(x, y):
        return bump(scene.fold(x) - 0.37, y - 0.24, 0.13, 0.14)

    def crease(x, y):
        return bump(scene.fold(x) - 0.27, y - 0.34, 0.05, 0.12)

    scene.tint(_CHEEKS, highlight, rgb(1.12, 1.11, 1.10))
    scene.tint(_CHEEKS, crease, rgb(0.76, 0.71, 0.69))


def age(scene: Scene) -> None:
    """Paints wrinkles if Young is off: on forehead, eye corners, and from nose to mouth."""
    scene = scene.only(scene.has("Young") < 1)
    body = scene.anatomy
    colour = body.skin * rgb(0.62, 0.55, 0.52)

    def forehead(level):
        return lambda x, y: leaf(x, y - level, 0.24, 0.013, 0.013, -0.02)

    def fold(x, y):
        down = y - 0.26
        return leaf(down, scene.fold(x) - 0.185 - 0.5 * down, 0.14, 0.017, 0.017)

    def crow(turn):
        def line(x, y):
            across = scene.fold(x) - body.eye_x - 0.185
            return leaf(across, y - body.eye_y - 0.01 - turn * (across + 0.05), 0.055, 0.012, 0.012)

        return line

    for level in (-0.395, -0.32):
        scene.paint((-0.3, -0.46, 0.3, -0.24), forehead(level), colour, 0.8, depth=DEPTH)
    scene.paint((-0.4, 0.1, 0.4, 0.42), fold, colour, 0.9, depth=DEPTH)
    for turn in (-0.55, 0.45):
        scene.paint((-0.58, -0.2, 0.58, 0.12), crow(turn), colour, 0.8, depth=DEPTH)


_SPOTS = ((-0.3, 0.19), (0.25, 0.25), (0.14, -0.27), (-0.2, 0.36), (0.33, 0.09))


def blemishes(scene: Scene) -> None:
    """Paints red spots on the skin if Attractive is off."""
    scene = scene.only(scene.has("Attractive") < 1)
    given = scene.nuisance
    side = np.where(given.blemishes < 0.5, np.float32(-1), np.float32(1))
    colour = scene.anatomy.skin * rgb(0.76, 0.48, 0.44)

    def spot(x0, y0):
        return lambda x, y: ellipse(x * side - x0, y - y0 - 0.03 * given.blemishes, 0.032, 0.028)

    for x0, y0 in _SPOTS:
        scene.paint((-0.38, y0 - 0.04, 0.38, y0 + 0.07), spot(x0, y0), colour, 0.7, depth=DEPTH)
