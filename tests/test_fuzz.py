"""Whatever comes from outside is either read rightly or refused in one line, nothing else.

IAMT_FUZZ=5000 draws so many examples a property, at random; without it a few, always the same.
"""

import dataclasses
import json
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import fuzz_strategies as fz
import jax
import numpy as np
import pytest
from fuzz_strategies import accepted, fits, fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iamt_jax.commands.calibrate import CalibrateArguments
from iamt_jax.commands.evaluate import EvaluateArguments
from iamt_jax.commands.flags import one_line, parse
from iamt_jax.commands.train import TrainArguments
from iamt_jax.config import PRESETS, Config, check
from iamt_jax.data import decode, image_files
from iamt_jax.data.label_files import read_labels, read_partitions
from iamt_jax.robust import CALIBRATION_FILE
from iamt_jax.robust.calibration_file import read_calibration, write_calibration
from iamt_jax.robust.denoiser import PatchPrior
from iamt_jax.robust.noise_level import Levels
from iamt_jax.robust.recogniser import Recogniser
from iamt_jax.robust.restorer import Basis, Inverse, Restorer
from iamt_jax.robust.treatment import Transformation
from iamt_jax.runs.run_file import RUN, Run, read_run, write_run

suffixes = st.sampled_from((".txt", ".csv"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all examples: a file in it is written again and again."""
    return tmp_path_factory.mktemp("fuzz")


# Lists.


def check_labels(labels):
    assert labels.values.dtype == np.int8 and labels.values.size
    assert labels.values.shape == (len(labels.names), len(labels.attributes))
    assert set(labels.values.flat) <= {-1, 0, 1}
    for names in (labels.names, labels.attributes):
        assert len(set(names)) == len(names) and all(isinstance(name, str) for name in names)


def check_partitions(partitions):
    assert partitions and set(partitions.values()) <= {0, 1, 2}
    assert all(isinstance(name, str) for name in partitions)


@fuzz
@given(data=st.data(), suffix=suffixes)
@pytest.mark.parametrize(
    ("read", "check_result", "table"),
    [
        (read_labels, check_labels, fz.LABELS),
        (read_partitions, check_partitions, fz.PARTITIONS),
    ],
    ids=["labels", "partitions"],
)
def test_a_damaged_list_is_read_or_refused(folder, read, check_result, table, data, suffix):
    path = folder / f"list{suffix}"
    junk = st.binary() | st.text().map(str.encode) | fz.mutated(fz.written(suffix, table).encode())
    path.write_bytes(
        data.draw(fz.odd_lists(suffix, table) if data.draw(st.integers(0, 3)) else junk)
    )
    result = accepted(lambda: read(path), path)
    if result is not None:
        check_result(result)


@fuzz
@given(data=st.data(), suffix=suffixes, images=st.integers(1, 6))
def test_a_whole_list_is_read_as_it_was_written(folder, data, suffix, images):
    # Commas, quotes and blanks within are data in a .csv; in a .txt white space ends a cell.
    odd = st.text(min_size=1, max_size=8).map("b{}".format)
    words = odd.filter(
        lambda x: x.split("\n" if suffix == ".csv" else None) == [x.strip()] and "\r" not in x
    )
    names = data.draw(st.lists(words, min_size=images, max_size=images, unique=True))
    attributes = data.draw(st.lists(fz.word, min_size=1, max_size=4, unique=True))
    some = st.sampled_from(data.draw(st.sampled_from(([-1, 1], [0, 1], [-1, 0, 1]))))
    values = data.draw(hnp.arrays(np.int8, (images, len(attributes)), elements=some))
    cells = values.astype(str).tolist()
    rows = [["image_id", *attributes], *([n, *row] for n, row in zip(names, cells, strict=True))]
    path = folder / f"whole{suffix}"
    path.write_bytes(fz.written(suffix, rows).encode())
    labels = read_labels(path)
    assert (labels.attributes, labels.names) == (tuple(attributes), tuple(names))
    meaning = {1: 1, -1: 0, 0: -1} if (values == -1).any() else {1: 1, 0: 0}
    assert labels.values.tolist() == [[meaning[x] for x in row] for row in values.tolist()]


# Archives.


@pytest.fixture(scope="module")
def cell(folder):
    """A folder that holds nothing but an archive, so that a path out of it shows."""
    (folder / "cell").mkdir()
    return folder / "cell"


def images_of(path, content, names):
    """What comes out of an archive, without much memory and without a file beside it."""
    path.write_bytes(content)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_files, "MAX_BYTES", 2**20)
        tracemalloc.start()
        try:
            opened = accepted(lambda: image_files.open_zip(path, names), path)
            for i, name in enumerate(names if opened and not opened[1].absent else ()):
                found[name] = accepted(lambda i=i: opened[0].read(i), path)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == content
    return {name: data for name, data in found.items() if data is not None}


@fuzz
@given(fz.damaged_archives | fz.lying_archives() | st.binary())
def test_a_damaged_archive_yields_whole_images_or_none(cell, content):
    for name in fz.IMAGES:
        for data in images_of(cell / "a.zip", content, [name]).values():
            if data != fz.IMAGES[name]:  # Then the directory says so, checksum and all.
                with zipfile.ZipFile(cell / "a.zip") as file:
                    info = next(x for x in file.infolist() if x.filename.endswith(name))
                assert (len(data), zlib.crc32(data)) == (info.file_size, info.CRC)


@fuzz
@given(fz.oddly_named_archives())
def test_names_of_an_archive_lead_nowhere(cell, drawn):
    content, names = drawn
    wanted = list({name.partition("\0")[0].rpartition("/")[2] for name in names})
    for data in images_of(cell / "a.zip", content, wanted).values():
        assert data in fz.IMAGES.values()


def test_an_image_unfolds_to_no_more_than_the_directory_says(cell):
    def change(infos):
        infos[0].file_size = 10

    content = fz.archive(zipfile.ZIP_DEFLATED, {"a.png": b"0" * 2**26}, change=change)
    assert images_of(cell / "a.zip", content, ["a.png"]) == {}


# Pictures.


@fuzz
@given(fz.damaged_pictures, st.sampled_from((1, 7, 16)))
def test_a_damaged_picture_is_decoded_or_refused(data, size):
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(decode, "MAX_PIXELS", 10**6)  # A header may ask for as many; it takes time.
        warnings.simplefilter("ignore")  # Pillow's, about metadata.
        pixels = accepted(lambda: decode.decode(data, size, "a/b.jpg"), "a/b.jpg: ")
    if pixels is not None:
        assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8
        assert pixels.flags.writeable


# A workdir.

WHOLE = Run(PRESETS["debug"], ("Bald", "Male"), (False, True))
RUN_TEXT = json.dumps(dataclasses.asdict(WHOLE))


@pytest.fixture(scope="module")
def workdir(folder):
    write_run(folder, WHOLE)
    return folder


@pytest.fixture(scope="module")
def calibration(workdir):
    """The content of a small one with every member."""
    levels = Levels(np.float32([0, 0.1]), np.float32([[0, 1], [0, 2]]), np.float32(0.5))
    prior = [np.ones(shape) for shape in ((1, 1, 6), (1, 1, 6, 2), (1, 1, 2), (1, 1))]
    shapes = (3, 2), (3, 2, 2), (3,), (3, 3), (3, 2), (3,)
    recogniser = Recogniser(*map(np.ones, shapes))
    basis = Basis(np.ones((2, 2, 3)), np.ones((12, 1)))
    inverses = Inverse(*(np.ones((2, *one)) for one in ((2, 2, 3), (1,), (1, 1), (2, 2, 2, 3))))
    restorer = Restorer(basis, inverses, np.ones(2), np.ones((2, 2, 3)))
    beta = np.ones((4, 2, 3))
    whole = Transformation(levels, PatchPrior(*prior), beta, recogniser, restorer)
    return write_calibration(workdir, whole, "this network").read_bytes()


@fuzz
@given(
    st.binary()
    | fz.mutated(RUN_TEXT.encode())
    | st.integers(1, 10**5).map(lambda depth: b"[" * depth)
    | (fz.odd_runs(RUN_TEXT) | fz.json_values.map(json.dumps)).map(str.encode)
)
def test_a_damaged_run_is_read_or_refused(workdir, content):
    (workdir / RUN).write_bytes(content)
    run = accepted(lambda: read_run(workdir), workdir / RUN)
    assert run is None or len(run.attributes) == len(run.majority)


@fuzz
@given(fz.odd_runs(RUN_TEXT))
def test_a_run_that_is_read_has_the_types_it_promises(workdir, text):
    (workdir / RUN).write_text(text)
    run = accepted(lambda: read_run(workdir), workdir / RUN)
    assert run is None or fits(run, Run)


@fuzz
@given(data=st.data())
def test_a_damaged_calibration_is_read_or_refused(workdir, calibration, data):
    odd = fz.odd_calibrations(calibration) | fz.mutated(calibration) | fz.odd_members | st.binary()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of a name twice, and of a number too large for float32.
        (workdir / CALIBRATION_FILE).write_bytes(data.draw(odd))
        found = accepted(
            lambda: read_calibration(workdir, "this network"), workdir / CALIBRATION_FILE
        )
    if found is not None:
        assert isinstance(found, Transformation)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))


# Flags.

TRAIN = TrainArguments(**vars(PRESETS["debug"]), workdir=Path("W"))


@fuzz
@given(fz.arguments("--workdir", "--images", "--data.root", "--n", "--beta", "--auto", "--no-auto"))
@pytest.mark.parametrize("kind", [CalibrateArguments, EvaluateArguments])
def test_any_flags_are_taken_or_refused(kind, arguments):
    found = accepted(lambda: parse(kind, arguments, "x.py"), most=10**5)
    assert found is None or fits(found, kind)


@settings(fuzz, max_examples=1 + fuzz.max_examples // 8)  # Each takes a tenth of a second.
@given(fz.arguments("--train.steps", "--model.widths", "--data.name", "--train.clip", "--loss"))
def test_any_settings_of_a_run_are_taken_or_refused(arguments):
    found = accepted(lambda: parse(TrainArguments, arguments, "x.py", TRAIN), most=10**5)
    if found is not None:
        assert fits(found, TrainArguments)
        config = Config(found.data, found.model, found.loss, found.train)
        accepted(lambda: check(config), "--", most=10**5)


@fuzz
@given(
    st.lists(st.sampled_from(("\u2502 \u2500\u2500", "\u2502 Unrecognized options:")) | fz.odd_text)
)
def test_any_box_becomes_one_line(rows):
    line = one_line("\n\u2502 ".join(rows), "x.py", ["train.steps"])
    assert len(line.splitlines()) == 1 and line.endswith("(python x.py --help lists all)")
