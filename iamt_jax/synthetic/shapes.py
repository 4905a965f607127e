"""Signed distances (negative inside) and soft weights of simple shapes, in face units.

Every function is elementwise and uses only operations that IEEE 754 rounds exactly, so that a
pixel does not depend on the batch, the window or the machine that computes it. Distances are
correct to first order near the edge, which is sufficient for antialiasing.
"""

from __future__ import annotations

import numpy as np


def ellipse(x, y, radius_x, radius_y):
    """Returns the signed distance to an ellipse around the origin."""
    u, v = x / radius_x, y / radius_y
    slope_x, slope_y = u / radius_x, v / radius_y
    length = np.sqrt(slope_x * slope_x + slope_y * slope_y)
    return (u * u + v * v - 1) / (2 * length + np.float32(1e-3))


def egg(x, y, radius_x, top, bottom, square=0.0):
    """Returns the signed distance to an ellipse whose upper and lower half differ in height.

    Args:
      x: horizontal offset from the centre.
      y: vertical offset from the centre, downward.
      radius_x: half width.
      top: height above the centre.
      bottom: height below the centre.
      square: 0 rounds the lower half as an ellipse, 1 makes it a rectangle; between them lie
        the squircles of Fernandez Guasti, X^2 + Y^2 - square X^2 Y^2 = 1.
    """
    u = x / radius_x
    over, under = np.minimum(y, 0) / top, np.maximum(y, 0) / bottom
    u2, under2 = u * u, under * under
    value = u2 + over * over + under2 - square * u2 * under2 - 1
    slope_x = u * (1 - square * under2) / radius_x
    slope_y = over / top + under * (1 - square * u2) / bottom
    distance = value / (2 * np.sqrt(slope_x * slope_x + slope_y * slope_y) + np.float32(1e-3))
    # The quotient is wrong at the centre and on the outer branches of a squircle; the box around
    # the egg bounds it there.
    beyond = np.maximum(np.abs(x) - radius_x, np.maximum(-y - top, y - bottom))
    return np.maximum(distance, beyond)


def leaf(x, y, half_width, up, down, bend=0.0):
    """Returns the signed distance to the area between two parabolas that meet at both ends.

    Args:
      x: horizontal offset from the centre.
      y: vertical offset from the centre, downward.
      half_width: distance from the centre to an end.
      up: rise of the upper parabola over the midline.
      down: fall of the lower parabola under the midline.
      bend: height of the ends above the middle.
    """
    t = x / half_width
    t2 = t * t
    offset = y + bend * t2
    q = 1 - t2
    return np.maximum(-up * q - offset, offset - down * q)


def column(x, y, top, bottom, top_width, bottom_width):
    """Returns the signed distance to an upright trapezium of given half widths at both ends."""
    share = (y - top) / (bottom - top)
    side = np.abs(x) - (top_width + (bottom_width - top_width) * share)
    return np.maximum(side, np.maximum(top - y, y - bottom))


def outline(distance, half_thickness):
    """Returns the signed distance to a line of given thickness along the edge of a shape."""
    return np.abs(distance) - half_thickness


def bump(x, y, radius_x, radius_y):
    """Returns a soft weight: 1 at the origin, falling smoothly to 0 at an ellipse."""
    u, v = x / radius_x, y / radius_y
    height = np.maximum(1 - u * u - v * v, 0)
    return height * height


def ramp(value, start, stop):
    """Returns a soft weight: 0 at `start`, 1 at `stop`, linear between them."""
    return np.clip((value - start) / (stop - start), 0, 1)


def wave(turns):
    """Returns a wave of period 1 that approximates a sine by parabolas."""
    part = turns - np.floor(turns + np.float32(0.5))
    return 8 * part * (1 - 2 * np.abs(part))
