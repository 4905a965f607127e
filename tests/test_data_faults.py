"""Each thing that users trip over gives one line: which file, what is wrong, what to do."""

import io
import zipfile

import layouts
import pytest
from faults import one_line
from PIL import Image

from iamt_jax.data import image
from iamt_jax.data.celeba import decode, open_dataset

QUOTA_PAGE = "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"
LIST = "Anno/list_attr_celeba.txt"
PARTITIONS = "Eval/list_eval_partition.txt"
ZIP = "Img/img_align_celeba.zip"


def edit(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def lines_of(path, change):
    """Rewrites a list through a function of its lines."""
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def without_row(path, number):
    lines_of(path, lambda lines: lines[: number - 1] + lines[number:])


def damage_zip_data(path):
    data = bytearray(path.read_bytes())
    data[data.index(layouts.IMAGES[0]) + 100] ^= 0xFF
    path.write_bytes(data)


FAULTS = {
    "quota page as zip": (
        lambda root: (root / ZIP).write_text(QUOTA_PAGE),
        (ZIP, "web page", "quota", "download"),
    ),
    "quota page as labels": (
        lambda root: (root / LIST).write_text("\ufeff\n" + QUOTA_PAGE),
        (LIST, "web page"),
    ),
    "quota page as partitions": (
        lambda root: (root / PARTITIONS).write_text(QUOTA_PAGE.lower()),
        (PARTITIONS, "web page"),
    ),
    "too few rows": (
        lambda root: without_row(root / LIST, 7),
        (LIST, "line 1 announces 16 images", "15 rows"),
    ),
    "no count": (
        lambda root: without_row(root / LIST, 1),
        (LIST, "line 1", "'Bald Eyeglasses Male", "the number of images"),
    ),
    "no header": (
        lambda root: without_row(root / LIST, 2),
        (LIST, "header", "'000001.jpg' in line 2", "5_o_Clock_Shadow"),
    ),
    "a header of numbers": (
        lambda root: edit(root / LIST, "Bald Eyeglasses Male Smiling Young", "0 1 2 3 4"),
        (LIST, "header", "'0' in line 2"),
    ),
    "an attribute twice": (
        lambda root: edit(root / LIST, "Smiling Young", "Male Young"),
        (LIST, "line 2", "Male twice"),
    ),
    "empty list": (
        lambda root: (root / LIST).write_text(""),
        (LIST, "line 1", "expected the number of images"),
    ),
    "only a header": (
        lambda root: (root / LIST).write_text("0\nBald\n"),
        (LIST, "lists no images"),
    ),
    "a column too few": (
        lambda root: lines_of(
            root / LIST, lambda rows: [*rows[:6], rows[6][:-3] + "\n", *rows[7:]]
        ),
        (LIST, "line 7 has 5 columns, expected 6"),
    ),
    "a value that is no label": (
        lambda root: lines_of(
            root / LIST, lambda rows: [*rows[:6], rows[6][:-3] + " 7\n", *rows[7:]]
        ),
        (LIST, "line 7", "column Young", "'7'", "-1, 0, 1"),
    ),
    "an image twice": (
        lambda root: edit(root / LIST, "000004.jpg", "000003.jpg"),
        (LIST, "000003.jpg twice"),
    ),
    "binary list": (
        lambda root: (root / LIST).write_bytes(b"\x89\xff\xfe\x00" * 50),
        (LIST, "cannot be read as text"),
    ),
    "no partitions": (
        lambda root: (root / PARTITIONS).unlink(),
        (PARTITIONS, "not found", "validation"),
    ),
    "images without partition": (
        lambda root: lines_of(root / PARTITIONS, lambda rows: rows[:10]),
        (PARTITIONS, "6 of the 16 images", "000011.jpg"),
    ),
    "an unknown partition": (
        lambda root: edit(root / PARTITIONS, "000003.jpg 1", "000003.jpg 3"),
        (PARTITIONS, "line 3", "'000003.jpg 3'", "2 (test)"),
    ),
    "a partition row without value": (
        lambda root: edit(root / PARTITIONS, "000003.jpg 1", "000003.jpg"),
        (PARTITIONS, "line 3", "'000003.jpg'"),
    ),
    "an image twice in the partitions": (
        lambda root: edit(root / PARTITIONS, "000004.jpg", "000003.jpg"),
        (PARTITIONS, "000003.jpg twice"),
    ),
    "no images": (
        lambda root: (root / ZIP).unlink(),
        (ZIP, "not found", "16 listed images"),
    ),
    "corrupt zip": (
        lambda root: (root / ZIP).write_bytes((root / ZIP).read_bytes()[:-60]),
        (ZIP, "not a readable zip archive", "download it again"),
    ),
    "empty zip file": (
        lambda root: (root / ZIP).write_bytes(b""),
        (ZIP, "not a readable zip archive", "0 bytes"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_official_layout(tmp_path, fault):
    inject, parts = FAULTS[fault]
    root = layouts.write_official(tmp_path)
    inject(root)
    message = one_line(lambda: open_dataset(root), *parts)
    assert message.startswith(f"{root / parts[0]}: ")


def test_images_absent_from_the_zip(tmp_path):
    root = layouts.write_official(tmp_path)
    with zipfile.ZipFile(root / ZIP, "w") as archive:
        archive.writestr("img_align_celeba/000002.jpg", layouts.IMAGES[1])
    one_line(lambda: open_dataset(root), root / ZIP, "15 of the 16 listed images", "000001.jpg")


def test_images_absent_from_the_folder(tmp_path):
    root = layouts.write_official(tmp_path, zipped=False)
    (root / "Img/img_align_celeba/000005.jpg").unlink()
    one_line(
        lambda: open_dataset(root),
        root / "Img/img_align_celeba",
        "1 of the 16 listed images",
        "000005.jpg",
    )


def test_two_images_of_one_name_in_a_zip(tmp_path):
    root = layouts.write_official(tmp_path)
    with zipfile.ZipFile(root / ZIP, "a") as archive:
        archive.writestr("thumbnails/000002.jpg", b"small")
    one_line(lambda: open_dataset(root), root / ZIP, "two images called 000002.jpg", "thumbnails/")


def test_a_zip_compressed_in_another_way(tmp_path):
    root = layouts.write_official(tmp_path)
    layouts.write_zip(root / ZIP, zipfile.ZIP_BZIP2)
    one_line(lambda: open_dataset(root), root / ZIP, "method 12", "unzip")


@pytest.mark.parametrize("change", ["bit", "cut", "gone"])
def test_a_zip_that_is_damaged_after_it_was_opened(tmp_path, change):
    root = layouts.write_official(tmp_path)
    path = root / ZIP
    records = open_dataset(root).split("train")
    if change == "bit":
        damage_zip_data(path)
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.unlink()
    one_line(lambda: records.read(0), path, "000001.jpg", "download it again")


def test_an_image_that_vanished_from_the_folder(tmp_path):
    root = layouts.write_official(tmp_path, zipped=False)
    records = open_dataset(root).split("train")
    (root / "Img/img_align_celeba/000001.jpg").unlink()
    one_line(lambda: records.read(0), root / "Img/img_align_celeba/000001.jpg", "No such file")


@pytest.mark.parametrize("file", ["list_attr_celeba.csv", "list_eval_partition.csv"])
def test_a_quota_page_as_csv(tmp_path, file):
    root = layouts.write_kaggle(tmp_path)
    (root / file).write_text(QUOTA_PAGE)
    one_line(lambda: open_dataset(root), root / file, "web page")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("image_id,Bald,Eyeglasses,Male,Smiling,Young\n", "", ("header", "'000001.jpg' in line 1")),
        ("image_id,Bald", ",image_id,Bald", ("header", "'' in line 1")),
        ("000002.jpg,", "000002.jpg,yes,", ("line 3 has 7 columns, expected 6",)),
    ],
)
def test_a_csv_that_was_edited(tmp_path, old, new, parts):
    root = layouts.write_kaggle(tmp_path)
    edit(root / "list_attr_celeba.csv", old, new)
    one_line(lambda: open_dataset(root), root / "list_attr_celeba.csv", *parts)


def test_unknown_and_empty_splits(tmp_path):
    root = layouts.write_official(tmp_path)
    dataset = open_dataset(root)
    one_line(lambda: dataset.split("valid"), "'valid'", "validation", "train 8", root)
    lines_of(root / PARTITIONS, lambda rows: [row.replace(" 1", " 0") for row in rows])
    dataset = open_dataset(root)
    assert len(dataset.split("train")) == 12
    for split in ("validation", "train+validation"):
        one_line(lambda split=split: dataset.split(split), root, "validation split has no images")


def test_roots_that_hold_nothing_known(tmp_path):
    one_line(lambda: open_dataset(tmp_path / "absent"), tmp_path / "absent", "does not exist")
    (tmp_path / "file.zip").write_bytes(b"")
    one_line(lambda: open_dataset(tmp_path / "file.zip"), "file.zip", "is not a folder")
    one_line(
        lambda: open_dataset(tmp_path),
        tmp_path,
        LIST,
        "list_attr_celeba.csv",
        "dataset_info.json",
    )


@pytest.mark.parametrize(
    "data",
    [layouts.IMAGES[0][:400], layouts.IMAGES[0][:60], b"", QUOTA_PAGE.encode(), b"%!PS-Adobe-3.0"],
    ids=["truncated", "header only", "empty", "web page", "PostScript"],
)
def test_images_that_cannot_be_decoded(data):
    line = one_line(lambda: decode(data, 16, "folder/000001.jpg"), "cannot be decoded")
    assert line.startswith("folder/000001.jpg: ")


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(image, "MAX_PIXELS", 99)
    file = io.BytesIO()
    Image.new("RGB", (10, 10)).save(file, "PNG")
    one_line(lambda: decode(file.getvalue(), 4, "a.png"), "a.png", "100 pixels, more than 99")
