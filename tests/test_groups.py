"""Groups: every number against scikit-learn or a plain loop; cards show the measured numbers."""

import json
import math
import re
from pathlib import Path

import cards
import numpy as np
import pytest
from cli import evaluate
from sklearn import metrics as reference

from iamt_jax.attributes import CELEBA_ATTRIBUTES, celeba_statistics
from iamt_jax.config import MISSING
from iamt_jax.errors import InputError
from iamt_jax.evaluation.measure import select
from iamt_jax.metrics import classification
from iamt_jax.metrics.groups import FEWEST, compare, newcombe
from iamt_jax.report import tables

REPOSITORY = Path(__file__).parent.parent
TEMPLATES = REPOSITORY / "experiments" / "card_templates"
FILLED = REPOSITORY / "docs" / "cards"
CARDS = [*sorted(TEMPLATES.glob("*.md")), *sorted(FILLED.glob("*.md"))]
NAMES = ["Group", "A", "B", "C", "Rare", "Gaps"]


def draw(images=600, seed=0):
    """Labels of six attributes, the first for the groups; Rare has four positives among those with
    it, Gaps misses a third of its labels, and answers are worse for those with Group."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, 6)) < [0.3, 0.5, 0.2, 0.7, 0.2, 0.4]).astype(np.int8)
    with_group = np.flatnonzero(labels[:, 0] == 1)
    labels[with_group, 4] = 0
    labels[with_group[:4], 4] = 1
    labels[rng.random(images) < 0.33, 5] = MISSING
    labels[rng.random(images) < 0.1, 0] = MISSING
    noise = np.where(labels[:, [0]] == 1, 2.0, 1.0)
    return np.round(rng.normal(scale=noise, size=labels.shape) + 2 * labels - 1, 1), labels


def rates(logits, labels):
    """True and false positive rate of one attribute in one group, and of how many, in a loop."""
    hits = alarms = positives = negatives = 0
    for x, y in zip(logits, labels, strict=True):
        positives, negatives = positives + (y == 1), negatives + (y == 0)
        hits, alarms = hits + (y == 1 and x > 0), alarms + (y == 0 and x > 0)
    return (hits, positives), (alarms, negatives)


def share(part):
    return part[0] / part[1]


@pytest.fixture(scope="module")
def found():
    logits, labels = draw()
    majority = classification.majority_class(draw(seed=1)[1])
    return compare(logits, labels, majority, 0, NAMES, bootstrap=50), majority


def test_averages_are_scikit_learns(found):
    report, majority = found
    logits, labels = draw()
    assert report["left_out"] == ["Rare"]
    assert report["attributes"] == 5
    assert report["not_annotated"] == np.sum(labels[:, 0] == MISSING) > 0
    for side, value in (("present", 1), ("absent", 0)):
        rows = labels[:, 0] == value
        scores = {name: [] for name in ("accuracy", "majority", "balanced", "ap")}
        for k in range(1, 6):
            known = rows & (labels[:, k] != MISSING)
            y, x = labels[known, k], logits[known, k]
            scores["accuracy"].append(reference.accuracy_score(y, x > 0))
            scores["majority"].append(np.mean(y == majority[k]))
            if NAMES[k] != "Rare":
                scores["balanced"].append(reference.balanced_accuracy_score(y, x > 0))
                scores["ap"].append(reference.average_precision_score(y, x))
        average = report[side]["average"]
        assert report[side]["images"] == rows.sum()
        assert average["accuracy"] == pytest.approx(np.mean(scores["accuracy"]), abs=1e-12)
        assert average["majority_accuracy"] == pytest.approx(np.mean(scores["majority"]), abs=1e-12)
        assert average["balanced_accuracy"] == pytest.approx(np.mean(scores["balanced"]), abs=1e-12)
        assert average["average_precision"] == pytest.approx(np.mean(scores["ap"]), abs=1e-12)
        for metric in ("accuracy", "balanced_accuracy", "average_precision"):
            low, high = average["interval"][metric]
            assert low < average[metric] < high
    assert report["present"]["average"]["accuracy"] < report["absent"]["average"]["accuracy"]


def test_gaps_are_a_plain_loops_the_largest_first(found):
    report, _ = found
    logits, labels = draw()
    sizes = []
    for name, gap in report["gaps"].items():
        k = NAMES.index(name)
        parts = [rates(logits[labels[:, 0] == v, k], labels[labels[:, 0] == v, k]) for v in (1, 0)]
        assert gap["positives"] == [part[0][1] for part in parts]
        assert gap["negatives"] == [part[1][1] for part in parts]
        assert min(gap["positives"] + gap["negatives"]) >= FEWEST
        (tpr, fpr), (other_tpr, other_fpr) = ((share(p), share(n)) for p, n in parts)
        assert gap["true_positive_rate"] == pytest.approx([tpr, other_tpr])
        assert gap["false_positive_rate"] == pytest.approx([fpr, other_fpr])
        if abs(tpr - other_tpr) >= abs(fpr - other_fpr):
            expected = "true_positive_rate", tpr - other_tpr
        else:
            expected = "false_positive_rate", fpr - other_fpr
        assert gap["rate"] == expected[0]
        assert gap["difference"] == pytest.approx(expected[1])
        assert gap["interval"][0] < gap["difference"] < gap["interval"][1]
        sizes.append(abs(gap["difference"]))
    assert sorted(report["gaps"]) == ["A", "B", "C", "Gaps"]
    assert sizes == sorted(sizes, reverse=True)


def test_false_positives_make_a_gap_too():
    labels = np.zeros((80, 2), np.int8)
    labels[:40, 0] = 1
    labels[::2, 1] = 1
    logits = np.where(labels == 1, 1.0, -1.0)
    logits[1:31:2, 1] = 1.0  # 15 of the 20 negatives of the first group.
    gap = compare(logits, labels, np.zeros(2, bool), 0, ["G", "A"], bootstrap=0)["gaps"]
    assert gap["A"]["rate"] == "false_positive_rate"
    assert gap["A"]["difference"] == 0.75
    assert gap["A"]["true_positive_rate"] == [1.0, 1.0]


def test_newcombe_as_published():
    # Newcombe (1998), table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    published = {(56, 48, 70, 80): (0.0524, 0.3339), (9, 3, 10, 10): (0.1705, 0.8090)}
    for (a, b, of_a, of_b), bounds in published.items():
        assert newcombe(*map(np.array, (a, b, of_a, of_b))).tolist() == pytest.approx(
            bounds, abs=5e-5
        )
    # A bootstrap would have no width here.
    low, high = newcombe(*map(np.array, (12, 12, 12, 12)))
    assert low < -0.2 and high > 0.2


@pytest.mark.parametrize("value", [0, 1, MISSING])
def test_a_group_without_images_is_undefined_not_an_error(value):
    logits, labels = draw(40)
    labels[:, 0] = value
    report = compare(logits, labels, np.zeros(6, bool), 0, NAMES, bootstrap=5)
    assert report["gaps"] == {} and len(report["left_out"]) == 5
    assert report["not_annotated"] == 40 * (value == MISSING)
    for side, shown in (("present", 1), ("absent", 0)):
        assert report[side]["images"] == 40 * (value == shown)
        assert (report[side]["average"]["accuracy"] is None) == (value != shown)
        assert report[side]["average"]["balanced_accuracy"] is None
    json.dumps(report, allow_nan=False)
    tables.group_tables({"groups": {"Group": report}})


def test_evaluate_cuts_by_the_labels(finished, dataset, tmp_path, capsys):
    common = ["--workdir", str(finished), "--bootstrap", "20", "--split", "train"]
    out = tmp_path / "E"
    assert evaluate([*common, "--out", str(out), "--groups", "Male", "Pale_Skin"]) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "metrics.json").read_text())
    assert list(report) == ["average", "attributes", "groups", "provenance"]
    assert list(report["groups"]) == ["Male", "Pale_Skin"]
    records = select(dataset.split("train"), CELEBA_ATTRIBUTES, "")
    labels = records.labels[:, CELEBA_ATTRIBUTES.index("Male")]
    men = report["groups"]["Male"]["present"]["images"]
    assert men == np.sum(labels == 1) and 0 < men < len(labels)
    assert report["groups"]["Male"]["absent"]["images"] == len(labels) - men
    assert report["groups"]["Male"]["attributes"] == 39
    markdown = (out / "metrics.md").read_text()
    for text in (printed, markdown):
        assert "not Pale_Skin" in text and "Largest gaps by Male" in text
    assert f"| not Male | {len(labels) - men} |" in markdown
    assert max(map(len, printed.splitlines())) <= 80 or not printed.isascii()

    assert evaluate([*common, "--out", str(out), "--groups", "male"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == "error: --groups male: is none of the network's attributes; did you mean Male?"


def report_of(found, **facts):
    """metrics.json of an evaluation with groups."""
    logits, labels = draw()
    measured = classification.compute_metrics(logits, labels, found[1], bootstrap=20)
    provenance = {
        "split": "test",
        "images": len(labels),
        "checkpoint_step": 7,
        "n": 1.0,
        "beta": 0.0,
        "sigma": 0.0,
        "clip": False,
        "applied": None,
        "versions": {"numpy": "2"},
        "device": "1 x cpu",
        "commit": "abc",
        "command": "evaluate.py --workdir /home/me/W --out=/home/me/E --groups Group",
    }
    groups = {"groups": {"Group": found[0]}}
    return (
        classification.metrics_json(measured, NAMES) | groups | {"provenance": provenance | facts}
    )


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.md"
    path.write_text(f"# Card\n\n{cards.BEGIN}\nold\n{cards.END}\n\nbelow\n")
    return path


def test_a_card_holds_the_measured_figures(found, card, tmp_path, capsys):
    clean, noisy = tmp_path / "metrics.json", tmp_path / "noisy.json"
    clean.write_text(json.dumps(report_of(found)))
    noise = {"sigma": 0.2, "n": None, "beta": None, "applied": {"members": []}}
    noisy.write_text(
        json.dumps({k: v for k, v in report_of(found, **noise).items() if k != "groups"})
    )
    assert cards.main([str(card), str(clean), str(noisy)]) == 0
    assert capsys.readouterr().out == f"filled {card}\n"
    text = card.read_text()
    assert text.startswith(f"# Card\n\n{cards.BEGIN}\n") and text.endswith("\n\nbelow\n")
    assert "old" not in text
    accuracy = f"{100 * report_of(found)['average']['accuracy']:.1f}"
    assert f"| n 1, beta 0; clean | 600 | {accuracy} [" in text
    assert f"| calibrated (`--auto`); noise of sigma 0.2 | 600 | {accuracy} [" in text
    men = found[0]["present"]
    assert f"| Group | {men['images']} | {100 * men['average']['accuracy']:.1f} [" in text
    assert "`evaluate.py --workdir W --out=E --groups Group`" in text
    assert "/home" not in text
    cards.fill(card, [clean, noisy])
    assert card.read_text() == text


def test_a_card_holds_the_training_and_the_labels(finished, dataset, card):
    cards.fill(card, [finished / "run.json", finished])
    text = card.read_text()
    assert re.search(r"Trained on 64 images, 4 steps of \d+, \w+, seed 0; \d+ min \d+ s", text)
    assert "96 images (train 64, validation 16, test 16), 40 attributes." in text
    labels = np.concatenate([dataset.split(s).labels for s in ("train", "validation", "test")])
    young = np.mean(labels[:, dataset.attributes.index("Young")] == 1)
    assert f"Young {100 * young:.1f}" in text
    by_folder = text.split("seed 0")[1].split("\n\n", 1)[1]
    cards.fill(card, [Path(dataset.root)])
    assert by_folder in card.read_text()


def test_published_counts_and_missing_labels(card, tmp_path):
    source = tmp_path / "counts.json"
    source.write_text(json.dumps(celeba_statistics()))
    cards.fill(card, [source])
    text = card.read_text()
    assert "202,599 images (train 162,770, validation 19,867, test 19,962)" in text
    assert "missing" not in text and ": Bald 2.2, " in text and ", No_Beard 83.5." in text
    counts = {"images": {"train": 10}, "attributes": ["A", "B"]}
    counts |= {"positives": {"train": [2, 5]}, "known": {"train": [4, 10]}}
    source.write_text(json.dumps(counts))
    cards.fill(card, [source])
    assert "2 attributes; 6 labels are missing. " in card.read_text()
    assert ": A 50.0, B 50.0." in card.read_text()


def test_a_card_that_cannot_be_filled_stays(card, tmp_path, capsys):
    source = tmp_path / "other.json"
    source.write_text('{"colour": 1}')
    before = card.read_text()
    for bad, words in (
        (
            source,
            "expected metrics.json, run.json or a table of label counts, found the fields",
        ),
        (tmp_path / "absent.json", "cannot be read (No such file or directory)"),
        (card, "is not JSON"),
        (tmp_path, "holds no data that we know"),
    ):
        assert cards.main([str(card), str(bad)]) == 2
        assert words in capsys.readouterr().err
        assert card.read_text() == before
    card.write_text("# no place\n")
    with pytest.raises(InputError, match="has no place for figures"):
        cards.fill(card, [source])


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_our_cards_can_be_filled_and_say_what_must_not_be(path):
    text = path.read_text()
    assert text.count(cards.BEGIN) == text.count(cards.END) == 1
    assert not re.search(r"(?<![\w.:/])/(tmp|work|home|root)/", text)
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    wanted = "Must not be used for" if "model" in path.name else "Who is in it"
    assert wanted in headings
    filled = text.split(cards.BEGIN)[1].split(cards.END)[0].strip()
    assert bool(filled) != path.name.startswith("TEMPLATE")


def test_there_are_six_cards():
    names = ["TEMPLATE_data", "TEMPLATE_model", "data_celeba", "data_faces"]
    assert [path.stem for path in CARDS] == [*names, "model_faces", "model_small"]


def test_an_interval_of_nothing_is_dashes():
    average = {"accuracy": None, "interval": {"accuracy": [None, math.nan]}}
    assert tables.with_interval(average, "accuracy") == "- [-, -]"
