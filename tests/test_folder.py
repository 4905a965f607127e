"""A user's own images and csv: reading, training, evaluation, calibration."""

import csv
import dataclasses
import importlib.util
import io
import json
import pickle
import sys
from pathlib import Path

import fuzz_strategies as fz
import numpy as np
import pytest
from cli import calibrate, evaluate, train
from faults import one_line
from fuzz_strategies import accepted, fuzz
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from iamt_jax.commands.calibrate import make_calibration
from iamt_jax.config import FEWEST_IMAGES, PRESETS, DataConfig, OtherData, check
from iamt_jax.data.celeba import open_dataset
from iamt_jax.data.decode import decode
from iamt_jax.data.folder import open_own, partition_by_hash
from iamt_jax.data.label_files import read_own_labels
from iamt_jax.data.open import open_source, resolve_data
from iamt_jax.evaluation.faithfulness import regions_of
from iamt_jax.inference.classifier import load
from iamt_jax.robust import calibration
from iamt_jax.runs.run_file import read_run

REPOSITORY = Path(__file__).parent.parent
SHAPES = ("round", "red", "large")
MANY = 128


def shape(bits, seed):
    """An image of a circle or square, red or blue, large or small, at a random place on grey."""
    is_round, red, large = bits
    rng = np.random.default_rng(seed)
    side = 28 if large else 12
    left, top = (int(x) for x in rng.integers(0, 40 - side, 2))
    image = Image.new("RGB", (40, 40), (int(rng.integers(100, 150)),) * 3)
    draw = ImageDraw.Draw(image).ellipse if is_round else ImageDraw.Draw(image).rectangle
    draw((left, top, left + side, top + side), fill="red" if red else "blue")
    return image


def write_shapes(root, count=MANY, folder="images", names="{:03d}.png", first=0):
    """Writes a set of shapes; returns the rows of its csv."""
    (root / folder).mkdir(parents=True)
    rows = [["image", *SHAPES]]
    for i in range(first, first + count):
        bits = tuple(np.random.default_rng(1000 + i).integers(0, 2, 3).tolist())
        path = root / folder / names.format(i)
        path.parent.mkdir(exist_ok=True)
        shape(bits, i).save(path)
        rows.append([names.format(i), *map(str, bits)])
    write_csv(root / "labels.csv", rows)
    return rows


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def empty(root, *names):
    """Writes empty files, for tests that decode no image."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def contents(dataset):
    """Name -> partition and labels."""
    return {
        name: (part, tuple(labels.tolist()))
        for part, size in dataset.partitions.sizes.items()
        if size
        for records in [dataset.split(part)]
        for name, labels in zip(records.names, records.labels, strict=True)
    }


# The reader.


def test_labels_and_pixels_are_those_that_were_written(tmp_path):
    rows = write_shapes(tmp_path, 40)
    dataset = open_own(tmp_path)
    assert dataset.attributes == SHAPES
    found = contents(dataset)
    assert {name: labels for name, (_, labels) in found.items()} == {
        name: tuple(map(int, labels)) for name, *labels in rows[1:]
    }
    records = dataset.split("train")
    pixels = decode(records.read(0), 40, records.names[0])
    written = np.asarray(Image.open(tmp_path / "images" / records.names[0]))
    np.testing.assert_array_equal(pixels, written)
    assert pickle.loads(pickle.dumps(records)).read(0) == records.read(0)


@pytest.mark.parametrize("folder", ["", "images", "images/deep"])
def test_names_are_relative_to_the_root_or_to_images(tmp_path, folder):
    empty(tmp_path / folder, "a.png", "b.JPG", "elsewhere/c.png")
    prefix = folder.removeprefix("images").strip("/")
    for seen in {folder, prefix}:
        names = [str(Path(seen) / name) for name in ("a.png", "b.JPG")]
        write_csv(tmp_path / "labels.csv", [["image", "x"], *([name, "1"] for name in names)])
        assert set(contents(open_own(tmp_path))) == set(names)


def test_the_root_is_tried_before_images(tmp_path):
    (tmp_path / "images").mkdir()
    shape((1, 1, 1), 0).save(tmp_path / "a.png")
    shape((0, 0, 0), 1).save(tmp_path / "images/a.png")
    (tmp_path / "labels.csv").write_text("image,x,split\na.png,1,train\n")
    assert open_own(tmp_path).split("train").read(0) == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("split", ["split", "Split", " SPLIT "])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_the_column_split_is_no_attribute(tmp_path, split, place):
    cells = ["train", "0", "Valid", "val", "VALIDATION", "1", "test", "2"]
    rows = [["image", "x", "y"], *([f"{i}.png", "1", "0"] for i in range(8))]
    for row, cell in zip(rows, [split, *cells], strict=True):
        row.insert(place, cell)
    write_csv(tmp_path / "labels.csv", rows)
    empty(tmp_path, *(row[0] for row in rows[1:]))
    dataset = open_own(tmp_path)
    assert dataset.attributes == ("x", "y")
    assert dataset.partitions.sizes == {"train": 2, "validation": 4, "test": 2}
    assert dataset.layout == (
        "images and labels.csv by its column split (train 2, validation 4, test 2)"
    )
    assert set(dataset.split("test").names) == {"6.png", "7.png"}
    assert set(contents(dataset).values()) == {
        (part, (1, 0)) for part in ("train", "validation", "test")
    }


def test_a_hash_of_the_name_splits_80_10_10_and_is_stable():
    names = tuple(f"{i}.jpg" for i in range(10000))
    partition = partition_by_hash(names)
    shares = np.bincount(partition) / len(names)
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.015)  # five standard deviations
    np.testing.assert_array_equal(partition_by_hash(names[::-1])[::-1], partition)
    np.testing.assert_array_equal(partition_by_hash(names[5:50]), partition[5:50])
    # Fixed values: a later version must not move images between splits.
    names = ("a.png", "images/b.png", "ä.png", "0.png")
    assert partition_by_hash(names).tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("cells", "meaning"),
    [
        (["1", "0", ""], [1, 0, -1]),
        (["1", "-1", ""], [1, 0, -1]),
        (["1", "-1", "0"], [1, 0, -1]),
        ([" 1 ", "0.0", "nan"], [1, 0, -1]),
    ],
)
def test_cells_are_read_as_in_the_lists_of_celeba(tmp_path, cells, meaning):
    write_csv(tmp_path / "own.csv", [["image", "x"], *([str(i), c] for i, c in enumerate(cells))])
    labels = read_own_labels(tmp_path / "own.csv")
    assert labels.values[:, 0].tolist() == meaning
    assert labels.ambiguous == ({"-1", "0"} <= set(cells))


def test_images_without_a_line_are_ignored_and_counted(tmp_path):
    write_shapes(tmp_path, 30)
    empty(tmp_path, "images/new.JPEG", "images/.hidden.png", "images/notes.txt", "other/far.png")
    dataset = open_own(tmp_path)
    assert dataset.layout.endswith("), 1 further images that the list does not name, ignored")
    assert len(contents(dataset)) == 30


def test_labels_may_be_elsewhere_or_one_of_several_csv_files(tmp_path):
    rows = write_shapes(tmp_path / "data", 30)
    write_csv(tmp_path / "data/few.csv", rows[:5])
    write_csv(tmp_path / "outside.csv", rows[:7])
    counts = {
        labels: sum(open_own(tmp_path / "data", labels).partitions.sizes.values())
        for labels in ("few.csv", str(tmp_path / "outside.csv"), "../outside.csv", "labels.csv")
    }
    assert list(counts.values()) == [4, 6, 6, 30]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("a.png,1,0,train\nb.png,0,1,train\n", ()),
        ("a.png,1,0,train\nb.png,1,1,train\n", ("1 of the 2", "first x")),
        ("a.png,,0,train\nb.png,,0,train\nc.png,0,1,test\n", ("2 of the 2", "first x")),
        ("a.png,1,0,test\nb.png,1,0,test\n", ()),
        ("a.png,1,0,train\nb.png,-1,-1,train\nc.png,-1,1,train\n", ("holds both -1 and 0",)),
    ],
)
def test_labels_that_teach_nothing_cause_a_warning(tmp_path, capsys, text, warned):
    (tmp_path / "labels.csv").write_text(f"image,x,y,split\n{text}")
    empty(tmp_path, "a.png", "b.png", "c.png")
    open_own(tmp_path)
    error = capsys.readouterr().err
    assert error.count("\n") == bool(warned)
    assert all(part in error for part in (*warned, *["warning: "][: len(warned)]))


def test_a_folder_is_no_image(tmp_path):
    write_shapes(tmp_path, 10)
    (tmp_path / "images/003.png").unlink()
    (tmp_path / "images/003.png").mkdir()
    one_line(lambda: open_own(tmp_path), tmp_path / "images", "1 of the 10", "003.png")


def test_without_data_name_the_message_names_it(tmp_path):
    write_shapes(tmp_path, 1)
    one_line(lambda: open_dataset(tmp_path), "`data.name` folder")


ODD_ROWS = [["image", "x", "split"], ["a.png", "1", "train"], ["b/c.png", "0", "2"]]


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "cell"
    empty(root, "a.png", "b/c.png")
    return root


@fuzz
@given(data=st.data())
def test_a_damaged_csv_is_read_or_refused(cell, data):
    junk = st.binary() | fz.mutated(fz.written(".csv", ODD_ROWS).encode())
    odd = fz.odd_lists(".csv", ODD_ROWS)
    (cell / "labels.csv").write_bytes(data.draw(odd if data.draw(st.booleans()) else junk))
    dataset = accepted(lambda: open_own(cell), most=10**6)
    if dataset is not None:
        assert set(contents(dataset)) <= {"a.png", "b/c.png", "./a.png"}
        assert "split" not in {name.lower() for name in dataset.attributes}


# The data set to use with a trained run.


@pytest.mark.parametrize(
    ("trained_on", "other", "expected"),
    [
        (DataConfig("folder", "A", labels="a.csv"), OtherData(), ("folder", "A", "a.csv")),
        (DataConfig("folder", "A", labels="a.csv"), OtherData("B"), ("folder", "B", None)),
        (
            DataConfig("folder", "A"),
            OtherData(labels="b.csv"),
            ("folder", "A", "b.csv"),
        ),
        (DataConfig("faces"), OtherData("B"), ("celeba", "B", None)),
        (
            DataConfig("celeba", "A"),
            OtherData("B", labels="b.csv"),
            ("folder", "B", "b.csv"),
        ),
        (DataConfig("faces"), OtherData(), ("faces", None, None)),
    ],
)
def test_other_data_is_of_the_kind_trained_on(trained_on, other, expected):
    found = resolve_data(trained_on, other)
    assert (found.name, found.root, found.labels) == expected


def test_labels_need_a_folder():
    config = dataclasses.replace(PRESETS["debug"], data=DataConfig(labels="x.csv"))
    one_line(lambda: check(config), "`data.labels` x.csv", "`data.name` folder")
    one_line(lambda: open_source(DataConfig("folder")), "`data.root`")


# End to end.


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root)
    return root


TRAIN = ("--preset", "debug", "--data.name", "folder", "--train.steps", "40", "--train.warmup", "4")
TRAIN += ("--train.validate-every", "20")


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "W"
    assert train([*TRAIN, "--data.root", str(shapes), "--workdir", str(workdir)]) == 0
    return workdir


def metrics(workdir, out, *arguments):
    common = ("--workdir", str(workdir), "--out", str(out), "--bootstrap", "10")
    assert evaluate([*common, *map(str, arguments)]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_a_folder_trains_and_is_evaluated(run, shapes, tmp_path):
    saved = read_run(run)
    assert (saved.attributes, saved.config.data.root) == (SHAPES, str(shapes))
    found = metrics(run, tmp_path / "E", "--split", "train+validation")
    assert set(found["attributes"]) == set(SHAPES)
    assert "by a hash of names" in found["provenance"]["layout"]
    # Only the colour is learnt in 40 steps.
    assert found["attributes"]["red"]["accuracy"] > 0.9
    assert found["attributes"]["red"]["majority_accuracy"] < 0.7


def test_the_same_command_continues(run, shapes, capsys):
    assert train([*TRAIN, "--data.root", str(shapes), "--workdir", str(run)]) == 0
    assert "at step 40 of 40" in capsys.readouterr().out


def test_a_run_is_evaluated_on_other_images_of_its_kind(run, tmp_path):
    other = tmp_path / "other"
    rows = write_shapes(other, 12, first=500)
    for row, cell in zip(rows, ["split", *["test"] * 12], strict=True):
        row.append(cell)
    rows[1][3] = ""  # not annotated
    write_csv(other / "labels.csv", [[*row[:1], *row[:0:-1]] for row in rows])
    found = metrics(run, tmp_path / "E", "--data.root", other)
    assert found["provenance"]["images"] == 12
    assert found["attributes"]["red"]["accuracy"] > 0.8
    write_csv(other / "second.csv", rows)
    both = ("--data.root", other, "--data.labels", "second.csv")
    assert metrics(run, tmp_path / "E", *both)["average"] == found["average"]


def test_calibration_learns_from_all_parts_of_a_sorted_csv(run, monkeypatch):
    seen = []

    def fit(network, pictures, names):
        seen.extend(names)
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration, "fit_transformation", fit)
    with pytest.raises(KeyboardInterrupt):
        make_calibration(load(run), FEWEST_IMAGES)
    everything = open_source(read_run(run).config.data).split("train").names
    places = np.array([everything.index(name) for name in seen])
    assert len(set(seen)) == FEWEST_IMAGES < len(everything)
    assert places.min() < len(everything) / 4 and places.max() > 3 * len(everything) / 4


@pytest.mark.slow
def test_a_run_is_calibrated(run, tmp_path):
    assert calibrate(["--workdir", str(run), "--images", "64"]) == 0
    found = metrics(run, tmp_path / "E", "--auto", "--sigma", "0.1")
    assert found["provenance"]["applied"] is not None
    assert found["attributes"]["red"]["accuracy"] > 0.8


def test_own_data_has_no_attribute_regions(run):
    classifier, dataset = load(run), open_source(read_run(run).config.data)
    assert regions_of(classifier, dataset.split("test"), dataset, "test") is None


# The example.


@pytest.fixture(scope="module")
def digits():
    spec = importlib.util.spec_from_file_location("digits", REPOSITORY / "examples/digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_writes_digits_that_are_read(digits, tmp_path):
    out = tmp_path / "digits"
    assert digits.main(["--out", str(out), "--count", "20", "--size", "24"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    dataset = open_own(out)
    assert dataset.attributes == tuple(digits.ATTRIBUTES)
    found = contents(dataset)
    assert len(found) == 20
    # scikit-learn's first ten images are the digits in order; 8 is even, >= 5, and has loops.
    assert found["0008.png"][1] == (1, 0, 1, 1, 0, 0)
    image = Image.open(io.BytesIO((out / "images/0008.png").read_bytes()))
    assert image.size == (24, 24) and len(image.getcolors(1000)) > 20


def test_the_example_writes_everything_or_nothing(digits, tmp_path, monkeypatch, capsys):
    assert digits.main(["--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digits, "drawn", full)
    assert digits.main(["--out", str(tmp_path / "D"), "--count", "3"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert digits.main(["--out", str(tmp_path / "D")]) == 2
    assert capsys.readouterr().err == ("error: scikit-learn is missing; pip install scikit-learn\n")
