"""What a report is made of, small and drawn at random: 6 attributes, 8 channels, and 4 photographs
of each attribute."""

import numpy as np

from iamt_jax.metrics.classification import compute_metrics, majority_class, metrics_json

ATTRIBUTES = ("Bangs", "Smiling", "Big_Nose", "Eyeglasses", "Male", "Young")
CHANNELS, SHOWN, TOP = 8, 4, 5
SIGMAS, N, BETA = (0.0, 0.2, 0.5), (0.5, 1.0, 4.0), (0.0, 0.25, 0.5, 0.75, 1.0)
KINDS = ("masks", "labels", "predictions", "contributions")
RIVALS = ("masks", "gradients", "Grad-CAM", "random")


def correlations(rng, variables):
    return np.corrcoef(rng.normal(size=(variables, 3 * variables)))


def metrics(rng):
    labels = (rng.random((60, len(ATTRIBUTES))) < 0.4).astype(np.int8)
    logits = rng.normal(size=labels.shape) + labels
    found = compute_metrics(logits, labels, majority_class(labels), bootstrap=10)
    provenance = {"layout": "<synthetic> & faces", "split": "test", "images": 60}
    provenance |= {"n": 1.0, "beta": 0.0, "sigma": 0.0, "commit": "abc", "versions": {"jax": "1"}}
    return metrics_json(found, ATTRIBUTES) | {"provenance": provenance}


def plane(rng, calibrated=True):
    names = ("accuracy", "balanced_accuracy", "average_precision")
    shape = len(SIGMAS), len(N), len(BETA)
    automatic = {name: rng.random(len(SIGMAS)).tolist() for name in names}
    return {
        "images": 50,
        "sigmas": SIGMAS,
        "n": N,
        "beta": BETA,
        "own_beta": BETA[-1],
        "scores": {name: rng.random(shape).tolist() for name in names},
        "automatic": automatic if calibrated else None,
    }


def arrays(rng):
    k = len(ATTRIBUTES)
    importance = rng.dirichlet(np.ones(CHANNELS), k)
    shape = k, SHOWN, TOP
    rows = np.stack([rng.choice(60, SHOWN, replace=False) for _ in range(k)])
    photographs = rng.integers(0, 256, (60, 32, 32, 3), np.uint8)
    return {
        "attributes": np.array(ATTRIBUTES),
        "importance": importance,
        "correlation_features": correlations(rng, CHANNELS),
        **{f"correlation_{kind}": correlations(rng, k) for kind in KINDS},
        "atlas_images": photographs[rows],
        "atlas_rows": rows,
        "atlas_labels": np.tile(np.array([1, 1, 0, 0], np.int8), (k, 1)),
        "atlas_logits": rng.normal(size=(k, SHOWN)),
        "atlas_channels": np.argsort(-importance, axis=1)[:, :TOP],
        "atlas_masks": rng.random((*shape, 4, 4)),
        "atlas_contributions": rng.normal(size=shape),
        "atlas_mask_map": rng.random((k, SHOWN, 4, 4)),
        "atlas_summary": rng.normal(size=(k, SHOWN, 32, 32)),
        "curve_n": np.array(N),
        "curve_beta": np.array(BETA),
        "curves": rng.uniform(-1, 1, (len(N), len(BETA), 17)),
    }


def findings(rng, arrays):
    def near(matrix, row):
        order = [int(i) for i in np.argsort(-matrix[row]) if i != row][:TOP]
        return [[i, float(matrix[row, i])] for i in order]

    def pair(a, b):
        return {kind: float(arrays[f"correlation_{kind}"][a, b]) for kind in KINDS}

    scores = ("energy_inside", "pointing", "grid_pointing", "deletion", "insertion")
    masks = arrays["correlation_masks"]
    return {
        "attributes": list(ATTRIBUTES),
        "importance": {
            name: [[int(c), float(arrays["importance"][k, c])] for c in arrays["atlas_channels"][k]]
            for k, name in enumerate(ATTRIBUTES)
        },
        "features": [near(arrays["correlation_features"], c) for c in range(CHANNELS)],
        "together": {
            name: [{"attribute": ATTRIBUTES[b], **pair(k, b)} for b, _ in near(masks, k)]
            for k, name in enumerate(ATTRIBUTES)
        },
        "agreement": {"masks": -0.03, "contributions": 0.43},
        "coupled": [{"attributes": ["Bangs", "Young"], **pair(0, 5)}],
        "judged": {
            "regions": {"Smiling": 0.1},
            "scores": {name: {s: float(rng.random()) for s in scores} for name in RIVALS},
            "randomised": {"heads": 0.125, "heads and extractor": -0.0625},
        },
        "provenance": {"images": 60, "images_judged": 3, "regions": "known", "split": "test"},
    }


def everything(seed=0, calibrated=True):
    """Arguments of `page`: metrics, plane, findings, arrays."""
    rng = np.random.default_rng(seed)
    found = arrays(rng)
    return metrics(rng), plane(rng, calibrated), findings(rng, found), found
