"""Synthetic faces: statistics and rules of the labels, pure rendering, files on disk."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from iamt_jax.attributes import CELEBA_ATTRIBUTES, celeba_statistics
from iamt_jax.errors import InputError
from iamt_jax.synthetic import (
    LOCAL_ATTRIBUTES,
    ensure_dataset,
    faces_folder,
    region,
    render,
    rendered,
    sample_attributes,
    sample_nuisance,
    write_dataset,
)
from iamt_jax.synthetic.scene import Scene

COLUMN = {name: column for column, name in enumerate(CELEBA_ATTRIBUTES)}
COUNTS = {"train": 9, "validation": 3, "test": 4}


@pytest.fixture(scope="module")
def labels():
    return sample_attributes(np.random.default_rng(1), 20_000)


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(3)
    return sample_attributes(rng, 40), sample_nuisance(rng, 40)


def test_statistics_are_celebas_own():
    """Counted from list_attr_celeba.txt; the digest covers all other numbers."""
    statistics = celeba_statistics()
    assert statistics["images"] == {"train": 162_770, "validation": 19_867, "test": 19_962}
    male = CELEBA_ATTRIBUTES.index("Male")
    assert [count[male] for count in statistics["positives"].values()] == [68_261, 8_458, 7_715]
    content = json.dumps([statistics["positives"], statistics["phi"]], sort_keys=True)
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == "56261b85d77e189c"


def test_marginals_follow_celeba(labels):
    statistics = celeba_statistics()
    target = np.array(statistics["positives"]["train"]) / statistics["images"]["train"]
    np.testing.assert_allclose(labels.mean(axis=0), target, atol=0.015)


def test_correlations_follow_celeba(labels):
    phi = np.corrcoef(labels.T.astype(float))
    apart = ~np.eye(len(phi), dtype=bool)
    assert np.abs(phi - celeba_statistics()["phi"])[apart].mean() <= 0.05


def test_majority_class_leaves_something_to_learn(labels):
    share = labels.mean(axis=0)
    assert np.maximum(share, 1 - share).mean() <= 0.81


@pytest.mark.parametrize(
    "one, others",
    [
        ("No_Beard", ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")),
        ("Bald", ("Bangs", "Straight_Hair", "Wavy_Hair")),
        ("Bald", ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")),
        ("Wearing_Hat", ("Bald", "Receding_Hairline")),
        ("Straight_Hair", ("Wavy_Hair",)),
        ("Bangs", ("Receding_Hairline",)),
    ],
)
def test_no_face_contradicts_itself(labels, one, others):
    for other in others:
        assert not np.any(labels[:, COLUMN[one]] & labels[:, COLUMN[other]]), other


def test_hair_has_one_colour_at_most(labels):
    colours = [COLUMN[f"{colour}_Hair"] for colour in ("Black", "Blond", "Brown", "Gray")]
    assert labels[:, colours].sum(axis=1).max() == 1


def test_first_faces_stay_when_more_are_drawn():
    few, many = (sample_attributes(np.random.default_rng(3), count) for count in (10, 50))
    np.testing.assert_array_equal(few, many[:10])
    few, many = (sample_nuisance(np.random.default_rng(3), count) for count in (10, 50))
    for name, values in vars(few).items():
        np.testing.assert_array_equal(values, getattr(many, name)[:10])


def test_render_is_pure_and_independent_of_the_batch(faces):
    attributes, nuisance = faces
    before = attributes.copy(), {name: values.copy() for name, values in vars(nuisance).items()}
    together = render(attributes, nuisance, 64)
    assert together.shape == (40, 64, 64, 3) and together.dtype == np.uint8
    np.testing.assert_array_equal(together, render(attributes, nuisance, 64))
    order = np.random.default_rng(4).permutation(40)
    apart = [render(attributes[part], nuisance[part], 64) for part in np.split(order, [1, 4, 30])]
    np.testing.assert_array_equal(together[order], np.concatenate(apart))
    np.testing.assert_array_equal(attributes, before[0])
    for name, values in vars(nuisance).items():
        np.testing.assert_array_equal(values, before[1][name])


def test_windows_cut_nothing(faces, monkeypatch):
    expected = render(*faces, 64)
    everywhere = slice(None)
    monkeypatch.setattr(Scene, "_window", lambda scene, *_: (everywhere, everywhere, scene.images))
    np.testing.assert_array_equal(render(*faces, 64), expected)


def test_any_combination_of_attributes_renders():
    nuisance = sample_nuisance(np.random.default_rng(5), 6)
    rng = np.random.default_rng(6)
    wild = np.concatenate([np.zeros((1, 40)), np.ones((1, 40)), rng.integers(0, 2, (4, 40))])
    images = render(wild.astype(bool), nuisance, 48)
    assert images.std(axis=(1, 2, 3)).min() > 10


def test_another_size_shows_the_same_face(faces):
    attributes, nuisance = faces[0][:8], faces[1][:8]
    small = render(attributes, nuisance, 64).astype(float)
    large = render(attributes, nuisance, 128).astype(float)
    pooled = large.reshape(8, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    # Edges, grain and defocus are defined in pixels and differ slightly.
    assert np.abs(pooled - small).mean() < 6


@pytest.mark.parametrize("name", CELEBA_ATTRIBUTES)
def test_every_attribute_has_a_region(faces, name):
    areas = region(*faces, COLUMN[name], 48).mean(axis=(1, 2))
    # Not on all images: on a bald head wavy hair is invisible.
    assert (areas > 0).mean() >= 0.95
    if name in LOCAL_ATTRIBUTES:
        assert areas.max() < 0.25
    else:
        assert areas.mean() > 0.15


@pytest.mark.parametrize(
    "name, top, bottom",
    [("Eyeglasses", 0.25, 0.62), ("Wearing_Hat", 0.0, 0.5), ("Wearing_Necktie", 0.65, 1.0)],
)
def test_regions_are_at_the_expected_heights(faces, name, top, bottom):
    attributes, nuisance = faces
    sharp = ~attributes[:, COLUMN["Blurry"]]
    changed = region(attributes[sharp], nuisance[sharp], COLUMN[name], 64)
    rows = changed.sum(axis=(0, 2))
    assert rows[int(top * 64) : int(bottom * 64)].sum() >= 0.98 * rows.sum()


def test_region_does_not_depend_on_the_direction_of_the_flip(faces):
    attributes, nuisance = faces[0][:5], faces[1][:5]
    k = COLUMN["Mustache"]
    flipped = attributes.copy()
    flipped[:, k] ^= True
    np.testing.assert_array_equal(
        region(attributes, nuisance, k, 64), region(flipped, nuisance, k, 64)
    )


@pytest.mark.parametrize("rows, size", [(5, 16), (4, 64)])
def test_bad_arguments_are_refused(faces, rows, size):
    with pytest.raises(InputError):
        render(faces[0][:rows], faces[1][:5], size)


def test_official_layout(tmp_path):
    write_dataset(tmp_path / "faces", COUNTS, seed=7, size=32, progress=False)
    count, names, *rows = (tmp_path / "faces/Anno/list_attr_celeba.txt").read_text().splitlines()
    assert int(count) == len(rows) == 16
    assert tuple(names.split()) == CELEBA_ATTRIBUTES
    files = [f"{number:06d}.jpg" for number in range(1, 17)]
    assert [row.split()[0] for row in rows] == files
    written = np.array([[int(value) for value in row.split()[1:]] for row in rows])
    drawn = sample_attributes(np.random.default_rng([7, 0, 0]), 9)
    np.testing.assert_array_equal(written[:9], np.where(drawn, 1, -1))

    partition = (tmp_path / "faces/Eval/list_eval_partition.txt").read_text().split()
    assert partition[::2] == files
    assert [int(split) for split in partition[1::2]] == [0] * 9 + [1] * 3 + [2] * 4

    with zipfile.ZipFile(tmp_path / "faces/Img/img_align_celeba.zip") as archive:
        assert archive.namelist() == [f"img_align_celeba/{file}" for file in files]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        first = np.asarray(Image.open(io.BytesIO(archive.read(archive.namelist()[0]))))
    nuisance = sample_nuisance(np.random.default_rng([7, 0, 1]), 9)
    painted = render(drawn, nuisance, 32)[0]
    assert np.abs(first.astype(int) - painted).mean() < 4  # The loss of JPEG.
    record = json.loads((tmp_path / "faces/synthetic.json").read_text())
    assert record["seed"] == 7 and record["size"] == 32 and record["counts"] == COUNTS


def test_bytes_depend_on_the_seed_and_not_on_the_chunk(tmp_path):
    def archive(name, seed, chunk):
        write_dataset(tmp_path / name, COUNTS, seed, 32, chunk=chunk, progress=False)
        return (tmp_path / name / "Img/img_align_celeba.zip").read_bytes()

    first = archive("a", 0, 2)
    assert archive("b", 0, 100) == first
    assert archive("c", 1, 100) != first


def test_a_partly_written_data_set_is_not_used(tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(rendered, "_encoded", fail)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "faces", COUNTS, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_existing_folders_and_unknown_splits_are_refused(tmp_path):
    with pytest.raises(InputError, match="exists"):
        write_dataset(tmp_path, COUNTS)
    with pytest.raises(InputError, match="dev"):
        write_dataset(tmp_path / "faces", {"dev": 3})
    with pytest.raises(InputError, match="one image at least"):
        write_dataset(tmp_path / "faces", {"train": 0})


def test_the_cache_renders_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IAMT_CACHE", str(tmp_path))
    folder = ensure_dataset(COUNTS, seed=3, size=32)
    assert folder == faces_folder(COUNTS, 3, 32) and folder.parent == tmp_path
    assert folder != faces_folder(COUNTS, 4, 32)
    monkeypatch.setattr(rendered, "write_dataset", None)
    capsys.readouterr()
    assert ensure_dataset(COUNTS, seed=3, size=32) == folder
    assert capsys.readouterr().out.count("\n") == 1
    # Other statistics give another data set.
    monkeypatch.setattr(rendered, "celeba_statistics", lambda: celeba_statistics() | {"phi": []})
    assert folder != faces_folder(COUNTS, 3, 32)
