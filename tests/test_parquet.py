"""CelebA in the parquet files of Hugging Face datasets: columns, names, row groups, and faults."""

import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import layouts
import numpy as np
import pyarrow as pa
import pytest
from faults import one_line
from pyarrow import parquet as files

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.config import MISSING, TrainConfig
from iamt_jax.data import parquet
from iamt_jax.data.batches import training_batches
from iamt_jax.data.celeba import open_dataset
from iamt_jax.data.decode import decode
from iamt_jax.data.parquet import find_parquet

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LABELS = {"Male": [1, 0, 1, 0], "Young": [0, 0, 1, 1]}
EXPECTED = [[1, 0], [0, 0], [1, 1], [0, 1]]
IMAGES = list(layouts.IMAGES[:4])


def structs(images=IMAGES, paths=("a.jpg", "b.jpg", "c.jpg", "d.jpg")):
    rows = [{"bytes": x, "path": path} for x, path in zip(images, paths, strict=True)]
    return pa.array(rows, STRUCT)


def write(root, columns=None, name="train-00000-of-00001.parquet", **others):
    """Writes a file of four rows with the columns of `others` added; returns its path."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": IMAGES, **LABELS} if columns is None else columns
    layouts.write_table(root / name, {**columns, **others})
    return root / name


def labels(root, split="train"):
    return open_dataset(root).split(split).labels.tolist()


def typed(kind, values):
    return pa.array(values, kind)


@pytest.mark.parametrize(
    "kind",
    [pa.bool_(), pa.int8(), pa.uint8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()],
    ids=str,
)
def test_labels_may_be_booleans_or_zero_and_one(tmp_path, kind):
    columns = {name: typed(kind, pa.array(x).cast(kind)) for name, x in LABELS.items()}
    write(tmp_path, {"image": IMAGES, **columns})
    assert labels(tmp_path) == EXPECTED


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float64()])
def test_labels_may_be_minus_one_and_one(tmp_path, kind):
    columns = {name: typed(kind, 2 * np.array(x) - 1) for name, x in LABELS.items()}
    write(tmp_path, {"image": IMAGES, **columns})
    assert labels(tmp_path) == EXPECTED


def test_zero_is_not_annotated_where_any_file_holds_a_minus_one(tmp_path, capsys):
    write(tmp_path, Bald=[True, False, None, True])
    write(tmp_path, {"image": IMAGES, "Male": [-1, 0, 1, 1], "Young": [0, 1, 1, 1]},
          "test.parquet", Bald=[False, True, True, True])  # fmt: skip
    assert labels(tmp_path) == [[1, MISSING, 1], [MISSING, MISSING, 0], [1, 1, MISSING],
                                [MISSING, 1, 1]]  # fmt: skip
    assert labels(tmp_path, "test")[:2] == [[0, MISSING, 0], [MISSING, 1, 1]]
    assert "hold both -1 and 0; -1 is read as absent" in capsys.readouterr().err


def test_null_and_nan_are_not_annotated(tmp_path, capsys):
    write(tmp_path, Bald=[1.0, np.nan, 0.0, None], Male=[1, None, 0, 0])
    assert labels(tmp_path) == [[1, 0, 1], [MISSING, 0, MISSING], [0, 1, 0], [0, 1, MISSING]]
    assert not capsys.readouterr().err


def test_celebas_attributes_are_in_its_order_and_case(tmp_path):
    names = CELEBA_ATTRIBUTES[::-1]
    columns = {name.lower(): [0, 1, i % 2, 1] for i, name in enumerate(names)}
    write(tmp_path, {**columns, "age": [31, 25, 44, 60], "image": IMAGES, "score": [0.5] * 4})
    dataset = open_dataset(tmp_path)
    assert dataset.attributes == CELEBA_ATTRIBUTES
    assert dataset.split("train").labels[2].tolist() == [i % 2 for i in range(40)][::-1]


def test_other_columns_of_labels_are_taken_in_their_order_without_ids(tmp_path):
    strange = {"celeb_id": [7, 8, 9, 9], "prompt_string": ["a"] * 4, "lefteye_x": [3] * 4}
    strange |= {"landmarks": [[1, 2]] * 4, "__index_level_0__": [0, 1, 2, 3], "x_1": [5] * 4}
    write(tmp_path, {**strange, "wide": [True] * 4, "image": IMAGES, "Angry": LABELS["Male"]})
    assert open_dataset(tmp_path).attributes == ("wide", "Angry")
    again = {"Angry": LABELS["Male"], "image": IMAGES, "wide": [False] * 4}
    write(tmp_path, again, "test.parquet")
    assert labels(tmp_path, "test") == [[0, 1], [0, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("name", ["image", "img", "JPG", "pixels"])
@pytest.mark.parametrize("kind", ["binary", "large", "structs", "no path"])
def test_images_may_be_bytes_or_structs_under_several_names(tmp_path, name, kind):
    column = {
        "binary": typed(pa.binary(), IMAGES),
        "large": typed(pa.large_binary(), IMAGES),
        "structs": structs(),
        "no path": typed(pa.struct([("bytes", pa.binary())]), [{"bytes": x} for x in IMAGES]),
    }[kind]
    write(tmp_path, {name: column, **LABELS})
    records = open_dataset(tmp_path).split("train")
    assert [records.read(i) for i in range(4)] == IMAGES
    first = "a.jpg" if kind == "structs" else "train-000000"
    assert records.names[0] == first


@pytest.mark.parametrize(
    ("train", "test", "found"),
    [
        (["x/1.jpg", "x\\2.jpg", "y/3.jpg", "4.jpg"], ["5.jpg", "6.jpg", "7.jpg", "8.jpg"], True),
        (["1.jpg", "2.jpg", "3.jpg", None], ["5.jpg", "6.jpg", "7.jpg", "8.jpg"], False),
        (["1.jpg", "2.jpg", "3.jpg", "4.jpg"], ["1.jpg", "2.jpg", "3.jpg", "4.jpg"], False),
        (["1.jpg", "2.jpg", "3.jpg", ""], ["5.jpg", "6.jpg", "7.jpg", "8.jpg"], False),
        (["x/1.jpg", "y/1.jpg", "3.jpg", "4.jpg"], ["5.jpg", "6.jpg", "7.jpg", "8.jpg"], False),
    ],
)
def test_names_are_paths_if_each_is_unique_in_all_splits(tmp_path, train, test, found):
    write(tmp_path, {"image": structs(paths=train), **LABELS})
    write(tmp_path, {"image": structs(paths=test), **LABELS}, "test.parquet")
    dataset = open_dataset(tmp_path)
    names = dataset.split("train").names + dataset.split("test").names
    numbered = [f"{part}-{i:06d}" for part in ("train", "test") for i in range(4)]
    assert list(names) == ([f"{i}.jpg" for i in range(1, 9)] if found else numbered)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("data/celeba-Valid-00000-of-00001.parquet", "validation"),
        ("val_small.PARQUET", "validation"),
        ("data/validation/train.parquet", "train"),
        ("default/partial-train/0000.parquet", "train"),
        ("img_align+identity+attr/test-00000-of-00001.parquet", "test"),
        ("img_align+identity+attr/test/0000.parquet", "test"),
        ("celeba/data/test/0000.parquet", "test"),
    ],
)
def test_the_name_or_the_folder_tells_the_split(tmp_path, name, split):
    write(tmp_path, name=name)
    (tmp_path / ".cache/train").mkdir(parents=True)
    (tmp_path / ".cache/train/train.parquet").write_text("interrupted")
    write(tmp_path / "unrelated", {"price": [1, 2]}, "table.parquet")
    assert open_dataset(tmp_path).partitions.sizes == {split: 4}


def test_dataset_info_beside_parquet_files_is_not_tensorflows(tmp_path):
    write(tmp_path)
    (tmp_path / "dataset_info.json").write_text("{}")
    assert open_dataset(tmp_path).layout == "Hugging Face (parquet)"


def test_a_given_folder_of_one_split(tmp_path):
    write(tmp_path / "default/test", name="0000.parquet")
    assert open_dataset(tmp_path / "default/test").partitions.sizes == {"test": 4}


def blacken(path, column):
    """Overwrites the bytes of a column's chunks."""
    data = bytearray(path.read_bytes())
    metadata = files.read_metadata(path)
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks = [row_group.column(i) for i in range(metadata.num_columns)]
        (chunk,) = (x for x in chunks if x.path_in_schema == column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)


def test_labels_and_names_are_read_without_the_images(tmp_path):
    path = write(tmp_path, {"image": structs(), **LABELS})
    blacken(path, "image.bytes")
    records = open_dataset(tmp_path).split("train")
    assert records.labels.tolist() == EXPECTED and records.names[3] == "d.jpg"
    one_line(lambda: records.read(0), path, "cannot be read as a parquet file", "download it again")


@pytest.fixture
def reads(monkeypatch):
    """Numbers of the row groups that are read."""
    done = []
    chunks = parquet._chunks

    def counted(path, column, group):
        done.append(group)
        return chunks(path, column, group)

    monkeypatch.setattr(parquet, "_chunks", counted)
    return done


def test_row_groups_are_read_once_in_order_and_few_are_kept(tmp_path, reads):
    count = 600
    images = [b"%d" % i * 300 for i in range(count)]
    layouts.write_table(tmp_path / "train.parquet", {"image": images, "Male": [True] * count}, 50)
    records = open_dataset(tmp_path).split("train")
    assert not reads
    assert [records.read(i) for i in range(count)] == images
    assert reads == list(range(12))
    barrier = threading.Barrier(8)

    def read_at_once(row):
        barrier.wait()
        return records.read(row)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_at_once, range(8))) == images[:8]
    assert reads == [*range(12), 0]
    rows = np.random.default_rng(0).permutation(count).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(records.read, rows)) == [images[row] for row in rows]
    assert parquet._row_group.cache_info().currsize == parquet._row_group.cache_info().maxsize


def test_records_are_small_to_pickle_and_can_be_sliced(tmp_path):
    layouts.write_parquet(tmp_path)
    records = open_dataset(tmp_path).split("train+validation")
    records.read(0)
    assert len(pickle.dumps(records.images)) < 3000
    taken = pickle.loads(pickle.dumps(records.take(np.array([11, 2]))))
    assert taken.read(0) == records.read(11) and taken.names[1] == records.names[2]
    path = tmp_path / "data/valid-00001-of-00002-52abe1f1b4e0a8c3.parquet"
    assert records.images.location(11) == f"{path}: row 1"


def test_training_batches_are_those_of_the_official_layout(tmp_path):
    layouts.write_official(tmp_path / "official")
    layouts.write_parquet(tmp_path / "parquet")
    batches = [
        next(training_batches(open_dataset(root).split("train"), 32, TrainConfig(batch_size=8)))
        for root in (tmp_path / "official", tmp_path / "parquet")
    ]
    np.testing.assert_array_equal(batches[0].images, batches[1].images)
    np.testing.assert_array_equal(batches[0].labels, batches[1].labels)


def test_an_empty_row_group_and_an_empty_file(tmp_path):
    schema = pa.schema([("image", pa.binary()), ("Male", pa.bool_())])
    with files.ParquetWriter(tmp_path / "train-1.parquet", schema) as writer:
        for some in (IMAGES[:1], [], IMAGES[1:]):
            rows = {"image": some, "Male": [True] * len(some)}
            writer.write_table(pa.table(rows, schema), row_group_size=2)
    files.write_table(schema.empty_table(), tmp_path / "train-0.parquet")
    files.write_table(schema.empty_table(), tmp_path / "test.parquet")
    dataset = open_dataset(tmp_path)
    records = dataset.split("train")
    assert [records.read(i) for i in range(4)] == IMAGES
    one_line(lambda: dataset.split("test"), tmp_path, "test split has no images", "train 4")


def test_a_replaced_file_is_read_anew(tmp_path):
    write(tmp_path)
    assert open_dataset(tmp_path).split("train").read(0) == IMAGES[0]
    write(tmp_path, {"image": IMAGES[:0:-1], "Male": [True, False, True]})
    records = open_dataset(tmp_path).split("train")
    assert len(records) == 3 and records.read(0) == IMAGES[3]


# Faults; the corpus has those whose message does not contain pyarrow's.


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-30], lambda data: data[:100], lambda data: b"", lambda data: b"PAR1" * 20,
     lambda data: data[:-60] + bytes(52) + data[-8:]],
)  # fmt: skip
def test_a_damaged_file(tmp_path, change):
    path = write(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    one_line(
        lambda: open_dataset(tmp_path), f"{path}: cannot be read as a parquet file",
        "cut short or damaged: download it again",
    )  # fmt: skip


@pytest.mark.parametrize("column", ["Young", "image.path"])
def test_a_damaged_column(tmp_path, column):
    path = write(tmp_path, {"image": structs(), **LABELS})
    blacken(path, column)
    dataset = open_dataset(tmp_path)
    one_line(lambda: dataset.split("train"), path, "cannot be read as a parquet file")


def test_files_that_vanish_or_change_while_open(tmp_path):
    path = write(tmp_path)
    dataset = open_dataset(tmp_path)
    records = dataset.split("train")
    path.write_bytes(path.read_bytes()[:500])
    one_line(lambda: records.read(0), path, "cannot be read as a parquet file")
    path.unlink()
    one_line(lambda: records.read(0), path, "No such file")
    path.mkdir()
    one_line(lambda: open_dataset(tmp_path), tmp_path, "holds no data that we know")


def test_a_damaged_image_is_named_by_file_and_row(tmp_path):
    path = write(tmp_path, {"image": [*IMAGES[:3], IMAGES[3][:200]], **LABELS})
    records = open_dataset(tmp_path).split("train")
    fault = lambda: decode(records.read(3), 32, records.images.location(3))  # noqa: E731
    one_line(fault, f"{path}: row 3: cannot be decoded as an image")


def test_too_large_images_and_row_groups(tmp_path, monkeypatch):
    path = write(tmp_path)
    size = sum(map(len, IMAGES[:3]))
    monkeypatch.setattr(parquet, "_MAX_GROUP", size // 3)
    remedy = "write the file with row_group_size=100"
    one_line(lambda: open_dataset(tmp_path), f"{path}: one of its row groups has", remedy)
    # The footer sees only one image in a row group of many that are the same.
    monkeypatch.setattr(parquet, "_MAX_GROUP", 8 * len(IMAGES[0]))
    many = {"image": IMAGES[:1] * 64, "Male": [True] * 64}
    layouts.write_table(path, many, 64)
    records = open_dataset(tmp_path).split("train")
    one_line(lambda: records.read(0), f"{path}: one of its row groups has more than", remedy)
    monkeypatch.undo()
    monkeypatch.setattr(parquet, "MAX_BYTES", 100)
    one_line(lambda: records.read(0), f"{path}: row 0: its image has more than 100 bytes")


def test_missing_parts_are_warned_of(tmp_path, capsys):
    for part in (0, 3):
        write(tmp_path, name=f"data/train-{part:05d}-of-00004.parquet")
    open_dataset(tmp_path)
    (missing,) = capsys.readouterr().err.splitlines()
    assert missing == (
        f"warning: {tmp_path / 'data'}: 2 of the 4 files train-*-of-00004 are not there, the first "
        "is train-00001-of-00004: the others are read"
    )


def test_two_folders_of_parquet_files(tmp_path):
    for name in ("small", "whole"):
        write(tmp_path / name)
    one_line(
        lambda: find_parquet([tmp_path]), f"{tmp_path}: holds 2 folders of parquet files",
        "small, whole", "give one of them",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"image": ["a.jpg"] * 4, **LABELS}, ["has no column of images", "image of string"]),
        ({"image": IMAGES, "img": IMAGES, **LABELS}, ["has 2 columns of images", "image, img"]),
        ({"a": IMAGES, "b": IMAGES, **LABELS}, ["has 2 columns of images", "found a, b"]),
        ({"image": IMAGES, "celeb_id": [1, 2, 3, 4]}, ["has no columns of labels", "Smiling"]),
        (
            {"image": IMAGES, **dict.fromkeys(CELEBA_ATTRIBUTES, ["yes"] * 4)},
            ["column 5_o_Clock_Shadow is of string", "expected booleans, or -1, 0 and 1"],
        ),
    ],
)
def test_unsuitable_columns(tmp_path, columns, parts):
    path = write(tmp_path, columns)
    one_line(lambda: open_dataset(tmp_path), f"{path}: ", *parts, "another data set")


def test_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([IMAGES, [True] * 4, [True] * 4], ["image", "Male", "Male"])
    files.write_table(table, tmp_path / "train.parquet")
    one_line(lambda: open_dataset(tmp_path), "train.parquet: has two columns called Male")


@pytest.mark.parametrize("value", [2, 0.5, -3, 1e300, np.inf])
def test_a_value_that_is_no_label(tmp_path, value):
    path = write(tmp_path, Bald=[0, 1, value, 1])
    dataset = open_dataset(tmp_path)
    one_line(
        lambda: dataset.split("train"), f"{path}: row 2, column Bald: found {value:.6g}",
        "expected -1, 0, 1 or null", "remove the column",
    )  # fmt: skip


@pytest.mark.parametrize("null", ["image", "bytes"])
def test_a_null_image(tmp_path, null):
    rows = [None if null == "image" else {"bytes": None, "path": "a.jpg"}]
    rows += [{"bytes": x, "path": "b.jpg"} for x in IMAGES[1:]]
    path = write(tmp_path, {"image": pa.array(rows, STRUCT), **LABELS})
    records = open_dataset(tmp_path).split("train")
    assert records.read(1) == IMAGES[1]
    one_line(lambda: records.read(0), f"{path}: row 0: its image is null", "or remove the row")


def test_a_cell_of_every_kind_survives_a_round_trip_by_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"image": IMAGES, **LABELS}, index=[5, 3, 9, 1])
    file = io.BytesIO()
    frame.to_parquet(file)
    (tmp_path / "train.parquet").write_bytes(file.getvalue())
    assert labels(tmp_path) == EXPECTED
