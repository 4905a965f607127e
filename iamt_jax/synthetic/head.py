"""Paints background, neck and clothes, ears, skin, and hair behind and before the face."""

from __future__ import annotations

import numpy as np

from iamt_jax.synthetic.palette import hsv, mix, rgb
from iamt_jax.synthetic.sampling import HAIR_TEXTURES
from iamt_jax.synthetic.scene import CHEEK_Y, SKULL_TOP, Scene
from iamt_jax.synthetic.shapes import bump, column, egg, ellipse, ramp, wave


def face_outline(scene: Scene, x, y):
    """Returns the signed distance to the outline of the face: skull, cheeks, jaw and chin."""
    body = scene.anatomy
    return egg(x, y - CHEEK_Y, body.half_width, SKULL_TOP, body.chin - CHEEK_Y, body.jaw)


def background(scene: Scene) -> None:
    """Fills the image with a soft gradient and a lighter patch behind the head."""
    given = scene.nuisance
    high = hsv(given.background_hue, given.background_saturation, given.background_value)
    low = hsv(
        given.background_hue + given.background_turn,
        given.background_saturation,
        given.background_value * np.float32(0.6),
    )
    across, down = scene.grid[None, :, None], scene.grid[:, None, None]
    glow = bump(across - given.light_x / 2, down, 1.4, 1.2)
    lamp = bump(across + given.light_x * 0.9, down - given.light_y, 0.45, 0.45)
    share = (down + 1) / 2
    for plane, top, bottom in zip(scene.colour, high, low, strict=True):
        plane[...] = (top + (bottom - top) * share) * (1 + np.float32(0.12) * (glow + lamp))


def torso(scene: Scene) -> None:
    """Paints neck, shoulders, clothes and the fold of a double chin."""
    body, given, male = scene.anatomy, scene.nuisance, scene.has("Male")
    neck_width = 0.2 + 0.085 * male + 0.03 * scene.has("Chubby")
    shoulders = 0.78 + 0.16 * male
    stripes = np.float32(0.16) * (given.hair_phase > 0.6)
    cloth = hsv(given.clothing_hue, np.float32(0.45), given.clothing_value)

    def neck(x, y):
        return column(x, y, 0.3, 0.95, neck_width, neck_width + 0.05)

    def neck_shade(x, y):
        return 0.62 + 0.3 * ramp(y, body.chin - 0.02, body.chin + 0.22) - 0.25 * x * x

    def clothes(x, y):
        return egg(x, y - 1.3, shoulders, 0.58, 0.5, 0.9)

    def neckline(x, y):
        return ellipse(x, y - 0.72, 0.27 - 0.04 * male, 0.2 - 0.09 * male)

    def dress(x, y):
        return np.maximum(clothes(x, y), -neckline(x, y))

    def fabric(x, y):
        return 1.12 - 0.4 * np.abs(x) + stripes * wave(y * 6)

    box = (-1, 0.68, 1, 1.5)
    scene.paint((-0.36, 0.3, 0.36, 0.96), neck, body.skin, shade=neck_shade)
    scene.paint(box, dress, cloth * np.float32(0.8))
    scene.paint(box, lambda x, y: dress(x, y) + 0.025, cloth, shade=fabric)
    _double_chin(scene.only(scene.has("Double_Chin") > 0))


def _double_chin(scene: Scene) -> None:
    """Paints a second chin under the first, with a dark fold between and under them."""
    body = scene.anatomy
    box = (-0.4, 0.36, 0.4, 0.82)

    def fold(x, y):
        return ellipse(x, y - body.chin, 0.37, 0.17)

    def fat(x, y):
        return ellipse(x, y - body.chin + 0.045, 0.345, 0.165)

    def shade(x, y):
        return 0.62 + 0.4 * ramp(y, body.chin - 0.01, body.chin + 0.08)

    scene.paint(box, fold, body.skin * np.float32(0.5))
    scene.paint(box, fat, body.skin, shade=shade)


def ears(scene: Scene) -> None:
    """Paints both ears; the face and long hair cover their inner parts."""
    body = scene.anatomy
    box = (-0.64, -0.2, 0.64, 0.16)
    edge = body.half_width

    def ear(scale):
        return lambda x, y: ellipse(scene.fold(x) - edge, y + 0.02, 0.075 * scale, 0.13 * scale)

    scene.paint(box, ear(1), body.skin * np.float32(0.9))
    scene.paint(box, ear(0.55), body.skin * np.float32(0.68))


def skin(scene: Scene) -> None:
    """Paints the face, rounded by light from one side and above."""
    body, given = scene.anatomy, scene.nuisance

    def shade(x, y):
        u, v = x / body.half_width, (y - CHEEK_Y) / SKULL_TOP
        round_ = u * u + v * v
        side = given.light_x * u * np.float32(0.10) + given.light_y * v * np.float32(0.10)
        return 1.03 + side - 0.13 * round_ * round_

    box = (-0.6, -0.68, 0.6, 0.64)
    scene.paint(box, lambda x, y: face_outline(scene, x, y), body.skin, shade=shade)
    scene.tint(
        (-0.3, -0.66, 0.3, -0.1),
        lambda x, y: bump(x - 0.06 * given.light_x, y + 0.36, 0.28, 0.22),
        rgb(1.08, 1.07, 1.06),
    )


def _texture(scene: Scene):
    """Returns the offset of edges by waves and the factor on the colour, for one hair texture.

    Straight hair has fine bright and dark strands and a band of gloss; wavy hair has wavy edges
    and strands; hair that is neither is matt and even.
    """
    straight, wavy = (scene.has(name).any() for name in HAIR_TEXTURES)
    given = scene.nuisance
    parting = np.float32(0.12) * given.hair_parting

    def push(y):
        return np.float32(0.05) * wave(y * 3.6 + given.hair_phase) if wavy else np.float32(0)

    def strands(x, y):
        spread = 0.55 + 0.45 * ramp(y, -0.85, -0.2)
        across = (x - parting + np.sign(x) * push(y)) / spread
        light = np.float32(0.35) * bump(x - 0.15 * given.light_x, y + 0.62, 0.42, 0.3)
        shade = 0.92 + light - 0.3 * x * x
        shade += (0.32 if straight else 0.05) * wave(across * 8.5 + given.hair_phase)
        if straight:
            band = y + 0.52 - 0.35 * x * x
            shade += 0.65 * np.maximum(1 - 90 * band * band, 0)
        if wavy:
            shade += 0.34 * wave(across * 4.2 + given.hair_phase)
        return shade

    return push, strands


def _hair_length(scene: Scene):
    """Returns y of the ends of hair: at the ears on men, between chin and chest on women."""
    male, given = scene.has("Male"), scene.nuisance
    return mix(0.42 + 0.5 * given.hair_length, -0.1 + 0.14 * given.hair_length, male).astype(
        np.float32
    )


def _hair_outline(scene: Scene, push):
    """Returns the signed distance to all hair, behind and before the face, with its waves."""
    body, given = scene.anatomy, scene.nuisance
    male = scene.has("Male")
    width = body.half_width + 0.05 + 0.05 * given.hair_volume + 0.05 * (1 - male)
    top = 0.61 + 0.1 * given.hair_volume + 0.02 * (1 - male)
    lean = np.float32(0.12) * given.hair_parting * male
    bottom = _hair_length(scene) + np.float32(0.2)

    def shape(x, y):
        high = np.maximum(-0.35 - y, 0)
        return egg(np.abs(x - lean * high) + push(y), y + 0.2, width, top, bottom, 0.92)

    return shape


def hair_behind(scene: Scene) -> None:
    """Paints the hair that falls behind face and shoulders, in shadow.

    Men's hair is too short to be seen there, and above the ears the hair in front covers it.
    """
    for part in scene.only((scene.has("Bald") < 1) & (scene.has("Male") < 1)).split(*HAIR_TEXTURES):
        _hair_behind(part)


def _hair_behind(scene: Scene) -> None:
    """Paints the lower part of the hair's outline, darker."""
    push, strands = _texture(scene)
    outline = _hair_outline(scene, push)
    colour = scene.anatomy.hair * np.float32(0.78)
    box = (-0.78, -0.2, 0.78, 1.0)
    scene.paint(box, lambda x, y: np.maximum(outline(x, y), -0.15 - y), colour, shade=strands)


def hair_front(scene: Scene) -> None:
    """Paints the hair over the skull, around the hairline and, when long, beside the face."""
    for part in scene.only(scene.has("Bald") < 1).split(*HAIR_TEXTURES, "Male"):
        _hair_front(part)
        _bangs(part.only(part.has("Bangs") > 0))


def _hair_front(scene: Scene) -> None:
    """Paints the area within the hair's outline except the face under the hairline."""
    body, given = scene.anatomy, scene.nuisance
    push, strands = _texture(scene)
    outer = _hair_outline(scene, push)
    receding, male = scene.has("Receding_Hairline"), scene.has("Male")
    opening_width = body.half_width * (0.9 + 0.09 * male)
    hairline = 0.44 + given.hairline + np.float32(0.12) * receding
    parting = np.float32(0.16) * given.hair_parting
    bottom = np.minimum(_hair_length(scene), 0.62)
    square = 0.15 + 0.5 * male

    def shape(x, y):
        folded = np.abs(x)
        side = x - parting * ramp(y, -0.1, -0.44)
        face = egg(side, -y, opening_width + 0.4 * push(y), 1.5, hairline, square)
        temples = np.maximum(ellipse(folded - 0.24, y + 0.45, 0.17, 0.16), 1 - 2 * receding)
        skull = ellipse(x, np.minimum(y - CHEEK_Y, 0), body.half_width - 0.015, SKULL_TOP - 0.015)
        opening = np.maximum(np.minimum(face, temples), skull)
        return np.maximum(np.maximum(outer(x, y), y - bottom), -opening)

    scene.paint((-0.75, -0.93, 0.75, bottom), shape, body.hair, shade=strands)


def _bangs(scene: Scene) -> None:
    """Paints a fringe over the forehead that ends in points just above the brows."""
    body, given = scene.anatomy, scene.nuisance
    push, strands = _texture(scene)

    def shape(x, y):
        points = np.float32(0.035) * wave(x * np.float32(6.5) + given.hair_phase)
        return column(x + push(y), y, -0.62, points - 0.25, 0.3, body.half_width * 0.97)

    scene.tint(
        (-0.5, -0.36, 0.5, -0.1), lambda x, y: bump(x, y + 0.24, 0.46, 0.11), rgb(0.8, 0.76, 0.74)
    )
    scene.paint(
        (-0.56, -0.64, 0.56, -0.2),
        shape,
        body.hair,
        shade=lambda x, y: strands(x, y) * (0.92 + 0.1 * wave(x * 6.5 + given.hair_phase)),
    )
