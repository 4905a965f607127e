"""Calibration as a user runs it: a file beside the checkpoint, and evaluate.py --auto. What users
get wrong is in the corpus."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from iamt_jax.commands.main import evaluate, main
from iamt_jax.inference.classifier import load
from iamt_jax.inference.predictor import Setting
from iamt_jax.robust.calibration import SIGMAS, calibrate
from iamt_jax.robust.calibration_file import (
    MEMBERS,
    members,
    read_calibration,
    write_calibration,
)


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """A copy of the finished run, calibrated by the command line."""
    workdir = tmp_path_factory.mktemp("calibrated") / "W"
    shutil.copytree(finished, workdir)
    assert main(["calibrate", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def pictures(dataset, tiny):
    from iamt_jax.data.batches import Decoded

    records = dataset.split("train")
    decoded = Decoded(records, tiny.data.size)
    return np.stack([decoded.picture(i) for i in range(len(records))]), records.names


def report(workdir, out, *flags):
    arguments = ["--workdir", workdir, "--out", out, "--bootstrap", 0, "--batch-size", 8, *flags]
    assert evaluate([str(x) for x in arguments]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_auto_leaves_clean_images_alone_and_says_what_it_did(calibrated, tmp_path):
    plain = report(calibrated, tmp_path / "plain")
    auto = report(calibrated, tmp_path / "auto", "--auto")
    applied = auto["provenance"]["applied"]
    assert plain["provenance"]["applied"] is None
    assert applied["members"] == ["denoiser", "curve"]
    assert applied["images_left_alone"] >= 0.9
    assert auto["provenance"]["n"] is None
    noisy = report(calibrated, tmp_path / "noisy", "--auto", "--sigma", 0.2)["provenance"]
    assert noisy["applied"]["images_left_alone"] == 0
    assert noisy["applied"]["sigma_quartiles"][2] == pytest.approx(0.2, rel=0.15)


def test_auto_does_not_depend_on_the_batch(calibrated, dataset, tiny):
    trained = load(calibrated)
    transformation = trained.transformation
    records, setting = dataset.split("test"), Setting(sigma=0.2)
    runs = [
        np.concatenate([answer.logits for answer in answers])
        for size in (8, 16)
        for answers in [
            trained.predictor.predict_batches(
                records, tiny.data.size, size, setting, transformation
            )
        ]
    ]
    np.testing.assert_allclose(*runs, atol=1e-4)


def test_all_members_come_back_from_the_file(finished, pictures, tmp_path):
    trained = load(finished)
    whole = calibrate(trained.predictor.network(), *pictures, MEMBERS, sample=32)
    assert members(whole) == list(MEMBERS)
    nodes = 2 * len(SIGMAS)
    assert whole.beta.shape == (nodes, 40, 16) and whole.beta.min() >= 0 and whole.beta.max() <= 1
    np.testing.assert_array_equal(whole.beta[[0, len(SIGMAS)]], 0)
    for factor, summand in whole.correction.values():
        np.testing.assert_allclose(factor[[0, len(SIGMAS)]], 1, atol=1e-6)
        np.testing.assert_allclose(summand[[0, len(SIGMAS)]], 0, atol=1e-5)
    write_calibration(tmp_path, whole, "this")
    again = read_calibration(tmp_path, "this")
    assert members(again) == list(MEMBERS)
    np.testing.assert_array_equal(again.levels.reading, whole.levels.reading)
    np.testing.assert_allclose(again.prior.basis, whole.prior.basis, atol=1e-3)  # half precision
    images = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    one, other = (trained.predictor.automatic(images, t, 0.2)[0] for t in (whole, again))
    np.testing.assert_allclose(one, other, atol=2e-2)


def test_statistics_bring_a_brighter_degraded_layer_home(finished, pictures):
    """With only the statistics, the mean of every logit comes nearer to that of clean images."""
    network = load(finished).predictor.network()
    whole = calibrate(network, *pictures, ("statistics",), sample=64)
    assert members(whole) == ["statistics"]
    predictor = load(finished).predictor
    clean = pictures[0].astype(np.float32) / 255
    noise = 0.3 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    target = np.asarray(predictor.logits(clean)).mean(0)
    left = np.abs(np.asarray(predictor.logits(clean + noise)).mean(0) - target).mean()
    mended = np.asarray(predictor.automatic(clean + noise, whole)[0]).mean(0)
    assert np.abs(mended - target).mean() < left


def test_contributions_add_up_and_a_curve_without_power_is_the_curve(finished):
    heads = load(finished).predictor.network().heads
    features = np.random.default_rng(0).normal(size=(3, 4, 4, 16)).astype(np.float32)
    plain, masked = heads.contributions(features)
    bias = heads.stacked.classifier.bias[...][:, 0]
    np.testing.assert_allclose(
        plain.sum(2) + masked.sum(2) + bias, heads(features).logits, rtol=1e-4, atol=1e-4
    )
    beta = np.random.default_rng(1).random((3, 40, 16)).astype(np.float32)
    expected = heads.reference(features, 1.0, beta)
    np.testing.assert_allclose(heads(features, None, beta).logits, expected, rtol=1e-4, atol=1e-4)
    without = heads(features, 2.0).logits
    np.testing.assert_allclose(without, heads.reference(features, 2.0), rtol=1e-4, atol=1e-4)


def test_a_sweep_is_every_pair_of_its_grid(finished):
    heads = load(finished).predictor.network().heads
    features = np.random.default_rng(0).normal(size=(3, 4, 4, 16)).astype(np.float32)
    grid = np.array([0.5, 2.0]), np.array([0.0, 0.3, 1.0])
    found = heads.sweep(features, *grid)
    assert found.shape == (2, 3, 3, 40)
    for i, n in enumerate(grid[0]):
        for j, beta in enumerate(grid[1]):
            expected = heads.reference(features, jnp.float32(n), jnp.float32(beta))
            np.testing.assert_allclose(found[i, j], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_network_with_groups_is_calibrated_too(pictures, tiny):
    import dataclasses

    from iamt_jax.model.network import IAMT

    config = dataclasses.replace(tiny.model, norm="group", widths=(16, 16, 32))
    network = IAMT(config, 40, rngs=nnx.Rngs(0))
    assert members(calibrate(network, *pictures, MEMBERS, sample=16)) == list(MEMBERS)
