"""The HTML report: tables, plots with sliders, and maps in one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from iamt_jax.files import json_text, replace_text
from iamt_jax.report import overlays, tables
from iamt_jax.report.explanation_files import explanation_tables
from iamt_jax.report.figures import clustered
from iamt_jax.report.published import Column
from iamt_jax.report.tables import brief, percent_cell

_KINDS = ("masks", "contributions", "labels", "predictions")
"""Kinds of correlations between attributes that are shown."""

_LONGEST_NAME = 40
"""Largest width of a name beside a matrix, in characters."""

PLANE_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "mean average precision",
}


def write_page(
    metrics: Mapping,
    plane: Mapping,
    findings: Mapping,
    arrays: Mapping[str, np.ndarray],
    path: Path,
    beside: Sequence[Column] = (),
) -> None:
    """Writes the page completely or not at all.

    Args:
      metrics: a report, as `iamt_jax.report.tables` takes it.
      plane: `CurveGrid.as_json` of `iamt_jax.evaluation.curve_grid`.
      findings: `explanation_findings` of `iamt_jax.evaluation.mask_statistics`.
      arrays: `explanation_arrays` of the same.
      path: file of the page.
      beside: published columns, such as `published.TABLE_4`.

    Raises:
      OSError: the folder cannot be written.
    """
    text = page(metrics, plane, findings, arrays, beside)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)


def page(
    metrics: Mapping,
    plane: Mapping,
    findings: Mapping,
    arrays: Mapping[str, np.ndarray],
    beside: Sequence[Column] = (),
) -> str:
    """HTML of the page; see `write_page`."""
    environment = Environment(
        loader=PackageLoader("iamt_jax.report", "template"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = files("iamt_jax.report") / "template"
    return environment.get_template("page.html.j2").render(
        style=Markup((template / "page.css").read_text("utf-8")),
        scripts=[
            Markup((template / name).read_text("utf-8")) for name in ("figures.js", "atlas.js")
        ],
        plotly=Markup(get_plotlyjs()),
        data=_json(_data(metrics, plane, findings, arrays)),
        metrics=metrics,
        accuracy=tables.cells(metrics, beside),
        published=beside,
        published_note=tables.published_note,
        noise=noise_table(plane, metrics["average"]["majority_accuracy"]),
        plane=plane,
        plane_metrics=PLANE_METRICS,
        findings=findings,
        explanations=explanation_tables(findings),
        kinds=_KINDS,
        photographs=len(arrays["atlas_images"]),
        facts=[(key.replace("_", " "), text) for key, text in tables.facts(metrics["provenance"])],
        note=tables.NOTE,
    )


def _data(
    metrics: Mapping, plane: Mapping, findings: Mapping, arrays: Mapping[str, np.ndarray]
) -> dict:
    """Data of the page's scripts; numbers are rounded to the precision of a plot."""
    order = clustered(arrays["correlation_masks"])
    features = clustered(arrays["correlation_features"])
    shown = brief([name.replace("_", " ") for name in findings["attributes"]], _LONGEST_NAME)
    return {
        "plane": {
            **{key: plane[key] for key in ("sigmas", "n", "beta", "automatic")},
            "scores": {k: _rounded(np.array(v), 5) for k, v in plane["scores"].items()},
            "names": PLANE_METRICS,
            "majority": metrics["average"]["majority_accuracy"],
            "curves": _rounded(arrays["curves"], 4),
        },
        "features": {
            "order": features.tolist(),
            "matrix": _rounded(arrays["correlation_features"][np.ix_(features, features)], 3),
        },
        "attributes": {
            # Plotly interprets some HTML.
            "names": [escape(shown[i], quote=False) for i in order],
            **{
                kind: _rounded(arrays[f"correlation_{kind}"][np.ix_(order, order)], 3)
                for kind in _KINDS
            },
        },
        "atlas": _atlas(findings, arrays),
    }


def _atlas(findings: Mapping, arrays: Mapping[str, np.ndarray]) -> dict:
    """Photographs and overlays as data URIs: [attribute][image] and [attribute][image][top]."""
    images, masks = arrays["atlas_images"], arrays["atlas_masks"]
    summary, importance = arrays["atlas_summary"], findings["importance"]
    # One scale for each attribute, so that its photographs can be compared.
    scale = np.abs(summary).max(axis=(0, 2, 3))
    uri = overlays.data_uri
    every = range(len(images))
    return {
        "names": [name.replace("_", " ") for name in findings["attributes"]],
        "channels": [[c for c, _ in row] for row in importance.values()],
        "shares": [[round(share, 4) for _, share in row] for row in importance.values()],
        "logits": _rounded(arrays["atlas_logits"].T, 2),
        "contributions": _rounded(arrays["atlas_contributions"].swapaxes(0, 1), 3),
        "photographs": [uri(overlays.photograph_webp(image), "webp") for image in images],
        "summary": [
            [uri(overlays.signed_png(summary[i, k], scale[k]), "png") for i in every]
            for k in range(len(scale))
        ],
        "mask_maps": [
            [uri(overlays.mask_map_png(arrays["atlas_mask_map"][i, k]), "png") for i in every]
            for k in range(len(scale))
        ],
        "masks": [
            [[uri(overlays.mask_png(mask), "png") for mask in masks[i, k]] for i in every]
            for k in range(len(scale))
        ],
    }


def noise_table(plane: Mapping, majority: float | None) -> tuple[list[str], list[list[str]]]:
    """Accuracy and mean AP at every sigma: identity, best pair in hindsight, calibrated."""
    one, zero = plane["n"].index(1), plane["beta"].index(0)
    headers = ["σ", "n 1, β 0: acc", "AP", "best pair: acc", "n", "β"]
    headers += ["calibrated: acc", "AP"] if plane["automatic"] else []
    rows = []
    for s, sigma in enumerate(plane["sigmas"]):
        accuracy = np.array(plane["scores"]["accuracy"][s], float)
        precision = plane["scores"]["average_precision"][s]
        i, j = np.unravel_index(np.argmax(np.nan_to_num(accuracy)), accuracy.shape)
        best = f"{plane['n'][i]:g}", f"{plane['beta'][j]:g}"
        shown = [accuracy[one, zero], precision[one][zero], accuracy[i, j]]
        row = [f"{sigma:g}", *map(percent_cell, shown), *best]
        if found := plane["automatic"]:
            row += [percent_cell(found[key][s]) for key in ("accuracy", "average_precision")]
        rows.append(row)
    rows.append(["majority", percent_cell(majority), *[""] * (len(headers) - 2)])
    return headers, rows


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(np.asarray(values, np.float64), digits).tolist()


def _json(data: dict) -> Markup:
    """JSON for a script element; `<` is escaped so that it cannot end the element."""
    text = json_text(data, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
