"""Reads CelebA in the form of Hugging Face datasets: parquet files of encoded images and labels.

Importing `pyarrow.parquet` takes half a second, so functions import it when they need it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int8, Int64, UInt8

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.data.dataset import PARTITIONS, EncodedImages, Records, stamp_of_files
from iamt_jax.data.decode import DECODE_THREADS
from iamt_jax.data.image_files import MAX_BYTES, refuse_placeholder
from iamt_jax.data.label_files import (
    NO_LABEL,
    PARTITION_WORDS,
    meaning,
    mixes_zero_and_minus,
    number_codes,
)
from iamt_jax.errors import InputError

_USUAL = ("data", "default")
"""Folders of parquet files: as datasets uploads them, and in Hugging Face's converted branch."""

_IMAGE_NAMES = ("image", "img", "jpg")
"""Usual names of the column of images, in lower case."""

_NO_ATTRIBUTE = re.compile(
    r"(.*[_ ])?(id|idx|index|identity|number|split|partition|x|y)|[xy]_1|width|height"
    r"|__.*__|unnamed: \d+",
    re.IGNORECASE,
)
"""Names of numbers that are no labels: ids, landmarks, boxes, and pandas' index."""

_PART_OF_MANY = re.compile(r"(?P<first>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\b.*", re.DOTALL)
"""Name of a file that is one of several, such as train-00003-of-00019-52abe1f1b4e0a8c3."""

_GROUPS_HELD = DECODE_THREADS
"""Row groups that a process keeps, since each thread that decodes may be in another one."""

_MAX_GROUP = 256_000_000
"""Limit of a row group's images, bytes; up to twice `_GROUPS_HELD` of them are in memory."""


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A parquet file, as its schema and footer describe it."""

    path: str
    image: str
    """Path of the column of encoded images, such as image.bytes."""
    name: str | None
    """Path of the column of the images' names, such as image.path; None if there is none."""
    labels: dict[str, str]
    """Attribute -> its column, which may be spelt in another case."""
    groups: tuple[int, ...]
    """Rows of each row group."""

    @property
    def rows(self) -> int:
        return sum(self.groups)


@dataclasses.dataclass(frozen=True)
class ParquetImages(EncodedImages):
    """Images in rows of parquet files; `_row_group` holds the last row groups, once a process."""

    shards: tuple[_Shard, ...]
    starts: Int64[np.ndarray, " group"]
    """Index of the first image of each row group."""
    groups: Int64[np.ndarray, "group 3"]
    """Index into `shards`, number of the row group in it, row in the file where it begins."""

    def location(self, index: int) -> str:
        """See `EncodedImages`; rows are counted from 0, as datasets and pandas do."""
        shard, _, first, row = self._place(index)
        return f"{shard.path}: row {first + row}"

    def stamp(self) -> str:
        """See `EncodedImages`."""
        return stamp_of_files(os.path.abspath(shard.path) for shard in self.shards)

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        shard, group, _, row = self._place(index)
        # The lock lets one thread read a row group that several ask for at once.
        with _LOCKS[group % len(_LOCKS)]:
            images = _row_group(shard.path, shard.image, group)
        data = images[row].as_py()
        if data is None:
            raise InputError(
                f"{self.location(index)}: its image is null, expected encoded bytes in "
                f"{shard.image}: embed the images in the file, or remove the row"
            )
        if len(data) > MAX_BYTES:
            raise InputError(
                f"{self.location(index)}: its image has more than {MAX_BYTES:,} bytes, which no "
                "photograph has; restore it from the original, or remove the row"
            )
        return data

    def _place(self, index: int) -> tuple[_Shard, int, int, int]:
        """Returns the file, the row group, the row where it begins, and the row within it."""
        at = int(np.searchsorted(self.starts, index, side="right")) - 1
        shard, group, first = self.groups[at].tolist()
        return self.shards[shard], group, first, int(index - self.starts[at])


@dataclasses.dataclass(frozen=True)
class ParquetPartitions:
    """The partitions of one folder of parquet files.

    Images keep the order of the files, sorted by name, and of the rows in them. An image is named
    by the last part of its path in the file if every image of the folder has one and no two are
    the same; otherwise by partition and index, such as test-000012.
    """

    folder: str
    shards: dict[str, tuple[_Shard, ...]]
    """Partition -> its files."""
    attributes: tuple[str, ...]
    sizes: dict[str, int]
    """Partition -> images."""

    def records(self, partitions: Sequence[str]) -> Records:
        """Returns partitions; the first call reads all labels and names, but no image.

        Raises:
          InputError: a file is damaged, or a value is no label.
        """
        names = tuple(name for part in partitions for name in self._names[part])
        labels = np.concatenate([self._labels[part] for part in partitions])
        shards = tuple(shard for part in partitions for shard in self.shards[part])
        return Records(self.attributes, names, labels, _images(shards))

    @functools.cached_property
    def _names(self) -> dict[str, Sequence[str]]:
        stored = {part: [*map(_stored_names, shards)] for part, shards in self.shards.items()}
        names = {part: [name for file in files for name in file] for part, files in stored.items()}
        every = [name for part in names.values() for name in part]
        if all(every) and len(set(every)) == sum(self.sizes.values()):
            return names
        return {part: [f"{part}-{i:06d}" for i in range(n)] for part, n in self.sizes.items()}

    @functools.cached_property
    def _labels(self) -> dict[str, Int8[np.ndarray, "image attribute"]]:
        """Reads the labels of all partitions, since a -1 anywhere gives the zeros their meaning."""
        every = [shard for shards in self.shards.values() for shard in shards]
        read, logical = zip(*(_codes(shard, self.attributes) for shard in every), strict=True)
        codes, logical = np.concatenate(read), np.all(logical, axis=0)
        labels = np.empty(codes.shape, np.int8)
        for columns in (logical, ~logical):  # A boolean false is absent, whatever -1 means.
            labels[:, columns] = meaning(codes[:, columns])
        if mixes_zero_and_minus(codes[:, ~logical]):
            print(
                f"warning: {self.folder}: its labels hold both -1 and 0; -1 is read as absent, 0 "
                "as not annotated: where 0 means absent, write null in place of -1",
                file=sys.stderr,
            )
        ends = np.cumsum([self.sizes[part] for part in self.shards])[:-1]
        return dict(zip(self.shards, np.split(labels, ends), strict=True))


def find_parquet(folders: Sequence[Path]) -> Path | None:
    """Returns the folder of parquet files among `folders`, or in one of them; None if none is.

    In a folder without such files, these are searched for in data/, in default/, and then in the
    only other folder with a file that names a partition, such as train-00000-of-00001.parquet.

    Raises:
      InputError: several other folders have such a file.
    """
    for folder in folders:
        for place in (folder, *(folder / name for name in _USUAL)):
            if place.is_dir() and _files(place):
                return place
    for folder in folders:
        inner = [x for x in _subfolders(folder) if os.access(x, os.R_OK | os.X_OK)]
        found = [x for x in inner if any(_partition(file, x) for file in _files(x))]
        if len(found) > 1:
            raise InputError(
                f"{folder}: holds {len(found)} folders of parquet files ({found[0].name}, "
                f"{found[1].name}{', ...' if found[2:] else ''}), expected one: give one of them"
            )
        if found:
            return found[0]
    return None


def open_parquet(folder: Path) -> ParquetPartitions:
    """Opens the parquet files of a folder, or of its folders train, validation and test.

    The attributes are CelebA's 40 if a column is named like each of them, in any case; otherwise
    all columns of booleans and numbers, in their order, except those that `_NO_ATTRIBUTE` names.

    Raises:
      InputError: a file is no parquet file, is in no partition, lacks images or labels, has other
        attributes than another, or has too large row groups.
    """
    # Files may have been replaced since they were last opened.
    _metadata.cache_clear()
    _row_group.cache_clear()
    files = _files(folder)
    shards: dict[str, list[_Shard]] = {name: [] for name in PARTITIONS}
    for path in files:
        partition = _partition(path, folder)
        if partition is None:
            raise InputError(
                f"{path}: neither its name nor its folder says which split it holds; expected "
                "train, validation (val, valid) or test: rename it, such as "
                f"train-{path.name}, or remove it"
            )
        shards[partition].append(_open_shard(path))
    found = {name: tuple(files) for name, files in shards.items() if files}
    every = [shard for part in found.values() for shard in part]
    for shard in every:
        if differing := sorted(set(shard.labels) ^ set(every[0].labels)):
            raise InputError(
                f"{shard.path}: its columns of labels differ from those of {every[0].path}, "
                f"{differing[0]} is in one of them only; expected the same in every file: download "
                "all files from the same data set"
            )
    _warn_of_missing(folder, files)
    sizes = {name: sum(shard.rows for shard in part) for name, part in found.items()}
    return ParquetPartitions(str(folder), found, tuple(every[0].labels), sizes)


def _files(folder: Path) -> list[Path]:
    """Returns the parquet files in a folder and in its folders named after a partition, sorted."""
    inner = [x for x in _subfolders(folder) if _word(x.name)]
    return [
        path
        for place in (folder, *inner)
        for path in sorted(place.iterdir())
        if re.fullmatch(r"[^.].*\.parquet", path.name, re.I | re.S) and path.is_file()
    ]


def _subfolders(folder: Path) -> list[Path]:
    return [x for x in sorted(folder.iterdir()) if not x.name.startswith(".") and x.is_dir()]


def _partition(path: Path, folder: Path) -> str | None:
    """Returns the partition of a file, by its name or else by the names of its folders."""
    parents = (path.parent, *([folder] if path.parent != folder else []))
    words = [_word(path.stem), *(_word(parent.name) for parent in parents)]
    return next((word for word in words if word), None)


def _word(name: str) -> str | None:
    """Returns the only partition that is a word of a name such as celeba-train-00000-of-00002."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    found = {PARTITION_WORDS[word] for word in words if word in PARTITION_WORDS}
    return PARTITIONS[found.pop()] if len(found) == 1 else None


def _open_shard(path: Path) -> _Shard:
    page = "download the file itself, by a link with resolve/ in place of blob/"
    refuse_placeholder(path, "a parquet file", page)
    try:
        metadata = _metadata(str(path))
        schema = metadata.schema.to_arrow_schema()
    except Exception as error:  # pyarrow raises ValueError, OSError and types of its own.
        raise _unreadable(path, error) from error
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise InputError(
            f"{path}: has two columns called {twice[0]}, expected every name once: rename one"
        )
    image, name = _image_columns(path, schema)
    labels = _label_columns(path, schema)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    at = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(image)
    largest = max((group.column(at).total_uncompressed_size for group in groups), default=0)
    if largest > _MAX_GROUP:
        raise _too_large(path, f"{largest:,}")
    rows = tuple(group.num_rows for group in groups)
    return _Shard(str(path), image, name, labels, rows)


def _image_columns(path: Path, schema: Any) -> tuple[str, str | None]:
    """Returns the paths of the columns with the encoded images and with their names."""
    found = {field.name: field.type for field in schema if _is_image(field.type)}
    usual = [name for name in found if name.lower() in _IMAGE_NAMES] or [*found]
    if len(usual) != 1:
        named = [field for field in schema if field.name.lower() in _IMAGE_NAMES]
        shown = [f"{field.name} of {_text(field.type)}" for field in named] or schema.names
        listed = ", ".join(usual or shown[:6]) + (", ..." if len(usual or shown) > 6 else "")
        many = f"has {len(usual)} columns of images" if usual else "has no column of images"
        raise InputError(
            f"{path}: {many}, found {listed}; expected one, called {', '.join(_IMAGE_NAMES[:-1])} "
            f"or {_IMAGE_NAMES[-1]}, of encoded bytes or of structs with bytes and path: rename or "
            "remove columns, or give another data set"
        )
    (column,) = usual
    kind = found[column]
    if _is_bytes(kind):
        return column, None
    at = kind.get_field_index("path")
    return f"{column}.bytes", f"{column}.path" if at >= 0 and _is_text(kind.field(at)) else None


def _is_image(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind) and (at := kind.get_field_index("bytes")) >= 0:
        kind = kind.field(at).type
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(field: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(field.type) or pa.types.is_large_string(field.type)


def _label_columns(path: Path, schema: Any) -> dict[str, str]:
    """Returns attribute -> column of labels."""
    import pyarrow as pa

    def is_label(kind: Any) -> bool:
        tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
        return any(test(kind) for test in tests)

    lower = {name.lower(): name for name in schema.names}
    if all(name.lower() in lower for name in CELEBA_ATTRIBUTES):
        labels = {name: lower[name.lower()] for name in CELEBA_ATTRIBUTES}
    else:
        numbers = [field.name for field in schema if is_label(field.type)]
        labels = {name: name for name in numbers if not _NO_ATTRIBUTE.fullmatch(name)}
    expected = "expected booleans, or -1, 0 and 1"
    if wrong := [x for x in labels.values() if not is_label(schema.field(x).type)]:
        raise InputError(
            f"{path}: column {wrong[0]} is of {_text(schema.field(wrong[0]).type)}, {expected}: "
            "convert it, or give another data set"
        )
    if not labels:
        raise InputError(
            f"{path}: has no columns of labels, such as Smiling; {expected}: add the labels, or "
            "give another data set"
        )
    return labels


def _text(kind: Any) -> str:
    """Returns a short description of a type of pyarrow."""
    return str(kind) if len(str(kind)) <= 40 else f"{str(kind)[:40]}..."


def _warn_of_missing(folder: Path, files: Sequence[Path]) -> None:
    """Warns of files that are missing from a numbered series."""
    parts: dict[tuple[str, int], set[int]] = {}
    for path in files:
        if match := _PART_OF_MANY.fullmatch(str(path.relative_to(folder))):
            key = match["first"], int(match["count"])
            parts.setdefault(key, set()).add(int(match["part"]))
    for (first, count), present in parts.items():
        if missing := sorted(set(range(count)) - present):
            print(
                f"warning: {folder}: {len(missing)} of the {count} files {first}-*-of-{count:05d} "
                f"are not there, the first is {first}-{missing[0]:05d}-of-{count:05d}: the others "
                "are read",
                file=sys.stderr,
            )


def _images(shards: tuple[_Shard, ...]) -> ParquetImages:
    groups = [
        (number, group, first)
        for number, shard in enumerate(shards)
        for group, first in enumerate(np.cumsum([0, *shard.groups])[:-1].tolist())
    ]
    ends = np.cumsum([0, *(rows for shard in shards for rows in shard.groups)])
    return ParquetImages(shards, ends[:-1], np.array(groups, np.int64).reshape(-1, 3))


def _stored_names(shard: _Shard) -> list[str]:
    """Returns the last parts of the images' paths; empty strings where there is none."""
    if shard.name is None:
        return [""] * shard.rows
    (column,) = _read(shard, [shard.name]).columns
    try:
        paths = [path for chunk in column.chunks for path in chunk.flatten()[0].to_pylist()]
    except UnicodeDecodeError as error:
        raise _unreadable(shard.path, error) from error
    return [re.split(r"[/\\]", path or "")[-1] for path in paths]


def _codes(
    shard: _Shard, attributes: Sequence[str]
) -> tuple[UInt8[np.ndarray, "row attribute"], Bool[np.ndarray, " attribute"]]:
    """Reads the labels of a file as codes of `label_files`; also tells which are booleans."""
    import pyarrow as pa

    columns = [shard.labels[name] for name in attributes]
    table = _read(shard, columns)
    codes = np.empty((len(table), len(columns)), np.uint8)
    kinds = [table.schema.field(name).type for name in columns]
    for i, (name, kind) in enumerate(zip(columns, kinds, strict=True)):
        column = table[name].cast(pa.int8()) if pa.types.is_boolean(kind) else table[name]
        values = column.to_numpy()  # A null becomes NaN.
        codes[:, i] = number_codes(values)
        if (wrong := np.flatnonzero(codes[:, i] == NO_LABEL)).size:
            raise InputError(
                f"{shard.path}: row {wrong[0]}, column {name}: found {values[wrong[0]]:.6g}, "
                "expected -1, 0, 1 or null: correct the value, or remove the column"
            )
    return codes, np.array([pa.types.is_boolean(kind) for kind in kinds])


@functools.lru_cache(maxsize=256)
def _metadata(path: str) -> Any:
    """Returns a file's footer, which takes some milliseconds to parse."""
    from pyarrow import parquet

    return parquet.read_metadata(path)


def _read(shard: _Shard, columns: list[str]) -> Any:
    """Reads whole columns; only their bytes are read from the file."""
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(shard.path, metadata=_metadata(shard.path)) as file:
            table = file.read(columns, use_threads=False)
        _check_rows(len(table), shard.rows)
        return table
    except Exception as error:  # pyarrow raises ValueError, OSError and types of its own.
        raise _unreadable(shard.path, error) from error


_LOCKS = tuple(threading.Lock() for _ in range(_GROUPS_HELD))


@functools.lru_cache(maxsize=_GROUPS_HELD)
def _row_group(path: str, column: str, group: int) -> Any:
    """Reads the encoded images of a row group, an array of pyarrow."""
    import pyarrow as pa

    try:
        images = pa.chunked_array(_chunks(path, column, group))
        _check_rows(len(images), _metadata(path).row_group(group).num_rows)
        return images
    except InputError:
        raise
    except Exception as error:  # pyarrow raises ValueError, OSError and types of its own.
        raise _unreadable(path, error) from error


def _chunks(path: str, column: str, group: int) -> Iterator[Any]:
    """Yields the images some at a time, because the file may state too small a size."""
    import pyarrow as pa
    from pyarrow import parquet

    size = 0
    with parquet.ParquetFile(path, metadata=_metadata(path)) as file:
        for batch in file.iter_batches(64, [group], [column], use_threads=False):
            (values,) = batch.columns
            size += values.nbytes
            if size > 2 * _MAX_GROUP:
                raise _too_large(path, f"more than {size:,}")
            # Flattening a struct also gives its field the nulls of the struct.
            yield values.flatten()[0] if pa.types.is_struct(values.type) else values


def _check_rows(found: int, stated: int) -> None:
    if found != stated:
        raise ValueError(f"it states {stated:,} rows, and {found:,} are there")


def _too_large(path: str | Path, size: str) -> InputError:
    return InputError(
        f"{path}: one of its row groups has {size} bytes of images, expected at most "
        f"{_MAX_GROUP:,}, because an image is read with its whole row group: write the file with "
        "row_group_size=100"
    )


def _unreadable(path: str | Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"{path}: cannot be read as a parquet file ({type(error).__name__}: {reason}); it is cut "
        "short or damaged: download it again"
    )
