"""Baselines against independent implementations, or properties that they must have."""

import dataclasses
import shutil

import baselines
import bench
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines import (
    adapt_by_tent,
    begin_tent,
    binary_entropy,
    denoise_classically,
    reestimated_logits,
    refit,
    with_batch_statistics,
)
from flax import nnx
from skimage.restoration import denoise_nl_means

from iamt_jax.config import MISSING, ModelConfig
from iamt_jax.inference.classifier import load
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.network import IAMT

SMALL = ModelConfig(
    widths=(16, 16), blocks=(0, 1), dilations=(2,), multilabel=False, reconstructor=False
)
IMAGES = jnp.asarray(np.random.default_rng(7).normal(0.4, 0.5, (4, 16, 16, 3)), jnp.float32)
"""A batch with noise beyond [0, 1]."""


def split(norm):
    """A tiny network whose normalisation parameters and statistics are not the initial ones."""
    network = IAMT(dataclasses.replace(SMALL, norm=norm), 3, rngs=nnx.Rngs(0))
    definition, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    rng = np.random.default_rng(1)

    def learnt(x):
        return x * rng.uniform(0.5, 2, x.shape) + rng.uniform(0, 0.3, x.shape)

    params = jax.tree.map(lambda x: learnt(x) if x.ndim == 1 else x, nnx.to_pure_dict(params))
    return definition, params, jax.tree.map(learnt, nnx.to_pure_dict(statistics))


@pytest.fixture(scope="module")
def batch():
    return split("batch")


def training_forward(definition, params, statistics):
    """Logits of the training pass, whose BatchNorm needs a mapped axis of one device."""

    def forward(images):
        return nnx.merge(definition, params, statistics)(images, None).logits

    return jax.vmap(forward, axis_name=DATA_AXIS)(IMAGES[None])[0]


# Refit


def labelled(images=4000, seed=0):
    """Logits, and labels that follow sigmoid((z - t) / T), with its t and T."""
    rng = np.random.default_rng(seed)
    threshold, temperature = np.array([1.0, -2.0, 0.0]), np.array([0.5, 3.0, 1.0])
    logits = rng.normal(0, 3, (images, 3))
    probability = 1 / (1 + np.exp(-(logits - threshold) / temperature))
    return logits, (rng.random(logits.shape) < probability).astype(np.int8), threshold, temperature


def test_refit_recovers_the_threshold_and_the_temperature_that_made_the_labels():
    logits, labels, threshold, temperature = labelled(40_000)
    found = refit(logits, labels)
    # Its error falls with the cube root of the number of images, slower where the labels are
    # noisier.
    np.testing.assert_allclose(found.threshold, threshold, atol=0.3)
    np.testing.assert_allclose(found.temperature, temperature, rtol=0.1)


def test_no_threshold_and_no_temperature_is_better():
    logits, labels, *_ = labelled(300, seed=3)
    logits = np.round(logits, 1)  # ties
    labels[::5, 0] = MISSING
    found = refit(logits, labels)
    for k in range(3):
        known = labels[:, k] != MISSING
        z, y = logits[known, k], labels[known, k] == 1
        accuracy = np.mean((found.apply(logits)[known, k] > 0) == y)
        assert accuracy == max(np.mean((z > t) == y) for t in [*z, z.min() - 1])
        right = np.where(y, 1, -1) * (z - found.threshold[k])
        temperatures = np.geomspace(0.2, 9, 400)
        costs = [np.mean(np.logaddexp(0, -right / t)) for t in temperatures]
        assert found.temperature[k] == pytest.approx(temperatures[np.argmin(costs)], rel=0.01)


def test_refit_leaves_alone_what_it_cannot_learn_or_improve():
    logits = np.array([[2.0, -1, 1, -2], [1, -2, -1, -1], [-1, 3, 2, 3]])
    labels = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 1, 1]], np.int8)
    labels = np.append(labels, np.full((3, 1), MISSING, np.int8), axis=1)
    found = refit(np.append(logits, logits[:, :1], axis=1), labels)
    assert found.threshold.tolist() == [0, 0, 0, 0, 0]  # two one-class, two perfect, one unknown
    assert found.temperature[[0, 1, 4]].tolist() == [1, 1, 1]
    # Without errors the temperature is at its bound, up to the tolerance of the search.
    np.testing.assert_allclose(found.temperature[[2, 3]], baselines.TEMPERATURES[0], rtol=0.01)


def test_refit_refuses_bad_input():
    logits, labels, *_ = labelled(9)
    with pytest.raises(ValueError, match="must both be"):
        refit(logits[1:], labels)
    with pytest.raises(ValueError, match="27 of 27 logits are not finite"):
        refit(logits * np.inf, labels)
    with pytest.raises(ValueError, match="labels must be"):
        refit(logits, labels + 2)


# Statistics estimated again


def test_reestimated_logits_are_the_training_passs(batch):
    found = reestimated_logits(*batch, IMAGES)
    np.testing.assert_allclose(found, training_forward(*batch), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, nnx.merge(*batch).predict(IMAGES), atol=0.1)


@pytest.mark.parametrize("prior, share", [(0, 0), (6, 0.6), (12, 0.75)])
def test_the_first_layer_is_normalised_as_by_hand(batch, prior, share):
    layer = nnx.merge(*batch).extractor.down0
    x, norm = layer.conv(IMAGES), layer.norm
    mean = share * norm.mean[...] + (1 - share) * np.mean(x, (0, 1, 2))
    var = share * norm.var[...] + (1 - share) * np.var(x, (0, 1, 2))
    expected = (x - mean) / np.sqrt(var + 1e-5) * norm.scale[...] + norm.bias[...]
    changed = with_batch_statistics(nnx.merge(*batch), prior)
    np.testing.assert_allclose(changed.extractor.down0.norm(x), expected, rtol=1e-5, atol=1e-5)


def test_an_endless_prior_is_plain_prediction(batch):
    plain = nnx.merge(*batch).predict(IMAGES)
    np.testing.assert_allclose(reestimated_logits(*batch, IMAGES, 1e9), plain, atol=1e-4)


def test_reestimation_needs_statistics_and_a_prior(batch):
    with pytest.raises(ValueError, match="no batch statistics"):
        reestimated_logits(*split("group"), IMAGES)
    with pytest.raises(ValueError, match="prior must be"):
        reestimated_logits(*batch, IMAGES, -1)


# TENT


def test_binary_entropy_is_its_definition():
    p = np.array([0.01, 0.3, 0.5, 0.9])
    expected = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(binary_entropy(np.log(p / (1 - p))), expected, rtol=1e-5)
    assert np.abs(binary_entropy(jnp.array([-90.0, 90.0]))).max() < 1e-5


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_tent_lowers_the_entropy_by_norms_alone(norm):
    definition, params, statistics = split(norm)
    state, entropies = begin_tent(params), []
    for _ in range(6):
        logits, state = adapt_by_tent(definition, statistics, state, IMAGES)
        entropies.append(float(binary_entropy(logits).sum()))
        if len(entropies) == 1:  # predicted before the step
            plain = (
                reestimated_logits(definition, params, statistics, IMAGES)
                if norm == "batch"
                else nnx.merge(definition, params, statistics).predict(IMAGES)
            )
            np.testing.assert_allclose(logits, plain, rtol=1e-4, atol=1e-5)
    assert (np.diff(entropies) < 0).all()

    before, after = (dict(jax.tree_util.tree_leaves_with_path(p)) for p in (params, state.params))
    for path in before:
        keys = [key.key for key in path]
        affine = keys[-2] == "norm" and keys[-1] in ("scale", "bias")
        assert np.array_equal(before[path], after[path]) != affine, keys


def test_tents_first_step_goes_against_the_sign_of_the_entropys_gradient(batch):
    definition, params, statistics = batch

    def entropy(params):
        p = jax.nn.sigmoid(training_forward(definition, params, statistics))
        return -jnp.sum(p * jnp.log(p) + (1 - p) * jnp.log(1 - p)) / len(IMAGES)

    gradients = jax.jit(jax.grad(entropy))(params)["extractor"]
    _, state = adapt_by_tent(definition, statistics, begin_tent(params), IMAGES, 1e-2)
    for name, before in params["extractor"].items():
        if not name.startswith("down"):
            continue
        for part in ("scale", "bias"):
            g = np.asarray(gradients[name]["norm"][part])
            step = state.params["extractor"][name]["norm"][part] - before["norm"][part]
            clear = np.abs(g) > 1e-4
            assert clear.any()
            np.testing.assert_allclose(step[clear], -1e-2 * np.sign(g)[clear], rtol=1e-2)


# Denoising


@pytest.fixture(scope="module")
def faces(dataset):
    return dataset.split("test").pictures(slice(4), 32).astype(np.float32) / 255


def noisy(images, sigma):
    return images + sigma * np.random.default_rng(0).normal(size=images.shape).astype(np.float32)


def psnr(images, clean):
    return -10 * np.log10(np.mean((np.clip(images, 0, 1) - clean) ** 2))


@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("method", ["wavelet", "nlm", "tv"])
def test_denoising_raises_psnr(faces, method, sigma):
    images = noisy(faces, sigma)
    found = denoise_classically(images, sigma, method)
    assert found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    gain = psnr(found, faces) - psnr(images, faces)
    assert gain > {0.05: 2, 0.2: 5, 0.5: 7}[sigma]
    alone = denoise_classically(images[1:2], sigma, method)
    np.testing.assert_allclose(alone[0], found[1], atol=1e-6)


def test_colours_are_a_rotation_to_which_nlm_is_blind(faces):
    np.testing.assert_allclose(baselines._COLOURS @ baselines._COLOURS.T, np.eye(3), atol=1e-12)
    image = noisy(faces, 0.2)[0]
    options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": -1}
    expected = denoise_nl_means(image, h=0.12, sigma=0.2, **options)
    np.testing.assert_allclose(
        denoise_classically(image[None], 0.2, "nlm")[0], expected.clip(0, 1), atol=1e-4
    )


def test_without_noise_denoising_only_clips(faces):
    np.testing.assert_array_equal(
        denoise_classically(1.5 * faces, 0, "tv"), np.minimum(1.5 * faces, 1)
    )
    assert denoise_classically(faces[:0], 0.1, "tv").shape == (0, 32, 32, 3)


def test_denoising_refuses_bad_input(faces):
    with pytest.raises(ValueError, match="expected one of wavelet, nlm, tv"):
        denoise_classically(faces, 0.1, "median")
    with pytest.raises(ValueError, match="sigma"):
        denoise_classically(faces, -0.1, "tv")
    for images in (faces[0], (255 * faces).astype(np.uint8)):
        with pytest.raises(ValueError, match="of floats"):
            denoise_classically(images, 0.1, "tv")


def test_a_batch_is_full_however_few_the_images():
    for count in (1, 20, bench.BATCH, bench.BATCH + 5):
        images, sizes = np.arange(count * 4.0).reshape(count, 2, 2), []
        found = bench.batched(lambda x, sizes=sizes: sizes.append(len(x)) or x, images)
        np.testing.assert_array_equal(found, images)
        assert set(sizes) == {bench.BATCH}


def test_results_are_kept_apart_by_images_and_calibration(finished, tmp_path):
    workdir = tmp_path / "W"
    shutil.copytree(finished, workdir)
    trained = load(workdir)
    split = bench.read_split(trained, "test")
    first = bench.result_name(trained, split)
    assert first.startswith("W-") and first == bench.result_name(load(workdir), split)
    few = bench.read_split(trained, "test", len(split.names) - 1)
    (workdir / "calibration.npz").write_bytes(b"one")
    one = bench.result_name(trained, split)
    (workdir / "calibration.npz").write_bytes(b"another")
    other = bench.result_name(trained, split)
    assert len({first, one, other, bench.result_name(trained, few)}) == 4
