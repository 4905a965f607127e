"""`iamt_jax.load` and `Classifier`: images of any size, tone curves, masks, explanations."""

import io
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import compilations
from faults import one_line
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


class Tensor:
    """What the package uses of a PyTorch tensor, for machines without PyTorch."""

    def __init__(self, content):
        self.content, self.ndim, self.on_host = content, content.ndim, False

    def detach(self):
        return self

    def cpu(self):
        self.on_host = True
        return self

    def float(self):
        return self

    def is_floating_point(self):
        return self.content.dtype.kind == "f"

    def __array__(self, dtype=None, copy=None):
        assert self.on_host
        return self.content


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
    with pytest.raises(InputError, match="`top`: found True, expected a whole number, 1 to"):
        classifier.explain(several, names, top=True)
    numpys = classifier.explain(several, names, n=2, beta=0.5, top=np.int64(3))
    np.testing.assert_array_equal(numpys.masks, found.masks)


def test_a_workdir_may_be_named_like_a_file(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "a.iamt")
    assert iamt_jax.load(tmp_path / "a.iamt").attributes == iamt_jax.load(finished).attributes


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


FACE = pictures(1)[0] // 2  # Darker than mid-grey.
FLOAT = FACE / np.float32(255)


@pytest.mark.parametrize(
    "images, parts",
    [
        ([], ["images", "one at least"]),
        (FACE[..., 0], ["images[0]", "(40, 36)", "height x width x 3", "it is grey: repeat"]),
        (FACE[..., :1], ["images[0]", "(40, 36, 1)", "it is grey: repeat"]),
        (np.zeros((2, 8, 8, 4), np.uint8), ["images[0]", "(8, 8, 4)", "x[..., :3]"]),
        (FACE.transpose(2, 0, 1), ["(3, 40, 36)", "channels come first", "transpose(1, 2, 0)"]),
        (np.zeros((2, 3, 8, 8)), ["images[0]", "(3, 8, 8)", "permute(1, 2, 0)"]),
        (Tensor(FACE.transpose(2, 0, 1)), ["(3, 40, 36)", "permute(1, 2, 0)"]),
        (np.zeros((8, 8, 3), np.int64), ["images[0]", "int64", "uint8 or float"]),
        ([FACE, FLOAT * 255], ["images[1]", "values from 0 to 127", "divide by 255"]),
        ([np.where(FLOAT > 0.4, np.nan, FLOAT)], ["images[0]", "nan or infinite", "replace"]),
        (2 * FLOAT - 1, ["values from -1 to", "float in [0, 1]", "(x + 1) / 2"]),
        ((FLOAT - 0.45) / 0.22, ["values from -2", "undo the normalisation", "x * std + mean"]),
        ([FACE, None], ["images[1]: found NoneType, expected the path of a file"]),
        ([[FACE, FACE[:9]]], ["images[0]: found list, expected the path of a file"]),
        ("absent.png", ["absent.png: does not exist; name an image file"]),
        ([FACE, Path("absent.png")], ["absent.png: does not exist"]),
        ("/", ["/: is a folder; name the image files in it"]),
        (__file__, [f"{__file__}: cannot be decoded as an image"]),
    ],
)
def test_images_that_are_refused(images, parts):
    one_line(lambda: fit_images(images, 32), *parts)


@pytest.mark.parametrize("sigma", [0.02, 0.3, 1, 5])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_noise_is_no_normalisation(sigma, level):
    noise = sigma * np.random.default_rng(0).standard_normal((64, 64, 3))
    fit_images((level + noise).clip(-19, 19), 32)


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


@pytest.fixture
def forms(tmp_path):
    """One picture as a file, a Pillow image and arrays of every library."""
    pixels = pictures(1, 90, 70)[0]
    Image.fromarray(pixels).save(tmp_path / "x.png")
    return {
        "str": str(tmp_path / "x.png"),
        "path": tmp_path / "x.png",
        "pillow": Image.open(tmp_path / "x.png"),
        "numpy": pixels,
        "jax": jnp.asarray(pixels),
        "torch": Tensor(pixels),
        "floats": pixels / 255,
        "jax floats": jnp.asarray(pixels / 255),
        "torch floats": Tensor((pixels / 255).astype(np.float32)),
    }


def test_a_picture_in_any_form_gives_the_same_pixels_and_probabilities(forms, classifier):
    expected = decode(forms["path"].read_bytes(), 32, "x")
    for name, form in forms.items():
        fitted, single = fit_images(form, 32)
        np.testing.assert_array_equal(fitted[0], expected, err_msg=name)
        assert single and fitted.dtype == np.uint8
        np.testing.assert_array_equal(classifier(form), classifier(forms["str"]))


def test_mixed_kinds_and_sizes_together_are_as_one_at_a_time(forms, classifier):
    # At the network's size floats are not rounded, and all of the list become floats.
    exact = np.random.default_rng(1).random((32, 32, 3))
    mixed = [*forms.values(), pictures(1, 64, 50)[0], exact]
    answers = classifier(mixed)
    close(answers, [classifier(x) for x in mixed])
    assert classifier.top(mixed) == [
        [(name, pytest.approx(p, abs=1e-5)) for name, p in classifier.top(x)] for x in mixed
    ]
    close(classifier(np.array([forms["str"]] * 2)), answers[:1].repeat(2, 0))


def test_brain_float_is_accepted():
    fitted, _ = fit_images(jnp.full((32, 32, 3), 0.5, jnp.bfloat16), 32)
    assert fitted.dtype == np.float32 and (fitted == 0.5).all()


def test_tensors_of_pytorch(classifier):
    torch = pytest.importorskip("torch", reason="needs pip install -e '.[benchmark]'")
    several = pictures(3)
    close(classifier(torch.from_numpy(several)), classifier(several))
    floats = torch.from_numpy(several / np.float32(255)).requires_grad_()
    close(classifier(floats), classifier(several / np.float32(255)))
    close(classifier(list(floats)), classifier(several / np.float32(255)))
    assert classifier(floats.bfloat16()).shape == (3, 40)


def test_results_by_name_and_as_in_scikit_learn(classifier):
    several, names = pictures(3), classifier.attributes
    answers = classifier(several, n=2, beta=0.3)
    for images, expected in ((several, answers), (several[0], answers[:1])):
        found = classifier.predict_proba(images, n=2, beta=0.3)
        assert found.dtype == np.float32
        close(found, expected)
        decided = classifier.predict(images, n=2, beta=0.3)
        assert decided.dtype == np.int64
        np.testing.assert_array_equal(decided, expected > 0.5)
    assert classifier.as_dict(several, n=2, beta=0.3) == [
        dict(zip(names, row, strict=True)) for row in answers.tolist()
    ]
    assert list(classifier.as_dict(several[0])) == list(names)
    for row, tops in zip(answers, classifier.top(several, 3, n=2, beta=0.3), strict=True):
        assert [name for name, _ in tops] == [names[k] for k in np.argsort(-row)[:3]]
        assert [p for _, p in tops] == sorted(row.tolist(), reverse=True)[:3]
    (name, p), *others = classifier.top(several[0], 99)
    assert isinstance(name, str) and isinstance(p, float) and len(others) == len(names) - 1
    one_line(lambda: classifier.top(several, 0), "`count`: found 0, expected a whole number")


def test_a_classifier_prints_as_one_line(classifier, finished):
    step = classifier.step
    assert repr(classifier) == f"Classifier({str(finished)!r}, step {step}, 40 attributes, 32 px)"


def test_an_explanation_prints_its_shapes(classifier):
    lines = repr(classifier.explain(pictures(2), ["Smiling"], top=3)).splitlines()
    assert lines[0] == "Explanation of 2 images, 1 attribute"
    assert [line.split()[0] for line in lines[1:]] == list(iamt_jax.Explanation._fields)
    assert lines[3].split("  ")[-1] == "(2, 1, 16)"
    single = classifier.explain(pictures(1)[0], ["Smiling", "Male"])
    assert repr(single).startswith("Explanation of 1 image, 2 attributes\n")
    repr(jax.tree.map(lambda _: None, single))  # As JAX prints trees in its errors.


@pytest.mark.parametrize(
    "path, parts",
    [
        ("absent", ["absent: holds no run.json; train first"]),
        ("absent.iamt", ["absent.iamt: cannot be read (No such file", "export the network again"]),
        (__file__, ["not an exported network of this version"]),
    ],
)
def test_paths_that_cannot_be_loaded(path, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(lambda: iamt_jax.load(path), *parts)


def test_a_truncated_pillow_image_is_one_line(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(pictures(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"images\[0\] \(.*cut.jpg\): cannot be decoded"):
        fit_images(Image.open(path), 32)
