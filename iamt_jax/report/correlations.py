"""The order in which rows and columns of a correlation matrix say most."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform


def clustered(matrix: Float[np.ndarray, "variable variable"]) -> Int[np.ndarray, " variable"]:
    """Variables that go together stand side by side: leaves of average linkage of 1 - r, turned
    so that neighbours are near (Bar-Joseph et al. 2001)."""
    if len(matrix) < 2:
        return np.arange(len(matrix))
    distance = 1 - np.nan_to_num(np.asarray(matrix, np.float64))
    distance = np.clip((distance + distance.T) / 2, 0, 2)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    return leaves_list(linkage(condensed, "average", optimal_ordering=True))
