"""Every layout gives the same images, labels and splits; decoding has the exact geometry."""

import io
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import layouts
import numpy as np
import pytest
from faults import one_line
from PIL import Image

from iamt_jax.config import MISSING
from iamt_jax.data.celeba import download, open_dataset
from iamt_jax.data.decode import decode, square


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {
        name: write(tmp_path_factory.mktemp("layout")) for name, write in layouts.WRITERS.items()
    }


def contents(records):
    """Encoded image -> labels, without the order, because tensorflow-datasets shuffles."""
    return {records.read(i): tuple(records.labels[i].tolist()) for i in range(len(records))}


def expected(partitions):
    rows = [row for row, part in enumerate(layouts.PARTITION) if part in partitions]
    return {layouts.IMAGES[row]: tuple(layouts.LABELS[row].tolist()) for row in rows}


@pytest.mark.parametrize("layout", layouts.WRITERS)
@pytest.mark.parametrize(
    ("split", "partitions"),
    [("train", [0]), ("validation", [1]), ("test", [2]), ("train+validation", [0, 1])],
)
def test_every_layout_reads_the_same(roots, layout, split, partitions):
    dataset = open_dataset(roots[layout])
    records = dataset.split(split)
    assert dataset.attributes == records.attributes == layouts.ATTRIBUTES
    assert layout.split(",")[0] in dataset.layout
    assert records.labels.dtype == np.int8
    assert len(records) == len(records.names) == len(set(records.names)) == len(records.labels)
    assert contents(records) == expected(partitions)


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_every_layout_decodes_to_the_same_arrays(roots, layout):
    dataset = open_dataset(roots[layout])
    decoded = {
        decode(records.read(i), 32, records.names[i]).tobytes()
        for records in map(dataset.split, ("train", "validation", "test"))
        for i in range(len(records))
    }
    assert decoded == {decode(data, 32, "image").tobytes() for data in layouts.IMAGES}
    assert len(decoded) == 16


@pytest.mark.parametrize("layout", ["official, zipped", "Kaggle", "Hugging Face (parquet)"])
def test_lists_keep_their_order_and_names(roots, layout):
    records = open_dataset(roots[layout]).split("train+validation")
    rows = [row for part in (0, 1) for row in range(16) if layouts.PARTITION[row] == part]
    assert records.names == tuple(layouts.NAMES[row] for row in rows)
    assert [records.read(i) for i in range(len(rows))] == [layouts.IMAGES[row] for row in rows]
    for index in (-1, len(rows)):
        with pytest.raises(IndexError):
            records.read(index)


@pytest.mark.parametrize("layout", ["tensorflow-datasets", "Hugging Face (parquet), converted"])
def test_names_do_not_depend_on_the_split(roots, layout):
    dataset = open_dataset(roots[layout])
    both = dataset.split("train+validation")
    assert both.names == dataset.split("train").names + dataset.split("validation").names
    assert dataset.split("test").names[1] == "test-000001"


def test_tensorflow_is_not_imported(roots):
    program = (
        "import sys; from iamt_jax.data.celeba import open_dataset; "
        "assert 'tensorflow_datasets' not in sys.modules; "
        "open_dataset(sys.argv[1]).split('test').read(0); "
        "assert 'tensorflow_datasets' in sys.modules and 'tensorflow' not in sys.modules"
    )
    check(program, roots["tensorflow-datasets"])


def test_pyarrow_is_not_imported_for_other_layouts(roots):
    program = (
        "import sys; from iamt_jax.data.celeba import open_dataset; "
        "open_dataset(sys.argv[1]).split('test').read(0); "
        "assert 'pyarrow' not in sys.modules; "
        "open_dataset(sys.argv[2]).split('test').read(0); "
        "assert 'pyarrow' in sys.modules"
    )
    check(program, roots["Kaggle"], roots["Hugging Face (parquet)"])


def check(program, *arguments):
    """Runs a program in another process, in which nothing has been imported."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_root_may_be_the_folder_or_its_parent(roots, tmp_path):
    prepared = roots["tensorflow-datasets"]
    given = [
        roots["torchvision"],
        roots["torchvision"] / "celeba",
        prepared,
        prepared / "celeb_a",
        prepared / "celeb_a/2.1.0",
        roots["Hugging Face (parquet)"],
        roots["Hugging Face (parquet)"] / "data",
        roots["Hugging Face (parquet), converted"],
        roots["Hugging Face (parquet), converted"] / "default",
    ]
    assert {len(open_dataset(root).split("test")) for root in given} == {4}
    layouts.write_official(tmp_path / "CelebA")
    assert open_dataset(str(tmp_path)).layout == "official"


def test_a_complete_zip_is_preferred_to_an_incomplete_folder(tmp_path):
    root = layouts.write_official(tmp_path)
    (root / "Img/img_align_celeba").mkdir()
    assert contents(open_dataset(root).split("test")) == expected([2])


def test_download_opens_what_is_already_prepared(roots):
    assert len(download("celeb_a", roots["tensorflow-datasets"]).split("train")) == 8


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, None])
def test_threads_share_a_zip_and_an_array_record(roots, tmp_path, compression):
    root = roots["tensorflow-datasets"]
    if compression is not None:
        root = layouts.write_official(tmp_path)
        layouts.write_zip(root / "Img/img_align_celeba.zip", compression)
    records = open_dataset(root).split("train")
    alone = [records.read(i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(records.read, list(range(8)) * 50)) == alone * 50


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_records_can_be_pickled(roots, layout):
    records = open_dataset(roots[layout]).split("train+validation")
    copy = pickle.loads(pickle.dumps(records))
    assert (copy.attributes, copy.names) == (records.attributes, records.names)
    assert contents(copy) == contents(records)


@pytest.mark.parametrize(
    "layout", ["official, zipped", "tensorflow-datasets", "Hugging Face (parquet)"]
)
def test_records_are_read_in_a_spawned_worker(roots, layout):
    records = open_dataset(roots[layout]).split("test")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(records.read, range(4)) == [records.read(i) for i in range(4)]


def read_labels_of(root, text):
    (root / "Anno/list_attr_celeba.txt").write_bytes(text.encode())
    dataset = open_dataset(root)
    records = [dataset.split(split) for split in ("train", "validation", "test")]
    labels = {
        name: row for part in records for name, row in zip(part.names, part.labels, strict=True)
    }
    return np.stack([labels[name] for name in layouts.NAMES])


def test_zero_is_absent_unless_the_file_holds_a_minus_one(tmp_path):
    root = layouts.write_official(tmp_path)
    assert (read_labels_of(root, layouts.label_text(layouts.LABELS)) == layouts.LABELS).all()
    signed = 2 * layouts.LABELS - 1
    signed[3, 2] = 0
    labels = read_labels_of(root, layouts.label_text(signed))
    assert labels[3, 2] == MISSING
    labels[3, 2] = layouts.LABELS[3, 2]
    assert (labels == layouts.LABELS).all()


def test_nan_is_missing_and_a_csv_cell_may_be_empty(tmp_path):
    root = layouts.write_official(tmp_path / "txt")
    text = layouts.label_text().replace(
        f"{layouts.NAMES[0]}  {layouts.LABELS[0, 0]}", "000001.jpg NaN"
    )
    assert read_labels_of(root, text)[0, 0] == MISSING
    root = layouts.write_kaggle(tmp_path / "csv")
    path = root / "list_attr_celeba.csv"
    lines = path.read_text().splitlines()
    lines[1] = "000001.jpg,,1.0,-1.0,nan,1"
    path.write_text("\n".join(lines))
    assert open_dataset(root).split("train").labels[0].tolist() == [-1, 1, 0, -1, 1]


def test_byte_order_mark_crlf_and_blank_lines_are_accepted(tmp_path):
    root = layouts.write_official(tmp_path)
    text = "\ufeff" + layouts.label_text(ending="\r\n") + "\r\n\r\n"
    assert (read_labels_of(root, text) == layouts.LABELS).all()


def test_the_partition_list_may_name_more_images_than_the_labels(tmp_path):
    root = layouts.write_official(tmp_path)
    with open(root / "Eval/list_eval_partition.txt", "a") as file:
        file.write("999999.jpg 0\n")
    assert len(open_dataset(root).split("train")) == 8


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(width, height):
    """An image whose red grows to the right and green downwards, by one a pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return pixels


@pytest.mark.parametrize(("width", "height"), [(40, 60), (60, 40), (41, 60), (40, 40)])
def test_decode_takes_the_centred_square(width, height):
    pixels = gradient(width, height)
    left, top = (width - min(width, height)) // 2, (height - min(width, height)) // 2
    side = min(width, height)
    square = decode(encode(Image.fromarray(pixels)), side, "image")
    assert square.dtype == np.uint8 and square.flags.writeable
    assert (square == pixels[top : top + side, left : left + side]).all()


def test_decode_resizes_with_antialiasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = decode(encode(Image.fromarray(stripes)), 16, "image")
    assert small.shape == (16, 16, 3) and np.ptp(small[:, 2:-2].astype(int)) <= 1
    assert abs(float(small.mean()) - 127.5) < 1
    ramp = decode(encode(Image.fromarray(gradient(64, 96))), 16, "image")[:, :, 0]
    np.testing.assert_allclose(ramp[8, 2:-2], (np.arange(16) * 4 + 1.5)[2:-2], atol=0.6)


SIZES = [
    (178, 218),
    (218, 178),
    (600, 800),
    (64, 81),
    (81, 64),
    (64, 65),
    (131, 134),
    (64, 64),
    (40, 50),
]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_and_its_pixels_in_any_form_give_the_same_result(kind, width, height):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    stored = Image.open(io.BytesIO(data))
    pixels = np.asarray(stored.convert("RGB"))
    expected = decode(data, 64, "image")
    np.testing.assert_array_equal(square(stored, 64, "image"), expected)
    np.testing.assert_array_equal(square(pixels, 64, "image"), expected)
    for kind in (np.float32, np.float64):
        found = square((pixels / 255).astype(kind), 64, "image")
        found = found if found.dtype == np.uint8 else found * 255
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_rotated_photograph_gives_the_same_result(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (81, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), exif=exif)
    found = square(Image.open(io.BytesIO(data)), 48, "image")
    np.testing.assert_array_equal(found, decode(data, 48, "image"))


def test_floats_outside_the_unit_range_are_not_rounded():
    noisy = np.random.default_rng(0).normal(0.5, 0.5, (40, 40, 3)).astype(np.float32)
    np.testing.assert_array_equal(square(noisy, 40, "image"), noisy)
    small = square(noisy, 16, "image")
    assert small.dtype == np.float32 and abs(small.mean() - noisy.mean()) < 0.02


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_lines_in_docs_deploy_give_the_same_pixels(width, height, tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text()
    (code,) = (x for x in re.findall(r"```python\n(.*?)```", page, re.S) if "BICUBIC" in x)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    (tmp_path / "photograph.jpg").write_bytes(encode(Image.fromarray(noise), "JPEG", exif=exif))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    expected = decode((tmp_path / "photograph.jpg").read_bytes(), 64, "image")
    np.testing.assert_array_equal(np.load("images.npy"), expected[None])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "I;16"])
def test_decode_converts_every_mode(mode):
    grey = np.full((20, 20), 255, np.uint8)
    grey[:, :10] = 0
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    data = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    np.testing.assert_array_equal(decode(data, 20, "image"), np.repeat(grey[..., None], 3, 2))


def test_decode_scales_sixteen_bits():
    image = Image.fromarray(np.array([[0, 32896], [256, 65535]], np.uint16))
    assert decode(encode(image), 2, "image")[..., 0].tolist() == [[0, 128], [1, 255]]


def test_decode_of_a_cmyk_jpeg():
    image = Image.new("RGB", (24, 24), (200, 60, 30))
    pixels = decode(encode(image.convert("CMYK"), "JPEG", quality=95), 24, "image")
    np.testing.assert_allclose(
        pixels.astype(int), np.broadcast_to((200, 60, 30), (24, 24, 3)), atol=4
    )


def test_decode_composites_transparency_on_white():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (decode(encode(image), 8, "image") == 255).all()
    keyed = Image.new("RGB", (8, 8), (1, 2, 3))
    assert (decode(encode(keyed, transparency=(1, 2, 3)), 8, "image") == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_the_image_upright(orientation):
    upright = Image.fromarray(gradient(40, 60))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encode(stored, exif=exif), 40, "image")
    assert (pixels == gradient(40, 60)[10:50]).all()


# Data that change while a data set is open; faults from before are in the corpus.


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_zip_damaged_after_it_was_opened(tmp_path, change):
    path = layouts.write_official(tmp_path) / "Img/img_align_celeba.zip"
    records = open_dataset(tmp_path).split("train")
    if change == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.unlink()
    one_line(lambda: records.read(0), path, "000001.jpg", "download it again")


def test_an_image_that_vanished_from_the_folder(tmp_path):
    root = layouts.write_official(tmp_path, zipped=False)
    records = open_dataset(root).split("train")
    (root / "Img/img_align_celeba/000001.jpg").unlink()
    one_line(lambda: records.read(0), root / "Img/img_align_celeba/000001.jpg", "No such file")
