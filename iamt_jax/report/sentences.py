"""Sentences of the HTML report: what the numbers of a run say, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from iamt_jax.report.tables import number

NOISE_SHOWN = 0.2
"""Noise level whose results are put into words; the nearest measured level counts."""

_BLIND = ("centred Gaussian", "random")
"""Maps that do not depend on the network."""


class CurveGain(NamedTuple):
    """The most accurate tone curve of the grid at one noise level, and the masks as they are."""

    level: int
    """Index of the noise level."""
    sigma: float
    n: float
    beta: float
    accuracy: float
    precision: float
    """Mean average precision; NaN if no attribute has both classes."""
    identity_accuracy: float
    """At n = 1, beta = 0."""
    identity_precision: float
    own_accuracy: float
    """At n = 1 and the beta of the network's own curve."""
    own_precision: float


def curve_gain(plane: Mapping, sigma: float = NOISE_SHOWN) -> CurveGain:
    """Finds the most accurate pair at the measured noise level nearest to `sigma`; the masks as
    they are win a tie."""
    level = int(np.argmin(np.abs(np.array(plane["sigmas"]) - sigma)))
    accuracy, precision = (
        np.array(plane["scores"][name][level], float) for name in ("accuracy", "average_precision")
    )
    identity, own = ((plane["n"].index(1), plane["beta"].index(b)) for b in (0, plane["own_beta"]))
    best = np.unravel_index(np.argmax(np.nan_to_num(accuracy)), accuracy.shape)
    if not accuracy[best] > accuracy[identity]:
        best = identity
    return CurveGain(
        level,
        plane["sigmas"][level],
        plane["n"][best[0]],
        plane["beta"][best[1]],
        *(
            float(values[pair])
            for pair in (best, identity, own)
            for values in (accuracy, precision)
        ),
    )


def headline_sentences(metrics: Mapping, plane: Mapping, findings: Mapping) -> list[str]:
    """Three sentences: the accuracy, where the masks look, what treatments do under noise.

    The third may be `Markup`: a command in it is marked as code.
    """
    return [_accuracy(metrics), _places(findings), _noise(metrics, plane)]


def _accuracy(metrics: Mapping) -> str:
    average, made = metrics["average"], metrics["provenance"]
    accuracy, majority = average["accuracy"], average["majority_accuracy"]
    more = "more" if accuracy >= majority else "fewer"
    noise = f" with noise of σ {made['sigma']:g}" if made.get("sigma") else ""
    if "family" in made:
        noise = f" with {made['family'].replace('_', ' ')} of severity {made['severity']}"
    worst = min(metrics["attributes"].items(), key=lambda item: item[1]["accuracy"])
    return (
        f"On {made['images']:,} images ({made['layout']}, {made['split']}){noise}, "
        f"{_percent(accuracy)} of the answers about {len(metrics['attributes'])} attributes are "
        f"right, {_points(abs(accuracy - majority))} {more} than by always answering with the more "
        f"common class ({_percent(majority)}); the least accurate attribute is "
        f"{worst[0].replace('_', ' ')} ({_percent(worst[1]['accuracy'])})."
    )


def _places(findings: Mapping) -> str:
    scores, images = findings["judged"]["scores"], findings["provenance"]["images_judged"]
    masks, ours = scores["masks"], scores.get("masked contributions", {})
    if "pointing" in masks:
        blind = max(scores[name]["pointing"] for name in _BLIND if name in scores)
        better = masks["pointing"] > blind
        share = np.mean(list(findings["judged"]["regions"].values()))
        return (
            f"The masks of an attribute are {'highest' if better else 'not'} inside its true "
            f"region {'in' if better else 'more often than a map that ignores the image: in'} "
            f"{_percent(masks['pointing'])} of the cases ({_rival(scores, 'pointing')}a map that "
            f"ignores the image {_percent(blind)}; {images} images), and "
            f"{_percent(masks['energy_inside'])} of their weight lies in regions that cover "
            f"{_percent(share)} of an image."
        )
    if "grid_pointing" in ours:
        found = ours["grid_pointing"]
        verdict = "" if found > 0.25 else ", so they do not find it"
        return (
            f"In pictures of four faces, one of which has the attribute, {_percent(found)} of "
            f"what the masked channels add for the attribute lies on that face "
            f"({_rival(scores, 'grid_pointing')}chance 25 %){verdict}."
        )
    return (
        "Whether the masks look at the right places was not measured: regions of the attributes "
        "are not known on this data, and no attribute has enough images for the game of four faces."
    )


def _rival(scores: Mapping, metric: str) -> str:
    found = scores.get("Grad-CAM", {}).get(metric)
    return "" if found is None else f"Grad-CAM {_percent(found)}, "


def curve_sentence(plane: Mapping) -> str:
    """Says what the network's own curve and the best pair gain over the masks as they are, in
    accuracy and in AP."""
    found = curve_gain(plane)
    pairs = len(plane["n"]) * len(plane["beta"])
    text = (
        f"With noise of σ {found.sigma:g}, the masks as they are (n 1, β 0) give "
        f"{_percent(found.identity_accuracy)} accuracy"
    )
    if not np.isnan(found.identity_precision):
        text += f" and {_percent(found.identity_precision)} average precision (AP)"
    text += f" on {plane['images']:,} images"
    if plane["own_beta"]:
        own = _gain(found, found.own_accuracy, found.own_precision)
        text += f"; the network's own curve, n 1, β {plane['own_beta']:g}, {own}"
    if found.accuracy <= found.identity_accuracy:
        return f"{text}; none of the other {pairs - 1} tone curves is more accurate."
    return (
        f"{text}; the most accurate of {pairs} tone curves, n {found.n:g}, β {found.beta:g}, "
        f"chosen on these very images, {_gain(found, found.accuracy, found.precision)}."
    )


def _gain(found: CurveGain, accuracy: float, precision: float) -> str:
    """Gain or loss of a pair over the masks as they are, in words."""
    first, second = accuracy - found.identity_accuracy, precision - found.identity_precision
    text = f"{'gains' if first >= 0 else 'loses'} {_points(abs(first))} of accuracy"
    if np.isnan(second):
        return text
    if (first >= 0) == (second >= 0):
        return f"{text} and {_points(abs(second))} of AP"
    return f"{text} but {'gains' if second >= 0 else 'loses'} {_points(abs(second))} of AP"


def _noise(metrics: Mapping, plane: Mapping) -> str:
    found, majority = curve_gain(plane), metrics["average"]["majority_accuracy"]
    text = curve_sentence(plane).removesuffix(".")
    if majority is not None and found.accuracy < majority:
        text += f", and stays below the majority class ({_percent(majority)})"
    if not plane["automatic"]:
        return f"{text}; the run has no calibration, so nothing else was measured under noise."
    accuracy = plane["automatic"]["accuracy"][found.level]
    change = accuracy - found.own_accuracy
    return Markup(
        "{}. The calibrated transformation (<code>evaluate.py --auto</code>) reaches {}, "
        "{} {} than the network's own curve."
    ).format(text, _percent(accuracy), _points(abs(change)), "more" if change >= 0 else "less")


def provenance_sentences(metrics: Mapping, plane: Mapping, findings: Mapping) -> list[str]:
    """Says in words which network, data, images, code and device the numbers come from."""
    made = metrics["provenance"]
    left = len(made.get("left_out", ()))
    left_out = f"{left} damaged images were left out" if left else "no image was left out"
    versions = made.get("versions", {})
    program = f"JAX {versions['jax']}" if "jax" in versions else "JAX"
    return [
        f"The network is the best checkpoint of {made.get('workdir', 'the run')}, of step "
        f"{made.get('checkpoint_step', 'unknown')}. The data are {made['layout']} "
        f"({made.get('data', 'unknown')}), split {made['split']}, {made['images']:,} images; "
        f"{left_out}.",
        f"Accuracy and correlations of the masks use all {made['images']:,} images; the "
        f"{len(plane['n']) * len(plane['beta'])} tone curves and the calibrated transformation use "
        f"{plane['images']:,}, spread evenly over the split, at {len(plane['sigmas'])} noise "
        f"levels; the tests of the maps use the first {findings['provenance']['images_judged']} "
        f"without noise (regions: {findings['provenance']['regions']}).",
        f"It was made on {made.get('date', 'an unknown date')} by version {made['commit']} of the "
        f"code with {program}, on {made.get('device', 'an unknown device')}.",
    ]


def _percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{number(100 * fraction, 1)} %"


def _points(fraction: float) -> str:
    return f"{number(100 * fraction, 1)} points"
