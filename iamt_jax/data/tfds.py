"""Reads CelebA as prepared by tensorflow-datasets (array_record), without TensorFlow.

Importing `tensorflow_datasets` takes half a second, so functions import it when they need it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int8

from iamt_jax.data.dataset import PARTITIONS, EncodedImages, Records, stamp_of_files
from iamt_jax.errors import InputError

NAME = "celeb_a"
_HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


@dataclasses.dataclass(frozen=True)
class PreparedImages(EncodedImages):
    """Images by their names; `_examples` holds the open files, once a process."""

    directory: str
    names: tuple[str, ...]

    def location(self, index: int) -> str:
        """See `EncodedImages`."""
        return "{}: {} example {}".format(self.directory, *self._place(index))

    def stamp(self) -> str:
        """See `EncodedImages`."""
        return stamp_of_files(sorted(Path(self.directory).resolve().iterdir()))

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        partition, number = self._place(index)
        try:
            record = _examples(self.directory, partition)[number]
            return _features(record)["image"].bytes_list.value[0]
        except Exception as error:  # array_record and protobuf share no base class.
            raise _unreadable(self.directory, f"{partition} example {number}", error) from error

    def _place(self, index: int) -> tuple[str, int]:
        partition, number = self.names[index].split("-")
        return partition, int(number)


@dataclasses.dataclass(frozen=True)
class PreparedPartitions:
    """The partitions of one prepared version, such as celeb_a/2.1.0.

    Examples keep the order of tensorflow-datasets, which is shuffled. They are named by partition
    and index, such as test-000012, because it does not store the names of CelebA's files.
    """

    directory: str
    attributes: tuple[str, ...]
    """Sorted, as in CelebA's own header; features.json keeps no order."""
    sizes: dict[str, int]
    """Partition -> images."""

    def records(self, partitions: Sequence[str]) -> Records:
        """Returns partitions; the first call reads all their examples, for the labels."""
        labels = {part: _labels(self.directory, part, self.attributes) for part in partitions}
        names = tuple(f"{part}-{i:06d}" for part, rows in labels.items() for i in range(len(rows)))
        images = PreparedImages(self.directory, names)
        return Records(self.attributes, names, np.concatenate([*labels.values()]), images)


def find_prepared(folder: Path) -> Path | None:
    """Returns the newest version that `folder` is or holds, or None."""
    if (folder / "dataset_info.json").is_file():
        return folder
    versions = [
        path
        for path in folder.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").is_file()
    ]
    return max(versions, key=lambda path: [int(n) for n in path.name.split(".")], default=None)


def open_prepared(directory: Path) -> PreparedPartitions:
    """Opens a version's folder.

    Raises:
      InputError: it is in TFRecord format, damaged, or has other features than CelebA.
    """
    if not any(directory.glob("*.array_record*")):
        if any(directory.glob("*.tfrecord*")):
            raise InputError(
                f"{directory}: is in TFRecord format, expected array_record: convert it in place "
                "with `pip install tensorflow apache-beam mlcroissant && tfds convert_format "
                f"--dataset_version_dir={directory} --out_file_format=array_record`"
            )
        raise InputError(
            f"{directory}: holds no *.array_record* file; expected {NAME} prepared by "
            "tensorflow-datasets with file_format='array_record': prepare it again"
        )
    try:
        info = _builder(str(directory)).info
    except Exception as error:  # tensorflow-datasets raises many types on damaged metadata.
        raise _unreadable(directory, "features.json and dataset_info.json", error) from error
    features = info.features
    if "image" not in features or not hasattr(dict(features).get("attributes"), "keys"):
        raise InputError(
            f"{directory}: has the features {', '.join(sorted(features))}; expected image and "
            f"attributes, as {NAME} has: give the folder of {NAME}"
        )
    sizes = {name: info.splits[name].num_examples for name in PARTITIONS if name in info.splits}
    return PreparedPartitions(str(directory), tuple(sorted(features["attributes"])), sizes)


def download_and_prepare(data_dir: Path) -> None:
    """Downloads CelebA and prepares it as array_record in `data_dir`, by tensorflow-datasets.

    Raises:
      InputError: TensorFlow is not installed, or the download was refused; the message says how
        to get the files by hand.
    """
    by_hand = (
        f"give `data.root` {data_dir / 'celeba'} after downloading Anno, Eval and Img by hand "
        f"from {_HOMEPAGE} into it"
    )
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"`data.name` {NAME}: not prepared in {data_dir}, and preparing it needs TensorFlow, "
            f"which is not installed: `pip install tensorflow`, or {by_hand}"
        )
    import tensorflow_datasets as tfds

    try:
        tfds.builder(NAME, data_dir=data_dir, file_format="array_record").download_and_prepare()
    except Exception as error:  # Network, quota page, checksum, disk: each has its own type.
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"`data.name` {NAME}: tensorflow-datasets could not prepare it in {data_dir} "
            f"({type(error).__name__}: {reason}); Google Drive often refuses: {by_hand}"
        ) from error


def _builder(directory: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory)


@functools.cache
def _examples(directory: str, partition: str) -> Any:
    """Returns serialised examples by index; the reader of array_record is thread-safe."""
    from tensorflow_datasets import decode

    # tensorflow-datasets takes ten times as long as `_features` to parse an example.
    raw = decode.DeserializeMethod.RAW_BYTES
    return _builder(directory).as_data_source(partition, deserialize_method=raw)


@functools.cache
def _labels(
    directory: str, partition: str, attributes: tuple[str, ...]
) -> Int8[np.ndarray, "image attribute"]:
    """Reads the labels, 1 or 0, of all examples; takes about 0.1 ms an example."""
    keys = [f"attributes/{name}" for name in attributes]
    try:
        rows = [
            [features[key].int64_list.value[0] for key in keys]
            for features in map(_features, _batches(_examples(directory, partition)))
        ]
    except Exception as error:  # array_record and protobuf share no base class.
        raise _unreadable(directory, f"its {partition} split", error) from error
    return np.array(rows, np.int8).reshape(-1, len(attributes))


def _batches(examples: Any, batch: int = 256) -> Iterator[bytes]:
    """Yields every example; reading many at once reads each chunk of a file only once."""
    for start in range(0, len(examples), batch):
        yield from examples.__getitems__(range(start, min(start + batch, len(examples))))


def _features(record: bytes) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature


def _unreadable(directory: str | Path, what: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"{directory}: {what} cannot be read ({type(error).__name__}: {reason}); expected "
        f"{NAME} prepared as array_record by tensorflow-datasets: prepare it again"
    )
