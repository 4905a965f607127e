"""The page's state, as parameters of its address."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from iamt_jax.degradation.severities import SEVERITIES
from iamt_jax.explorer.damage import (
    KINDS,
    LARGEST_SIGMA,
    NOISE_ENTRY,
    Damage,
    damage_of,
    kind_of,
    strengths,
)
from iamt_jax.explorer.drawing import ORDERS, Order
from iamt_jax.explorer.view import Settings
from iamt_jax.robust.treatment import ToneCurve

N_VALUES = (
    *(0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1),
    *(1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10),
)
"""Values of n on the slider."""

PHOTOGRAPH = "photograph"
"""In the address in place of a face's number; the photograph itself is never kept."""


class PageState(NamedTuple):
    """Everything that the page's controls say."""

    face: int | None
    """Number of the rendered face, from 0; None for a photograph."""
    attribute: str
    damage: Damage
    n: float
    beta: float
    auto: bool
    order: Order = ORDERS[0]

    @property
    def settings(self) -> Settings:
        """The settings of `View.compute`."""
        curve = None if self.auto else ToneCurve(self.n, self.beta)
        return Settings(self.attribute, self.damage, curve)

    def parameters(self) -> dict[str, str]:
        """The parameters of the address; `restored` reads them."""
        sigma, severity = strengths(self.damage)
        kind = kind_of(self.damage)
        return {
            "face": PHOTOGRAPH if self.face is None else str(self.face + 1),
            "attribute": self.attribute,
            "damage": kind,
            **({"noise": f"{sigma:g}"} if kind == NOISE_ENTRY else {"severity": str(severity)}),
            "n": f"{self.n:g}",
            "beta": f"{self.beta:g}",
            "auto": str(int(self.auto)),
            "order": self.order,
        }


def restored(
    parameters: Mapping[str, str],
    default: PageState,
    attributes: Sequence[str],
    faces: int,
    has_auto: bool,
) -> PageState:
    """The state of an address; a parameter that is missing or wrong leaves its default, and n is
    the nearest of `N_VALUES`.

    Args:
      parameters: names and values, decoded.
      default: the state of an address without parameters.
      attributes: the network's.
      faces: number of rendered faces.
      has_auto: whether `auto` is available.
    """

    def number(name: str, low: float, high: float, otherwise: float) -> float:
        try:
            value = float(parameters.get(name, ""))
        except ValueError:
            return otherwise
        return min(max(value, low), high) if math.isfinite(value) else otherwise

    def one_of(name: str, known: Sequence[str], otherwise: str) -> str:
        value = parameters.get(name)
        return value if value in known else otherwise

    sigma, severity = strengths(default.damage)
    damage = damage_of(
        one_of("damage", KINDS, kind_of(default.damage)),
        number("noise", 0, LARGEST_SIGMA, sigma),
        int(one_of("severity", [str(x) for x in SEVERITIES], str(severity))),
    )
    n = number("n", N_VALUES[0], N_VALUES[-1], default.n)
    face = int(number("face", 1, faces, default.face + 1)) - 1
    return PageState(
        None if parameters.get("face") == PHOTOGRAPH else face,
        one_of("attribute", attributes, default.attribute),
        damage,
        min(N_VALUES, key=lambda value: abs(value - n)),
        number("beta", 0, 1, default.beta),
        has_auto and parameters.get("auto") == "1",
        one_of("order", ORDERS, default.order),
    )
