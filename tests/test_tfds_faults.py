"""An unusable folder or download of tensorflow-datasets gives one line that says what to do."""

import json

import layouts
import pytest
from faults import one_line

from iamt_jax.data import tfds
from iamt_jax.data.celeba import download, open_dataset


def prepared_folder(root, *files):
    folder = root / "celeb_a/2.1.0"
    folder.mkdir(parents=True)
    info = {"name": "celeb_a", "version": "2.1.0", "fileFormat": "tfrecord", "splits": []}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text("{}")
    for file in files:
        (folder / file).write_bytes(b"")
    return folder


@pytest.mark.parametrize("give", ["data_dir", "version", "download"])
def test_a_tfrecord_folder_says_how_to_convert_it(tmp_path, give):
    folder = prepared_folder(tmp_path, "celeb_a-train.tfrecord-00000-of-00001")
    opening = {
        "data_dir": lambda: open_dataset(tmp_path),
        "version": lambda: open_dataset(folder),
        "download": lambda: download("celeb_a", tmp_path),
    }
    one_line(
        opening[give],
        f"{folder}: is in TFRecord format",
        f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record",
    )


def test_the_command_that_converts_exists():
    """Reads the module's source, because importing it needs TensorFlow and Beam."""
    cli = pytest.importorskip("tensorflow_datasets").__path__[0] + "/scripts/cli/convert_format.py"
    with open(cli) as file:
        text = file.read()
    assert "dataset_version_dir: " in text and "out_file_format: " in text


def test_incomplete_prepared_folders(tmp_path):
    folder = prepared_folder(tmp_path / "empty")
    one_line(lambda: open_dataset(folder), folder, "holds no *.array_record* file")
    folder = prepared_folder(tmp_path / "damaged", "celeb_a-train.array_record-00000-of-00001")
    (folder / "features.json").write_text("{broken")
    one_line(lambda: open_dataset(folder), folder, "features.json", "cannot be read")
    root = layouts.write_prepared(tmp_path / "lost")
    dataset = open_dataset(root)
    (shard,) = (root / "celeb_a/2.1.0").glob("*-test.array_record*")
    shard.write_bytes(shard.read_bytes()[:300])
    one_line(lambda: dataset.split("test"), shard.parent, "test split cannot be read")


def test_download_says_what_to_do_instead(tmp_path, monkeypatch):
    one_line(lambda: download("mnist", tmp_path), "`data.name` mnist", "celeb_a", "`data.root`")
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: None)
    by_hand = ("pip install tensorflow", "by hand", f"`data.root` {tmp_path / 'celeba'}")
    one_line(lambda: download("celeb_a", tmp_path), "`data.name` celeb_a", tmp_path, *by_hand)


def test_a_refused_download_says_what_to_do_instead(tmp_path, monkeypatch):
    import tensorflow_datasets

    class Refused:
        def download_and_prepare(self):
            raise tensorflow_datasets.download.NonMatchingChecksumError("quota\nexceeded")

    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda *args, **options: Refused())
    one_line(
        lambda: download("celeb_a", tmp_path),
        "NonMatchingChecksumError",
        "Google Drive",
        f"`data.root` {tmp_path / 'celeba'}",
    )
