"""Tables are valid, complete and written atomically; published numbers are consistent."""

import csv
import io
import json
import os

import numpy as np
import pytest
from rich.console import Console

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.metrics.classification import (
    METRIC_NAMES,
    compute_metrics,
    majority_class,
    metrics_json,
)
from iamt_jax.report import published, tables

FILES = ["metrics.csv", "metrics.json", "metrics.md"]


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    labels = (rng.random((50, 40)) < 0.4).astype(np.int8)
    labels[:, 4] = 0  # Bald: three metrics are undefined
    logits = rng.normal(size=labels.shape) + labels
    found = compute_metrics(logits, labels, majority_class(labels), bootstrap=20)
    provenance = {
        "split": "test",
        "images": 50,
        "n": np.float32(1),
        "beta": float("nan"),
        "clip": True,
        "versions": {"numpy": np.__version__},
        "commit": None,
    }
    return metrics_json(found, CELEBA_ATTRIBUTES) | {"provenance": provenance}


def test_three_files_are_written(report, tmp_path):
    folder = tmp_path / "new" / "evaluation"
    paths = tables.write_tables(report, folder)
    assert sorted(p.name for p in paths) == sorted(os.listdir(folder)) == FILES


def test_json_is_valid_and_has_exactly_the_promised_keys(report, tmp_path):
    tables.write_tables(report, tmp_path)
    text = (tmp_path / "metrics.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(found) == ["average", "attributes", "provenance"]
    assert list(found["average"]) == [*METRIC_NAMES, "interval"]
    assert list(found["attributes"]) == list(CELEBA_ATTRIBUTES)
    assert all(list(row) == list(METRIC_NAMES) for row in found["attributes"].values())
    assert found["attributes"]["Bald"]["f1"] is None
    assert found["average"] == report["average"]
    assert found["provenance"] == report["provenance"] | {"n": 1.0, "beta": None}


def test_csv_has_a_row_an_attribute_and_the_average(report, tmp_path):
    tables.write_tables(report, tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["attribute"] for row in rows] == [*CELEBA_ATTRIBUTES, "average"]
    assert list(rows[0]) == ["attribute", *METRIC_NAMES]
    assert rows[4]["f1"] == ""
    for name in METRIC_NAMES:
        assert float(rows[-1][name]) == report["average"][name]


def test_markdown_has_the_average_its_interval_and_the_published_columns(report, tmp_path):
    tables.write_tables(report, tmp_path, published.TABLE_4)
    lines = (tmp_path / "metrics.md").read_text().splitlines()
    rows = {line.split(" | ")[0].strip("| *"): line for line in lines if line.startswith("|")}
    accuracy, (low, high) = report["average"]["accuracy"], report["average"]["interval"]["accuracy"]
    assert rows["average"].startswith(f"| **average** | **{100 * accuracy:.1f}** |")
    assert rows["average"].endswith("| **92.05** | **87** | **87** | **81** |")
    assert any("92.05; the mean of its 40 values is 90.17." in line for line in lines)
    assert rows["95 % from"].startswith(f"| 95 % from | {100 * low:.1f} |")
    assert rows["to"].startswith(f"| to | {100 * high:.1f} |")
    assert rows["Bald"].endswith("| 98.30 | 98 | 98 | 89 |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "- split: test" in lines and "- commit: null" in lines


def test_a_failed_write_leaves_the_earlier_files(report, tmp_path, monkeypatch):
    tables.write_tables(report, tmp_path)
    before = {name: (tmp_path / name).read_text() for name in FILES}

    broken = report | {"provenance": {"seed": object()}}
    with pytest.raises(TypeError):
        tables.write_tables(broken, tmp_path)

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        tables.write_tables(report | {"provenance": {"seed": 1}}, tmp_path)
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == before


@pytest.mark.parametrize("beside", [(), published.TABLE_4])
def test_terminal_table_fits_80_columns(report, beside):
    out = io.StringIO()
    tables.print_table(report, beside, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    average = next(line for line in lines if line.startswith("average"))
    assert f"{100 * report['average']['accuracy']:.1f}" in average
    assert ("92.05" in average) == bool(beside)
    head = {word for line in lines[:3] for word in line.split()}
    assert ({"RBM", "+ANet", "Tracer"} <= head) == bool(beside)
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in CELEBA_ATTRIBUTES)
    assert "split test" in out.getvalue()
    assert ("40 values is 90.17" in " ".join(out.getvalue().split())) == bool(beside)


def test_percent():
    cells = [tables.percent_cell(value) for value in (0.12345, -0.0001, 1.0, None, float("nan"))]
    assert cells == ["12.3", "0.0", "100.0", "-", "-"]


def test_published_columns_are_whole_and_only_the_papers_own_contradicts_its_average():
    """Means computed by hand from Table 4; the paper states 92.05 for its own 40 values."""
    stated = {c.name: (c.average, round(c.mean, 2)) for c in published.TABLE_4}
    assert stated == {
        "paper": (92.05, 90.17),
        "MT-RBM PCA": (87, 87.08),
        "LNets+ANet": (87, 87.3),
        "FaceTracer": (81, 81.12),
    }
    assert all(tuple(column.accuracy) == CELEBA_ATTRIBUTES for column in published.TABLE_4)
    note = tables.published_note(published.TABLE_4)
    assert note.count("average stated") == 1 and "paper is 92.05" in note
    assert tables.published_note(published.TABLE_4[1:]) == tables.PUBLISHED
