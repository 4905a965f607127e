"""The HTML report: tables, plots with sliders, and maps in one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from iamt_jax.files import json_text, replace_text
from iamt_jax.report import overlays, sentences, tables
from iamt_jax.report.comparison import paper_tables
from iamt_jax.report.explanation_files import explanation_tables
from iamt_jax.report.figures import clustered
from iamt_jax.report.tables import brief, percent_cell

_KINDS = ("masks", "contributions", "labels", "predictions")
"""Kinds of correlations between attributes that are shown."""

_LONGEST_NAME = 40
"""Largest width of a name beside a matrix, in characters."""

_PICTURES, _PICTURE = 8, 128
"""Number of pictures at the top of the page, and the side of each in pixels."""

_FIGURE_4_CHANNELS = 3

_SCRIPTS = ("figures.js", "atlas.js", "sorting.js")

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
) -> None:
    """Writes the page completely or not at all.

    Args:
      metrics: a report, as `iamt_jax.report.tables` takes it.
      plane: `CurveGrid.as_json` of `iamt_jax.evaluation.curve_grid`.
      findings: `explanation_findings` of `iamt_jax.evaluation.mask_statistics`.
      arrays: `explanation_arrays` of the same.
      path: file of the page.

    Raises:
      OSError: the folder cannot be written.
    """
    text = page(metrics, plane, findings, arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)


def page(
    metrics: Mapping,
    plane: Mapping,
    findings: Mapping,
    arrays: Mapping[str, np.ndarray],
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
    headers, rows, averages = accuracy_table(metrics)
    return environment.get_template("page.html.j2").render(
        style=Markup((template / "page.css").read_text("utf-8")),
        scripts=[Markup((template / name).read_text("utf-8")) for name in _SCRIPTS],
        plotly=Markup(get_plotlyjs()),
        data=_json(_data(metrics, plane, findings, arrays)),
        metrics=metrics,
        sentences=sentences.headline_sentences(metrics, plane, findings),
        pictures=_pictures(findings, arrays),
        headers=headers,
        rows=rows,
        averages=averages,
        noise=noise_table(plane, metrics["average"]["majority_accuracy"]),
        plane=plane,
        plane_metrics=PLANE_METRICS,
        curve_sentence=sentences.curve_sentence(plane),
        level=sentences.curve_gain(plane).level,
        findings=findings,
        explanations=explanation_tables(findings),
        kinds=_KINDS,
        paper=paper_tables(metrics, findings, arrays),
        provenance=sentences.provenance_sentences(metrics, plane, findings),
        facts=[(key.replace("_", " "), text) for key, text in tables.facts(metrics["provenance"])],
        note=tables.NOTE,
    )


def accuracy_table(metrics: Mapping) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Headers, rows of the attributes, the least accurate first, and rows of the average."""
    headers, rows = tables.cells(metrics, ())
    accuracy = [row["accuracy"] for row in metrics["attributes"].values()]
    order = np.argsort(np.nan_to_num(np.array(accuracy, float), nan=2), kind="stable")
    return headers, [rows[i] for i in order], rows[len(accuracy) :]


def _pictures(findings: Mapping, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Name and data URI of the pictures at the top of the page: a face that has the attribute and
    was recognised, and on it the map of the attribute's masks.

    The attributes are those whose maps are most concentrated, each with another face.
    """
    labels, logits, rows = (arrays[f"atlas_{name}"] for name in ("labels", "logits", "rows"))
    found = []
    for k, i in enumerate(_clearest(arrays)):
        if labels[k, i] == 1 and logits[k, i] > 0:
            values = arrays["atlas_mask_map"][k, i] - arrays["atlas_mask_map"][k, i].min()
            share = values / max(float(values.sum()), 1e-30)
            found.append((float(np.square(share).sum()), k, i))
    pictures = {}  # By row: no face is shown twice.
    for _, k, i in sorted(found, reverse=True):
        if rows[k, i] not in pictures and len(pictures) < _PICTURES:
            image = arrays["atlas_images"][k, i]
            overlay = overlays.mask_map_png(arrays["atlas_mask_map"][k, i])
            pair = [overlays.laid_over(image, overlay, alpha, _PICTURE) for alpha in (0, 0.6)]
            both = overlays.photograph_webp(np.concatenate(pair, axis=1))
            name = findings["attributes"][k].replace("_", " ")
            pictures[rows[k, i]] = name, overlays.data_uri(both, "webp")
    return [*pictures.values()]


def _clearest(arrays: Mapping[str, np.ndarray]) -> list[int]:
    """For each attribute the image with the greatest logit among those that have it in the atlas,
    or among all if none has it."""
    present = arrays["atlas_labels"] == 1
    present |= ~present.any(axis=1, keepdims=True)
    return np.where(present, arrays["atlas_logits"], -np.inf).argmax(axis=1).tolist()


def _data(
    metrics: Mapping, plane: Mapping, findings: Mapping, arrays: Mapping[str, np.ndarray]
) -> dict:
    """Data of the page's scripts; numbers are rounded to the precision of a plot."""
    order = clustered(arrays["correlation_masks"])
    features = clustered(arrays["correlation_features"])
    shown = brief([name.replace("_", " ") for name in findings["attributes"]], _LONGEST_NAME)
    return {
        "plane": {
            **{key: plane[key] for key in ("sigmas", "n", "beta", "own_beta", "automatic")},
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
    """Photographs by their row in the split, and overlays, as data URIs: [attribute][image] and
    [attribute][image][top]."""
    rows, images = arrays["atlas_rows"], arrays["atlas_images"]
    summary, channels = arrays["atlas_summary"], arrays["atlas_channels"]
    # One scale for each attribute, so that its photographs can be compared.
    scale = np.abs(summary).max(axis=(1, 2, 3))
    uri = overlays.data_uri
    _, first = np.unique(rows, return_index=True)
    by_row = zip(rows.flat[first], images.reshape(-1, *images.shape[2:])[first], strict=True)
    return {
        "names": [name.replace("_", " ") for name in findings["attributes"]],
        "channels": channels.tolist(),
        "rows": rows.tolist(),
        "labels": arrays["atlas_labels"].tolist(),
        "logits": _rounded(arrays["atlas_logits"], 2),
        "contributions": _rounded(arrays["atlas_contributions"], 3),
        "photographs": {
            str(row): uri(overlays.photograph_webp(image), "webp") for row, image in by_row
        },
        "summary": [
            [uri(overlays.signed_png(x, most), "png") for x in each]
            for each, most in zip(summary, scale, strict=True)
        ],
        "mask_maps": [
            [uri(overlays.mask_map_png(x), "png") for x in each]
            for each in arrays["atlas_mask_map"]
        ],
        "figure_4": _figure_4(arrays),
        "masks": [
            [[uri(overlays.mask_png(mask), "png") for mask in masks] for masks in each]
            for each in arrays["atlas_masks"]
        ],
    }


def _figure_4(arrays: Mapping[str, np.ndarray]) -> dict:
    """Place of an image for each attribute; its masks of the top channels, each drawn from its
    least value to its greatest; these greatest values."""
    images = _clearest(arrays)
    masks = [
        arrays["atlas_masks"][k, i, :_FIGURE_4_CHANNELS].astype(float) for k, i in enumerate(images)
    ]
    return {
        "images": images,
        "masks": [
            [overlays.data_uri(overlays.mask_map_png(x), "png") for x in each] for each in masks
        ],
        "most": [_rounded(each.max(axis=(1, 2)), 3) for each in masks],
    }


def noise_table(plane: Mapping, majority: float | None) -> tuple[list[str], list[list[str]]]:
    """Accuracy and mean AP at every sigma: the masks as they are, the network's own curve, the best
    pair in hindsight, calibrated."""
    one, betas = plane["n"].index(1), [0, plane["own_beta"]] if plane["own_beta"] else [0]
    headers = [x for b in betas for x in (f"n 1, β {b:g}: acc", "AP")]
    headers = ["σ", *headers, "best pair: acc", "n", "β"]
    headers += ["calibrated: acc", "AP"] if plane["automatic"] else []
    rows = []
    for s, sigma in enumerate(plane["sigmas"]):
        accuracy = np.array(plane["scores"]["accuracy"][s], float)
        precision = plane["scores"]["average_precision"][s]
        i, j = np.unravel_index(np.argmax(np.nan_to_num(accuracy)), accuracy.shape)
        best = f"{plane['n'][i]:g}", f"{plane['beta'][j]:g}"
        pairs = [(one, plane["beta"].index(b)) for b in betas]
        shown = [x for a, b in pairs for x in (accuracy[a, b], precision[a][b])]
        shown.append(accuracy[i, j])
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
