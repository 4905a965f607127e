"""Noise and the degradations of ImageNet-C, with one random key an image."""

from iamt_jax.degradation.families import FAMILIES, SEVERITIES, Family, degrade
from iamt_jax.degradation.noise import degradation_keys, gaussian_noise, noise_keys

__all__ = [
    "FAMILIES",
    "SEVERITIES",
    "Family",
    "degradation_keys",
    "degrade",
    "gaussian_noise",
    "noise_keys",
]
