"""What happens to images between the world and the network: noise and damage, keyed by image."""

from iamt_jax.degradation.families import FAMILIES, SEVERITIES, Family, degrade
from iamt_jax.degradation.keys import degradation_keys, noise_keys
from iamt_jax.degradation.noise import gaussian_noise

__all__ = [
    "FAMILIES",
    "SEVERITIES",
    "Family",
    "degradation_keys",
    "degrade",
    "gaussian_noise",
    "noise_keys",
]
