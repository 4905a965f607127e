"""Tables of metrics: metrics.json, metrics.csv, metrics.md, and one for the terminal.

The input of every function is a `report`: a dictionary with

  average     metric -> fraction, and `interval`: metric -> [low, high]
  attributes  name -> metric -> fraction
  groups      only if requested: attribute -> comparison of the images with and without it
  provenance  where the numbers come from: any names and plain values

`average` and `attributes` come from `iamt_jax.metrics.classification.metrics_json`, each entry of
`groups` from `iamt_jax.metrics.groups.compare`. An undefined value is None (or NaN); it is
written as null in JSON, as an empty cell in csv, and as a dash elsewhere.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from iamt_jax.errors import printable
from iamt_jax.files import json_text, plain, replace_text
from iamt_jax.report.published import Column

COLUMN_HEADERS = {
    "accuracy": "acc",
    "balanced_accuracy": "bal. acc",
    "f1": "F1",
    "average_precision": "AP",
    "majority_accuracy": "maj. acc",
    "gain": "gain",
    "ece": "ECE",
}
"""Metric -> short name, the header of its column of percentages."""

NOTE = (
    "Percent. The two rows after the average are its bootstrap 95 % interval. The interval of the "
    "ECE is biased upwards if images are few, since resampling adds noise, which raises an ECE."
)
"""Note below the table."""

PUBLISHED = "The columns at the right are published accuracies on CelebA's own test split."
"""Note on published columns: the data evaluated here may be different."""

_GROUPS_NOTE = (
    "Groups: percent, with 95 % intervals. Accuracy and average precision (AP) depend on how "
    "common an attribute is in a group, so compare an accuracy with its majority, and groups by "
    "balanced accuracy. Balanced accuracy and AP are means over the attributes that have ten "
    "positives and ten negatives in both, so a group stands beside its counterpart only. Gaps: "
    "the greater of those in the rate of true positives (TPR) and of false positives (FPR). The "
    "largest of many gaps are partly chance, and the intervals do not correct for that."
)
"""Note above the table of groups."""

_GAPS = 5
"""Number of gaps shown for each group; metrics.json has all of them."""

_RATES = {"true_positive_rate": "TPR", "false_positive_rate": "FPR"}

_BREAKS = re.compile(r" (?!%)|(?<=-)|(?<=[a-z])(?=[A-Z+])")
"""Places where a header may break in the terminal: LNets+ANet, but not 95 %."""

_AVERAGE, _LOW, _HIGH = "average", "95 % from", "to"
"""Names of the rows below the attributes."""

_NARROWEST = 12
"""Smallest width of the names, in terminal columns, however wide the numbers are."""

_NARROWEST_HEADER = 6
"""Width in terminal columns below which a header is not broken."""


def write_tables(report: Mapping, folder: Path | str, beside: Sequence[Column] = ()) -> list[Path]:
    """Writes metrics.json, metrics.csv and metrics.md, each completely or not at all.

    The folder is created if necessary; `beside` are published columns for the Markdown table.

    Raises:
      OSError: the folder cannot be written; files of an earlier run are then unchanged.
    """
    folder = Path(folder)
    # All texts are formatted first, so that an invalid report leaves the folder unchanged.
    texts = {
        "metrics.json": json_text(report, indent=2) + "\n",
        "metrics.csv": csv_text(report),
        "metrics.md": metrics_markdown(report, beside),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace_text(folder / name, text)
    return [folder / name for name in texts]


def print_table(
    report: Mapping, beside: Sequence[Column] = (), console: Console | None = None
) -> None:
    """Prints the table of `cells`, then the groups; to standard output if `console` is None."""
    headers, rows = cells(report, beside)
    provenance = plain(report["provenance"])
    made = [f"{k} {v}" for k, v in provenance.items() if isinstance(v, str | int | float)]
    console = console or Console()
    _print_aligned(console, headers, rows)
    if beside:
        console.print(published_note(beside), style="dim", highlight=False)
    for note, headers, rows in group_tables(report):
        console.print(printable(note), style="dim", highlight=False, markup=False)
        _print_aligned(console, headers, rows)
    console.print(printable(" · ".join(made)), style="dim", highlight=False, markup=False)


def _print_aligned(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table in aligned columns.

    If it is too wide for the console, headers are broken, then names shortened; numbers are never
    broken or left out.
    """
    tops = [_BREAKS.sub("\n", header).split("\n") for header in headers[1:]]
    numbers = list(zip(*(row[1:] for row in rows), strict=True)) or [()] * len(tops)
    narrow = [max(map(cell_len, column), default=0) for column in numbers]
    widths = [max(w, *map(cell_len, top)) for w, top in zip(narrow, tops, strict=True)]
    given = [headers[0], *(row[0] for row in rows)]
    room = console.width - len(widths)
    if max(map(cell_len, given)) > room - sum(widths):
        narrow = [max(w, _NARROWEST_HEADER) for w in narrow]
        tops = [
            [part for word in top for part in textwrap.wrap(word, w)]
            for top, w in zip(tops, narrow, strict=True)
        ]
        widths = [max(map(cell_len, [*top, *c])) for top, c in zip(tops, numbers, strict=True)]
    names = brief(given, max(_NARROWEST, room - sum(widths)))
    height = max(map(len, tops), default=1)
    heads = list(zip(*([""] * (height - len(top)) + top for top in tops), strict=True)) or [()]
    lines = [*zip([""] * (height - 1) + names[:1], heads, strict=True)]
    lines += zip(names[1:], (row[1:] for row in rows), strict=True)
    width, printed = max(map(cell_len, names)), []
    for at, (name, cells) in enumerate(lines, -height):
        style = "bold" if at < 0 or rows[at][0] == _AVERAGE else ""
        line = name + " " * (width - cell_len(name))
        for cell, of in zip(cells, widths, strict=True):
            line += " " * (1 + of - cell_len(cell)) + cell
        printed.append(Text(line.rstrip(), style))
    # At once: a notebook shows every call as an output of its own.
    console.print(Text("\n").join(printed), soft_wrap=True, highlight=False)


def brief(names: Sequence[str], width: int) -> list[str]:
    """Shortens names to `width` terminal columns by an ellipsis, keeping beginning and end.

    Names that would become equal end in their index instead.
    """
    names = [printable(name) for name in names]
    cut = [_cut(name, width, name) for name in names]
    return [
        _cut(name, width, str(i)) if cut.count(short) > 1 and short != name else short
        for i, (name, short) in enumerate(zip(names, cut, strict=True))
    ]


def _cut(name: str, width: int, end: str) -> str:
    if cell_len(name) <= width:
        return name
    room = width - 1
    while end and cell_len(end) > room // 3:  # A wide character takes two columns.
        end = end[1:]
    return f"{set_cell_size(name, room - cell_len(end)).rstrip()}\N{HORIZONTAL ELLIPSIS}{end}"


def csv_text(report: Mapping) -> str:
    """csv with one row an attribute, then the average, as fractions in full precision; undefined
    cells are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["attribute", *COLUMN_HEADERS])
    for name, _, metrics in _rows(report):
        writer.writerow([name, *(plain(metrics[metric]) for metric in COLUMN_HEADERS)])
    return text.getvalue()


def metrics_markdown(report: Mapping, beside: Sequence[Column] = ()) -> str:
    """Markdown of the table in percent, the groups, and the provenance."""
    headers, rows = cells(report, beside)
    rows = [[f"**{c}**" if r[0] == _AVERAGE else c for c in r] for r in rows]
    lines = [*markdown_table(headers, rows), "", NOTE]
    lines += [*([published_note(beside)] if beside else []), ""]
    for note, headers, rows in group_tables(report):
        lines += [in_markdown(note), "", *markdown_table(headers, rows), ""]
    lines += [f"- {key}: {printable(value)}" for key, value in facts(report["provenance"])]
    lines += [f"- column {column.name}: {column.source}" for column in beside]
    return "\n".join(lines) + "\n"


def cells(report: Mapping, beside: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table in percent: attributes, average, bounds of its interval.

    `beside` are published columns to show beside ours, such as `published.TABLE_4`.
    """
    headers = ["attribute", *COLUMN_HEADERS.values(), *(column.name for column in beside)]
    rows = []
    for row, attribute, metrics in _rows(report):
        values = [percent_cell(metrics[metric]) for metric in COLUMN_HEADERS]
        rows.append([row, *values, *(_published(column, attribute) for column in beside)])
    for end, name in enumerate((_LOW, _HIGH)):
        bounds = report["average"]["interval"]
        values = [percent_cell(bounds[metric][end]) for metric in COLUMN_HEADERS]
        rows.append([name, *values, *[""] * len(beside)])
    return headers, rows


def _rows(report: Mapping) -> list[tuple[str, str | None, Mapping]]:
    """Name of the row, attribute, metrics; the attribute of the last row, the average, is None."""
    names = column_names([*report["attributes"]], (_AVERAGE, _LOW, _HIGH))
    rows = [(name, *found) for name, found in zip(names, report["attributes"].items(), strict=True)]
    return [*rows, (_AVERAGE, None, report["average"])]


def _published(column: Column, attribute: str | None) -> str:
    """A published percentage, or for None the average; empty if there is none."""
    value = column.average if attribute is None else column.accuracy.get(attribute)
    return "" if value is None else f"{value:.{column.digits}f}"


def column_names(attributes: Sequence[str], reserved: Iterable[str]) -> list[str]:
    """Names of the attributes' columns (or rows) in a table that has columns of its own.

    An attribute with a `reserved` name, in upper or lower case, is prefixed: `attribute_image` for
    `image`. All others keep their names, which are distinct.
    """
    taken = {name.casefold() for name in reserved}
    names, used = [], {*attributes}
    for name in attributes:
        if name.casefold() in taken:
            name = f"attribute_{name}"
            while name in used or name.casefold() in taken:
                name += "_"
            used.add(name)
        names.append(name)
    return names


def group_tables(report: Mapping) -> list[tuple[str, list[str], list[list[str]]]]:
    """Tables of the groups and of the gaps of each, as (note, headers, rows)."""
    groups = report.get("groups", {})
    if not groups:
        return []
    names = column_names([*groups], [f"not {group}" for group in groups])
    headers = ["group", "images", "acc [95 %]", "maj. acc", "bal. acc [95 %]", "AP [95 %]"]
    rows = [
        [
            name,
            str(side["images"]),
            with_interval(side["average"], "accuracy"),
            percent_cell(side["average"]["majority_accuracy"]),
            with_interval(side["average"], "balanced_accuracy"),
            with_interval(side["average"], "average_precision"),
        ]
        for group, found in zip(names, groups.values(), strict=True)
        for name, side in ((group, found["present"]), (f"not {group}", found["absent"]))
    ]
    return [(_GROUPS_NOTE, headers, rows), *(_gap_table(*group) for group in groups.items())]


def _gap_table(group: str, found: Mapping) -> tuple[str, list[str], list[list[str]]]:
    headers = [group, "rate", "with", "without", "difference [95 %]", "positives", "negatives"]
    rows = []
    for attribute, gap in list(found["gaps"].items())[:_GAPS]:
        shares = [percent_cell(share) for share in gap[gap["rate"]]]
        low, high = map(percent_cell, gap["interval"])
        difference = f"{percent_cell(gap['difference'])} [{low}, {high}]"
        counts = [" / ".join(map(str, gap[of])) for of in ("positives", "negatives")]
        rows.append([attribute, _RATES[gap["rate"]], *shares, difference, *counts])
    note = (
        f"Largest gaps by {group}: {len(found['gaps'])} of {found['attributes']} attributes "
        f"compared, the others have too few images; {found['not_annotated']} images not annotated."
    )
    return note, headers, rows


def with_interval(average: Mapping, metric: str) -> str:
    """Formats an average in percent with the bounds of its interval."""
    low, high = map(percent_cell, average["interval"][metric])
    return f"{percent_cell(average[metric])} [{low}, {high}]"


def published_note(beside: Sequence[Column]) -> str:
    """Note on published columns; names each one whose values contradict its stated average."""
    wrong = [c for c in beside if round(c.mean, c.digits) != round(c.average, c.digits)]
    told = [
        f"The average stated for {column.name} is {_published(column, None)}; the mean of its "
        f"{len(column.accuracy)} values is {column.mean:.2f}."
        for column in wrong
    ]
    return " ".join([PUBLISHED, *told])


def percent_cell(fraction: float | None) -> str:
    """Formats a fraction in percent with one decimal, without the sign; undefined is a dash."""
    return number(None if fraction is None else 100 * fraction, 1)


def number(value: float | None, digits: int = 2) -> str:
    """Formats a number with a fixed count of decimals; undefined is a dash."""
    return "-" if plain(value) is None else f"{round(value, digits) + 0.0:.{digits}f}"  # No -0.0.


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; all columns but the first are right-aligned."""
    rule = ["---", *["---:"] * (len(headers) - 1)]
    return [markdown_row(row) for row in (headers, rule, *rows)]


def markdown_row(cells: Sequence[str]) -> str:
    """Row of a Markdown table; the cells are escaped."""
    return "| " + " | ".join(map(in_markdown, cells)) + " |"


def in_markdown(text: str) -> str:
    """Escapes a text for one line of Markdown: no column separators, no HTML."""
    text = printable(text).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;")


def facts(provenance: Mapping) -> list[tuple[str, str]]:
    """Provenance as (key, text): strings unchanged, other values as JSON."""
    return [
        (key, value if isinstance(value, str) else json_text(value))
        for key, value in plain(provenance).items()
    ]
