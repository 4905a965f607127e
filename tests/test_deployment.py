"""Exported files: same predictions as the workdir, and no need of this package."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from cli import export, main
from faults import one_line, refused
from PIL import Image

import iamt_jax
from iamt_jax.errors import InputError
from iamt_jax.inference import exported as file_format
from iamt_jax.inference.classifier import load
from iamt_jax.inference.exported import METADATA, ExportedClassifier, pack, read_exported
from iamt_jax.metrics.classification import thresholds

DOCUMENT = Path(__file__).parents[1] / "docs/deploy.md"
PROGRAMS = ("curve.jaxexport", "automatic.jaxexport")


@pytest.fixture(scope="module")
def workdir(finished, tmp_path_factory):
    """Copy of the finished run, calibrated and exported by the command line."""
    workdir = tmp_path_factory.mktemp("exported") / "W"
    shutil.copytree(finished, workdir)
    assert main(["calibrate", "--workdir", str(workdir)]) == 0
    assert main(["export", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def path(workdir):
    return workdir / "model.iamt"


@pytest.fixture(scope="module")
def exported(path):
    return read_exported(path)


@pytest.fixture(scope="module")
def classifier(workdir):
    return load(workdir)


def pictures(count, size=(40, 36)):
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3)).astype(np.uint8)


def members(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [1, 5, 130])
def test_any_batch_is_judged_as_by_the_workdir(exported, classifier, count):
    images = pictures(count)
    ways = [{}, {"n": 4, "beta": 0.5}, {"n": 0, "beta": 1}, {"n": 2.5}, {"auto": True}]
    for how in ways:
        found = exported(images, **how)
        assert found.shape == (count, 40) and found.dtype == np.float32
        np.testing.assert_allclose(found, classifier(images, **how), rtol=0, atol=1e-5)


def test_noisy_floats_and_single_images_too(exported, classifier):
    noisy = pictures(2) / np.float32(255) + np.float32(0.2)
    for how in ({"n": 3, "beta": 0.2}, {"auto": True}):
        found = exported(noisy[0], **how)
        np.testing.assert_allclose(found, classifier(noisy[0], **how), rtol=0, atol=1e-5)
        assert found.shape == (40,)


def test_an_exported_file_is_loaded_like_a_workdir(path, classifier, tmp_path):
    loaded = iamt_jax.load(str(path))
    end = f"step {classifier.step}, 40 attributes, 32 px, calibrated)"
    assert repr(loaded) == f"ExportedClassifier({str(path)!r}, {end}"
    assert repr(classifier).endswith(end)
    for name in ("attributes", "size", "step", "thresholds", "own_beta", "is_calibrated"):
        assert getattr(loaded, name) == getattr(classifier, name)
    images = pictures(3)
    Image.fromarray(images[0]).save(tmp_path / "x.png")
    mixed = [tmp_path / "x.png", *images[1:]]
    same = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(loaded(mixed, n=2), classifier(images, n=2), **same)
    np.testing.assert_allclose(loaded.predict_proba(images[0]), classifier(images[:1]), **same)
    assert loaded.top(mixed[0], 3) == [
        (name, pytest.approx(p, abs=1e-5)) for name, p in classifier.top(images[0], 3)
    ]
    for some in (images, images[0]):
        grid = loaded.sweep(some, [1, 4], [0, 0.5])
        np.testing.assert_allclose(grid, classifier.sweep(some, [1, 4], [0, 0.5]), **same)


def test_decisions_follow_the_thresholds_of_the_file(path):
    loaded = iamt_jax.load(path)
    loaded.thresholds = tuple(np.random.default_rng(0).random(40))
    np.testing.assert_array_equal(
        loaded.predict(pictures(3)), loaded(pictures(3)) > np.array(loaded.thresholds)
    )


@pytest.mark.parametrize("name", ["explain", "logits", "masks", "network", "transformation"])
def test_methods_that_need_the_network_are_refused_in_one_line(name, exported):
    parts = "is an exported file", f"has no {name}", "load the workdir"
    one_line(lambda: getattr(exported, name), *parts)
    assert hasattr(iamt_jax.Classifier, name) and not hasattr(exported, "_repr_html_")


def test_another_curve_compiles_nothing(exported):
    images = pictures(1)
    exported(images)
    run = exported.program("curve")
    compiled = run._cache_size()
    assert not np.array_equal(exported(images, n=3.5, beta=0.25), exported(images))
    assert run._cache_size() == compiled


def test_the_metadata_says_how_to_use_it(path, exported, classifier):
    content, metadata = members(path), exported.metadata
    assert (metadata["format"], metadata["version"]) == ("iamt", 1)
    assert tuple(metadata["attributes"]) == exported.attributes == classifier.attributes
    assert metadata["input"]["shape"] == ["batch", 32, 32, 3] and exported.size == 32
    assert metadata["input"]["range"] == [0, 1] and metadata["input"]["dtype"] == "float32"
    assert metadata["thresholds"] == [0.5] * 40 == list(exported.thresholds)
    assert metadata["platforms"] == ["cpu", "cuda", "tpu"]
    assert set(metadata["programs"]) == {"curve", "automatic"}
    assert metadata["network"]["identity"] == classifier.identity
    assert metadata["made_with"]["versions"]["jax"] == jax.__version__
    digests = {name: hashlib.sha256(content[name]).hexdigest() for name in PROGRAMS}
    assert metadata["sha256"] == digests and set(content) == {METADATA, *PROGRAMS}
    for name in PROGRAMS:
        assert jax.export.deserialize(bytearray(content[name])).platforms == ("cpu", "cuda", "tpu")


def test_the_same_programs_give_the_same_bytes(path, exported):
    content = members(path)
    programs = {name.removesuffix(".jaxexport"): content[name] for name in PROGRAMS}
    own = {"format", "version", "sha256"}
    assert pack({k: v for k, v in exported.metadata.items() if k not in own}, programs) == (
        path.read_bytes()
    )


def test_thresholds_are_chosen_on_the_validation_split(
    workdir, path, dataset, tmp_path, monkeypatch
):
    content = members(path)
    programs = "iamt_jax.export.programs"
    monkeypatch.setattr(f"{programs}.curve_program", lambda *_: content[PROGRAMS[0]])
    monkeypatch.setattr(f"{programs}.automatic_program", lambda *_: content[PROGRAMS[1]])
    out = tmp_path / "f1.iamt"
    arguments = ["--workdir", workdir, "--out", out, "--thresholds", "f1", "--batch-size", 8]
    assert export(list(map(str, arguments))) == 0
    records = dataset.split("validation")
    encoded = [opened(records.read(i)) for i in range(len(records))]
    expected = thresholds(load(workdir)(encoded), records.labels, "f1")
    found = np.array(read_exported(out).thresholds)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found != 0.5).any()


def opened(data):
    return Image.open(io.BytesIO(data))


def test_a_network_that_differs_is_not_written(workdir, path, tmp_path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(
        file_format.ExportedClassifier, "__call__", lambda *_, **__: np.zeros((2, 40))
    )
    for program in ("curve_program", "automatic_program"):
        monkeypatch.setattr(f"iamt_jax.export.programs.{program}", lambda *_: b"")
    with pytest.raises(RuntimeError, match="differ by 0"):
        export(["--workdir", str(workdir)])
    assert path.read_bytes() == before and not list(workdir.glob(".model*"))


def edited(**changes):
    """The file with other metadata."""

    def damage(content):
        metadata = json.loads(content[METADATA]) | changes
        return zipped(content | {METADATA: json.dumps(metadata)})

    return damage


def without(name):
    return lambda content: zipped({k: v for k, v in content.items() if k != name})


FAULTS = {
    "empty": (lambda _: b"", "File is not a zip file"),
    "a web page": (lambda _: b"<!DOCTYPE html>", "File is not a zip file"),
    "cut short": (lambda content: zipped(content)[:-100], "File is not a zip file"),
    "another zip": (
        lambda _: zipped({"a.txt": b""}),
        "lacks \"There is no item named 'metadata.json' in the archive\"",
    ),
    "a later version": (edited(version=2), "it is iamt 2, expected iamt 1"),
    "another format": (edited(format="onyx"), "it is onyx 1, expected iamt 1"),
    "no input": (edited(input={}), "lacks 'size'"),
    "a changed program": (
        lambda content: zipped(content | {PROGRAMS[0]: content[PROGRAMS[0]][:-1] + b"x"}),
        "the checksum of curve.jaxexport is wrong",
    ),
    "a program missing": (
        without(PROGRAMS[1]),
        "lacks \"There is no item named 'automatic.jaxexport' in the archive\"",
    ),
    "no program": (edited(sha256={}), "it has no program curve"),
    "metadata is no JSON": (
        lambda content: zipped(content | {METADATA: b"{"}),
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_is_refused_in_one_line(fault, path, tmp_path):
    damage, reason = FAULTS[fault]
    bad = tmp_path / "bad.iamt"
    bad.write_bytes(damage(members(path)))
    with pytest.raises(InputError) as caught:
        read_exported(bad)
    assert str(caught.value) == (
        f"{bad}: not an exported network of this version ({reason}); write it anew with "
        f"python -m iamt_jax export --workdir W --out {bad}"
    )


def test_a_flipped_bit_is_found(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    one_line(
        lambda: ExportedClassifier(bytes(content), "bad.iamt"), "bad.iamt: not an exported network"
    )


def test_a_program_of_another_jax_is_refused_in_one_line(path, exported, monkeypatch):
    program = b"what no jax wrote"
    strange = ExportedClassifier(pack(exported.metadata, {"curve": program}), "strange.iamt")
    message = one_line(
        lambda: strange(pictures(1)), f"strange.iamt: was written with jax {jax.__version__}"
    )
    assert message.endswith("or export again with this one")

    class Old:
        nr_devices = 0

    # As jax 0.8.1 reads files of 0.8.2 and later.
    monkeypatch.setattr(file_format.export, "deserialize", lambda _: Old())
    one_line(lambda: read_exported(path)(pictures(1)), "it finds a program for 0 devices")


def test_what_it_cannot_judge_is_refused(exported):
    one_line(lambda: exported(pictures(1), n=-1), "`n`: found -1, expected numbers from 0")
    one_line(lambda: exported(pictures(1), beta=[0.1, 0.2]), "`beta`: its shape is (2,)")
    one_line(lambda: exported(pictures(1), auto=True, n=2), "`auto`: it chooses the curves itself")
    one_line(lambda: exported(pictures(1)[..., :2]), "images[0]: its shape")


GRIDS = {
    "`n_values`: its shape is (0,), expected a list of one number at least": ([], [0]),
    "`beta_values`: its shape is (1, 2), expected a list of one number": ([1], [[0, 1]]),
    "`n_values`: found [[1, 2], [3]], expected numbers": ([[1, 2], [3]], [0]),
    "`beta_values`: found [2], expected numbers from 0 to 1": (1, [2]),
}


@pytest.mark.parametrize("message", GRIDS)
def test_a_grid_is_two_lists_of_numbers(message, path, exported, finished):
    for model in (exported, iamt_jax.load(finished)):
        one_line(lambda model=model: model.sweep(pictures(1), *GRIDS[message]), message)


def test_without_a_calibration_there_is_no_auto(path, exported):
    curve_only = pack(exported.metadata, {"curve": members(path)[PROGRAMS[0]]})
    one_line(
        lambda: ExportedClassifier(curve_only, "m.iamt")(pictures(1), auto=True),
        "m.iamt: was exported without a calibration, which auto needs",
    )


ALONE = """\
import sys
for name in ("iamt_jax", "flax", "optax", "orbax", "PIL", "jaxtyping", "absl"):
    sys.modules[name] = None  # Whoever imports it, fails.
"""


def test_the_lines_of_the_documentation_run_without_this_package(path, classifier, tmp_path):
    snippets = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
    _, snippet, automatic = snippets[:3]  # The first writes images.npy, and has its own test.
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    images = pictures(3, (32, 32))
    np.save(tmp_path / "images.npy", images)
    shutil.copy(path, tmp_path / "model.iamt")
    saved = 'np.savez("found.npz", probabilities=probabilities, robust=robust, sigma=sigma)\n'
    (tmp_path / "alone.py").write_text(ALONE + snippet + automatic + saved)
    done = subprocess.run(
        [sys.executable, "alone.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "5_o_Clock_Shadow" in done.stdout
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["probabilities"], classifier(images), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["robust"], classifier(images, auto=True), rtol=0, atol=1e-5)
    assert found["sigma"].shape == (3,) and (found["sigma"] > 0).all()


@pytest.mark.slow
def test_onnx_says_what_the_workdir_says(finished, tmp_path, capsys):
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    import onnx
    import onnxruntime

    out = tmp_path / "model.onnx"
    assert export(["--workdir", str(finished), "--out", str(out)]) == 0
    classifier = load(finished)
    assert f"wrote {out}" in capsys.readouterr().out
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_inputs()] == ["images", "n", "beta"]
    for count in (1, 5):
        images = pictures(count, (32, 32)) / np.float32(255)
        for n, beta in ((1, 0), (4, 0.5), (0, 1)):
            curve = {"n": np.array(n, np.float32), "beta": np.array(beta, np.float32)}
            (found,) = session.run(["probabilities"], {"images": images} | curve)
            np.testing.assert_allclose(found, classifier(images, n=n, beta=beta), rtol=0, atol=1e-4)
    told = {x.key: json.loads(x.value) for x in onnx.load(out).metadata_props}
    assert tuple(told["attributes"]) == classifier.attributes
    assert told["input"]["shape"] == ["batch", 32, 32, 3]
    assert told["thresholds"] == [0.5] * 40


def test_onnx_without_its_extra_is_one_line(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    arguments = ["--workdir", finished, "--out", tmp_path / "model.onnx"]
    refused(capsys, export, arguments, "--out: ", "pip install 'iamt-jax[onnx]'")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_benchmark_says_what_it_promises(workdir, path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(DOCUMENT.parents[1] / "benchmarks")
    import export as benchmark
    import measure

    monkeypatch.setattr(measure, "SHORTEST", 0)
    benchmark.main(benchmark.Arguments(workdir, path, batches=(1, 2), repeats=1))
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"{name}, batch {batch}" for name in ("curve", "automatic") for batch in (1, 2)
    ]
    number = r"(\d+\.\d+)"
    for line in lines:
        told = rf"ms an image workdir {number}, iamt {number}; ratio iamt {number}; {number} MB"
        assert all(float(x) > 0 for x in re.search(told, line).groups())
