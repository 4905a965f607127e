"""Tables 1 to 4 of the paper, as printed there, beside the same measurements of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from iamt_jax.report.explanation_files import ExplanationTable
from iamt_jax.report.published import TABLE_1, TABLE_2, TABLE_3, TABLE_4
from iamt_jax.report.tables import PUBLISHED, number, percent_cell, published_note

NOT_MEASURED = "not measured"
"""Cell of a table."""

_CLOSEST = 5
"""Number of correlated features or attributes, as in the paper."""


def paper_tables(
    metrics: Mapping, findings: Mapping, arrays: Mapping[str, np.ndarray]
) -> list[ExplanationTable]:
    """Tables 1 to 4; arguments as for `iamt_jax.report.page.write_page`."""
    return [
        _table_1(),
        _table_2(findings),
        _table_3(findings["attributes"], arrays),
        _table_4(metrics),
    ]


def _table_1() -> ExplanationTable:
    rows = [[name, f"{accuracy:.2f}", NOT_MEASURED] for name, accuracy in TABLE_1.items()]
    return ExplanationTable(
        "Table 1: average accuracy of four networks, in percent",
        "It needs four trained networks, and a report is about one; experiments/variants.py trains "
        "them.",
        ["network", "paper", "ours"],
        rows,
    )


def _table_2(findings: Mapping) -> ExplanationTable:
    features = findings["features"]
    rows = []
    for feature, near in TABLE_2.items():
        ours = features[feature][:_CLOSEST] if feature < len(features) else None
        rows.append([str(feature), _listed(near), _listed(ours)])
    return ExplanationTable(
        "Table 2: features with the closest masks (correlation)",
        "The numbers of our channels, counted from 0, have nothing to do with the paper's; compare "
        "the size of the correlations.",
        ["feature", "paper", "ours"],
        rows,
    )


def _table_3(attributes: Sequence[str], arrays: Mapping[str, np.ndarray]) -> ExplanationTable:
    kinds = ("masks", "contributions", "labels")
    rows = []
    for name, near in TABLE_3.items():
        cells = [NOT_MEASURED] * len(kinds)
        if name in attributes:
            k = attributes.index(name)
            found = [arrays[f"correlation_{kind}"][k] for kind in kinds]
            cells = [_listed(_closest(attributes, row, k)) for row in found]
        rows.append([name, ", ".join(near), *cells])
    return ExplanationTable(
        "Table 3: attributes with the closest masks",
        "Ours also by what the masked channels add to the logits, and by the labels.",
        ["attribute", "paper", "our masks", "our masked contributions", "labels"],
        rows,
    )


def _closest(
    attributes: Sequence[str], correlations: np.ndarray, k: int
) -> list[tuple[str, float]]:
    order = [int(i) for i in np.argsort(-correlations, kind="stable") if i != k][:_CLOSEST]
    return [(attributes[i], float(correlations[i])) for i in order]


def _listed(near: Sequence[tuple[object, float]] | None) -> str:
    if near is None:
        return NOT_MEASURED
    return ", ".join(f"{name} ({number(r)})" for name, r in near)


def _table_4(metrics: Mapping) -> ExplanationTable:
    made, measured = metrics["provenance"], metrics["attributes"]
    stated = published_note(TABLE_4).removeprefix(PUBLISHED).strip()
    shown = ("accuracy", "majority_accuracy")
    rows = []
    for name in TABLE_4[0].accuracy:
        published = [f"{column.accuracy[name]:.{column.digits}f}" for column in TABLE_4]
        ours = [percent_cell(measured[name][metric]) for metric in shown if name in measured]
        rows.append([name, *published, *(ours or [NOT_MEASURED] * len(shown))])
    blank = [""] * len(shown)
    rows.append(
        ["stated average", *(f"{column.average:.{column.digits}f}" for column in TABLE_4), *blank]
    )
    common = [measured[name] for name in TABLE_4[0].accuracy if name in measured]
    means = [
        percent_cell(np.mean([row[metric] for row in common]) if common else None)
        for metric in shown
    ]
    rows.append(["mean of the rows", *(f"{column.mean:.2f}" for column in TABLE_4), *means])
    return ExplanationTable(
        "Table 4: accuracy of each attribute, in percent",
        f"{stated} Ours: {made['images']:,} images of {made['layout']}, {made['split']}; only "
        "a network trained and measured on all of CelebA compares with the published columns.",
        ["attribute", *(column.name for column in TABLE_4), "ours", "majority"],
        rows,
    )
