"""`iamt_jax.load` and `Classifier`: images of any size, tone curves, masks, explanations."""

import io

import jax
import numpy as np
import pytest
from conftest import compilations
from PIL import Image
from scipy.special import expit

import iamt_jax
from iamt_jax.data.batches import evaluation_batches
from iamt_jax.data.decode import decode
from iamt_jax.errors import InputError
from iamt_jax.inference.inputs import fit_images
from iamt_jax.inference.predictor import probability
from iamt_jax.robust.treatment import ToneCurve


@pytest.fixture(scope="module")
def classifier(finished):
    return iamt_jax.load(finished)


def pictures(count, height=40, width=36):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def close(actual, expected, **tolerance):
    np.testing.assert_allclose(actual, expected, **({"rtol": 1e-5, "atol": 1e-5} | tolerance))


@pytest.mark.parametrize("run", [probability, jax.jit(probability)])
@pytest.mark.filterwarnings("error")
def test_a_probability_is_above_half_where_the_logit_is_above_0(run):
    tiny = np.array([2e-38, 1e-9, 5e-8, 1e-7, 1.2e-7, 1e-3], np.float32)
    logits = np.concatenate([tiny, [0.0, -0.0], -tiny, [-1e4, -89, 89, 1e4]]).astype(np.float32)
    found = np.asarray(run(logits))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found > 0.5, logits > 0)
    np.testing.assert_allclose(found, expit(logits.astype(np.float64)), rtol=1e-6, atol=1e-38)


def test_as_evaluation_does(classifier, dataset):
    records = dataset.split("test")
    batch = next(evaluation_batches(records, classifier.run.config.data.size, 16))
    logits = classifier.predictor.predict(batch.images, ToneCurve(3.0, 0.5)).logits
    encoded = [Image.open(io.BytesIO(records.read(i))) for i in range(16)]
    close(classifier.logits(encoded, n=3, beta=0.5), logits)
    close(classifier(encoded, n=3, beta=0.5), 1 / (1 + np.exp(-np.asarray(logits))))


def test_one_or_many_of_any_size(classifier):
    several = pictures(3)
    answers = classifier(several)
    assert answers.shape == (3, len(classifier.attributes))
    close(classifier(several[1]), answers[1])
    close(classifier(list(several)), answers)
    close(classifier([Image.fromarray(x) for x in several]), answers)
    close(classifier(several.astype(np.float32) / 255), answers, atol=2e-2)  # not rounded to uint8
    mixed = [several[0], pictures(1, 64, 50)[0]]
    close(classifier(mixed)[0], answers[0])


def test_any_number_compiles_for_a_few_shapes(classifier, monkeypatch, caplog):
    monkeypatch.setattr("iamt_jax.inference.inputs.SHAPES", (8, 16))
    many = pictures(37)
    answers = classifier(many)
    with compilations(caplog, 1):
        close(classifier(many[:21], n=1.0), answers[:21])
        close(classifier(many[:3], n=2.0), classifier(many, n=2.0)[:3])


def test_a_curve_an_image(classifier):
    several = pictures(10)
    n = np.linspace(0.5, 3, 10)[:, None, None]
    each = [classifier(several[i], n=n[i, 0, 0], beta=0.3) for i in range(10)]
    close(classifier(several, n=n, beta=0.3), each)


def test_masks_of_the_attributes_asked_for(classifier):
    chosen = [classifier.attributes[7], classifier.attributes[2]]
    masks = classifier.masks(pictures(3), chosen)
    stride, channels = 8, classifier.run.config.model.widths[-1]
    side = classifier.run.config.data.size // stride
    assert masks.shape == (3, 2, side, side, channels)
    assert masks.min() > 0 and masks.max() < 1
    close(classifier.masks(pictures(3)[2], chosen[:1])[0], masks[2, 0])


def test_explanations_of_images_of_any_size(classifier):
    several, names = pictures(3), [classifier.attributes[4], classifier.attributes[0]]
    found = classifier.explain(several, names, n=2, beta=0.5, top=3)
    close(found.logits, classifier.logits(several, n=2, beta=0.5)[:, [4, 0]])
    close(found.contributions.sum(-1) + found.bias, found.logits)
    assert found.masks.shape[:3] == (3, 2, 3)
    one = classifier.explain(several[1], names, n=2, beta=0.5, top=3)
    close(one.maps, found.maps[1])
    with pytest.raises(InputError, match="`top`: found 0, expected a whole number, 1 to"):
        classifier.explain(several, names, top=0)


@pytest.mark.parametrize(
    "how, part",
    [
        ({"n": -1}, "`n`: found -1, expected numbers from 0 to 1,000,000"),
        ({"n": float("nan")}, "`n`: found nan"),
        ({"n": "4"}, "`n`: found '4', expected numbers"),
        ({"beta": 7}, "`beta`: found 7, expected numbers from 0 to 1"),
        ({"n": np.array([1.0, 2.0])}, "`n`: its shape is (2,), expected one that broadcasts"),
    ],
)
def test_curves_that_are_refused(classifier, how, part):
    for ask in (classifier, lambda x, **how: classifier.explain(x, ["Smiling"], **how)):
        with pytest.raises(InputError) as caught:
            ask(pictures(2), **how)
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "images, parts",
    [
        ([], ["images", "one at least"]),
        (np.zeros((8, 8), np.uint8), ["images[0]", "(8, 8)", "height x width x 3"]),
        (np.zeros((2, 8, 8, 4), np.uint8), ["images[0]", "(8, 8, 4)"]),
        (np.zeros((8, 8, 3), np.int64), ["images[0]", "int64", "uint8 or float"]),
        ([np.full((8, 8, 3), 255.0)], ["images[0]", "255", "divide by 255"]),
        ([np.full((8, 8, 3), np.nan)], ["images[0]", "nan"]),
    ],
)
def test_images_that_are_refused(classifier, images, parts):
    with pytest.raises(InputError) as caught:
        classifier(images)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts)


def test_other_refusals(classifier):
    with pytest.raises(InputError, match="Smilling is none of .* did you mean Smiling?"):
        classifier.masks(pictures(1), ["Smilling"])
    for attributes in ("Smiling", []):
        with pytest.raises(InputError, match="expected a list of names"):
            classifier.explain(pictures(1), attributes)
    with pytest.raises(InputError, match="`auto`: it chooses"):
        classifier(pictures(1), n=2, auto=True)
    with pytest.raises(InputError, match="does not exist"):
        classifier(pictures(1), auto=True)


def test_decoded_and_encoded_are_fitted_alike(tmp_path):
    image = Image.fromarray(pictures(1, 90, 70)[0])
    image.save(tmp_path / "x.png")
    fitted, _ = iamt_jax.inference.classifier.fit_images(image, 32)
    np.testing.assert_array_equal(fitted[0], decode((tmp_path / "x.png").read_bytes(), 32, "x"))


def test_a_truncated_pillow_image_is_one_line(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(pictures(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"images\[0\] \(.*cut.jpg\): cannot be decoded"):
        fit_images(Image.open(path), 32)
