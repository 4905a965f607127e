"""The HTML report: needs no network, and shows the numbers it was given."""

import html
import html.parser
import io
import json
import os
import re

import numpy as np
import pytest
import reports
from cli import evaluate
from faults import refused
from markupsafe import escape
from PIL import Image

from iamt_jax.evaluation.curve_grid import (
    GRID_BETA,
    GRID_N,
    grid_scores,
    measure_curve_grid,
    sampled_curves,
)
from iamt_jax.evaluation.measure import evaluate_split, open_evaluation
from iamt_jax.inference.predictor import Noise
from iamt_jax.metrics import classification as measured
from iamt_jax.report import explanation_files, overlays, sentences
from iamt_jax.report.figures import clustered
from iamt_jax.report.page import noise_table, page
from iamt_jax.report.published import TABLE_1
from iamt_jax.robust.treatment import ToneCurve

SECTIONS = ["accuracy", "noise", "plane", "atlas", "attributes", "features", "judged"]
SECTIONS += ["paper", "made"]


class Elements(html.parser.HTMLParser):
    """Attributes of all elements, cells of the tables, and text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.tables, self.code = [], {}, []
        self._open, self._caption = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.tables[self._caption].append([])
        elif tag in ("th", "td"):
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        tag = self._open[-1] if self._open else None
        if tag == "caption":
            self._caption = data
            self.tables[data] = []
        elif tag in ("th", "td"):
            self.tables[self._caption][-1][-1] += data
        elif tag in ("script", "style"):
            self.code.append((tag, data))


@pytest.fixture(scope="module")
def made():
    return reports.everything()


@pytest.fixture(scope="module")
def elements(made):
    return Elements(page(*made))


def rows(elements, caption):
    return elements.tables[caption][1:]


def test_the_page_needs_no_network(elements):
    names = ("src", "href", "srcset", "data", "poster", "action")
    links = [attrs[name] for _, attrs in elements.found for name in names if attrs.get(name)]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not {"iframe", "object", "embed"} & {tag for tag, _ in elements.found}
    styles = "".join(text for tag, text in elements.code if tag == "style")
    assert "@import" not in styles and "url(" not in styles


def test_all_sections_are_there_and_linked(elements):
    assert [attrs["id"] for tag, attrs in elements.found if tag == "section"] == SECTIONS
    links = {attrs["href"] for tag, attrs in elements.found if tag == "a"}
    assert links == {f"#{name}" for name in SECTIONS}


def test_every_control_has_a_label(elements):
    labelled = {attrs["for"] for tag, attrs in elements.found if tag == "label"}
    controls = {attrs["id"] for tag, attrs in elements.found if tag in ("select", "input")}
    assert controls == labelled and len(controls) == 8


def test_the_accuracy_table_is_that_of_the_metrics(made, elements):
    average, low, high, *found = rows(elements, "Percent, attribute by attribute")
    assert [average[0], low[0], high[0]] == ["average", "95 % from", "to"]
    assert float(average[1]) == pytest.approx(100 * made[0]["average"]["accuracy"], abs=0.051)
    measured_in = {name.replace("_", " "): row for name, row in made[0]["attributes"].items()}
    assert {row[0] for row in found} == set(measured_in)
    for row in found:
        values = measured_in[row[0]]
        assert float(row[1]) == pytest.approx(100 * values["accuracy"], abs=0.051)
        assert float(row[5]) == pytest.approx(100 * values["majority_accuracy"], abs=0.051)
    accuracy = [float(row[1]) for row in found]
    assert accuracy == sorted(accuracy)  # the worst first


def test_the_noise_table_is_that_of_the_plane(made):
    plane = made[1]
    for s, row in enumerate(noise_table(plane, 0.8)[1][:-1]):
        grid = np.array(plane["scores"]["accuracy"][s])
        i, j = plane["n"].index(float(row[6])), plane["beta"].index(float(row[7]))
        assert grid[i, j] == grid.max()
        assert row[1] == f"{100 * grid[1, 0]:.1f}" and row[5] == f"{100 * grid.max():.1f}"
        assert row[3] == f"{100 * grid[1, -1]:.1f}"  # the network's own curve
        assert row[8] == f"{100 * plane['automatic']['accuracy'][s]:.1f}"


def test_without_a_calibration_nothing_is_called_calibrated():
    made = reports.everything(calibrated=False)
    assert len(noise_table(made[1], None)[0]) == 8
    assert len(noise_table(made[1] | {"own_beta": 0.0}, None)[0]) == 6
    assert "There is no calibration" in page(*made)


def test_rivals_and_pairs_stand_in_their_tables(made, elements):
    for row, scores in zip(
        rows(elements, "Our maps and others"), made[2]["judged"]["scores"].values(), strict=True
    ):
        assert row[1:] == [f"{value:.3f}" for value in scores.values()]
    (pair,) = rows(elements, "Correlations of pairs")
    found = made[2]["coupled"][0]
    assert pair[0] == "Bangs, Young" and float(pair[1]) == round(found["labels"], 2)
    assert rows(elements, "After randomisation")[0] == ["heads", "0.125"]


def test_scripts_get_the_numbers_and_cannot_be_broken_out_of(made):
    text = page(*made)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))
    np.testing.assert_allclose(
        data["plane"]["scores"]["accuracy"], made[1]["scores"]["accuracy"], atol=1e-5
    )
    order = clustered(made[3]["correlation_masks"])
    matrix = made[3]["correlation_labels"][np.ix_(order, order)]
    np.testing.assert_allclose(data["attributes"]["labels"], matrix, atol=1e-3)
    assert "<synthetic>" not in text and "&lt;synthetic&gt; &amp; faces" in text


def test_the_papers_tables_stand_as_printed_beside_ours(made, elements):
    metrics, _, findings, _ = made
    first, second, third, fourth = (
        next(rows for name, rows in elements.tables.items() if name.startswith(f"Table {i}: "))
        for i in range(1, 5)
    )
    assert first[1:] == [[name, f"{v:.2f}", "not measured"] for name, v in TABLE_1.items()]
    near = ", ".join(f"{c} ({r:.2f})" for c, r in findings["features"][1])
    assert second[1] == [
        "1",
        "72 (0.98), 87 (0.95), 44 (0.94), 92 (0.94), 87 (0.94)",
        near,
    ]
    assert second[2][2] == "not measured"  # there is no channel 32
    assert [row[0] for row in third[1:]] == ["Black Hair", "Heavy Makeup", "Bushy Eyebrows"]
    assert third[1][2] == "not measured"
    ours = {row[0]: row for row in fourth[1:]}
    assert ours["Smiling"][1:5] == ["92.28", "88", "92", "89"]
    accuracy = metrics["attributes"]["Smiling"]["accuracy"]
    assert float(ours["Smiling"][5]) == pytest.approx(100 * accuracy, abs=0.051)
    assert ours["Bald"][5:] == ["not measured"] * 2
    assert ours["stated average"][1] == "92.05" and ours["mean of the rows"][1] == "90.17"


def plane_of(identity, best, precision=(0.6, 0.7), automatic=None, own_beta=0.0):
    """A plane in which the pair n 1, beta 1 has the score `best` at every sigma."""
    grid = np.full((3, 2, 2), -1.0)
    accuracy, ranked = grid + 1, grid + 1
    accuracy[:, 0], ranked[:, 0] = (identity, best), precision
    return {
        "images": 50,
        "sigmas": (0.0, 0.2, 0.5),
        "n": (1.0, 4.0),
        "beta": (0.0, 1.0),
        "own_beta": own_beta,
        "scores": {"accuracy": accuracy.tolist(), "average_precision": ranked.tolist()},
        "automatic": automatic and {"accuracy": [0.9, automatic, 0.5]},
    }


@pytest.mark.parametrize(
    "plane, said",
    [
        (plane_of(0.62, 0.67), "n 1, β 1, chosen on these very images, gains 5.0 points of "),
        (plane_of(0.62, 0.67), "accuracy and 10.0 points of AP."),
        (
            plane_of(0.62, 0.67, (0.6, 0.5)),
            "of accuracy but loses 10.0 points of AP.",
        ),
        (plane_of(0.67, 0.62), "none of the other 3 tone curves is more accurate."),
        (plane_of(0.67, 0.67), "none of the other 3 tone curves is more accurate."),
        (
            plane_of(0.62, 0.67, (np.nan, np.nan)),
            "give 62.0 % accuracy on 50 images; the most",
        ),
        (plane_of(0.62, 0.67, (np.nan, np.nan)), "gains 5.0 points of accuracy."),
        (
            plane_of(0.67, 0.62, own_beta=1.0),
            "own curve, n 1, β 1, loses 5.0 points of",
        ),
        (
            plane_of(0.62, 0.67, own_beta=1.0),
            "own curve, n 1, β 1, gains 5.0 points of",
        ),
    ],
)
def test_the_sentence_on_tone_curves_says_when_they_lose(plane, said):
    assert said in sentences.curve_sentence(plane)


@pytest.mark.parametrize(
    "plane, said",
    [
        (plane_of(0.62, 0.67), "below the majority class (80.0 %); the run has no calibration"),
        (
            plane_of(0.62, 0.67, automatic=0.92),
            "--auto</code>) reaches 92.0 %, 30.0 points more than the network's own curve.",
        ),
        (
            plane_of(0.82, 0.62, automatic=0.72, own_beta=1.0),
            "--auto</code>) reaches 72.0 %, 10.0 points more than the network's own curve.",
        ),
        (
            plane_of(0.82, 0.67, automatic=0.72),
            "--auto</code>) reaches 72.0 %, 10.0 points less than the network's own curve.",
        ),
    ],
)
def test_the_third_finding_compares_with_the_majority_and_auto(made, plane, said):
    metrics = made[0] | {"average": made[0]["average"] | {"majority_accuracy": 0.8}}
    assert said in sentences.headline_sentences(metrics, plane, made[2])[2]


def judged(scores, regions=None):
    return {
        "judged": {"scores": scores, "regions": regions or {}},
        "provenance": {"images_judged": 64},
    }


def test_the_second_finding_says_whether_masks_find_the_region(made):
    def said(scores, regions=None):
        return sentences.headline_sentences(*made[:2], judged(scores, regions))[1]

    place = lambda x: {"pointing": x, "energy_inside": 0.33}  # noqa: E731
    blind = {"Grad-CAM": place(0.67), "centred Gaussian": place(0.11), "random": place(0.04)}
    found = said({"masks": place(0.63), **blind}, {"Smiling": 0.04})
    assert "highest inside its true region in 63.0 % of the cases (Grad-CAM 67.0 %" in found
    assert "ignores the image 11.0 %; 64 images), and 33.0 % of their weight" in found
    assert "cover 4.0 % of an image" in found
    found = said({"masks": place(0.1), **blind}, {"Smiling": 0.04})
    assert "are not inside its true region more often than a map that ignores" in found
    grids = {"masks": {}, "masked contributions": {"grid_pointing": 0.87}}
    assert "87.0 % of what the masked channels add" in said(grids)
    grids["masked contributions"] = {"grid_pointing": 0.2}
    assert "so they do not find it" in said(grids)
    assert "was not measured" in said({"masks": {}})


def test_the_first_finding_has_the_majority_and_the_worst_attribute(made):
    average = made[0]["average"] | {"accuracy": 0.7, "majority_accuracy": 0.8}
    attributes = {"Big_Nose": {"accuracy": 0.5}, "Young": {"accuracy": 0.9}}
    metrics = made[0] | {"average": average, "attributes": attributes}
    said = sentences.headline_sentences(metrics, *made[1:3])[0]
    assert "70.0 % of the answers about 2 attributes" in said
    assert "10.0 points fewer than by always answering with the more common class (80.0 %)" in said
    assert "least accurate attribute is Big Nose (50.0 %)" in said


def test_findings_pictures_and_origin_are_on_the_page(made):
    text = page(*made)
    assert "(<code>evaluate.py --auto</code>) reaches" in text
    for sentence in sentences.headline_sentences(*made[:3]):
        assert escape(sentence) in text
    text = html.unescape(text)
    assert "The tests of the maps use the first 3" in text.replace("the tests", "The tests")
    assert 1 <= text.count("A face that has ") <= len(reports.ATTRIBUTES)


def test_clustering_puts_what_goes_together_side_by_side():
    rng = np.random.default_rng(0)
    group = np.array([0, 1, 0, 2, 1, 0, 2, 1])
    samples = rng.normal(size=(3, 200))[group] + 0.3 * rng.normal(size=(8, 200))
    found = group[clustered(np.corrcoef(samples))]
    assert (np.diff(found) != 0).sum() == 2
    assert clustered(np.zeros((1, 1))).tolist() == [0]
    assert sorted(clustered(np.full((3, 3), np.nan))) == [0, 1, 2]


def test_a_signed_map_is_clear_at_zero_and_coloured_at_its_ends():
    picture = Image.open(io.BytesIO(overlays.signed_png(np.array([[-2.0, 0, 2.0]]), 2)))
    against, nothing, speaks_for = np.asarray(picture.convert("RGBA"))[0].astype(int)
    assert nothing[3] == 0 and min(against[3], speaks_for[3]) > 200
    assert against[0] > against[2] and speaks_for[2] > speaks_for[0]


def test_explanations_are_written_whole(made, tmp_path):
    _, _, findings, arrays = made
    written = explanation_files.write_explanations(findings, arrays, tmp_path / "E")
    assert sorted(p.name for p in written) == sorted(os.listdir(tmp_path / "E"))
    assert (
        json.loads((tmp_path / "E/explanation.json").read_text())["features"]
        == findings["features"]
    )
    with np.load(tmp_path / "E/explanation.npz") as file:
        assert set(file) == set(arrays)
        np.testing.assert_array_equal(file["importance"], arrays["importance"])
    pictures = [path for path in written if path.suffix == ".png"]
    assert len(pictures) == 5 + len(reports.ATTRIBUTES)
    for path in pictures:
        assert min(Image.open(path).size) > 100
    text = (tmp_path / "E/explanation.md").read_text()
    channel, share = findings["importance"]["Big_Nose"][0]
    assert f"| Big_Nose | {channel} ({share:.1%})" in text


def test_scores_of_a_grid_are_those_of_each_pair():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (40, 5)).astype(np.int8)
    labels[:, 2] = 0  # balanced accuracy and average precision are undefined
    logits = rng.normal(size=(2, 3, 40, 5)).astype(np.float32).round(1)  # with ties
    found = grid_scores(logits, labels)
    for i, j in np.ndindex(2, 3):
        one = measured.compute_metrics(logits[i, j], labels, np.zeros(5, bool), bootstrap=0)
        for name in measured.HEADLINE_METRICS:
            assert found[name][i, j] == pytest.approx(one.average[name], abs=1e-12)


def test_sampled_curves_hold_the_identity():
    curve = sampled_curves()[GRID_N.index(1), GRID_BETA.index(0)]
    np.testing.assert_allclose(curve, np.linspace(0, 1, len(curve)), atol=1e-6)


def test_the_plane_agrees_with_an_evaluation(finished):
    opened = open_evaluation(finished, "test")
    records = opened.records
    found = measure_curve_grid(opened.classifier, records, (0.0, 0.2), 8, clip=True, seed=3)
    assert found.images == len(records)
    for s, sigma in enumerate((0.0, 0.2)):
        made = evaluate_split(opened, ToneCurve(4, 0.5), Noise(sigma, True, 3), bootstrap=0)
        one = made["average"]
        for name in measured.HEADLINE_METRICS:
            assert found.scores[name][s, GRID_N.index(4), GRID_BETA.index(0.5)] == pytest.approx(
                one[name]
            )


@pytest.mark.slow
def test_the_report_of_a_run(finished, tmp_path, capsys):
    out = tmp_path / "R"
    arguments = ["--workdir", finished, "--out", out, "--bootstrap", 10, "--report"]
    assert evaluate(list(map(str, arguments))) == 0
    told = capsys.readouterr()
    assert str(out / "report/index.html") in told.out.replace("\n", "")
    stages = re.findall(r"^\[(\d)/9\] .+, about \d+ (?:s|min)$", told.err, re.M)
    assert stages == list("123456789")
    assert sorted(os.listdir(out)) == [
        "explanation",
        "metrics.csv",
        "metrics.json",
        "metrics.md",
        "report",
    ]
    elements = Elements((out / "report/index.html").read_text())
    found = json.loads((out / "metrics.json").read_text())
    shown = rows(elements, "Percent, attribute by attribute")
    assert float(shown[0][1]) == pytest.approx(100 * found["average"]["accuracy"], abs=0.051)
    findings = json.loads((out / "explanation/explanation.json").read_text())
    assert list(findings["together"]) == list(found["attributes"])


@pytest.mark.parametrize("flag, blocked", [("--explain", "explanation"), ("--report", "report")])
def test_a_file_where_a_folder_goes(finished, tmp_path, capsys, flag, blocked):
    (tmp_path / blocked).write_text("mine")
    arguments = ["--workdir", finished, "--out", tmp_path, flag]
    refused(capsys, evaluate, arguments, tmp_path / blocked, "is a file")
    assert os.listdir(tmp_path) == [blocked]
