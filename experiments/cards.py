"""Fills the figures of a model card or a data card from files.

    python experiments/cards.py CARD SOURCE...

replaces the text of the card between `<!-- figures -->` and `<!-- /figures -->`. A source is

  W/evaluation/metrics.json   written by evaluate.py: averages, and groups if it has any
  W/run.json                  written by training: how it was trained, and for how long
  W                           a workdir: labels of the data it was trained on
  DIR                         a data set in one of CelebA's layouts: its labels
  celeba_statistics.json      published counts of labels, such as CelebA's in this package

Absolute paths are reduced to their last part.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from iamt_jax.commands import console
from iamt_jax.errors import InputError
from iamt_jax.files import replace_text
from iamt_jax.report import tables
from iamt_jax.report.tables import in_markdown

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
"""Lines before and after the figures in a card."""

NOTE = "Percent, mean over the attributes, with bootstrap 95 % intervals over images."
"""Note below the averages."""

_SHOWN = ("accuracy", "majority_accuracy", "balanced_accuracy", "average_precision")


def fill(card: Path, sources: Sequence[Path]) -> None:
    """Writes the figures of the sources into the card, completely or not at all.

    Raises:
      InputError: the card has no place for figures, or the kind of a source is unknown.
    """
    text = _read(card)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(
            f"{card}: has no place for figures; put one line {BEGIN} and, below it, one line {END}"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    replace_text(card, f"{before}{BEGIN}\n\n{figures(sources)}\n{END}{after}")


def figures(sources: Sequence[Path]) -> str:
    """Figures of all sources as Markdown: training, averages, groups, labels.

    Raises:
      InputError: the kind of a source is unknown.
    """
    runs, reports, counted = [], [], []
    for source in sources:
        if source.is_dir():
            counted.append(_counts(source))
            continue
        found = _json(source)
        if "positives" in found:
            counted.append(found)
        elif "config" in found:
            runs.append(_training(source, found))
        elif "average" in found:
            made = date.fromtimestamp(source.stat().st_mtime)
            reports.append((found, made))
        else:
            raise InputError(
                f"{source}: expected metrics.json, run.json or a table of label counts, found "
                f"the fields {', '.join(found)[:100]}"
            )
    lines = [line for run in runs for line in (run, "")]
    lines += _averages(reports) if reports else []
    for found in counted:
        lines += [_labels(found), ""]
    return "\n".join(lines)


def _averages(reports: Sequence[tuple[Mapping, date]]) -> list[str]:
    """Table with a row for each evaluation, then groups, then the provenance."""
    headers = ["setting", "images", *(tables.COLUMN_HEADERS[metric] for metric in _SHOWN)]
    rows = []
    for report, _ in reports:
        average = report["average"]
        cells = [tables.with_interval(average, metric) for metric in _SHOWN]
        rows.append([_setting(report["provenance"]), f"{report['provenance']['images']:,}", *cells])
    lines = [*tables.markdown_table(headers, rows), "", NOTE, ""]
    for report, _ in reports:
        for note, headers, rows in tables.group_tables(report):
            lines += [in_markdown(note), "", *tables.markdown_table(headers, rows), ""]
    return [*lines, *(_made_by(*report) for report in reports), ""]


def _setting(made: Mapping) -> str:
    """Describes the noise and the tone curve of an evaluation."""
    curve = (
        "calibrated (`--auto`)" if made["applied"] else f"n {made['n']:g}, beta {made['beta']:g}"
    )
    noise = f"noise of sigma {made['sigma']:g}{', clipped' if made['clip'] else ''}"
    return f"{curve}; {noise if made['sigma'] else 'clean'}"


def _made_by(report: Mapping, made: date) -> str:
    """Command of an evaluation, with the versions needed to repeat it."""
    facts = report["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"- `{_without_folders(facts['command'])}`: {facts['split']} split, checkpoint of step "
        f"{facts['checkpoint_step']}, {facts['device']}, {versions}, commit {facts['commit']}, "
        f"{made}"
    )


def _training(path: Path, run: Mapping) -> str:
    """Training settings of a run, and the time from the first to the last line of its log."""
    train = run["config"]["train"]
    steps, batch = train["steps"], train["batch_size"]
    text = (
        f"Trained on {run['images']:,} images, {steps:,} steps of {batch}, {train['optimiser']}, "
        f"seed {train['seed']}"
    )
    log = path.with_name("metrics.jsonl")
    if not log.is_file():
        return f"{text}."
    times = [json.loads(line)["time"] for line in _read(log).splitlines()]
    minutes, seconds = divmod(round(times[-1] - times[0]), 60)
    return f"{text}; {minutes} min {seconds} s from the first line of its log to the last."


def _counts(folder: Path) -> dict:
    """Counts of images, known labels and positive labels in each split of a data set."""
    from iamt_jax.data.celeba import open_dataset
    from iamt_jax.data.dataset import PARTITIONS
    from iamt_jax.data.open import open_source
    from iamt_jax.runs.run_file import read_run

    own = (folder / "run.json").is_file()
    dataset = open_source(read_run(folder).config.data) if own else open_dataset(folder)
    held = [name for name in PARTITIONS if dataset.partitions.sizes.get(name)]
    labels = {name: dataset.split(name).labels for name in held}
    return {
        "images": {name: len(found) for name, found in labels.items()},
        "attributes": dataset.attributes,
        "positives": {name: (found == 1).sum(axis=0).tolist() for name, found in labels.items()},
        "known": {name: (found >= 0).sum(axis=0).tolist() for name, found in labels.items()},
    }


def _labels(found: Mapping) -> str:
    """Number of images and frequency of each attribute, the rarest first."""
    images, names = found["images"], found["attributes"]
    everything = {split: [count] * len(names) for split, count in images.items()}
    known = np.sum([*found.get("known", everything).values()], axis=0)
    positive = np.sum([*found["positives"].values()], axis=0)
    share = positive / np.maximum(known, 1)
    shares = ", ".join(f"{in_markdown(names[k])} {100 * share[k]:.1f}" for k in np.argsort(share))
    splits = ", ".join(f"{split} {count:,}" for split, count in images.items())
    missing = len(names) * sum(images.values()) - known.sum()
    gaps = f"; {missing:,} labels are missing" if missing else ""
    return (
        f"{sum(images.values()):,} images ({splits}), {len(names)} attributes{gaps}. Images with "
        f"each attribute, per cent of those annotated: {shares}."
    )


def _without_folders(command: str) -> str:
    """Command with absolute paths reduced to their last part."""
    try:
        words = shlex.split(command)
    except ValueError:  # Older files hold commands whose words were not quoted.
        words = command.split()
    return shlex.join(re.sub(r"^(--[^=]+=)?/.*?([^/]+)/*$", r"\1\2", word) for word in words)


def _json(path: Path) -> dict:
    try:
        found = json.loads(_read(path))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); name a metrics.json") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds {type(found).__name__}, expected an object")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError(f"{path}: cannot be read ({reason}); name a text file") from None


@console.tolerant_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """`python experiments/cards.py`: returns the exit status."""
    parser = argparse.ArgumentParser(prog="python experiments/cards.py")
    parser.add_argument("card", type=Path, help="the card to fill")
    parser.add_argument("sources", type=Path, nargs="+", help="see the top of this module")
    chosen = parser.parse_args(arguments)
    try:
        fill(chosen.card, chosen.sources)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"filled {chosen.card}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
