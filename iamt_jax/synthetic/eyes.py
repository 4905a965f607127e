"""Paints eyes, brows, bags under the eyes, and glasses."""

from __future__ import annotations

import numpy as np

from iamt_jax.synthetic.palette import hsv, mix, rgb
from iamt_jax.synthetic.scene import DEPTH, Scene
from iamt_jax.synthetic.shapes import bump, egg, ellipse, leaf, outline

_BOX = (-0.43, -0.24, 0.43, 0.13)
_BROW_BOX = (-0.42, -0.34, 0.42, -0.1)


def eyes(scene: Scene) -> None:
    """Paints eyes from the outside in: socket, shadow, white, iris, pupil, catchlight, lashes."""
    at, opening, _ = _eye(scene)
    given, attractive = scene.nuisance, scene.has("Attractive")
    scene.tint(_BOX, lambda x, y: bump(*at(x, y), 0.18, 0.13), rgb(0.86, 0.81, 0.79), depth=DEPTH)
    _bags(scene.only(scene.has("Bags_Under_Eyes") > 0))
    _eyeshadow(scene.only(scene.has("Heavy_Makeup") > 0))
    white = mix(rgb(216, 204, 198), rgb(252, 250, 248), attractive)
    scene.paint(_BOX, opening, white, depth=DEPTH)
    light, green = given.eye_colour > 0.6, (given.eye_colour > 0.4) & (given.eye_colour <= 0.6)
    iris = mix(rgb(70, 44, 28), hsv(0.64 - 0.1 * given.eye_colour, np.float32(0.5), 0.7), light)
    iris = mix(iris, rgb(104, 104, 62), green)

    def radius(x, y):
        across, over = at(x, y)
        over = over + 0.012
        return np.sqrt(across * across + over * over)

    def rings(x, y):
        """Darkens the pupil and the ring around the iris."""
        beyond = radius(x, y)
        pupil = np.clip(0.5 + (beyond - 0.023) / scene.pixel, 0.1, 1)
        return pupil * np.clip(0.5 - (beyond - 0.044) / scene.pixel, 0.5, 1)

    def disc(x, y):
        return np.maximum(radius(x, y) - 0.056, opening(x, y))

    scene.paint(_BOX, disc, iris, depth=DEPTH, shade=rings)
    _lashes(scene)

    def catchlight(x, y):
        over = y - scene.anatomy.eye_y + 0.03
        return ellipse(np.abs(x + 0.018) - scene.anatomy.eye_x, over, 0.02, 0.02)

    scene.paint(_BOX, catchlight, rgb(255, 255, 255), 0.25 + 0.7 * attractive, depth=DEPTH)


def _eye(scene: Scene):
    """Returns coordinates in an eye, signed distance to its opening, and rise of the upper lid."""
    body, narrow = scene.anatomy, scene.has("Narrow_Eyes")
    up = (0.058 + 0.016 * scene.has("Attractive")) * (1 - 0.62 * narrow)
    down = 0.042 * (1 - 0.6 * narrow)

    def at(x, y):
        across = scene.fold(x) - body.eye_x
        return across, y - body.eye_y + np.float32(0.12) * across

    return at, lambda x, y: leaf(*at(x, y), 0.12, up, down), up


def _lashes(scene: Scene) -> None:
    """Paints the dark line of the upper lid; with make-up a thick one that ends in a wing."""
    at, _, up = _eye(scene)
    makeup = scene.has("Heavy_Makeup")
    thick = 0.013 + 0.012 * makeup
    reach = 0.13 + 0.035 * makeup

    def line(x, y):
        across, over = at(x, y)
        t = (across - np.float32(0.6) * (reach - 0.13)) / reach
        return np.abs(over + up * (1 - t * t)) - thick * (1 - t * t * t * t)

    scene.paint(_BOX, line, rgb(36, 22, 22), depth=DEPTH)


def _eyeshadow(scene: Scene) -> None:
    """Paints colour from the upper lid to the brow."""
    at, _, up = _eye(scene)
    colour = hsv(0.5 + 0.45 * scene.nuisance.makeup_hue, np.float32(0.62), np.float32(0.62))

    def lid(x, y):
        across, over = at(x, y)
        return leaf(across - 0.012, over, 0.165, up + 0.068, 0.012)

    scene.paint(_BOX, lid, colour, 0.72, depth=DEPTH)


def _bags(scene: Scene) -> None:
    """Paints a dark crescent under each eye, edged by a crease."""
    body = scene.anatomy

    def at(x, y):
        return scene.fold(x) - body.eye_x, y - body.eye_y - 0.05

    def bruise(x, y):
        across, under = at(x, y)
        return np.sqrt(bump(across, under - 0.02, 0.15, 0.07))

    def crease(x, y):
        across, under = at(x, y)
        return leaf(across, under - 0.055, 0.12, 0.014, 0.014, 0.05)

    scene.tint(_BOX, bruise, rgb(0.72, 0.62, 0.72), depth=DEPTH)
    scene.paint(_BOX, crease, body.skin * rgb(0.48, 0.38, 0.44), 0.85, depth=DEPTH)


def brows(scene: Scene) -> None:
    """Paints eyebrows: arched or flat, bushy or thin."""
    body, arched, bushy = scene.anatomy, scene.has("Arched_Eyebrows"), scene.has("Bushy_Eyebrows")
    colour = np.minimum(body.hair * np.float32(0.6), body.skin * np.float32(0.5))
    thick = 0.02 + 0.026 * bushy + 0.005 * scene.has("Male")
    rise = 0.012 + 0.085 * arched
    level = body.eye_y - 0.135 + 0.2 * rise

    def line(x, y):
        t = (scene.fold(x) - body.eye_x - 0.01) / np.float32(0.15)
        q = 1 - t * t
        return np.abs(y - level + rise * q) - thick * (0.35 + 0.65 * q) + 9 * np.maximum(-q, 0)

    scene.paint(_BROW_BOX, line, colour, 0.92, depth=DEPTH)


def glasses(scene: Scene) -> None:
    """Paints eyeglasses: two rims, a bridge, temples to the ears, and a glint on each lens."""
    scene = scene.only(scene.has("Eyeglasses") > 0)
    body, given = scene.anatomy, scene.nuisance
    dark = hsv(given.frame_hue, np.float32(0.6), np.float32(0.22))
    metal = hsv(given.frame_hue, np.float32(0.35), np.float32(0.5))
    colour = mix(dark, metal, given.frame_hue > 0.6)
    square = np.float32(0.9) * given.frame_shape
    box = (-0.6, -0.24, 0.6, 0.16)

    def lens(x, y):
        # Also mirrored vertically, so that squareness shapes all four corners.
        return egg(
            scene.fold(x) - body.eye_x - 0.005,
            np.abs(y - body.eye_y - 0.02),
            0.172,
            0.14,
            0.14,
            square,
        )

    def bars(x, y):
        folded = scene.fold(x)
        bridge = np.maximum(folded - body.eye_x + 0.17, outline(y - body.eye_y + 0.01, 0.016))
        temple = np.maximum(body.eye_x + 0.17 - folded, outline(y - body.eye_y + 0.03, 0.018))
        return np.minimum(bridge, np.maximum(temple, folded - body.half_width - 0.02))

    def glint(x, y):
        across, over = scene.fold(x) - body.eye_x, y - body.eye_y
        return np.maximum(np.abs(across + 0.6 * over - 0.1) - 0.018, lens(x, y))

    scene.paint(box, lens, rgb(214, 232, 246), 0.14, depth=DEPTH)
    scene.paint(box, glint, rgb(255, 255, 255), 0.4, depth=DEPTH)
    scene.paint(
        box, lambda x, y: np.minimum(outline(lens(x, y), 0.02), bars(x, y)), colour, depth=DEPTH
    )
