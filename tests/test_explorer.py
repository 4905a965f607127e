"""The explorer without a browser: results for pictures and settings, HTML, port and headers."""

import asyncio
import importlib.metadata
import io
import logging
import os
import shutil
import socket
from pathlib import Path

import jax
import numpy as np
import pytest
from cli import explore, main
from PIL import Image

from iamt_jax.errors import InputError
from iamt_jax.explorer import drawing, serving
from iamt_jax.explorer.view import CURVE_POINTS, MASKS_SHOWN, QUANTILES, Settings, View
from iamt_jax.inference.classifier import load
from iamt_jax.robust.treatment import ToneCurve

SMILING = Settings("Smiling")


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """A copy of the finished run, calibrated by the command line."""
    workdir = tmp_path_factory.mktemp("explored") / "W"
    shutil.copytree(finished, workdir)
    assert main(["calibrate", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def classifier(calibrated):
    return load(calibrated)


@pytest.fixture(scope="module")
def view(classifier):
    view = View(classifier)
    view.warm_up()
    return view


@pytest.fixture(scope="module")
def face(view):
    return view.examples(2)[1]


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_a_curve_shows_what_the_classifier_says(view, classifier, face):
    result = view.compute(face, SMILING._replace(curve=ToneCurve(3.0, 0.4)))
    close(result.probabilities, classifier(face, n=3, beta=0.4))
    close(result.plain, classifier(face))
    assert result.chosen is None
    np.testing.assert_array_equal(result.noisy, face)
    np.testing.assert_array_equal(result.treated, face)
    why = classifier.explain(face, ["Smiling"], n=3, beta=0.4, top=MASKS_SHOWN)
    for ours, theirs in zip(result.explanation, why, strict=True):
        close(ours, theirs[0], 1e-4)


def test_the_curve_is_that_of_eq_7_and_8(view, face):
    h = np.where(
        CURVE_POINTS < 0.5, (2 * CURVE_POINTS) ** 3 / 2, 1 - (2 * (1 - CURVE_POINTS)) ** 3 / 2
    )
    result = view.compute(face, SMILING._replace(curve=ToneCurve(3.0, 0.4)))
    close(result.curves, (1.4 * h - 0.4)[None])


def test_noise_grows_with_sigma_and_keeps_its_pattern(view, classifier):
    grey = np.full((view.size, view.size, 3), 128, np.uint8)
    once, twice = (
        view.compute(grey, SMILING._replace(sigma=sigma)).noisy.astype(float) - 128
        for sigma in (0.05, 0.1)
    )
    assert np.std(once) / 255 == pytest.approx(0.05, rel=0.05)
    close(twice, 2 * once, 1.01)  # Rounded to whole levels.
    again, other = (
        View(classifier, seed).compute(grey, SMILING._replace(sigma=0.1)).noisy - 128.0
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(again, twice)
    assert abs(np.corrcoef(other.ravel(), twice.ravel())[0, 1]) < 0.1


def test_auto_shows_what_the_transformation_does(view, classifier, face):
    sigma = 0.2
    result = view.compute(face, SMILING._replace(sigma=sigma, curve=None))
    noisy = face / np.float32(255) + sigma * view._noise
    close(result.probabilities, classifier(noisy, auto=True), 1e-4)
    close(result.plain, classifier(noisy))
    assert result.chosen.sigma == pytest.approx(sigma, rel=0.2)
    assert result.chosen.members == ["denoiser", "curve"]
    distances = [
        np.abs(x.astype(float) - face.astype(float)).mean() for x in (result.treated, result.noisy)
    ]
    assert distances[0] < distances[1] / 2
    k = view.attributes.index("Smiling")
    logit = np.log(result.probabilities[k] / (1 - result.probabilities[k]))
    close(result.explanation.logits, logit, 1e-3)
    total = result.explanation.contributions.sum() + result.explanation.bias
    close(total, result.explanation.logits, 1e-4)


def test_the_chosen_betas_lie_between_the_levels_that_were_calibrated(view, classifier, face):
    transformation = classifier.transformation
    result = view.compute(face, SMILING._replace(sigma=0.2, curve=None))
    place = float(transformation.levels.of_sigma(np.float32([result.chosen.sigma]))[0])
    low, share = int(place), place - int(place)
    tables = transformation.beta[: transformation.levels.sigma.size]
    beta = (1 - share) * tables[low] + share * tables[low + 1]
    for i, some in enumerate((beta, beta[view.attributes.index("Smiling")])):
        assert result.chosen.mean[i] == pytest.approx(some.mean(), abs=1e-3)
        close(result.chosen.quantiles[i], np.quantile(some, QUANTILES), 1e-3)
    expected = CURVE_POINTS - result.chosen.quantiles[1][:, None] * (1 - CURVE_POINTS)
    close(result.curves, expected)


def test_auto_leaves_a_clean_picture_alone(view, classifier):
    images = view.examples(8)
    alone = [x for x in images if view.compute(x, SMILING._replace(curve=None)).chosen.sigma == 0]
    assert len(alone) >= 6
    result = view.compute(alone[0], SMILING._replace(curve=None))
    np.testing.assert_array_equal(result.treated, alone[0])
    close(result.probabilities, result.plain)
    close(result.curves, np.broadcast_to(CURVE_POINTS, result.curves.shape))


def test_nothing_compiles_once_it_is_warm(view, caplog):
    faces = view.examples(2)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for i, auto in enumerate((False, True, False, True)):
            curve = None if auto else ToneCurve(0.5 + i, i / 5)
            settings = Settings("Male", 0.1 + i / 10, curve)
            view.compute(faces[i % 2], settings)
            view.compute(faces[0], settings._replace(attribute="Young"))
        assert not [r for r in caplog.records if "ompil" in r.getMessage()]
        jax.jit(lambda x: x * 3.25)(np.float32(1))
        assert [r for r in caplog.records if "ompil" in r.getMessage()]


def test_without_a_calibration_it_says_how_to_get_one(finished):
    view = View(load(finished))
    assert "calibration.npz: does not exist" in view.no_auto
    assert f"python -m iamt_jax calibrate --workdir {finished}" in view.no_auto


def test_a_file_is_decoded_as_training_does(view, classifier):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    picture = view.picture(buffer.getvalue(), "face.png")
    assert picture.shape == (view.size, view.size, 3)
    close(view.compute(picture, SMILING).probabilities, classifier(pixels), 1e-4)
    with pytest.raises(InputError, match="face.jpg: cannot be decoded as an image"):
        view.picture(b"no image", "face.jpg")


def test_the_table_has_a_row_an_attribute_in_the_order_asked_for(view, face):
    result = view.compute(face, SMILING._replace(curve=ToneCurve(6.0, 0.5)))

    def names(order):
        rows = drawing.table_html(view.attributes, result, order).split("<tr data-attribute=")[1:]
        return [row.split('"')[1] for row in rows]

    change = np.abs(result.probabilities - result.plain)
    assert names("name") == sorted(view.attributes, key=str.lower)
    for order, values in (("probability", result.probabilities), ("change", change)):
        shown = [values[view.attributes.index(name)] for name in names(order)]
        assert len(shown) == 40 and shown == sorted(shown, reverse=True)


def test_the_table_says_probability_and_change(view, face):
    result = view.compute(face, SMILING)
    probabilities, plain = np.full(40, 0.25), np.full(40, 0.25)
    plain[:2] = 0.375, 0.1
    rows = drawing.table_html(
        view.attributes, result._replace(probabilities=probabilities, plain=plain), "name"
    ).split("<tr ")
    said = {row.split('"')[1]: row for row in rows if row.startswith("data-attribute")}
    for name, words in zip(
        view.attributes,
        ('"down">−12.5<', '"up">+15.0<', '"none">0<'),
        strict=False,
    ):
        assert words in said[name] and ">25.0<" in said[name] and "width:25.0%" in said[name]


def test_names_and_messages_are_escaped(view, face):
    names = ["<b>", *view.attributes[1:]]
    result = view.compute(face, SMILING)
    assert "<b>" not in drawing.table_html(names, result)
    settings = SMILING._replace(attribute="<script>")
    for drawn in (
        drawing.pictures_html(result, settings),
        drawing.error_html("<script>"),
        drawing.note_html("<script>"),
        drawing.curve_html(view.compute(face, SMILING._replace(curve=None)), settings),
    ):
        assert "<script>" not in drawn


@pytest.mark.parametrize("auto, tiles", [(False, 3 + MASKS_SHOWN), (True, 4 + MASKS_SHOWN)])
def test_pictures_are_embedded_and_captioned(view, face, auto, tiles):
    settings = Settings("Smiling", 0.2, None if auto else ToneCurve())
    result = view.compute(face, settings)
    drawn = drawing.pictures_html(result, settings)
    assert drawn.count("<figcaption>") == tiles
    sources = [part.split('"')[0] for part in drawn.split('src="')[1:]]
    assert all(source.startswith(("data:image/webp;", "data:image/png;")) for source in sources)
    for channel in result.explanation.channels:
        assert f"mask of channel {channel}: " in drawn
    assert ("denoised" in drawn) == auto


def test_the_curve_is_drawn_through_its_points(view, face):
    drawn = drawing.curve_html(view.compute(face, SMILING), SMILING)
    points = drawn.split('class="bent" points="')[1].split('"')[0].split()
    x, y = zip(*(map(float, point.split(",")) for point in points), strict=True)
    # The identity: from the frame's middle at the left to its upper right corner.
    assert (x[0], x[-1]) == (drawing.MARGIN, drawing.WIDTH - 8)
    assert (y[0], y[-1]) == (8 + (drawing.HEIGHT - drawing.MARGIN - 8) / 2, 8)
    assert "band" not in drawn
    automatic = SMILING._replace(sigma=0.2, curve=None)
    assert 'class="band"' in drawing.curve_html(view.compute(face, automatic), automatic)


def test_numbers_of_the_page_equal_those_of_the_predictor(view, classifier, face):
    """The result is the same for a batch sharded over several devices."""
    batch = np.repeat(face[None], classifier.predictor.devices, 0)
    logits = np.asarray(classifier.predictor.predict(batch, ToneCurve(2.0, 0.3)).logits)[0]
    result = view.compute(face, SMILING._replace(curve=ToneCurve(2.0, 0.3)))
    close(result.probabilities, 1 / (1 + np.exp(-logits)))


def refused(capsys, *flags):
    """Returns the single error line for these flags."""
    assert explore([str(x) for x in flags]) == 2
    said = capsys.readouterr()
    (line,) = [x for x in said.err.splitlines() if not x.startswith("warning: ")]
    return line


@pytest.fixture
def gradio(monkeypatch):
    """Pretends that Gradio is installed; all errors tested here occur before it is imported."""
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "6.31.0" if name == "gradio" else version(name)
    )


@pytest.fixture
def taken():
    """A port in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_without_gradio_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    line = refused(capsys, "--workdir", tmp_path)
    assert line == (
        "error: explore: Gradio is not installed, and the page needs it; run "
        "pip install 'iamt-jax[explore]'"
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.44.1")
    assert "found Gradio 4.44.1, expected 6.x" in refused(capsys, "--workdir", tmp_path)


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], "missing --workdir"),
        (["--workdir", "W", "--port", "0"], "--port 0: must be a number from 1 to 65535"),
        (["--workdir", "W", "--port", "x"], "--port: found 'x'"),
        (["--workdir", "W", "--seed", "-1"], "--seed -1: must be"),
        (["--workdir", "W", "--share"], "--share: no such flag"),
        (["--workdir", "W", "--host", "192.0.2.1"], "--host 192.0.2.1: is no address of this"),
        (["--workdir", "W", "--host", "no such"], "--host no such: is no address of this"),
        (["--workdir", "no-such-run"], "--workdir no-such-run: holds no run.json"),
    ],
)
def test_bad_flags_are_one_line(gradio, capsys, flags, expected):
    assert expected in refused(capsys, *flags)


def test_a_named_port_that_is_taken_is_refused(gradio, capsys, taken):
    line = refused(capsys, "--workdir", "W", "--port", taken)
    assert f"--port {taken}: cannot be had on 127.0.0.1 (Address already in use)" in line


def test_another_host_is_warned_of(gradio, capsys):
    assert explore(["--workdir", "no-such-run", "--host", "0.0.0.0"]) == 2
    said = capsys.readouterr().err
    assert "warning: --host 0.0.0.0: whoever reaches this machine can use the page" in said
    assert explore(["--workdir", "no-such-run"]) == 2
    assert "warning" not in capsys.readouterr().err


def test_the_first_free_port_is_taken(monkeypatch, taken):
    monkeypatch.setattr(serving, "PORTS", [taken, 0])
    with serving.bind_port("127.0.0.1", None) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.getsockname()[1] != taken
    monkeypatch.setattr(serving, "PORTS", [taken])
    with pytest.raises(InputError, match="all from"):
        serving.bind_port("127.0.0.1", None)


@pytest.mark.parametrize(
    "host, local",
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_what_counts_as_local(host, local):
    assert serving.is_local(host) == local


def answer(names, host):
    """Status and headers of a response to a request with this host name."""
    pytest.importorskip("starlette")

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", host.encode())]}
    asyncio.run(serving.secured(inner, names)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("[::1]:7860", 200),
        ("evil.example:7860", 400),
        ("", 400),
    ],
)
def test_a_local_page_answers_to_local_names_and_allows_no_other_source(host, status):
    found, headers = answer(serving.local_names("127.0.0.1"), host)
    assert found == status
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy
    assert answer(["*"], host)[0] == 200


def test_gradio_is_told_to_be_quiet_and_its_files_go(monkeypatch):
    for name in (*serving.GRADIO_SETTINGS, "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "True")
    with serving.gradio_environment():
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        (folder / "photograph.png").write_bytes(b"x")
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not folder.exists()
