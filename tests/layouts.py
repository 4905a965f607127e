"""Writes the same 16 small images in every layout that can be read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

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


def label_text(labels: np.ndarray = LABELS, ending: str = "\n") -> str:
    """list_attr_celeba.txt with padded columns and a blank after the header, as published."""
    rows = [
        f"{name} " + " ".join(f"{value:2d}" for value in row)
        for name, row in zip(NAMES, labels.tolist(), strict=True)
    ]
    return ending.join([str(len(rows)), " ".join(ATTRIBUTES) + " ", *rows, ""])


def partition_text() -> str:
    return "".join(f"{name} {part}\n" for name, part in zip(NAMES, PARTITION, strict=True))


def write_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, data in zip(NAMES, IMAGES, strict=True):
        (folder / name).write_bytes(data)


def write_zip(path: Path, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.mkdir("img_align_celeba")
        for name, data in zip(NAMES, IMAGES, strict=True):
            archive.writestr(f"img_align_celeba/{name}", data)


def write_official(root: Path, zipped: bool = True) -> Path:
    for folder in ("Anno", "Eval", "Img"):
        (root / folder).mkdir(parents=True)
    (root / "Anno/list_attr_celeba.txt").write_text(label_text(2 * LABELS - 1))
    (root / "Eval/list_eval_partition.txt").write_text(partition_text())
    if zipped:
        write_zip(root / "Img/img_align_celeba.zip")
    else:
        write_folder(root / "Img/img_align_celeba")
    return root


def write_torchvision(root: Path) -> Path:
    base = root / "celeba"
    write_folder(base / "img_align_celeba")
    (base / "list_attr_celeba.txt").write_text(label_text(2 * LABELS - 1))
    (base / "list_eval_partition.txt").write_text(partition_text())
    return root


def write_kaggle(root: Path) -> Path:
    write_folder(root / "img_align_celeba/img_align_celeba")
    header = ["image_id", *ATTRIBUTES]
    rows = [[name, *map(str, row)] for name, row in zip(NAMES, (2 * LABELS - 1), strict=True)]
    lines = [",".join(row) for row in (header, *rows)]
    (root / "list_attr_celeba.csv").write_text("\r\n".join(lines) + "\r\n")
    partitions = partition_text().replace(" ", ",")
    (root / "list_eval_partition.csv").write_text("image_id,partition\n" + partitions)
    return root


def write_prepared(root: Path) -> Path:
    """Writes, without TensorFlow, the files of tensorflow-datasets' celeb_a, shuffled alike."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class CelebA(tfds.core.GeneratorBasedBuilder):
            name = "celeb_a"
            VERSION = tfds.core.Version("2.1.0")

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(55, 45, 3), encoding_format="jpeg"),
                    "attributes": {name: np.bool_ for name in ATTRIBUTES},
                    "identity": {"Identity_No": np.int64},
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {name: self._generate_examples(i) for i, name in enumerate(SPLIT_NAMES)}

            def _generate_examples(self, partition):
                for row in np.flatnonzero(np.equal(PARTITION, partition)):
                    labels = dict(zip(ATTRIBUTES, map(bool, LABELS[row]), strict=True))
                    example = {"image": IMAGES[row], "attributes": labels}
                    yield NAMES[row], example | {"identity": {"Identity_No": 1}}

    CelebA(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def write_parquet(root: Path) -> Path:
    """Writes booleans beside structs of bytes and path, as datasets uploads them, in data/."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    (root / "data").mkdir(parents=True)
    for part, split in enumerate(("train", "valid", "test")):
        rows = np.flatnonzero(np.equal(PARTITION, part))
        for number, some in enumerate(np.array_split(rows, 2)):
            images = [{"bytes": IMAGES[row], "path": NAMES[row]} for row in some]
            columns = {"image": pa.array(images, image), "celeb_id": pa.array(some)}
            columns |= {name: LABELS[some, k] == 1 for k, name in enumerate(ATTRIBUTES)}
            path = root / f"data/{split}-{number:05d}-of-00002-52abe1f1b4e0a8c3.parquet"
            write_table(path, columns | {"prompt": ["a face"] * len(some)})
    return root


def write_converted(root: Path) -> Path:
    """Writes -1 and 1 beside plain bytes, in the folders of Hugging Face's converted branch."""
    for part, split in enumerate(SPLIT_NAMES):
        rows = np.flatnonzero(np.equal(PARTITION, part))
        labels = {name: 2 * LABELS[rows, k] - 1 for k, name in enumerate(ATTRIBUTES)}
        (root / "default" / split).mkdir(parents=True)
        columns = {"img": [IMAGES[row] for row in rows], **labels}
        write_table(root / "default" / split / "0000.parquet", columns)
    return root


def write_table(path: Path, columns: dict[str, object], rows: int = 3) -> None:
    """Writes a parquet file with row groups of `rows` rows."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, row_group_size=rows)


WRITERS = {
    "official, zipped": write_official,
    "official, unzipped": lambda root: write_official(root, zipped=False),
    "torchvision": write_torchvision,
    "Kaggle": write_kaggle,
    "tensorflow-datasets": write_prepared,
    "Hugging Face (parquet)": write_parquet,
    "Hugging Face (parquet), converted": write_converted,
}
