"""Samples attribute vectors without contradictions, with CelebA's marginals and correlations.

The model is a Gaussian copula: attribute k is on where a correlated normal latent exceeds a
threshold. Rules then remove contradictions (a bald head has no hair colour). Because this shifts
marginals and correlations, latent correlations and thresholds are fitted with the rules applied.
"""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float

from iamt_jax.attributes import CELEBA_ATTRIBUTES, celeba_statistics

BEARDS = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
HAIR_TEXTURES = ("Straight_Hair", "Wavy_Hair")

EXCLUSIVE: tuple[tuple[str, ...], ...] = (
    HAIR_COLOURS,
    HAIR_TEXTURES,
    ("Bangs", "Receding_Hairline"),
)
"""Groups of which at most one attribute is on: the one farthest above its threshold."""

SILENCES: dict[str, tuple[str, ...]] = {
    "Wearing_Hat": ("Bald", "Receding_Hairline"),
    "Bald": ("Bangs", *HAIR_COLOURS, *HAIR_TEXTURES),
}
"""Attribute -> attributes that it turns off, in this order (a hat hides a bald head)."""

_FIT_DRAWS, _FIT_ROUNDS = 20_000, 20


def sample_attributes(rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count attribute"]:
    """Draws attribute vectors that follow CelebA's statistics and contain no contradiction.

    Args:
      rng: source of randomness; the same state gives the same vectors.
      count: number of vectors.

    Returns:
      `bool (count, 40)` in the order of `CELEBA_ATTRIBUTES`: marginals of the train split
      (within 1.5 points at 20,000 draws), phi matrix of the labels (0.05 on average).
    """
    factor, threshold = _fitted_copula()
    latent = _correlate(rng.standard_normal((count, len(threshold))), factor)
    return _obey_logic(latent - threshold)


def _columns(names: tuple[str, ...]) -> list[int]:
    return [CELEBA_ATTRIBUTES.index(name) for name in names]


def _obey_logic(
    margin: Float[np.ndarray, "count attribute"],
) -> Bool[np.ndarray, "count attribute"]:
    """Turns latents minus thresholds into labels without contradictions."""
    on = margin > 0
    for silencer, silenced in SILENCES.items():
        on[:, _columns(silenced)] &= ~on[:, _columns((silencer,))]
    for group in EXCLUSIVE:
        columns = _columns(group)
        candidates = np.where(on[:, columns], margin[:, columns], -np.inf)
        strongest = np.argmax(candidates, axis=1)
        on[:, columns] &= strongest[:, None] == np.arange(len(columns))
    (shaven,), beards = _columns(("No_Beard",)), _columns(BEARDS)
    bearded = margin[:, beards].max(axis=1) > np.maximum(margin[:, shaven], 0)
    on[:, shaven] &= ~bearded
    on[:, beards] &= ~on[:, [shaven]]
    return on


@functools.cache
def _fitted_copula() -> tuple[
    Float[np.ndarray, "attribute attribute"], Float[np.ndarray, " attribute"]
]:
    """Fits the copula by simulation, in about a second; returns a Cholesky factor and thresholds.

    Each round draws from the same normals, compares the labels with CelebA's statistics, and moves
    thresholds and latent correlations by the error over the slope of a pair without rules. Fixed
    draws make the fit, and so every data set, a deterministic function of the statistics (on one
    machine: another BLAS may round a few draws to the other side of a threshold).
    """
    statistics = celeba_statistics()
    target = np.array(statistics["positives"]["train"]) / statistics["images"]["train"]
    phi = np.array(statistics["phi"])
    normal = NormalDist()
    threshold = np.array([normal.inv_cdf(1 - share) for share in target])
    density = np.array([normal.pdf(value) for value in threshold])
    # d(phi)/d(latent correlation) at 0 (tetrachoric series, first term).
    slope = density / np.sqrt(target * (1 - target))
    step = 0.3 * np.minimum(1 / np.outer(slope, slope), 4)
    half = np.random.default_rng(0).standard_normal((_FIT_DRAWS // 2, len(target)))
    normals = np.concatenate([half, -half])  # Antithetic: less noise in the thresholds.
    latent_correlation = np.sin(np.pi / 2 * phi)
    for remaining in reversed(range(_FIT_ROUNDS)):
        latent_correlation = _nearest_correlation(latent_correlation)
        factor = np.linalg.cholesky(latent_correlation)
        labels = _obey_logic(_correlate(normals, factor) - threshold)
        threshold = threshold + 0.8 * (labels.mean(axis=0) - target) / density
        if remaining >= 4:  # The last rounds settle the marginals alone.
            latent_correlation = latent_correlation + step * (phi - _phi(labels))
    return factor, threshold


def _correlate(
    normals: Float[np.ndarray, "count attribute"], factor: Float[np.ndarray, "attribute attribute"]
) -> Float[np.ndarray, "count attribute"]:
    """Turns independent normals into correlated ones.

    It computes one small product a row, so that the bits depend neither on other rows nor on the
    threads of BLAS, which on a busy machine would also wait for each other for seconds.
    """
    return np.matmul(normals[:, None, :], factor.T)[:, 0]


def _phi(labels: Bool[np.ndarray, "count attribute"]) -> Float[np.ndarray, "attribute attribute"]:
    """Computes Pearson's correlation of binary labels from counts of pairs."""
    # Counts below 2^24 are exact in float32; small blocks keep BLAS to one thread.
    blocks = labels.astype(np.float32).reshape(-1, 100, labels.shape[1])
    together = np.matmul(blocks.transpose(0, 2, 1), blocks).sum(axis=0, dtype=np.float64)
    share = labels.mean(axis=0)
    covariance = together / len(labels) - np.outer(share, share)
    spread = np.sqrt(np.diag(covariance))
    return covariance / np.outer(spread, spread)


def _nearest_correlation(
    matrix: Float[np.ndarray, "attribute attribute"],
) -> Float[np.ndarray, "attribute attribute"]:
    """Lifts negative eigenvalues and restores the unit diagonal."""
    values, vectors = np.linalg.eigh(matrix)
    lifted = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(lifted))
    return lifted / np.outer(scale, scale)
