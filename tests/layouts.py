"""Writes images in every layout that can be read; by default the same 16 small ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ATTRIBUTES = ("Bald", "Eyeglasses", "Male", "Smiling", "Young")
NAMES = tuple(f"{number:06d}.jpg" for number in range(1, 17))
PARTITION = tuple([0, 0, 1, 2] * 4)
LABELS = np.random.default_rng(0).integers(0, 2, (16, 5)).astype(np.int8)
SPLIT_NAMES = ("train", "validation", "test")


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((45, 55), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


IMAGES = tuple(_jpeg(seed) for seed in range(16))


class Source(NamedTuple):
    """What a layout holds."""

    attributes: Sequence[str] = ATTRIBUTES
    names: Sequence[str] = NAMES
    partition: Sequence[int] = PARTITION
    labels: np.ndarray = LABELS
    images: Sequence[bytes] = IMAGES
    """Encoded, all of one size."""
    rows: int = 3
    """Images in a row group of a parquet file."""

    @property
    def signs(self) -> np.ndarray:
        """Labels as -1 and 1."""
        return 2 * self.labels - 1


SIXTEEN = Source()


def label_text(labels: np.ndarray = LABELS, ending: str = "\n", source: Source = SIXTEEN) -> str:
    """list_attr_celeba.txt with padded columns and a blank after the header, as published."""
    rows = [
        f"{name} " + " ".join(f"{value:2d}" for value in row)
        for name, row in zip(source.names, labels.tolist(), strict=True)
    ]
    return ending.join([str(len(rows)), " ".join(source.attributes) + " ", *rows, ""])


def partition_text(source: Source = SIXTEEN) -> str:
    pairs = zip(source.names, source.partition, strict=True)
    return "".join(f"{name} {part}\n" for name, part in pairs)


def write_folder(folder: Path, source: Source = SIXTEEN) -> None:
    folder.mkdir(parents=True)
    for name, data in zip(source.names, source.images, strict=True):
        (folder / name).write_bytes(data)


def write_zip(path: Path, compression: int = zipfile.ZIP_STORED, source: Source = SIXTEEN) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.mkdir("img_align_celeba")
        for name, data in zip(source.names, source.images, strict=True):
            archive.writestr(f"img_align_celeba/{name}", data)


def write_official(root: Path, zipped: bool = True, source: Source = SIXTEEN) -> Path:
    for folder in ("Anno", "Eval", "Img"):
        (root / folder).mkdir(parents=True)
    (root / "Anno/list_attr_celeba.txt").write_text(label_text(source.signs, source=source))
    (root / "Eval/list_eval_partition.txt").write_text(partition_text(source))
    if zipped:
        write_zip(root / "Img/img_align_celeba.zip", source=source)
    else:
        write_folder(root / "Img/img_align_celeba", source)
    return root


def write_torchvision(root: Path, source: Source = SIXTEEN) -> Path:
    base = root / "celeba"
    write_folder(base / "img_align_celeba", source)
    (base / "list_attr_celeba.txt").write_text(label_text(source.signs, source=source))
    (base / "list_eval_partition.txt").write_text(partition_text(source))
    return root


def write_kaggle(root: Path, source: Source = SIXTEEN) -> Path:
    write_folder(root / "img_align_celeba/img_align_celeba", source)
    header = ["image_id", *source.attributes]
    pairs = zip(source.names, source.signs, strict=True)
    rows = [[name, *map(str, row)] for name, row in pairs]
    lines = [",".join(row) for row in (header, *rows)]
    (root / "list_attr_celeba.csv").write_text("\r\n".join(lines) + "\r\n")
    partitions = partition_text(source).replace(" ", ",")
    (root / "list_eval_partition.csv").write_text("image_id,partition\n" + partitions)
    return root


def write_prepared(root: Path, source: Source = SIXTEEN) -> Path:
    """Writes, without TensorFlow, the files of tensorflow-datasets' celeb_a, shuffled alike."""
    import tensorflow_datasets as tfds

    width, height = Image.open(io.BytesIO(source.images[0])).size

    with tfds.core.registered.skip_registration():

        class CelebA(tfds.core.GeneratorBasedBuilder):
            name = "celeb_a"
            VERSION = tfds.core.Version("2.1.0")

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(height, width, 3), encoding_format="jpeg"),
                    "attributes": {name: np.bool_ for name in source.attributes},
                    "identity": {"Identity_No": np.int64},
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {name: self._generate_examples(i) for i, name in enumerate(SPLIT_NAMES)}

            def _generate_examples(self, partition):
                for row in np.flatnonzero(np.equal(source.partition, partition)):
                    values = map(bool, source.labels[row])
                    labels = dict(zip(source.attributes, values, strict=True))
                    example = {"image": source.images[row], "attributes": labels}
                    yield source.names[row], example | {"identity": {"Identity_No": 1}}

    CelebA(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def write_parquet(root: Path, source: Source = SIXTEEN) -> Path:
    """Writes booleans beside structs of bytes and path, as datasets uploads them, in data/."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    (root / "data").mkdir(parents=True)
    for part, split in enumerate(("train", "valid", "test")):
        rows = np.flatnonzero(np.equal(source.partition, part))
        for number, some in enumerate(np.array_split(rows, 2)):
            images = [{"bytes": source.images[row], "path": source.names[row]} for row in some]
            columns = {"image": pa.array(images, image), "celeb_id": pa.array(some)}
            columns |= {
                name: source.labels[some, k] == 1 for k, name in enumerate(source.attributes)
            }
            path = root / f"data/{split}-{number:05d}-of-00002-52abe1f1b4e0a8c3.parquet"
            write_table(path, columns | {"prompt": ["a face"] * len(some)}, source.rows)
    return root


def write_converted(root: Path, source: Source = SIXTEEN) -> Path:
    """Writes -1 and 1 beside plain bytes, in the folders of Hugging Face's converted branch."""
    for part, split in enumerate(SPLIT_NAMES):
        rows = np.flatnonzero(np.equal(source.partition, part))
        labels = {name: source.signs[rows, k] for k, name in enumerate(source.attributes)}
        (root / "default" / split).mkdir(parents=True)
        columns = {"img": [source.images[row] for row in rows], **labels}
        write_table(root / "default" / split / "0000.parquet", columns, source.rows)
    return root


def write_table(path: Path, columns: dict[str, object], rows: int = 3) -> None:
    """Writes a parquet file with row groups of `rows` rows."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, row_group_size=rows)


WRITERS = {
    "official, zipped": write_official,
    "official, unzipped": partial(write_official, zipped=False),
    "torchvision": write_torchvision,
    "Kaggle": write_kaggle,
    "tensorflow-datasets": write_prepared,
    "Hugging Face (parquet)": write_parquet,
    "Hugging Face (parquet), converted": write_converted,
}
