"""Names and strengths of ImageNet-C's families of degradations, without JAX."""

from __future__ import annotations

from iamt_jax.errors import InputError, did_you_mean

SEVERITIES = (1, 2, 3, 4, 5)

FAMILIES: dict[str, dict[str, tuple[float, ...]]] = {
    "gaussian_noise": {"sigma": (0.08, 0.12, 0.18, 0.26, 0.38)},
    "shot_noise": {"photons": (60, 25, 12, 5, 3)},
    "impulse_noise": {"amount": (0.03, 0.06, 0.09, 0.17, 0.27)},
    "speckle_noise": {"sigma": (0.15, 0.2, 0.35, 0.45, 0.6)},
    "gaussian_blur": {"sigma": (1, 2, 3, 4, 6)},
    "defocus_blur": {"radius": (3, 4, 6, 8, 10), "alias_blur": (0.1, 0.5, 0.5, 0.5, 0.5)},
    "motion_blur": {"radius": (10, 15, 15, 15, 20), "sigma": (3, 5, 8, 12, 15)},
    "glass_blur": {
        "sigma": (0.7, 0.9, 1, 1.1, 1.5),
        "reach": (1, 2, 2, 3, 4),
        "rounds": (2, 1, 3, 2, 2),
    },
    "zoom_blur": {
        "limit": (1.11, 1.16, 1.21, 1.26, 1.31),
        "step": (0.01, 0.01, 0.02, 0.02, 0.03),
    },
    "fog": {"thickness": (1.5, 2, 2.5, 2.5, 3), "decay": (2, 2, 1.7, 1.5, 1.4)},
    "snow": {
        "mean": (0.1, 0.2, 0.55, 0.55, 0.55),
        "spread": (0.3, 0.3, 0.3, 0.3, 0.3),
        "factor": (3, 2, 4, 4.5, 2.5),
        "least": (0.5, 0.5, 0.9, 0.85, 0.85),
        "radius": (10, 12, 12, 12, 12),
        "sigma": (4, 4, 8, 8, 12),
        "share": (0.8, 0.7, 0.7, 0.65, 0.55),
    },
    "spatter": {
        "mean": (0.65, 0.65, 0.65, 0.65, 0.67),
        "spread": (0.3, 0.3, 0.3, 0.3, 0.4),
        "sigma": (4, 3, 2, 1, 1),
        "least": (0.69, 0.68, 0.68, 0.65, 0.65),
        "water": (0.6, 0.6, 0.5, 0, 0),
        "mud": (0, 0, 0, 1.5, 1.5),
    },
    "brightness": {"rise": (0.1, 0.2, 0.3, 0.4, 0.5)},
    "contrast": {"factor": (0.4, 0.3, 0.2, 0.1, 0.05)},
    "saturate": {"factor": (0.3, 0.1, 2, 5, 20), "rise": (0, 0, 0, 0.1, 0.2)},
    "elastic_transform": {
        "alpha": (2, 2, 0.05, 0.07, 0.12),
        "sigma": (0.7, 0.08, 0.01, 0.01, 0.01),
        "shift": (0.1, 0.2, 0.02, 0.02, 0.02),
    },
    "pixelate": {"fraction": (0.6, 0.5, 0.4, 0.3, 0.25)},
    "jpeg_compression": {"quality": (25, 18, 15, 10, 7)},
}
"""Name -> argument -> its value at each severity, from ImageNet-C (Hendrycks and Dietterich, ICLR
2019, make_imagenet_c.py), its extra families included. Of these only frost is absent: it needs
photographs of ice, which may not be distributed.

Lengths are in pixels and were chosen for 224 px. They are used unscaled: on smaller images blurs,
large pixels and drops hide more. Only those of elastic_transform are shares of the image's side, as
in make_imagenet_c.py."""


def require_degradation(family: str, severity: int) -> None:
    """Raises `InputError`, which names the nearest, if there is no such family or severity."""
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES, f"choose one of {', '.join(FAMILIES)}")
        raise InputError(f"degradation {family!r}: {hint}")
    if severity not in SEVERITIES:
        near = min(SEVERITIES, key=lambda known: abs(known - severity))
        raise InputError(f"severity {severity!r} of {family}: expected 1 to 5, nearest is {near}")
