"""The explorer without a browser: results for pictures and settings, what it says, HTML."""

import dataclasses
import io
import logging
import re
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from cli import main
from PIL import Image

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.commands.calibrate import make_calibration
from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.severities import FAMILIES
from iamt_jax.errors import InputError
from iamt_jax.explanation.maps import masked_contributions
from iamt_jax.explorer import drawing
from iamt_jax.explorer.address import N_VALUES, PageState, restored
from iamt_jax.explorer.calibrating import Calibrating
from iamt_jax.explorer.damage import KINDS, damage_of, damage_title
from iamt_jax.explorer.snapshot import snapshot_png
from iamt_jax.explorer.verdict import judged, sentences
from iamt_jax.explorer.view import CURVE_POINTS, MASKS_SHOWN, QUANTILES, Picture, Settings, View
from iamt_jax.inference.classifier import load
from iamt_jax.inference.predictor import Degradation, Noise
from iamt_jax.progress import progress_bar
from iamt_jax.robust.treatment import ToneCurve
from iamt_jax.synthetic import faces

SMILING = Settings("Smiling")
MOTION_BLUR = Degradation("motion_blur", 3)


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
def picture(view):
    return view.examples(2)[1]


@pytest.fixture(scope="module")
def face(picture):
    return picture.pixels


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_a_curve_shows_what_the_classifier_says(view, classifier, face):
    result = view.compute(face, SMILING._replace(curve=ToneCurve(3.0, 0.4)))
    own = classifier(face)
    close(result.probabilities, [own, own, classifier(face, n=3, beta=0.4)])
    assert result.chosen is None and not result.is_own
    np.testing.assert_array_equal(result.clean, face)
    np.testing.assert_array_equal(result.damaged, face)
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
        view.compute(grey, SMILING._replace(damage=Noise(sigma))).damaged.astype(float) - 128
        for sigma in (0.05, 0.1)
    )
    assert np.std(once) / 255 == pytest.approx(0.05, rel=0.05)
    close(twice, 2 * once, 1.01)  # Rounded to whole levels.
    again, other = (
        View(classifier, seed).compute(grey, SMILING._replace(damage=Noise(0.1))).damaged - 128.0
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(again, twice)
    assert abs(np.corrcoef(other.ravel(), twice.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_in_the_menu_and_shown(view, face, family):
    assert family in KINDS
    settings = SMILING._replace(damage=damage_of(family, 0.2, 4))
    result = view.compute(face, settings)
    expected = degrade(face[None] / np.float32(255), family, 4, settings.damage.keys(["picture"]))
    assert np.abs(result.damaged / 255.0 - np.asarray(expected)[0]).max() <= 0.51 / 255
    assert np.any(result.damaged != face)
    np.testing.assert_array_equal(result.clean, face)
    np.testing.assert_array_equal(result.treated, result.damaged)
    name = family.replace("_", " ").replace("jpeg", "JPEG")
    assert damage_title(settings.damage) == f"{name} 4"


def test_a_degradation_is_what_the_network_sees_and_is_always_the_same(view, classifier, face):
    settings = SMILING._replace(damage=Degradation("shot_noise", 2))
    result = view.compute(face, settings)
    for seed, same in ((0, True), (1, False)):
        again = View(classifier, seed).compute(face, settings).damaged
        assert np.array_equal(again, result.damaged) == same
    assert not np.array_equal(
        view.compute(face, SMILING._replace(damage=Degradation("shot_noise", 3))).damaged,
        result.damaged,
    )
    keys = settings.damage.keys(["picture"])
    seen = np.asarray(degrade(face[None] / np.float32(255), "shot_noise", 2, keys))[0]
    close(result.probabilities, [classifier(face), classifier(seen), classifier(seen)], 1e-4)


def test_auto_shows_what_the_transformation_does(view, classifier, face):
    sigma = 0.2
    result = view.compute(face, SMILING._replace(damage=Noise(sigma), curve=None))
    noisy = face / np.float32(255) + sigma * view._noise
    close(result.probabilities[:2], [classifier(face), classifier(noisy)])
    close(result.probabilities[2], classifier(noisy, auto=True), 1e-4)
    assert result.chosen.sigma == pytest.approx(sigma, rel=0.2)
    assert result.chosen.members == ["denoiser", "curve"]
    distances = [
        np.abs(x.astype(float) - face.astype(float)).mean()
        for x in (result.treated, result.damaged)
    ]
    assert distances[0] < distances[1] / 2
    k = view.attributes.index("Smiling")
    logit = np.log(result.probabilities[2, k] / (1 - result.probabilities[2, k]))
    close(result.explanation.logits, logit, 1e-3)
    total = result.explanation.contributions.sum() + result.explanation.bias
    close(total, result.explanation.logits, 1e-4)


def test_the_chosen_betas_lie_between_the_levels_that_were_calibrated(view, classifier, face):
    transformation = classifier.transformation
    result = view.compute(face, SMILING._replace(damage=Noise(0.2), curve=None))
    place = float(transformation.levels.of_sigma(np.float32([result.chosen.sigma]))[0])
    low, share = int(place), place - int(place)
    tables = np.asarray(transformation.beta)[: transformation.levels.sigma.size]
    beta = (1 - share) * tables[low] + share * tables[low + 1]
    for i, some in enumerate((beta, beta[view.attributes.index("Smiling")])):
        assert result.chosen.mean[i] == pytest.approx(some.mean(), abs=1e-3)
        close(result.chosen.quantiles[i], np.quantile(some, QUANTILES), 1e-3)
    expected = CURVE_POINTS - result.chosen.quantiles[1][:, None] * (1 - CURVE_POINTS)
    close(result.curves, expected)


def test_auto_leaves_a_clean_picture_alone(view, classifier):
    images = [x.pixels for x in view.examples(8)]
    alone = [x for x in images if view.compute(x, SMILING._replace(curve=None)).chosen.sigma == 0]
    assert len(alone) >= 6
    result = view.compute(alone[0], SMILING._replace(curve=None))
    np.testing.assert_array_equal(result.treated, alone[0])
    close(result.probabilities, result.probabilities[[0, 0, 0]])
    close(result.curves, np.broadcast_to(CURVE_POINTS, result.curves.shape))


def test_nothing_compiles_once_it_is_warm(view, caplog):
    some = [x.pixels for x in view.examples(2)]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for i, auto in enumerate((False, True, False, True)):
            curve = None if auto else ToneCurve(0.5 + i, i / 5)
            settings = Settings("Male", Noise(0.1 + i / 10), curve)
            view.compute(some[i % 2], settings)
            view.compute(some[0], settings._replace(attribute="Young"))
        assert not [r for r in caplog.records if "ompil" in r.getMessage()]
        # A degradation compiles one program, the first time.
        view.compute(some[0], SMILING._replace(damage=MOTION_BLUR))
        caplog.clear()
        for curve in (None, ToneCurve(2.5, 0.1)):
            view.compute(some[1], Settings("Young", MOTION_BLUR, curve))
        assert not [r for r in caplog.records if "ompil" in r.getMessage()]
        jax.jit(lambda x: x * 3.25)(np.float32(1))
        assert [r for r in caplog.records if "ompil" in r.getMessage()]


def test_masked_contributions_follow_n(view, classifier, face):
    found = [
        view.compute(face, SMILING._replace(curve=ToneCurve(n, 0.4))).masked for n in (1.0, 4.0)
    ]
    images = face[None] / np.float32(255)
    chosen = np.array([view.attributes.index("Smiling")])
    (expected,) = masked_contributions(classifier.network, images, chosen, answer=False)[0]
    close(found[0], expected, 1e-3)
    assert np.abs(found[1] - found[0]).max() > 1e-3 * np.abs(found[0]).max()


def test_the_labels_are_those_of_the_rendered_faces(view, classifier):
    labels, _ = faces(3, 0, "test")
    for number, picture in enumerate(view.examples(3)):
        assert picture.face == number
        assert picture.labels == dict(zip(CELEBA_ATTRIBUTES, labels[number], strict=True))


def test_without_a_calibration_auto_comes_with_one(finished, tmp_path, calibrated):
    """It is the calibration of the command line, bit for bit."""
    workdir = tmp_path / "W"
    shutil.copytree(finished, workdir)
    classifier = load(workdir)
    view = View(classifier)
    assert not view.is_calibrated
    with pytest.raises(InputError, match="does not exist"):
        view.use_calibration()
    stages = []

    def calibrate():
        stages.append((job.stage, job.done))
        make_calibration(classifier)
        stages.append((job.stage, job.done))
        view.use_calibration()

    job = Calibrating(calibrate)
    job.start()
    job.wait(600)
    assert not job.is_running and job.problem is None and view.is_calibrated
    assert stages == [("reading the training images", 0), ("finding the tone curves", 1)]
    made, expected = (np.load(x / "calibration.npz") for x in (workdir, calibrated))
    assert set(made) == set(expected)
    assert all(np.array_equal(made[name], expected[name]) for name in expected)
    face = view.examples(1)[0].pixels
    assert view.compute(face, SMILING._replace(damage=Noise(0.2), curve=None)).chosen.sigma > 0.1


@pytest.mark.parametrize("data", ["none", "few"])
def test_a_calibration_that_fails_leaves_one_line(finished, tmp_path, monkeypatch, data):
    classifier = load(finished)
    if data == "none":
        config = classifier.run.config
        changed = dataclasses.replace(
            config, data=dataclasses.replace(config.data, name="folder", root=tmp_path / "gone")
        )
        run = dataclasses.replace(classifier.run, config=changed)
        classifier = dataclasses.replace(classifier, run=run)
    job = Calibrating(lambda: make_calibration(classifier, 64 if data == "none" else 10))
    job.start()
    job.wait(600)
    assert "\n" not in job.problem and "--" not in job.problem and "python" not in job.problem
    assert ("gone" if data == "none" else "has 10 training images") in job.problem
    assert not (finished / "calibration.npz").exists()


def test_an_abandoned_calibration_says_nothing_when_the_command_ends():
    script = """if True:
        import atexit, sys, time
        from concurrent.futures import ThreadPoolExecutor
        from iamt_jax.explorer.calibrating import Calibrating

        def calibrate():
            with ThreadPoolExecutor(1) as worker:
                while True:
                    worker.submit(time.sleep, 0.5).result()

        atexit.register(time.sleep, 1)  # Time to say something.
        job = Calibrating(calibrate)
        job.start()
        time.sleep(0.2)
        if sys.argv[1] == "abandoned":
            job.abandon()
    """

    def said(how):
        words = [sys.executable, "-c", script, how]
        return subprocess.run(words, capture_output=True, text=True, check=True).stderr

    assert said("abandoned") == "" and "Traceback" in said("not abandoned")


def test_while_a_calibration_runs_another_start_does_nothing(capsys):
    running, go_on, calls = threading.Event(), threading.Event(), []

    def calibrate():
        calls.append(1)
        for _ in progress_bar(range(2), desc="calibrating"):
            running.set()
            assert go_on.wait(60)

    job = Calibrating(calibrate)
    job.start()
    assert running.wait(60) and job.is_running
    job.start()
    go_on.set()
    job.wait(60)
    assert calls == [1] and not job.is_running and job.done == 1
    job.start()
    job.wait(60)
    assert calls == [1, 1] and capsys.readouterr() == ("", "")


def test_an_unexpected_error_of_a_calibration_is_told_in_the_terminal(capsys):
    job = Calibrating(lambda: 1 / 0)
    job.start()
    job.wait(60)
    assert job.problem == "an unexpected error; the terminal of the explorer has its details"
    assert "ZeroDivisionError" in capsys.readouterr().err


DEFAULT = PageState(0, "Smiling", Noise(), 1.0, 1.0, False)


@pytest.mark.parametrize(
    "state",
    [
        DEFAULT,
        PageState(4, "5_o_Clock_Shadow", Noise(0.23), 2.5, 0.4, True, "change"),
        PageState(None, "Male", Noise(0.5), 0, 0, False, "name"),
        *(
            DEFAULT._replace(damage=Degradation(family, 1 + i % 5))
            for i, family in enumerate(FAMILIES)
        ),
    ],
)
def test_the_address_restores_the_state(state):
    parameters = state.parameters()
    assert all(isinstance(x, str) for x in parameters.values())
    assert restored(parameters, DEFAULT, CELEBA_ATTRIBUTES, 6, True) == state
    without = restored(parameters, DEFAULT, CELEBA_ATTRIBUTES, 6, False)
    assert without == state._replace(auto=False)


@pytest.mark.parametrize("severity", ["0", "6", "2.5", "-1", "nan", "x", "", "1e400"])
def test_a_wrong_severity_in_the_address_is_the_default(severity):
    parameters = {"damage": "fog", "severity": severity}
    found = restored(parameters, DEFAULT, CELEBA_ATTRIBUTES, 6, True)
    assert found == DEFAULT._replace(damage=Degradation("fog", 3))


def test_the_address_has_only_the_strength_of_its_damage():
    blurred = DEFAULT._replace(damage=MOTION_BLUR).parameters()
    assert (blurred["damage"], blurred["severity"]) == ("motion_blur", "3")
    assert "noise" not in blurred and "severity" not in DEFAULT.parameters()
    # And of an address that has both, one is read.
    both = blurred | {"noise": "0.3"}
    assert restored(both, DEFAULT, CELEBA_ATTRIBUTES, 6, True).damage == MOTION_BLUR


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("face", "7", {"face": 5}),
        ("face", "nan", {}),
        ("face", "1e400", {}),
        ("attribute", "<b>", {}),
        ("noise", "-1", {}),
        ("noise", "9", {"damage": Noise(0.5)}),
        ("noise", "x", {}),
        ("damage", "fog", {"damage": Degradation("fog", 3)}),
        ("damage", "frost", {}),
        ("damage", "", {}),
        ("severity", "2", {}),
        ("n", "2.6", {"n": 2.5}),
        ("n", "1e9", {"n": N_VALUES[-1]}),
        ("beta", "inf", {}),
        ("auto", "yes", {}),
        ("order", "", {}),
        ("other", "1", {}),
    ],
)
def test_a_wrong_parameter_of_the_address_does_no_harm(name, value, expected):
    found = restored({name: value}, DEFAULT, CELEBA_ATTRIBUTES, 6, True)
    assert found == DEFAULT._replace(**expected)


def made_up(view, face, clean, damaged, now, settings, own=False):
    """A result with these logits of all attributes: + is yes."""
    logits = [[1.0 if sign == "+" else -1.0 for sign in signs] for signs in (clean, damaged, now)]
    names = view.attributes[: len(clean)]
    result = view.compute(face, settings)
    result = result._replace(probabilities=1 / (1 + np.exp(-np.array(logits))))
    return names, result._replace(is_own=own) if settings.curve else result


NOISY = SMILING._replace(damage=Noise(0.2))
BLURRED = SMILING._replace(damage=MOTION_BLUR)
JPEG = SMILING._replace(damage=Degradation("jpeg_compression", 5))


@pytest.mark.parametrize(
    "signs, settings, own, expected",
    [
        (("++--", "----", "+---"), NOISY._replace(curve=None), False, (
            "Noise flipped 2 of 4 answers; after auto 1 is still flipped.",
            "Wrong answers: 1 on the clean picture, 3 under noise, 2 after auto.",
        )),
        (("++--", "----", "++--"), NOISY, False, (
            "Noise flipped 2 of 4 answers; after the tone curve 0 are flipped.",
            "Wrong answers: 1 on the clean picture, 3 under noise, 1 after the tone curve.",
        )),
        (("++--", "+---", "+---"), NOISY, True, (
            "Noise flipped 1 of 4 answers.",
            "Wrong answers: 1 on the clean picture, 2 under noise.",
        )),
        (("++--", "----", "+---"), BLURRED._replace(curve=None), False, (
            "Motion blur of severity 3 flipped 2 of 4 answers; after auto 1 is still flipped.",
            "Wrong answers: 1 on the clean picture, 3 under motion blur, 2 after auto.",
        )),
        (("++--", "+---", "+---"), JPEG, True, (
            "JPEG compression of severity 5 flipped 1 of 4 answers.",
            "Wrong answers: 1 on the clean picture, 2 under JPEG compression.",
        )),
        (("++--", "++--", "++++"), SMILING, False, (
            "No noise; the tone curve flipped 2 of 4 answers.",
            "Wrong answers: 1 on the clean picture, 1 after the tone curve.",
        )),
        (("++--", "++--", "++--"), SMILING, True, (
            "No noise and no treatment: nothing is flipped.",
            "Wrong answers: 1 on the clean picture.",
        )),
    ],
)  # fmt: skip
def test_it_says_what_damage_and_treatment_did(view, face, signs, settings, own, expected):
    names, result = made_up(view, face, *signs, settings, own)
    picture = Picture(face, dict(zip(names, (True, True, True, False), strict=True)), 0)
    assert tuple(sentences(judged(names, result, picture), result, settings)) == expected
    # A photograph has no labels.
    unlabelled = judged(names, result, Picture(face, {}))
    assert sentences(unlabelled, result, settings) == [expected[0]]
    assert unlabelled.bad.sum(1).tolist() == unlabelled.flipped


def test_a_file_is_decoded_as_training_does(view, classifier):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    picture = view.picture(buffer.getvalue(), "face.png")
    assert picture.pixels.shape == (view.size, view.size, 3)
    assert picture.labels == {} and picture.face is None
    close(view.compute(picture.pixels, SMILING).probabilities[2], classifier(pixels), 1e-4)
    with pytest.raises(InputError, match="face.jpg: cannot be decoded as an image"):
        view.picture(b"no image", "face.jpg")


def test_the_table_has_a_row_an_attribute_in_the_order_asked_for(view, picture):
    settings = SMILING._replace(curve=ToneCurve(6.0, 0.5))
    result = view.compute(picture.pixels, settings)

    def names(order):
        drawn = drawing.table_html(view.attributes, result, settings, picture, order)
        return [row.split('"')[1] for row in drawn.split("<tr data-attribute=")[1:]]

    now, change = result.probabilities[2], np.abs(result.probabilities[2] - result.probabilities[0])
    assert names("name") == sorted(view.attributes, key=str.lower)
    for order, values in (("probability", now), ("change", change)):
        shown = [values[view.attributes.index(name)] for name in names(order)]
        assert len(shown) == 40 and shown == sorted(shown, reverse=True)


def cells(row):
    return re.findall(r"<td[^>]*>([^<]*)</td>", row)


def test_the_table_says_labels_and_probabilities_and_marks_what_is_wrong(view, face):
    names, result = made_up(view, face, "++", "-+", "+-", NOISY)
    picture = Picture(face, {names[0]: True}, 0)
    drawn = drawing.table_html(names, result, NOISY, picture, "name").split("<tr ")[1:]
    yes, no, bad = "73.1", "26.9", drawing.BAD
    assert [cells(row) for row in drawn] == [["yes", yes, no + bad, yes], ["–", yes, yes, no]]
    assert 'class="bad">26.9' in drawn[0] and 'class="bad"' not in drawn[1]
    # Without labels, against the answers to the clean picture, and without a column of labels.
    drawn = drawing.table_html(names, result, NOISY, Picture(face, {}), "name").split("<tr ")[1:]
    assert [cells(row) for row in drawn] == [[yes, no + bad, yes], [yes, yes, no + bad]]


@pytest.mark.parametrize("damage", [Noise(), Noise(0.2), MOTION_BLUR])
def test_the_damaged_picture_has_a_column(view, picture, damage):
    settings = SMILING._replace(damage=damage)
    result = view.compute(picture.pixels, settings)
    drawn = drawing.table_html(view.attributes, result, settings, picture)
    heads = re.findall(r'<th scope="col" class="number">(.*?)</th>', drawn)
    assert heads == ["clean", "damaged", "curve"]
    shown = [cells(row)[2] != "–" for row in drawn.split("<tr ")[2:]]
    assert shown and set(shown) == {damage != Noise()}


def test_columns_of_what_was_not_done_are_empty(view, picture):
    result = view.compute(picture.pixels, SMILING)
    drawn = drawing.table_html(view.attributes, result, SMILING, picture)
    for row in drawn.split("<tr ")[2:]:
        assert cells(row)[2:] == ["–", "–"]


def test_names_and_messages_are_escaped(view, picture):
    names = ["<b>", *view.attributes[1:]]
    settings = SMILING._replace(attribute="<script>")
    result = view.compute(picture.pixels, SMILING)
    assert "<b>" not in drawing.table_html(names, result, SMILING, picture)
    named = ["<script>", *view.attributes[1:]]
    for drawn in (
        drawing.compared_html(named, result, settings, picture),
        drawing.maps_html(result, settings),
        drawing.error_html("<script>"),
        drawing.note_html("<script>"),
        drawing.progress_html("<script>", 0.5),
        drawing.curve_html(view.compute(picture.pixels, SMILING._replace(curve=None)), settings),
    ):
        assert "<script>" not in drawn


@pytest.mark.parametrize(
    "damage, curve, titles, images",
    [
        (Noise(), ToneCurve(), ["clean", "no noise", "not treated"], 1),
        (Noise(0.2), ToneCurve(), ["clean", "noise 0.20", "not treated"], 2),
        (Noise(0.2), ToneCurve(3.0, 0.4), ["clean", "noise 0.20", "n 3, β 0.40"], 3),
        (Noise(0.2), None, ["clean", "noise 0.20", "after auto"], 3),
        (Noise(), None, ["clean", "no noise", "after auto"], 2),
        (MOTION_BLUR, ToneCurve(), ["clean", "motion blur 3", "not treated"], 2),
        (MOTION_BLUR, None, ["clean", "motion blur 3", "after auto"], 3),
    ],
)
def test_the_pictures_stand_side_by_side(view, picture, damage, curve, titles, images):
    settings = Settings("Smiling", damage, curve)
    result = view.compute(picture.pixels, settings)
    drawn = drawing.compared_html(view.attributes, result, settings, picture)
    assert re.findall(r"<figcaption><b>(.*?)</b>", drawn) == titles
    assert drawn.count('src="data:image/webp;') == images
    for said in sentences(judged(view.attributes, result, picture), result, settings):
        assert said in drawn


def test_of_an_attribute_the_masks_come_first(view, picture):
    """Then the masked contributions; gradients are a second opinion."""
    result = view.compute(picture.pixels, SMILING)
    drawn = drawing.maps_html(result, SMILING)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", drawn)
    kinds = ["where the masks", "masked contributions", "second opinion: gradients"]
    kinds += [f"mask of channel {channel}: " for channel in result.explanation.channels]
    assert len(captions) == len(kinds) == 3 + MASKS_SHOWN
    assert all(map(str.startswith, captions, kinds))
    sources = [part.split('"')[0] for part in drawn.split('src="')[1:]]
    assert all(source.startswith(("data:image/webp;", "data:image/png;")) for source in sources)


@pytest.mark.parametrize(
    "damage, curve", [(Noise(0.2), None), (Noise(0.2), ToneCurve()), (MOTION_BLUR, None)]
)
def test_the_png_is_of_what_is_seen(view, picture, damage, curve):
    settings = Settings("Smiling", damage, curve)
    result = view.compute(picture.pixels, settings)
    drawn = [
        snapshot_png(view.attributes, result, settings, one, "name", "a $title_")
        for one in (picture, Picture(picture.pixels, {}))
    ]
    sizes = [Image.open(io.BytesIO(png)).size for png in drawn]
    assert sizes == [(1280, 960)] * 2 and drawn[0] != drawn[1]


def test_the_curve_is_drawn_through_its_points(view, face):
    drawn = drawing.curve_html(view.compute(face, SMILING), SMILING)
    points = drawn.split('class="bent" points="')[1].split('"')[0].split()
    x, y = zip(*(map(float, point.split(",")) for point in points), strict=True)
    # The identity: from the frame's middle at the left to its upper right corner.
    assert (x[0], x[-1]) == (drawing.MARGIN, drawing.WIDTH - 8)
    assert (y[0], y[-1]) == (8 + (drawing.HEIGHT - drawing.MARGIN - 8) / 2, 8)
    assert "band" not in drawn
    automatic = SMILING._replace(damage=Noise(0.2), curve=None)
    assert 'class="band"' in drawing.curve_html(view.compute(face, automatic), automatic)


def test_numbers_of_the_page_equal_those_of_the_predictor(view, classifier, face):
    """The result is the same for a batch sharded over several devices."""
    batch = np.repeat(face[None], classifier.predictor.devices, 0)
    logits = np.asarray(classifier.predictor.predict(batch, ToneCurve(2.0, 0.3)).logits)[0]
    result = view.compute(face, SMILING._replace(curve=ToneCurve(2.0, 0.3)))
    close(result.probabilities[2], 1 / (1 + np.exp(-logits)))
