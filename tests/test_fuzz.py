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
from test_metrics import slow_twin

from iamt_jax.cli import CalibrateArguments, TrainArguments
from iamt_jax.config import PRESETS, Config, check
from iamt_jax.data import image, storage
from iamt_jax.data.labels import read_labels, read_partitions
from iamt_jax.evaluating import EvaluateArguments
from iamt_jax.evaluation import metrics
from iamt_jax.flags import one_line, parse
from iamt_jax.pooling import attention_pool
from iamt_jax.transformation.curve import contrast, tone_curve
from iamt_jax.transformation.denoise import PatchPrior
from iamt_jax.transformation.file import FILE, read_calibration, write_calibration
from iamt_jax.transformation.levels import Levels
from iamt_jax.transformation.whole import Transformation
from iamt_jax.workdir import RUN, Run, read_run, write_run

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
    # Commas, quotes and line ends are data in a .csv; in a .txt white space ends a cell.
    odd = st.text(min_size=1, max_size=8).map("b{}".format)
    words = odd.filter(lambda x: "\r" not in x if suffix == ".csv" else x.split() == [x])
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
        patch.setattr(storage, "MAX_BYTES", 2**20)
        tracemalloc.start()
        try:
            opened = accepted(lambda: storage.open_zip(path, names), path)
            for i, name in enumerate(names if opened and not opened[1] else ()):
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
        patch.setattr(image, "MAX_PIXELS", 10**6)  # A header may ask for as many; it takes time.
        warnings.simplefilter("ignore")  # Pillow's, about metadata.
        pixels = accepted(lambda: image.decode(data, size, "a/b.jpg"), "a/b.jpg: ")
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
    correction = {"stem": (np.ones((4, 2)), np.zeros((4, 2)))}
    whole = Transformation(levels, PatchPrior(*prior), correction, np.ones((4, 2, 3)))
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
    (workdir / FILE).write_bytes(data.draw(odd))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, where float32 cannot hold a number.
        found = accepted(lambda: read_calibration(workdir, "this network"), workdir / FILE)
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
    line = one_line("\n\u2502 ".join(rows), "x.py")
    assert len(line.splitlines()) == 1 and line.endswith("(python x.py --help lists all)")


# Numbers.

# XLA takes subnormal numbers for 0.
unit = st.floats(0, 1, width=32, allow_subnormal=False)
powers = st.floats(0, 16, width=32, allow_subnormal=False)
powers |= st.floats(0, float(np.finfo(np.float32).max), width=32, allow_subnormal=False)
logits = st.floats(-100, 100, width=32) | st.floats(-(2**-10), 2**-10, width=32)

curve = jax.jit(lambda mask, n, beta: (contrast(mask, n), tone_curve(mask, n, beta)))
slopes = jax.jit(jax.vmap(jax.grad(tone_curve, (0, 1, 2))))


@fuzz
@given(hnp.arrays(np.float32, (8, 2), elements=unit), hnp.arrays(np.float32, 8, elements=powers))
def test_the_tone_curve_holds_for_any_power(masks_and_betas, n):
    mask, beta = masks_and_betas.T
    h, g = curve(mask, n, beta)
    wide = np.float64(mask)
    tail = (2 * np.minimum(wide, 1 - wide)) ** n / 2
    expected = np.where(wide < 0.5, tail, 1 - tail)
    np.testing.assert_allclose(h, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(g, (1 + beta) * expected - beta, rtol=0, atol=3e-6)
    assert all(np.isfinite(x).all() for x in slopes(mask, np.minimum(n, 100), beta))


FORMS = ((None, None), ((), ()), ((3,), (2, 4, 3)), ((4, 3), None), ((2, 1, 1), (4, 1)))
"""Shapes of n and beta that attention pooling takes, for 2 images, 4 heads and 3 channels."""

pool = jax.jit(attention_pool)


@fuzz
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS), st.sampled_from((0, 0.1, 1, 30)))
def test_pooling_equals_float64_whatever_the_form_of_its_curve(seed, forms, scale):
    rng = np.random.default_rng(seed)
    f, w, a = (rng.normal(size=s).astype(np.float32) for s in ((2, 2, 3, 3), (4, 3, 3), (4, 3)))
    w, a = w * np.float32(scale), a * np.float32(scale)
    n = None if forms[0] is None else np.float32(10 ** rng.uniform(-3, 3, forms[0]))
    beta = None if forms[1] is None else rng.random(forms[1], np.float32)
    wide = np.float64(f).reshape(2, 6, 1, 3)
    z = np.einsum("bpc,kcd->bpkd", wide[:, :, 0], np.float64(w)) + a
    power = np.broadcast_to(np.float64(1 if n is None else n), (2, 4, 3))[:, None]
    b = np.broadcast_to(0 if beta is None else beta, (2, 4, 3))
    low = 1 / (1 + np.exp(abs(z)))
    tail = (2 * low) ** power / 2
    bent = np.where(z >= 0, 1 - tail, tail)
    expected = ((1 + (1 + b[:, None]) * bent - b[:, None]) * wide).mean(1)
    # To first order an error of z moves h by n * tail times as much.
    error = (abs(wide) * (1e-6 + power * tail * 1e-6 * (1 + 6 * scale))).mean(1)
    pooled, mask_l1 = pool(f, w, a, n, beta)
    assert (abs(pooled - expected) <= 4 * error).all()
    masks = np.where(z >= 0, 1 - low, low).sum((1, 3))
    np.testing.assert_allclose(mask_l1, masks, rtol=2e-6 * (1 + scale), atol=1e-5)


def _pool_ones(z, n, beta):
    ones = np.ones((1, 1, 1, len(z)), np.float32)
    return attention_pool(ones, np.zeros((1, len(z), len(z)), np.float32), z[None], n, beta)[0]


pool_ones = jax.jit(_pool_ones)
slopes_of_ones = jax.jit(jax.grad(lambda *x: _pool_ones(*x).sum(), (0, 1, 2)))


@fuzz
@given(hnp.arrays(np.float32, 8, elements=logits), powers, unit)
def test_a_pooled_curve_stays_in_its_range_for_any_power(z, n, beta):
    n, beta = np.float32(n), np.float32(beta)
    g = np.asarray(pool_ones(z, n, beta)[0, 0]) - 1
    assert (g >= -beta - 1e-5).all() and (g <= 1 + 1e-5).all()
    assert all(np.isfinite(x).all() for x in slopes_of_ones(z, n, beta))


# Metrics.


@fuzz
@given(fz.measured())
def test_metrics_stay_in_range_and_go_into_json(drawn):
    logits, labels, _ = drawn
    found = metrics.evaluate(*drawn, bootstrap=5)
    for name in metrics.METRICS:
        low = -1 if name == "gain" else 0
        ordered = (low, *found.interval[name], 1)
        values = [*found.attributes[name], found.average[name]]
        assert all(np.isnan(x) or low - 1e-12 <= x <= 1 + 1e-12 for x in values)
        assert np.isnan(ordered).any() or (np.diff(ordered) >= -1e-12).all()
    names = [f"attribute {k}" for k in range(labels.shape[1])]
    json.dumps(metrics.as_json(found, names), allow_nan=False)
    for name, value in metrics.summary(logits, labels).items():
        np.testing.assert_array_equal(value, found.average[name])


@fuzz
@given(fz.measured(), st.integers(1, 3))
def test_metrics_of_extreme_logits_copies_and_gaps(drawn, copies):
    """They equal those of ranks and of signs; copies and images without labels change none."""
    logits, labels, majority = drawn
    found = metrics.evaluate(*drawn, bootstrap=0).attributes
    for k, column in enumerate(logits.T):
        expected = slow_twin(np.sign(column), labels[:, k], majority[k])
        ranks = slow_twin(np.unique(column, return_inverse=True)[1], labels[:, k], majority[k])
        expected |= {"average_precision": ranks["average_precision"], "ece": found["ece"][k]}
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][k], value, atol=1e-12, err_msg=name)
    more = np.concatenate([logits] * copies + [logits[::-1]])
    known = np.concatenate([labels] * copies + [np.full_like(labels, -1)])
    after = metrics.evaluate(more, known, majority, bootstrap=0).attributes
    for name in metrics.METRICS:
        np.testing.assert_allclose(after[name], found[name], atol=1e-12, err_msg=name)
