"""The cache of decoded images: same pixels, decoded once, and what ends or damages it."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from iamt_jax.config import DataConfig
from iamt_jax.data import cache
from iamt_jax.data.cache import CachedImages, cache_bytes, cached
from iamt_jax.data.celeba import open_dataset
from iamt_jax.data.dataset import EncodedImages
from iamt_jax.data.open import without_damaged
from iamt_jax.errors import InputError

SIZE = 24


@pytest.fixture
def records(dataset):
    return dataset.split("test")


@pytest.fixture
def config(tmp_path):
    return DataConfig(size=SIZE, cache=str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch):
    """Rows that were decoded since."""
    rows, own = [], EncodedImages.pictures

    def noted(self, some, size):
        rows.extend(some.tolist())
        return own(self, some, size)

    monkeypatch.setattr(EncodedImages, "pictures", noted)
    return rows


def the_file(config):
    (path,) = Path(config.cache).glob("*.images")
    return path


def test_the_pixels_are_those_of_decoding(records, config):
    every = slice(None)
    plain = records.pictures(every, SIZE)
    images = cached(records, config)
    assert isinstance(images.images, CachedImages)
    np.testing.assert_array_equal(images.pictures(every, SIZE), plain)
    np.testing.assert_array_equal(images.pictures(every, 16), records.pictures(every, 16))
    rows = np.array([5, 0, 5])
    np.testing.assert_array_equal(images.pictures(rows, SIZE), plain[rows])
    np.testing.assert_array_equal(images.take(rows).pictures(every, SIZE), plain[rows])
    np.testing.assert_array_equal(images.first(3).pictures(every, SIZE), plain[:3])
    images.pictures(rows, SIZE)[:] = 0  # A copy.
    np.testing.assert_array_equal(images.pictures(rows, SIZE), plain[rows])
    assert the_file(config).stat().st_size == cache_bytes(len(records), SIZE)


def test_each_image_is_decoded_once(records, config, decoded, capsys):
    for _ in range(2):
        cached(records, config).pictures(slice(None), SIZE)
    assert len(decoded) == len(records)
    said = capsys.readouterr().err
    assert f"decoding into {config.cache}" in said and "MiB" in said


def test_an_interrupted_call_is_continued(records, config, decoded, monkeypatch):
    monkeypatch.setattr(cache, "_CHUNK", 1)
    monkeypatch.setattr(cache, "DECODE_THREADS", 1)
    own = EncodedImages.pictures

    def stops(self, some, size):
        if len(decoded) == 5:
            raise KeyboardInterrupt
        return own(self, some, size)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(EncodedImages, "pictures", stops)
        cached(records, config)
    assert len(decoded) == 5
    images = cached(records, config)
    assert len(decoded) == len(records)
    np.testing.assert_array_equal(
        images.pictures(slice(None), SIZE), records.pictures(slice(None), SIZE)
    )


def test_a_damaged_image_of_the_cache_is_decoded_again(records, config, decoded):
    cached(records, config)
    with open(the_file(config), "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damage")
    decoded.clear()
    images = cached(records, config)
    assert len(decoded) == 1
    np.testing.assert_array_equal(
        images.pictures(slice(None), SIZE), records.pictures(slice(None), SIZE)
    )


def test_a_file_of_another_length_is_made_again(records, config):
    cached(records, config)
    os.truncate(the_file(config), 5000)
    images = cached(records, config)
    np.testing.assert_array_equal(
        images.pictures(slice(None), SIZE), records.pictures(slice(None), SIZE)
    )


def test_other_images_selections_and_sizes_have_files_of_their_own(dataset, tmp_path, config):
    copy = tmp_path / "copy"
    shutil.copytree(dataset.root, copy)
    one = open_dataset(copy)
    cached(one.split("test"), config)
    cached(one.split("validation"), config)
    cached(one.split("test"), dataclasses.replace(config, size=16))
    cached(one.split("test").take(np.arange(3)), config)
    files = set(Path(config.cache).glob("*.images"))
    assert len(files) == 4
    (archive,) = copy.rglob("img_align_celeba.zip")
    os.utime(archive, ns=(1, 1))
    cached(open_dataset(copy).split("test"), config)
    assert len(set(Path(config.cache).glob("*.images"))) == 5


@pytest.mark.parametrize("gib", [1e-6, 16])
def test_too_large_a_cache_is_told_and_left_out(gib, records, config, monkeypatch, capsys):
    if gib == 16:
        full = shutil._ntuple_diskusage(1, 1, 1000)
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: full)
    config = dataclasses.replace(config, cache_gib=gib)
    assert cached(records, config) is records
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: `data.cache_gib` {gib:g}: {len(records)} decoded images need")
    assert line.endswith("decoding them again in every epoch")


def test_without_a_limit_of_0_nothing_is_written(records, config):
    assert cached(records, dataclasses.replace(config, cache_gib=0)) is records
    assert not Path(config.cache).exists()


def test_a_folder_that_cannot_be_written_is_one_line(records, config, tmp_path):
    (tmp_path / "file").write_text("")
    config = dataclasses.replace(config, cache=str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="`data.cache` .*file/cache: cannot be written"):
        cached(records, config)


@pytest.mark.parametrize("limit", [0, 1])
def test_a_damaged_photograph(limit, dataset, config, tmp_path):
    """It ends the call, or is left for `without_damaged`."""
    records = dataset.split("test")

    class Damaged(EncodedImages):
        location, stamp = records.images.location, records.images.stamp

        def read(self, index):
            return b"no image" if index == 2 else dataset.split("test").read(index)

    records = dataclasses.replace(records, images=Damaged())
    config = dataclasses.replace(config, damaged_limit=limit)
    if not limit:
        with pytest.raises(InputError, match="cannot be decoded"):
            cached(records, config)
        return
    for _ in range(2):
        kept, left_out = without_damaged(cached(records, config), SIZE, 1)
        assert left_out == (records.names[2],)
        rest = np.delete(np.arange(len(records)), 2)
        np.testing.assert_array_equal(
            kept.pictures(slice(None), SIZE), records.pictures(rest, SIZE)
        )
