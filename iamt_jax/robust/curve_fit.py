"""Tone curves for each channel and attribute, fitted to the logits of clean images.

With n = 1 the tone curve is g = (1 + beta) M - beta, and a logit is linear in its betas. The betas
that bring the logits of degraded images nearest to the logits of the same images before are a
bounded least-squares problem for each attribute, without labels or gradients. They emphasise the
channels that survive the degradation.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.optimize import lsq_linear

RIDGE = 1e-2
"""Weight of |beta|^2, in units of a channel's mean square contribution."""


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
    gap = (masked - plain).astype(np.float64)
    left = clean - ((1 - own) * plain + (1 + own) * masked).sum(2)
    return np.stack([_bounded(gap[:, k], left[:, k], own) for k in range(gap.shape[1])])


def _bounded(gap: np.ndarray, left: np.ndarray, own: float) -> np.ndarray:
    """Solves the problem in its smaller form, with as many rows as channels:
    |R beta - R^-T gap^T left|^2, where R^T R is gap^T gap plus the ridge."""
    products = gap.T @ gap
    ridge = RIDGE * np.trace(products) / len(products) + 1e-12
    root = np.linalg.cholesky(products + ridge * np.eye(len(products))).T
    target = solve_triangular(root, gap.T @ left, trans="T")
    found = lsq_linear(root, target, bounds=(0 - own, 1 - own)).x
    return np.clip(own + found, 0, 1).astype(np.float32)
