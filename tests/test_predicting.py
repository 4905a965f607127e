"""`predict`: tables of any images, with damaged images, killed runs and repetition."""

import csv
import json
import os

import numpy as np
import pytest
from cli import export, predict
from PIL import Image
from pyarrow import parquet

from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.classifier import load as load_any
from iamt_jax.inference.classifier import load_workdir as load
from iamt_jax.inference.exported import ExportedClassifier
from iamt_jax.report.predictions import write_predictions

NAMES = ["0.png", "1.PNG", "a/2.png", "a/3.png", "b/0.png", "b/c/5.Png"]
"""Images of the folder, in the order of the search."""


@pytest.fixture(scope="module")
def model(finished, tmp_path_factory):
    """The finished run, exported without a calibration."""
    path = tmp_path_factory.mktemp("predicting") / "model.iamt"
    assert export(["--workdir", str(finished), "--out", str(path)]) == 0
    return path


@pytest.fixture
def folder(dataset, tmp_path):
    """Images of the test split among other files."""
    records = dataset.split("test")
    folder = tmp_path / "images"
    for i, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(records.read(i))
    for name in ("notes.txt", "._0.png", ".thumbnails/0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    return folder


@pytest.fixture
def tell(model, folder, tmp_path):
    """Runs the command on the folder and returns its exit status."""

    def tell(*arguments, out="out.csv", images=(folder,)):
        command = ["--model", model, "--out", tmp_path / out, "--batch-size", 2]
        return predict([str(x) for x in (*images, *command, *arguments)])

    return tell


@pytest.fixture
def judged(monkeypatch):
    """Batches that the model predicts; it fails on those in `judged.fail`."""

    class Judged(list):
        fail = ()

    seen, call = Judged(), ExportedClassifier.__call__

    def counted(self, images, **how):
        if len(seen) in seen.fail:
            raise KeyboardInterrupt
        seen.append(len(images))
        return call(self, images, **how)

    monkeypatch.setattr(ExportedClassifier, "__call__", counted)
    return seen


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def left(tmp_path):
    return {path.name for path in tmp_path.iterdir()} - {"images"}


def test_a_folder_is_searched_in_order_and_judged_as_by_the_workdir(
    tell, folder, finished, tmp_path, capsys
):
    assert tell("--n", 3, "--beta", 0.5) == 0
    header, *told = rows(tmp_path / "out.csv")
    classifier = load(finished)
    assert header == ["image", *classifier.attributes, "error"]
    assert [row[0] for row in told] == [str(folder / name) for name in NAMES]
    pictures = [Image.open(folder / name) for name in NAMES]
    found = np.array([row[1:-1] for row in told], float)
    np.testing.assert_allclose(found, classifier(pictures, n=3, beta=0.5), rtol=0, atol=1e-5)
    assert {row[-1] for row in told} == {""}
    assert "6 images, 40 attributes\n" in capsys.readouterr().out
    assert left(tmp_path) == {"out.csv"}


def printed(text):
    """Image -> its lines, a name and a probability each."""
    found = {}
    for line in text.splitlines():
        if line.startswith("  "):
            name, p = line.split()
            found[image].append((name, float(p)))
        else:
            image = line
            found[image] = []
    return found


@pytest.mark.parametrize("flag", ["--model", "--workdir"])
@pytest.mark.parametrize("exported", [False, True])
def test_without_a_table_the_most_probable_attributes_are_printed(
    flag, exported, folder, finished, model, tmp_path, capsys
):
    classifier, image = load(finished), folder / "0.png"
    place = model if exported else finished
    assert predict([str(image), flag, str(place)]) == 0
    captured = capsys.readouterr()
    tops = [(name, pytest.approx(p, abs=1e-3)) for name, p in classifier.top(image)]
    assert printed(captured.out) == {str(image): tops} and not captured.err
    assert left(tmp_path) == set()


def test_of_several_images_each_is_printed(folder, model, capsys):
    (folder / "a/2.png").write_bytes(b"damaged")
    arguments = [folder, "--model", model, "--top", 3, "--n", 2, "--batch-size", 2]
    assert predict(list(map(str, arguments))) == 0
    captured = capsys.readouterr()
    found = printed(captured.out)
    names = [name for name in NAMES if name != "a/2.png"]
    assert list(found) == [str(folder / name) for name in names]
    loaded = load_any(model)
    for name in names:
        expected = loaded.top(folder / name, 3, n=2)
        assert found[str(folder / name)] == [(k, pytest.approx(p, abs=1e-3)) for k, p in expected]
    assert captured.err.count("cannot be decoded") == 1


def test_what_is_left_out_is_told_and_links_are_followed(tell, folder, tmp_path, capsys):
    (tmp_path / "images/b").rename(tmp_path / "far")
    (tmp_path / "images/b").symlink_to("../far")
    (tmp_path / "far/circle").symlink_to("../images")
    assert tell() == 0
    assert [row[0] for row in rows(tmp_path / "out.csv")[1:]] == [str(folder / x) for x in NAMES]
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"warning: {folder}: left out 3 that are no image files: 1 .txt, 1 hidden, 1 hidden folder"
    )


def test_parquet_holds_the_same(tell, tmp_path):
    (tmp_path / "images/a/2.png").write_bytes(b"damaged")
    assert tell() == tell(out="out.parquet") == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    header, *told = rows(tmp_path / "out.csv")
    assert table.column_names == header
    assert {str(kind) for kind in table.schema.types} == {"string", "float"}
    for name, column in zip(header, zip(*told, strict=True), strict=True):
        values = table[name].to_pylist()
        if name in ("image", "error"):
            assert tuple(values) == column
            continue
        assert [value is None for value in values] == [cell == "" for cell in column]
        for value, cell in zip(values, column, strict=True):
            assert value is None or value == pytest.approx(float(cell), rel=1e-6)


def test_files_come_as_named_and_once(tell, folder, tmp_path):
    named = [folder / "b/0.png", folder / "0.png", folder / "b/0.png", folder / "b"]
    assert tell(images=named) == 0
    found = [row[0] for row in rows(tmp_path / "out.csv")[1:]]
    assert found == [str(folder / name) for name in ("b/0.png", "0.png", "b/c/5.Png")]


def test_a_workdir_is_a_model_too(finished, tell, folder, tmp_path):
    assert tell() == 0
    out = tmp_path / "workdir.csv"
    assert predict([str(x) for x in (folder, "--model", finished, "--out", out)]) == 0
    both = [np.array([r[1:-1] for r in rows(p)[1:]], float) for p in (tmp_path / "out.csv", out)]
    np.testing.assert_allclose(*both, rtol=0, atol=1e-5)


def test_decisions_follow_the_thresholds(tell, model, tmp_path, monkeypatch):
    assert tell() == 0
    probabilities = np.array([row[1:-1] for row in rows(tmp_path / "out.csv")[1:]], float)
    chosen = np.random.default_rng(0).random(40)
    opened = ExportedClassifier.__init__

    def other(self, *arguments):
        opened(self, *arguments)
        self.thresholds = tuple(chosen)

    monkeypatch.setattr(ExportedClassifier, "__init__", other)
    (tmp_path / "images/a/2.png").write_bytes(b"damaged")
    assert tell("--decide", out="decided.csv") == tell("--decide", out="decided.parquet") == 0
    told = rows(tmp_path / "decided.csv")[1:]
    assert told.pop(2)[1:-1] == [""] * 40
    expected = np.delete(probabilities, 2, axis=0) > chosen
    np.testing.assert_array_equal(np.array([r[1:-1] for r in told], int), expected)
    table = parquet.read_table(tmp_path / "decided.parquet")
    assert str(table.schema.types[1]) == "int8"
    column = table["Smiling"].to_pylist()
    assert column.pop(2) is None
    smiling = table.column_names.index("Smiling") - 1
    assert column == expected[:, smiling].astype(int).tolist()


def test_decisions_of_a_workdir_are_those_of_evaluation(finished, folder, tmp_path, monkeypatch):
    """A logit above 0, even where the float32 sigmoid is exactly 0.5."""
    logits = np.tile(np.array([1e-9, -1e-9, 0, 1e-7, 200, -200, 3, -3], np.float32), 5)

    def told(self, images, *_):
        return np.tile(logits, (len(images), 1))

    monkeypatch.setattr(Classifier, "logits", told)
    for name, *flags in (("decided.csv", "--decide"), ("said.csv",)):
        arguments = folder, "--model", finished, "--out", tmp_path / name, *flags
        assert predict([str(x) for x in arguments]) == 0
        for row in rows(tmp_path / name)[1:]:
            np.testing.assert_array_equal(np.array(row[1:-1], float) > 0.5, logits > 0)


def test_damaged_images_are_told_and_do_not_end_it(tell, folder, tmp_path, capsys):
    assert tell(out="whole.csv") == 0
    whole = rows(tmp_path / "whole.csv")
    for name in ("1.PNG", "b/0.png"):
        (folder / name).write_bytes(b"damaged")
    os.symlink(folder / "nowhere", folder / "b/z.png")
    capsys.readouterr()
    assert tell() == 0
    told = rows(tmp_path / "out.csv")
    reason = "cannot be decoded as an image (its 7 bytes are none of JPEG, PNG, WEBP, BMP, TIFF,"
    for place, name, expected in (
        (2, "1.PNG", reason),
        (5, "b/0.png", reason),
        (6, "b/z.png", "cannot be read (No such file or directory)"),
    ):
        image, *cells, error = told[place]
        assert (image, set(cells)) == (str(folder / name), {""})
        assert error.startswith(f"{image}: {expected}")
    del told[5:7], whole[5], told[2], whole[2]
    assert [row[0] for row in told] == [row[0] for row in whole]
    cells = (np.array([row[1:-1] for row in table[1:]], float) for table in (told, whole))
    np.testing.assert_allclose(*cells, rtol=0, atol=1e-6)
    captured = capsys.readouterr()
    assert captured.err.count("cannot be decoded") + captured.err.count("cannot be read") == 3
    assert "7 images, 40 attributes; 3 cannot be decoded, column error says why" in captured.out


def test_where_all_are_damaged_nothing_is_left(tell, folder, tmp_path, capsys):
    for name in NAMES:
        (folder / name).write_bytes(b"")
    assert tell() == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        f"error: none of the 6 images can be decoded, the first: {folder}/0.png: cannot be decoded"
    )
    assert not left(tmp_path)


def test_what_was_judged_is_not_judged_again(tell, tmp_path, judged):
    assert tell(out="unbroken.csv") == 0
    judged.clear()
    judged.fail = (1,)
    assert tell() == 130
    assert judged == [2] and left(tmp_path) == {"unbroken.csv", "out.csv.partial"}
    judged.fail = ()
    assert tell() == 0
    assert judged == [2, 2, 2]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "unbroken.csv").read_bytes()
    assert left(tmp_path) == {"unbroken.csv", "out.csv"}


def broken(tell, judged, *arguments):
    """A run that is interrupted after its second batch."""
    judged.clear()
    judged.fail = (2,)
    assert tell(*arguments) == 130
    judged.clear()
    judged.fail = ()


def test_half_a_line_is_judged_again(tell, tmp_path, judged):
    assert tell(out="unbroken.csv") == 0
    broken(tell, judged)
    journal = tmp_path / "out.csv.partial"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-30])
    judged.fail = (1,)
    assert tell() == 130
    _, *lines = journal.read_text().splitlines()
    assert judged == [2]
    assert [json.loads(line)[0].split("|")[0] for line in lines] == [
        str(tmp_path / "images" / name) for name in NAMES[:5]
    ]
    judged.fail = ()
    assert tell() == 0
    assert judged == [2, 1]
    told, unbroken = rows(tmp_path / "out.csv"), rows(tmp_path / "unbroken.csv")
    # Another batch composition may change the last digit.
    for one, other in zip(told[1:], unbroken[1:], strict=True):
        assert one[0] == other[0]
        np.testing.assert_allclose(*np.array([one[1:-1], other[1:-1]], float), atol=1e-6)


def test_other_flags_or_another_model_do_not_go_on(tell, finished, tmp_path, judged, capsys):
    broken(tell, judged)
    before = (tmp_path / "out.csv.partial").read_bytes()
    for other in (("--n", 2), ("--beta", 0.1), ("--model", finished)):
        capsys.readouterr()
        assert tell(*other) == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path}/out.csv.partial: was begun with another model or other flags; "
            "finish that with its own command, delete the file, or give another --out\n"
        )
    assert (tmp_path / "out.csv.partial").read_bytes() == before and not judged
    assert tell("--decide") == 0  # Probabilities are the same.
    assert judged == [2]


def test_a_damaged_line_is_one_line(tell, tmp_path, judged, capsys):
    broken(tell, judged)
    journal = tmp_path / "out.csv.partial"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"\0\0\n", *lines[3:]]))
    capsys.readouterr()
    assert tell() == 2
    assert capsys.readouterr().err == (
        f"error: {journal}: line 3 is damaged; delete the file, and all images are judged again\n"
    )


def test_a_journal_without_rows_binds_nobody(tell, tmp_path, judged):
    for content in (b"", b'{"auto": fal', b'{"auto": false}\n', b'{"auto": false}\n["half'):
        (tmp_path / "out.csv.partial").write_bytes(content)
        judged.clear()
        assert tell() == 0
        assert judged == [2, 2, 2] and left(tmp_path) == {"out.csv"}


def test_an_image_that_changed_since_is_judged_again(tell, folder, tmp_path, judged):
    broken(tell, judged)
    Image.new("RGB", (40, 40), "red").save(folder / "0.png")
    assert tell() == 0
    assert judged == [2, 1]
    (tmp_path / "out.csv").rename(tmp_path / "changed.csv")
    assert tell() == 0
    for one, other in zip(
        rows(tmp_path / "out.csv")[1:], rows(tmp_path / "changed.csv")[1:], strict=True
    ):
        assert one[0] == other[0]
        np.testing.assert_allclose(*np.array([one[1:-1], other[1:-1]], float), atol=1e-6)


def test_auto_without_a_calibration_leaves_nothing(tell, finished, model, tmp_path, capsys):
    assert tell("--auto") == 2
    assert capsys.readouterr().err == (
        f"error: {model}: was exported without a calibration, which auto needs; run python "
        "-m iamt_jax calibrate --workdir W, then export again\n"
    )
    assert tell("--auto", "--model", finished) == 2
    assert capsys.readouterr().err.startswith(f"error: {finished}/calibration.npz: does not exist")
    assert not left(tmp_path)


def test_names_that_are_no_utf8_are_written_too(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    from iamt_jax.report.predictions import PredictionRow

    judged = [PredictionRow(np.array([0.25], np.float32)), PredictionRow(None, f"{name}: damaged")]
    for kind in ("csv", "parquet"):
        write_predictions(tmp_path / f"out.{kind}", ["Round"], ["a.png", name], judged)
    shown = "caf\\udce9.png"
    assert rows(tmp_path / "out.csv") == [
        ["image", "Round", "error"],
        ["a.png", "0.25", ""],
        [shown, "", f"{shown}: damaged"],
    ]
    assert parquet.read_table(tmp_path / "out.parquet")["image"].to_pylist() == ["a.png", shown]


def test_a_full_disk_is_one_line(tell, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iamt_jax.report.predictions.replace_bytes", full)
    assert tell() == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: --out {tmp_path}/out.csv: cannot be written (No space left on device); name "
        "another file"
    )
    # The journal is kept for the next run.
    assert left(tmp_path) == {"out.csv.partial"}
