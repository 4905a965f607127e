"""Data that change while a data set is open; faults from before are in the corpus."""

import layouts
import pytest
from faults import one_line

from iamt_jax.data.celeba import open_dataset

ZIP = "Img/img_align_celeba.zip"


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_zip_damaged_after_it_was_opened(tmp_path, change):
    path = layouts.write_official(tmp_path) / ZIP
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
