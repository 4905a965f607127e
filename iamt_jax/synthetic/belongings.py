"""Paints hats, earrings, necklaces and neckties."""

from __future__ import annotations

import numpy as np

from iamt_jax.synthetic.palette import hsv, mix, rgb
from iamt_jax.synthetic.scene import Scene
from iamt_jax.synthetic.shapes import bump, column, egg, ellipse, leaf, wave


def hat(scene: Scene) -> None:
    """Paints a hat with a band and a brim, high enough that temples and fringe stay visible."""
    scene = scene.only(scene.has("Wearing_Hat") > 0)
    given, width = scene.nuisance, scene.anatomy.half_width
    cloth = hsv(given.hat_hue, 0.75 - 0.5 * given.hat_shape, 0.4 + 0.45 * given.hat_shape)
    box = (-0.9, -1.05, 0.9, -0.28)

    def crown(x, y):
        return egg(x, y + 0.5, width + 0.08, 0.42 + 0.06 * given.hat_shape, 0.1)

    def band(x, y):
        return np.maximum(crown(x, y), column(x, y, -0.64, -0.5, 9.0, 9.0))

    def brim(x, y):
        return leaf(x, y + 0.48, width + 0.12 + 0.18 * given.hat_shape, 0.06, 0.06, -0.04)

    scene.tint(box, lambda x, y: bump(x, y + 0.42, 0.62, 0.13), rgb(0.7, 0.68, 0.68))
    scene.paint(box, crown, cloth, shade=lambda x, y: 1.06 - 0.6 * x * x + 0.07 * wave(x * 2.6))
    scene.paint(box, band, cloth * np.float32(0.42))
    scene.paint(box, brim, cloth, shade=lambda x, y: 0.95 - np.float32(2.5) * (y + 0.5))


def _metal(scene: Scene):
    return mix(rgb(255, 214, 74), rgb(238, 242, 250), scene.nuisance.jewellery > 0.5)


def earrings(scene: Scene) -> None:
    """Paints an earring under each ear, over the hair: a stud and a drop with a dark edge."""
    scene = scene.only(scene.has("Wearing_Earrings") > 0)
    edge = scene.anatomy.half_width

    def drop(grow):
        def shape(x, y):
            across = scene.fold(x) - edge - 0.02
            stud = ellipse(across, y - 0.115, 0.026 + grow, 0.026 + grow)
            return np.minimum(stud, egg(across, y - 0.23, 0.048 + grow, 0.1 + grow, 0.05 + grow))

        return shape

    box = (-0.66, 0.06, 0.66, 0.32)
    scene.paint(box, drop(0.02), rgb(58, 44, 30), 0.8)
    scene.paint(
        box, drop(0.0), _metal(scene), shade=lambda x, y: 1.1 - np.float32(1.2) * np.abs(y - 0.2)
    )


def necklace(scene: Scene) -> None:
    """Paints a string of beads with a pendant around the base of the neck."""
    scene = scene.only(scene.has("Wearing_Necklace") > 0)
    box = (-0.34, 0.6, 0.34, 1.0)

    def string(grow):
        def shape(x, y):
            line = leaf(x, y - 0.82, 0.3, 0.026 + grow, 0.026 + grow, 0.16)
            return np.minimum(line, ellipse(x, y - 0.87, 0.045 + grow, 0.05 + grow))

        return shape

    scene.paint(box, string(0.02), rgb(62, 46, 34), 0.75)
    scene.paint(box, string(0.0), _metal(scene), shade=lambda x, y: 0.9 + 0.2 * wave(x * 9))


def necktie(scene: Scene) -> None:
    """Paints a white collar and a tie with stripes."""
    scene = scene.only(scene.has("Wearing_Necktie") > 0)
    given = scene.nuisance
    cloth = hsv(given.tie_hue, np.float32(0.75), 0.35 + 0.4 * given.hat_hue)

    def collar(x, y):
        folded = np.abs(x)
        return np.maximum(
            np.maximum(folded - 0.31, 0.68 - y + 0.15 * folded), y - 0.94 + 0.5 * folded
        )

    def tie(x, y):
        knot = column(x, y, 0.735, 0.82, 0.075, 0.05)
        return np.minimum(knot, column(x, y, 0.82, 1.4, 0.055, 0.15))

    box = (-0.34, 0.64, 0.34, 1.4)
    scene.paint(box, collar, rgb(244, 244, 248), shade=lambda x, y: 1.0 - 0.3 * np.abs(x))
    scene.paint(box, tie, cloth, shade=lambda x, y: 1 + np.float32(0.3) * wave((x + y) * 6))
