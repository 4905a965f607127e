"""Calibration by the command, its file, and evaluate.py --auto. The corpus holds users' errors."""

import dataclasses
import json
import shutil
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli import evaluate, main
from flax import nnx

from iamt_jax.commands.calibrate import make_calibration
from iamt_jax.errors import InputError
from iamt_jax.evaluation.measure import transformation_summary
from iamt_jax.inference.classifier import load
from iamt_jax.inference.predictor import Noise
from iamt_jax.robust.calibration import (
    CALIBRATED_SIGMAS,
    FEWEST_TO_RESTORE,
    SMALLEST_SIZE,
    fit_transformation,
)
from iamt_jax.robust.calibration_file import (
    MEMBERS,
    members,
    read_calibration,
    write_calibration,
)
from iamt_jax.robust.restorer import LEFT
from iamt_jax.robust.states import CLEAN, FIRST_RESTORED, STATES, to_state
from iamt_jax.synthetic import render, sample_attributes, sample_nuisance
from iamt_jax.xla_setup import default_numbers


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """A copy of the finished run, calibrated by the command line."""
    workdir = tmp_path_factory.mktemp("calibrated") / "W"
    shutil.copytree(finished, workdir)
    assert main(["calibrate", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def pictures(dataset, tiny):
    records = dataset.split("train")
    return records.pictures(slice(None), tiny.data.size), records.names


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
    records, noise = dataset.split("test"), Noise(0.2)
    runs = [
        np.concatenate([answer.logits for answer in answers])
        for size in (8, 16)
        for answers in [
            trained.predictor.predict_batches(records, tiny.data.size, size, transformation, noise)
        ]
    ]
    np.testing.assert_allclose(*runs, atol=1e-4)


@pytest.fixture(scope="module")
def whole(finished):
    """All members, for the finished run; the images are more than its own."""
    rng = np.random.default_rng(0)
    count = FEWEST_TO_RESTORE
    images = render(sample_attributes(rng, count), sample_nuisance(rng, count), 32)
    names = [str(i) for i in range(count)]
    network = load(finished).predictor.network()
    return fit_transformation(network, images, names), images


def test_a_calibration_repeats_to_the_bit_in_a_program_of_64_bits(whole, finished):
    transformation, images = whole
    jax.config.update("jax_enable_x64", True)
    try:
        with default_numbers():
            network = load(finished).predictor.network()
            again = fit_transformation(network, images, [str(i) for i in range(len(images))])
    finally:
        jax.config.update("jax_enable_x64", False)
    jax.tree.map(np.testing.assert_array_equal, again, transformation)


def test_clean_states_share_their_margins_and_a_kind_its_denoising(whole):
    transformation, _ = whole
    margin = np.asarray(transformation.recogniser.margin)
    np.testing.assert_array_equal(margin[:, CLEAN[0]], margin[:, CLEAN[1]])
    assert margin[:, CLEAN[0]].any()
    levels: dict[str, set] = {}
    for state, sigma in zip(STATES[FIRST_RESTORED:], transformation.restorer.sigma, strict=True):
        if sigma != LEFT:
            levels.setdefault(state.kind, set()).add(float(sigma))
    assert levels and all(len(found) == 1 for found in levels.values())


def test_degradations_are_recognised_undone_and_counted(whole, finished):
    transformation, images = whole
    trained, some = load(finished), images[:64].astype(np.float32) / 255
    state = next(x for x in STATES if x.kind == "defocus_blur")
    blurred = np.asarray(to_state(jnp.asarray(some), state, [str(i) for i in range(64)], 7))
    answer = trained.predictor.predict(blurred, transformation)
    summary = transformation_summary(transformation, answer)
    restored = Counter(STATES[i].kind for i in np.asarray(answer.state).tolist() if i)
    assert summary["images_restored"] == dict(restored)
    pays = np.asarray(transformation.restorer.sigma)[STATES.index(state) - FIRST_RESTORED] >= 0
    assert (restored["defocus_blur"] > 55) == pays
    clean = trained.predictor.predict(some, transformation)
    assert np.mean(np.asarray(clean.state) == 0) > 0.95


def test_few_images_calibrate_no_restorer(finished, pictures, capsys):
    network = load(finished).predictor.network()
    assert members(fit_transformation(network, *pictures, sample=16)) == ["denoiser", "curve"]


def test_all_members_come_back_from_the_file(whole, finished, tmp_path):
    trained, whole = load(finished), whole[0]
    assert members(whole) == list(MEMBERS)
    nodes = 2 * len(CALIBRATED_SIGMAS)
    assert whole.beta.shape == (nodes, 40, 16) and whole.beta.min() >= 0 and whole.beta.max() <= 1
    np.testing.assert_array_equal(whole.beta[[0, len(CALIBRATED_SIGMAS)]], 0)
    write_calibration(tmp_path, whole, "this")
    again = read_calibration(tmp_path, "this")
    assert members(again) == list(MEMBERS)
    np.testing.assert_array_equal(again.levels.estimate, whole.levels.estimate)
    np.testing.assert_allclose(again.prior.basis, whole.prior.basis, atol=1e-3)  # half precision
    jax.tree.map(np.testing.assert_array_equal, again.recogniser, whole.recogniser)
    np.testing.assert_array_equal(again.restorer.sigma, whole.restorer.sigma)
    images = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    one, other = (trained.predictor.predict(images, t, 0.2).logits for t in (whole, again))
    np.testing.assert_allclose(one, other, atol=2e-2)


def test_the_calibration_is_on_the_devices(calibrated):
    parts = jax.tree.leaves(load(calibrated).transformation)
    assert parts and all(isinstance(part, jax.Array) for part in parts)


@pytest.mark.parametrize(
    "name, change",
    [
        ("levels/reading", lambda x: x[0]),
        ("levels/sigma", lambda x: x[1:]),
        ("prior/mean", lambda x: x[1:]),
        ("beta", lambda x: x[:, :1]),
        ("beta", lambda x: x[1:]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, change, calibrated, tmp_path):
    shutil.copytree(calibrated, tmp_path / "W")
    path = tmp_path / "W" / "calibration.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {name: change(arrays[name])})
    with pytest.raises(InputError, match="calibration.npz: its arrays do not fit the network; run"):
        _ = load(tmp_path / "W").transformation


@pytest.mark.parametrize("size", [8, 30])
def test_a_size_that_cannot_be_calibrated_is_refused_before_reading(finished, size):
    trained = load(finished)
    data = dataclasses.replace(trained.run.config.data, size=size, root="no-such-folder")
    config = dataclasses.replace(trained.run.config, data=data)
    trained = dataclasses.replace(trained, run=dataclasses.replace(trained.run, config=config))
    with pytest.raises(InputError) as error:
        make_calibration(trained)
    assert f"have {size} pixels a side, expected a multiple of 4 from 12 on" in str(error.value)


def test_the_smallest_images_are_calibrated(finished):
    rng = np.random.default_rng(0)
    count = FEWEST_TO_RESTORE
    faces = sample_attributes(rng, count), sample_nuisance(rng, count)
    large = render(*faces, 3 * SMALLEST_SIZE)
    images = large.reshape(count, SMALLEST_SIZE, 3, SMALLEST_SIZE, 3, 3).mean((2, 4))
    images = images.astype(np.uint8)
    network = load(finished).predictor.network()
    found = fit_transformation(network, images, [str(i) for i in range(count)])
    assert members(found) == list(MEMBERS)
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(found._replace(recogniser=None)))
    assert np.isfinite(found.recogniser.mean).all()
    assert np.isfinite(found.recogniser.whitening).all()


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
    assert members(fit_transformation(network, *pictures, MEMBERS, sample=16)) == [
        "denoiser",
        "curve",
    ]
