"""What `explained` found, as plain numbers and named arrays: what reports are made of."""

from __future__ import annotations

import numpy as np

from iamt_jax.evaluation.curve_grid import BETA, N, sampled_curves
from iamt_jax.evaluation.mask_statistics import TOP, Explained, coupled, strongest

Arrays = dict[str, np.ndarray]


def findings(found: Explained) -> dict:
    """The tables, in JSON's types.

    attributes   names, in the order of every array's axis
    importance   attribute -> [channel, share] of the top channels (Fig. 4)
    features     [[channel, correlation] of the closest five] a channel (Table 2)
    together     attribute -> the five whose masks are closest (Table 3), each with the
                 correlations of masks, labels and predictions
    coupled      pairs whose predictions go together more than their labels do, with the same
    judged       how true the maps are: regions, scores, randomised
    provenance   what made the numbers
    """
    names, analysis = found.attributes, found.analysis

    def pair(a: int, b: int) -> dict[str, float]:
        matrices = {
            "masks": analysis.attributes,
            "labels": found.labels,
            "predictions": found.decisions,
        }
        return {name: float(matrix[a, b]) for name, matrix in matrices.items()}

    importance = np.argsort(-analysis.importance, axis=1, kind="stable")[:, :TOP]
    return {
        "attributes": list(names),
        "importance": {
            name: [[int(c), float(analysis.importance[k, c])] for c in importance[k]]
            for k, name in enumerate(names)
        },
        "features": [
            [list(near) for near in strongest(analysis.features, c)]
            for c in range(len(analysis.features))
        ],
        "together": {
            name: [
                {"attribute": names[b], **pair(k, b)} for b, _ in strongest(analysis.attributes, k)
            ]
            for k, name in enumerate(names)
        },
        "coupled": [
            {"attributes": [names[a], names[b]], **pair(a, b)}
            for a, b in coupled(found.labels, found.decisions)
        ],
        "judged": found.judged._asdict(),
        "provenance": found.provenance,
    }


def arrays(found: Explained) -> Arrays:
    """What the figures are drawn from: importance, correlations, the atlas, sampled tone curves."""
    return {
        "attributes": np.array(found.attributes),
        "importance": found.analysis.importance,
        "correlation_features": found.analysis.features,
        "correlation_masks": found.analysis.attributes,
        "correlation_labels": found.labels,
        "correlation_predictions": found.decisions,
        **{f"atlas_{name}": part for name, part in found.atlas._asdict().items()},
        "curve_n": np.array(N),
        "curve_beta": np.array(BETA),
        "curves": sampled_curves(),
    }
