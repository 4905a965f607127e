"""The damage done to the picture, Gaussian noise or one of ImageNet-C's families, and its names."""

from __future__ import annotations

from iamt_jax.degradation.severities import FAMILIES, SEVERITIES
from iamt_jax.inference.predictor import Degradation, Noise

Damage = Noise | Degradation
"""The explorer's noise is not clipped, and its seed is that of the view: `clip` and `seed` keep
their defaults."""

NOISE_ENTRY = "noise"
"""Kind of `Noise`; the kind of a `Degradation` is its family."""

KINDS = (NOISE_ENTRY, *FAMILIES)
"""Entries of the menu."""

LARGEST_SIGMA = 0.5
"""End of the noise slider, [0, 1] pixel units."""


def damage_of(kind: str, sigma: float, severity: int) -> Damage:
    """The damage of a kind; of the two strengths, the one that it has is used."""
    return Noise(sigma) if kind == NOISE_ENTRY else Degradation(kind, severity)


def kind_of(damage: Damage) -> str:
    """The damage's entry of `KINDS`."""
    return damage.family if isinstance(damage, Degradation) else NOISE_ENTRY


def strengths(damage: Damage) -> tuple[float, int]:
    """Values of both sliders, sigma and severity; the one that the damage does not have is at its
    default."""
    if isinstance(damage, Degradation):
        return 0.0, damage.severity
    return damage.sigma, SEVERITIES[len(SEVERITIES) // 2]


def is_damaging(damage: Damage) -> bool:
    """False for noise of sigma 0."""
    return isinstance(damage, Degradation) or damage.sigma > 0


def kind_name(kind: str) -> str:
    """A kind's name with spaces, such as "motion blur"."""
    return kind.replace("_", " ").replace("jpeg", "JPEG")


def damage_name(damage: Damage) -> str:
    """Name of the damage's kind."""
    return kind_name(kind_of(damage))


def damage_title(damage: Damage) -> str:
    """Name and strength, such as "noise 0.20", "no noise" or "motion blur 3"."""
    if not is_damaging(damage):
        return "no noise"
    sigma, severity = strengths(damage)
    strength = severity if isinstance(damage, Degradation) else f"{sigma:.2f}"
    return f"{damage_name(damage)} {strength}"


def damage_subject(damage: Damage) -> str:
    """The damage at the start of a sentence, such as "Noise" or "Motion blur of severity 3"."""
    name = damage_name(damage)
    strength = f" of severity {damage.severity}" if isinstance(damage, Degradation) else ""
    return f"{name[0].upper()}{name[1:]}{strength}"
