"""Image names that differ between lists and disk, and unusual names of attributes."""

import csv
import io
import json
import os
import re
import unicodedata
import zipfile

import layouts
import numpy as np
import pytest
import reports
from pyarrow import parquet
from rich.cells import cell_len
from rich.console import Console

from iamt_jax.data import image_files
from iamt_jax.data.celeba import open_dataset
from iamt_jax.data.file_names import match_names
from iamt_jax.data.folder import open_own
from iamt_jax.data.image_files import find_images, summary_of_others
from iamt_jax.report import tables
from iamt_jax.report.figures import figures, in_file_name
from iamt_jax.report.page import page
from iamt_jax.report.predictions import PredictionRow, write_predictions
from iamt_jax.report.tables import brief, column_names

NFC, NFD = "\u00e9\uac01.jpg", unicodedata.normalize("NFD", "\u00e9\uac01.jpg")


# Names of images.


@pytest.mark.parametrize(
    ("wanted", "present", "found", "renamed"),
    [
        (["a.jpg"], ["b.jpg", "a.jpg"], ["a.jpg"], False),
        ([NFC], [NFD], [NFD], False),
        ([NFD], [NFC], [NFC], False),
        ([NFC, NFD], [NFD, NFC], [NFC, NFD], False),
        (["x\\a.jpg"], ["x/a.jpg"], ["x/a.jpg"], False),
        (["x/a.jpg"], ["x\\a.jpg"], ["x\\a.jpg"], False),
        (["./x//a.jpg"], ["x/a.jpg"], ["x/a.jpg"], False),
        (["a.jpg"], ["A.JPG"], ["A.JPG"], True),
        (["a.jpg"], ["a.JPEG"], ["a.JPEG"], True),
        (["a.jpg"], ["a.webp", "a.txt"], ["a.webp"], True),
        (["a"], ["a.png"], ["a.png"], True),
        (["a.png"], ["a.jpg.png"], ["a.jpg.png"], True),
        (["X/\u00c9.JPG"], ["x/e\u0301.png"], ["x/e\u0301.png"], True),
        # The closest spelling wins.
        (["a.jpg"], ["a.png", "a.JPG"], ["a.JPG"], True),
        # Ambiguous: two files fit a name, or two names fit a file.
        (["a.jpg"], ["a.png", "a.gif"], [None], False),
        (["a.jpg"], ["A.jpg", "a.JPG"], [None], False),
        (["a.jpg", "A.jpg"], ["a.png"], [None, None], False),
        (["a.jpg", "a.png"], ["a.png"], [None, "a.png"], False),
        (["a.jpg"], ["a.txt", "b/a.jpg"], [None], False),
    ],
)
def test_a_name_matches_the_only_file_that_fits(wanted, present, found, renamed):
    match = match_names(wanted, present)
    assert [None if row < 0 else present[row] for row in match.rows] == found
    assert bool(match.renamed) == renamed
    assert match.absent == [name for name, file in zip(wanted, found, strict=True) if not file]


@pytest.mark.parametrize(
    ("present", "hint"),
    [
        (["a.png", "a.gif", "b.png"], " (did you mean a.png or a.gif?)"),
        (["00124.jpg", "b.png"], ""),
        (["ab.jpg", "b.png"], " (did you mean ab.jpg?)"),
        ([], ""),
    ],
)
def test_an_absent_name_has_a_hint_among_the_files_left_over(present, hint):
    assert match_names(["a.jpg", "b.png"], present).hint() == hint


def kaggle(root, change):
    """Writes Kaggle's layout with changed file names of the images."""
    layouts.write_kaggle(root)
    folder = root / "img_align_celeba/img_align_celeba"
    for path in list(folder.iterdir()):
        path.rename(path.with_name(change(path.name)))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda name: name.replace(".jpg", ".png"),
        lambda name: name.replace(".jpg", ".Jpeg"),
    ],
)
def test_celeba_with_another_suffix_is_read_with_one_warning(tmp_path, capsys, change):
    folder = kaggle(tmp_path, change)
    records = open_dataset(tmp_path).split("train+validation")
    rows = [row for part in (0, 1) for row in range(16) if layouts.PARTITION[row] == part]
    assert records.names == tuple(layouts.NAMES[row] for row in rows)
    assert [records.read(i) for i in range(len(rows))] == [layouts.IMAGES[row] for row in rows]
    assert records.images.location(0) == str(folder / change("000001.jpg"))
    assert capsys.readouterr().err == (
        f"warning: {folder}: 16 of the 16 listed images have another suffix or case there and are "
        f"read nevertheless, the first is {change('000001.jpg')} for 000001.jpg\n"
    )


@pytest.mark.parametrize(
    "folder", ["img_align_celeba_png", "IMG_ALIGN_CELEBA", "img_align_celeba_png/img_align_celeba"]
)
def test_the_folder_of_images_may_have_another_name(tmp_path, folder):
    root = layouts.write_official(tmp_path)
    (root / "Img/img_align_celeba.zip").unlink()
    layouts.write_folder(root / "Img" / folder)
    assert open_dataset(root).split("test").read(0) == layouts.IMAGES[3]


def test_images_with_the_listed_names_are_preferred(tmp_path, capsys):
    root = layouts.write_official(tmp_path)
    folder = root / "Img/img_align_celeba_png"
    folder.mkdir()
    for name in layouts.NAMES:
        (folder / name.replace("jpg", "png")).write_bytes(b"another")
    assert open_dataset(root).split("test").read(0) == layouts.IMAGES[3]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize(("listed", "there"), [(NFC, NFD), (NFD, NFC)])
def test_accents_in_an_archive_are_compared_in_one_form(tmp_path, listed, there, flagged):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(f"x\\{there}", b"pixels")
        file.writestr(f"__MACOSX/x/._{there}", b"notes")
    data = (tmp_path / "a.zip").read_bytes()
    if not flagged:  # macOS writes UTF-8 without setting the flag for it.
        start = data.index(b"PK\x01\x02")
        data = data[: start + 8] + b"\0\0" + data[start + 10 :]
        (tmp_path / "a.zip").write_bytes(data)
    images, match = image_files.open_zip(tmp_path / "a.zip", [listed])
    assert not match.absent and not match.renamed and images.read(0) == b"pixels"


def test_unlisted_names_may_occur_twice_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("a/1.jpg", "a/Thumbs.db", "b/Thumbs.db"):
            file.writestr(name, name)
    assert image_files.open_zip(tmp_path / "a.zip", ["1.jpg"])[0].read(0) == b"a/1.jpg"


@pytest.mark.parametrize(("listed", "there"), [(NFC, NFD), (NFD, NFC)])
def test_accents_in_both_lists_are_compared_in_one_form(tmp_path, listed, there):
    root = layouts.write_official(tmp_path, zipped=False)
    labels, partitions = (
        root / name for name in ("Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt")
    )
    labels.write_text(labels.read_text().replace("000004.jpg", listed))
    partitions.write_text(partitions.read_text().replace("000004.jpg", there))
    folder = root / "Img/img_align_celeba"
    (folder / "000004.jpg").rename(folder / there)
    assert open_dataset(root).split("test").read(0) == layouts.IMAGES[3]


@pytest.mark.parametrize("file", ["list_attr_celeba.csv", "list_eval_partition.csv"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", " , "),
        lambda text: text.replace(",", "\t,\u00a0"),
        lambda text: text.replace("image_id", "", 1),
        lambda text: "\ufeff" + text,
        lambda text: "\n".join(f'"{line}"'.replace(",", '" , "') for line in text.splitlines()),
        lambda text: "\n".join(
            f"{i - 1 if i else ''},{line}" for i, line in enumerate(text.splitlines())
        ),
        lambda text: "\n".join(
            f"{i - 1 if i else 'Unnamed: 0'},{line}" for i, line in enumerate(text.splitlines())
        ),
        lambda text: text.replace("image_id", '"image\nid"'),
        lambda text: text.replace(",1\r\n", ",1.0\r\n").replace(",2\n", ",2.0\n"),
    ],
)
def test_a_csv_rewritten_by_other_programs_is_read_alike(tmp_path, file, change):
    layouts.write_kaggle(tmp_path)
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(change(text), encoding="utf-8")
    dataset = open_dataset(tmp_path)
    records = dataset.split("test")
    assert dataset.attributes == layouts.ATTRIBUTES
    assert records.names == layouts.NAMES[3::4]
    np.testing.assert_array_equal(records.labels, layouts.LABELS[3::4])


@pytest.mark.parametrize("header", ["", "image_id ", "File_Name "])
def test_the_count_of_a_list_is_optional(tmp_path, header):
    root = layouts.write_official(tmp_path)
    path = root / "Anno/list_attr_celeba.txt"
    path.write_text(header + path.read_text().split("\n", 1)[1])
    dataset = open_dataset(root)
    assert dataset.attributes == layouts.ATTRIBUTES
    np.testing.assert_array_equal(dataset.split("test").labels, layouts.LABELS[3::4])


def test_a_line_break_in_an_attributes_name_is_a_blank(tmp_path):
    (tmp_path / "labels.csv").write_text('image,"is it\nround?",x,split\na.png,1,0,train\n')
    (tmp_path / "a.png").write_bytes(b"")
    assert open_own(tmp_path).attributes == ("is it round?", "x")


def test_links_and_folders_of_another_spelling_lead_to_images(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "far" / NFD).write_bytes(b"pixels")
    os.symlink("../far", tmp_path / "own/Linked")
    os.symlink(".", tmp_path / "own/again")
    (tmp_path / "own/labels.csv").write_text(f"image,x,split\nlinked/{NFC},1,train\n")
    assert open_own(tmp_path / "own").split("train").read(0) == b"pixels"


def test_folders_are_searched_through_links_and_other_files_are_counted(tmp_path):
    for name in ("set/b.jpg", "set/.c.jpg", "set/d.HEIC", "set/e", "set/in/g.JFIF", "real/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in ("set/.hidden/h.jpg", "set/x.txt", "set/y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "set/pipe.jpg")
    os.symlink("../real", tmp_path / "set/linked")
    os.symlink("../../set", tmp_path / "set/in/loop")
    os.symlink("self", tmp_path / "set/self")
    os.symlink("nowhere", tmp_path / "set/z.jpg")
    images, left_out = find_images(tmp_path / "set", pytest.fail)
    found = [str(path.relative_to(tmp_path / "set")) for path in images]
    assert found == ["b.jpg", "z.jpg", "in/g.JFIF", "linked/a.jpg"]
    assert summary_of_others(left_out) == (
        "8 that are no image files: 2 .txt, 2 without a suffix, 1 .heic, 1 hidden, "
        "1 hidden folder, 1 special"
    )


# Names of attributes.

ODD = (
    "Is the person wearing eyeglasses or sunglasses?",
    "Is there any visible text or watermark in the picture?",
    "Is there any visible text or watermerk in the picture?",
    "a|b",
    "na\u00efve \u65e5\u672c\u8a9e" * 5,
    "[bold]x[/bold]",
    "<script>alert(1)</script>",
    "`x` \\| y",
    "$\\frac$",
    "\x1b[31mred",
    "average",
    "x" * 300,
)


@pytest.fixture(scope="module")
def report():
    """A report with different values for every attribute but the last, which has none."""
    rows = {
        name: {metric: (k + 1) / 100 for metric in tables.COLUMN_HEADERS}
        for k, name in enumerate(ODD)
    }
    rows[ODD[-1]] = dict.fromkeys(tables.COLUMN_HEADERS)
    average = dict.fromkeys(tables.COLUMN_HEADERS, 1.0)
    average["interval"] = {metric: [None, None] for metric in tables.COLUMN_HEADERS}
    return {"average": average, "attributes": rows, "provenance": {"layout": "a\nb"}}


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_name_costs_a_number_in_the_terminal(report, width):
    out = io.StringIO()
    tables.print_table(report, (), Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(cell_len, lines[:-1])) <= max(width, 60)
    rows = [line.split()[-7:] for line in lines[2:-1]]
    assert rows == [
        *([f"{k + 1}.0"] * 7 for k in range(len(ODD) - 1)),
        ["-"] * 7,
        ["100.0"] * 7,
        ["-"] * 7,
        ["-"] * 7,
    ]
    assert not any("\x1b" in line for line in lines)
    assert width < 80 or any(line.startswith("[bold]x[/bold]") for line in lines)


def test_no_name_moves_a_column_of_markdown_or_csv(report):
    lines = tables.metrics_markdown(report).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    plain = [line.replace("\\\\", "").replace("\\|", "") for line in rows]
    assert {line.count("|") for line in plain} == {9}
    assert len(rows) == len(ODD) + 5 and "<script" not in "".join(lines)
    assert "- layout: a\\nb" in lines
    cells = list(csv.reader(io.StringIO(tables.csv_text(report))))
    names = [row[0] for row in cells[1:]]
    assert names == [*ODD[:10], "attribute_average", ODD[11], "average"]


def test_brief_names_are_different_and_as_short_as_asked():
    for width in (8, 12, 30):
        names = brief(ODD, width)
        assert len(set(names)) == len(names) and max(map(cell_len, names)) <= width
    assert brief(["Male", "a b"], 4) == ["Male", "a b"]
    assert max(len(in_file_name(name)) for name in ODD) <= 60
    assert in_file_name("a/b|c:\u65e5") == "a-b-c-"


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        (["Male", "x"], ["Male", "x"]),
        (["image", "error"], ["attribute_image", "attribute_error"]),
        (["Image", "attribute_Image"], ["attribute_Image_", "attribute_Image"]),
        (["IMAGE", "image"], ["attribute_IMAGE", "attribute_image"]),
    ],
)
def test_an_attribute_never_has_a_column_of_the_tables_own(attributes, found, tmp_path):
    assert column_names(attributes, ("image", "error")) == found
    rows = [PredictionRow(np.array([0.25, 0.5], np.float32)), PredictionRow(None, "damaged")]
    header = ["image", *found, "error"]
    write_predictions(tmp_path / "t.csv", attributes, ["a", "b"], rows)
    write_predictions(tmp_path / "t.parquet", attributes, ["a", "b"], rows)
    assert list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text()))) == [
        header,
        ["a", "0.25", "0.5", ""],
        ["b", "", "", "damaged"],
    ]
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.column_names == header and table[found[1]].to_pylist() == [0.5, None]


@pytest.mark.filterwarnings("error")
def test_no_name_breaks_the_page_or_the_figures(monkeypatch):
    monkeypatch.setattr(reports, "ATTRIBUTES", (*ODD[4:9], "average"))
    metrics, plane, findings, arrays = reports.everything()
    text = page(metrics, plane, findings, arrays)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))
    assert all("<" not in name and len(name) < 60 for name in data["attributes"]["names"])
    files = [name for name in figures(findings, arrays) if name.startswith("atlas")]
    assert len(set(files)) == 6 and all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in files)


def test_groups_of_any_name_are_told_apart(report):
    side = {"images": 1, "average": report["average"]}
    found = {"present": side, "absent": side, "not_annotated": 0, "attributes": 1, "gaps": {}}
    groups = {"a|b": found, "not a|b": found}
    names = [row[0] for row in tables.group_tables(report | {"groups": groups})[0][2]]
    assert names == ["a|b", "not a|b", "attribute_not a|b", "not attribute_not a|b"]
