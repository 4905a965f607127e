"""Tone curves for each channel and attribute, fitted to the logits of clean images.

With n = 1 the tone curve is g = (1 + beta) M - beta, and a logit is linear in its betas. The betas
that bring the logits of degraded images nearest to the logits of the same images before are a
bounded least-squares problem for each attribute, without labels or gradients. They emphasise the
channels that survive the degradation.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

RIDGE = 1e-2
"""Weight of |beta|^2, in units of a channel's mean square contribution."""

TOLERANCE = 1e-4
"""Change of a beta in a round, and gap between its free and its bounded solution, below which a fit
counts as found."""

MOST_ROUNDS = 1000
"""Rounds of a fit."""

PENALTY = 0.3
"""Weight of the gap between the free and the bounded solution, in units of a channel's mean square
contribution; 0.1 and 1 needed more rounds (docs/log.md)."""

CURVE_IMAGES = 256
"""Images that the curves of a noise level, or of a kind of degradation, are fitted to."""


def fit_beta(
    plain: Float[np.ndarray, "image attribute channel"],
    masked: Float[np.ndarray, "image attribute channel"],
    clean: Float[np.ndarray, "image attribute"],
    own: float = 0.0,
) -> Float[np.ndarray, "attribute channel"]:
    r"""Fits the betas of each attribute and channel at one noise level.

    .. math::
      z_k(\beta) = \sum_c (1 - \beta_{kc}) F_{kc} + (1 + \beta_{kc}) H_{kc}, \qquad
      \min_{0 \le \beta \le 1} \sum_i (z_{ik}(\beta) - z^{clean}_{ik})^2
      + \rho |\beta_k - \beta^{own}|^2

    Args:
      plain: F, contributions of the unmasked features to the logits of noisy images.
      masked: H, contributions of M * f.
      clean: logits of the same images without noise, minus the heads' biases.
      own: beta of the network's own curve, from which the fit starts.

    Returns:
      Beta in [0, 1], float32.
    """
    gap = (masked - plain).transpose(1, 2, 0)
    left = clean - ((1 - own) * plain + (1 + own) * masked).sum(2)
    products = (gap @ gap.transpose(0, 2, 1)).astype(np.float64)
    wanted = (gap @ left.T[:, :, None])[:, :, 0]
    diagonal = np.einsum("kcc->kc", products)  # A view.
    diagonal += RIDGE * diagonal.mean(1, keepdims=True) + 1e-12
    return np.clip(own + _bounded(products, wanted, -own, 1 - own), 0, 1).astype(np.float32)


def _bounded(
    products: Float[np.ndarray, "attribute channel channel"],
    wanted: Float[np.ndarray, "attribute channel"],
    least: float,
    largest: float,
) -> Float[np.ndarray, "attribute channel"]:
    """Minimises x^T products x / 2 - wanted x within bounds, of all attributes at once.

    By the alternating direction method of multipliers (Boyd et al. 2011, section 5.2) with an
    over-relaxation of 1.6: one inverse for each attribute serves all rounds.
    """
    weight = PENALTY * np.einsum("kcc->kc", products).mean(1)[:, None]
    inverse = np.linalg.inv(products + weight[:, :, None] * np.eye(products.shape[1]))
    bounded = np.clip(np.zeros_like(wanted, np.float64), least, largest)
    price = np.zeros_like(bounded)
    for _ in range(MOST_ROUNDS):
        before = bounded
        free = (inverse @ (wanted + weight * (before - price))[:, :, None])[:, :, 0]
        relaxed = 1.6 * free - 0.6 * before
        bounded = np.clip(relaxed + price, least, largest)
        price += relaxed - bounded
        if max(np.abs(bounded - before).max(), np.abs(bounded - free).max()) < TOLERANCE:
            break
    return bounded
