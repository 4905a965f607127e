"""Files of an explanation: Markdown tables, JSON, arrays as .npz, figures as PNG.

`findings` and `arrays` come from `explanation_findings` and `explanation_arrays` of
`iamt_jax.evaluation.mask_statistics`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from iamt_jax.files import json_text, replace_bytes
from iamt_jax.report.figures import figures
from iamt_jax.report.tables import facts, markdown_row, number

_METRICS = {
    "energy_inside": "energy inside the region ↑",
    "pointing": "pointing game ↑",
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
}
"""Faithfulness metric -> its name; the arrow shows whether higher or lower is better."""

_Table = tuple[list[str], list[list[str]]]
"""Headers and rows."""


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
        "explanation.md": explanation_markdown(findings).encode(),
        "explanation.json": (json_text(findings, indent=2) + "\n").encode(),
        "explanation.npz": buffer.getvalue(),
        **pictures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_bytes(folder / name, content)
    return [folder / name for name in files]


def explanation_markdown(findings: Mapping) -> str:
    """Markdown of all tables, then the provenance."""
    lines = []
    for title, note, table in (
        ("Top channels of each attribute", IMPORTANCE_NOTE, importance_table(findings)),
        ("Attributes with the closest masks (Table 3)", TOGETHER_NOTE, together_table(findings)),
        ("Attributes that the network couples", COUPLED_NOTE, coupled_table(findings)),
        ("How true the maps are", JUDGED_NOTE, judged_table(findings)),
        ("After randomisation", RANDOMISED_NOTE, randomised_table(findings)),
        ("Channels with the closest masks (Table 2)", FEATURES_NOTE, features_table(findings)),
    ):
        headers, rows = table
        lines += [f"## {title}", "", note, "", markdown_row(headers)]
        lines += [markdown_row(["---"] * len(headers)), *map(markdown_row, rows), ""]
    lines += [f"- {key}: {value}" for key, value in facts(findings["provenance"])]
    return "\n".join(lines) + "\n"


IMPORTANCE_NOTE = (
    "Share of a channel in the logit: |contribution| over the sum of all channels', averaged over "
    "the images."
)
TOGETHER_NOTE = (
    "Correlation of two attributes' masks over images, channels and positions; in brackets those "
    "of labels and of predictions."
)
COUPLED_NOTE = (
    "Pairs whose predictions go together more than their labels do: one may be a shortcut to the "
    "other."
)
JUDGED_NOTE = (
    "On the same images: share of the map inside the attribute's true region, whether its peak "
    "lies there, and the area under the probability while pixels are hidden (deletion) or shown "
    "(insertion)."
)
RANDOMISED_NOTE = (
    "Rank correlation of our signed maps before and after parts of the network were drawn anew: "
    "near 0 says that maps depend on what was learnt."
)
FEATURES_NOTE = "Correlation of two channels' masks over images, attributes and positions."


def importance_table(findings: Mapping) -> _Table:
    """One row for each attribute."""
    most = max(len(row) for row in findings["importance"].values())
    rows = [
        [name, *_filled([f"{channel} ({share:.1%})" for channel, share in found], most)]
        for name, found in findings["importance"].items()
    ]
    return ["attribute", *(f"channel {i + 1}" for i in range(most))], rows


def together_table(findings: Mapping) -> _Table:
    """One row for each attribute."""
    most = max(len(row) for row in findings["together"].values())
    rows = [
        [
            name,
            *_filled(
                [
                    f"{x['attribute']} {number(x['masks'])} "
                    f"({number(x['labels'])}, {number(x['predictions'])})"
                    for x in found
                ],
                most,
            ),
        ]
        for name, found in findings["together"].items()
    ]
    return ["attribute", *(f"closest {i + 1}" for i in range(most))], rows


def coupled_table(findings: Mapping) -> _Table:
    """One row for each pair."""
    kinds = ("labels", "predictions", "masks")
    rows = [
        [", ".join(pair["attributes"]), *(number(pair[kind]) for kind in kinds)]
        for pair in findings["coupled"]
    ]
    return ["pair", *kinds], rows


def judged_table(findings: Mapping) -> _Table:
    """One row for each map; columns that were not measured are left out."""
    scores = findings["judged"]["scores"]
    metrics = [m for m in _METRICS if any(m in row for row in scores.values())]
    rows = [
        [name, *(number(row[m], 3) if m in row else "" for m in metrics)]
        for name, row in scores.items()
    ]
    return ["map", *(_METRICS[m] for m in metrics)], rows


def randomised_table(findings: Mapping) -> _Table:
    """One row for each re-initialised part."""
    rows = [[name, number(v, 3)] for name, v in findings["judged"]["randomised"].items()]
    return ["drawn anew", "rank correlation"], rows


def features_table(findings: Mapping) -> _Table:
    """One row for each channel."""
    most = max(len(row) for row in findings["features"])
    rows = [
        [str(channel), *_filled([f"{other} ({number(r)})" for other, r in near], most)]
        for channel, near in enumerate(findings["features"])
    ]
    return ["channel", *(f"closest {i + 1}" for i in range(most))], rows


def _filled(cells: Sequence[str], count: int) -> list[str]:
    return [*cells, *[""] * (count - len(cells))]
