"""Files of an explanation: Markdown tables, JSON, arrays as .npz, figures as PNG.

`findings` and `arrays` come from `explanation_findings` and `explanation_arrays` of
`iamt_jax.evaluation.mask_statistics`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iamt_jax.files import json_text, replace_bytes
from iamt_jax.report.figures import figures
from iamt_jax.report.tables import facts, markdown_row, number

_METRICS = {
    "energy_inside": "energy inside the region ↑",
    "energy_inside_present": "… attribute present ↑",
    "energy_inside_absent": "… absent ↑",
    "pointing": "pointing game ↑",
    "pointing_present": "… present ↑",
    "pointing_absent": "… absent ↑",
    "grid_pointing": "grid pointing ↑",
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
}
"""Faithfulness metric -> its name; the arrow shows whether higher or lower is better."""


class ExplanationTable(NamedTuple):
    """A table of texts."""

    title: str
    note: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_explanations(
    findings: Mapping, arrays: Mapping[str, np.ndarray], folder: Path | str
) -> list[Path]:
    """Writes explanation.md, explanation.json, explanation.npz and the figures.

    Each file is written completely or not at all.

    Raises:
      OSError: the folder cannot be written.
    """
    folder = Path(folder)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    pictures = figures(findings, arrays)
    files = {
        "explanation.md": _markdown(findings).encode(),
        "explanation.json": (json_text(findings, indent=2) + "\n").encode(),
        "explanation.npz": buffer.getvalue(),
        **pictures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_bytes(folder / name, content)
    return [folder / name for name in files]


def _markdown(findings: Mapping) -> str:
    """All tables, then the provenance."""
    lines = []
    for title, note, headers, rows in explanation_tables(findings).values():
        lines += [f"## {title}", "", note, "", markdown_row(headers)]
        lines += [markdown_row(["---"] * len(headers)), *map(markdown_row, rows), ""]
    lines += [f"- {key}: {value}" for key, value in facts(findings["provenance"])]
    return "\n".join(lines) + "\n"


def explanation_tables(findings: Mapping) -> dict[str, ExplanationTable]:
    """Tables by the name that the HTML page uses; columns that were not measured are left out."""
    kinds = ("labels", "predictions", "masks", "contributions")
    scores, agreement = findings["judged"]["scores"], findings["agreement"]
    metrics = [m for m in _METRICS if any(m in row for row in scores.values())]
    return {
        "importance": ExplanationTable(
            "Top channels of each attribute",
            "Share of a channel in the logit: |contribution| over the sum of all channels', "
            "averaged over the images.",
            *_ragged(
                ("attribute", "channel"),
                {
                    name: [f"{channel} ({share:.1%})" for channel, share in found]
                    for name, found in findings["importance"].items()
                },
            ),
        ),
        "together": ExplanationTable(
            "Attributes with the closest masks (Table 3)",
            "Correlation of two attributes' masks over images, channels and positions; in brackets "
            "those of labels and of predictions. Over all pairs, the correlations of the masks "
            f"agree with those of the labels by {number(agreement['masks'])}, those of what the "
            f"masked channels add to the logits by {number(agreement['contributions'])} "
            "(correlation coefficients).",
            *_ragged(
                ("attribute", "closest"),
                {
                    name: [
                        f"{x['attribute']} {number(x['masks'])} "
                        f"({number(x['labels'])}, {number(x['predictions'])})"
                        for x in found
                    ]
                    for name, found in findings["together"].items()
                },
            ),
        ),
        "coupled": ExplanationTable(
            "Attributes that the network couples",
            "Pairs whose predictions go together more than their labels do: one may be a shortcut "
            "to the other.",
            ["pair", *kinds],
            [
                [", ".join(pair["attributes"]), *(number(pair[kind]) for kind in kinds)]
                for pair in findings["coupled"]
            ],
        ),
        "judged": ExplanationTable(
            "How true the maps are",
            "On the same images: share of the map inside the attribute's true region, whether its "
            "peak lies there, and the area under the probability while pixels are hidden "
            "(deletion) or shown (insertion). Grid pointing: four faces in one picture, one of "
            "which has the attribute; share of the positive part in that face (chance 0.25).",
            ["map", *(_METRICS[m] for m in metrics)],
            [
                [name, *(number(row[m], 3) if m in row else "" for m in metrics)]
                for name, row in scores.items()
            ],
        ),
        "randomised": ExplanationTable(
            "After randomisation",
            "Rank correlation of our signed maps before and after parts of the network were drawn "
            "anew: near 0 says that maps depend on what was learnt.",
            ["drawn anew", "rank correlation"],
            [[name, number(v, 3)] for name, v in findings["judged"]["randomised"].items()],
        ),
        "features": ExplanationTable(
            "Channels with the closest masks (Table 2)",
            "Correlation of two channels' masks over images, attributes and positions.",
            *_ragged(
                ("channel", "closest"),
                {
                    str(channel): [f"{other} ({number(r)})" for other, r in near]
                    for channel, near in enumerate(findings["features"])
                },
            ),
        ),
    }


def _ragged(
    headers: tuple[str, str], found: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of a table whose rows differ in length; the second header is numbered."""
    most = max(map(len, found.values()))
    rows = [[name, *cells, *[""] * (most - len(cells))] for name, cells in found.items()]
    return [headers[0], *(f"{headers[1]} {i + 1}" for i in range(most))], rows
