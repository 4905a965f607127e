"""The transformation: blind noise estimate, denoiser, channel-wise curve."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from skimage.restoration import estimate_sigma as skimage_sigma

from iamt_jax.robust.curve_fit import RIDGE, fit_beta
from iamt_jax.robust.denoiser import (
    BLOCK,
    VALUES,
    fit_prior,
    from_patches,
    to_patches,
    wiener_denoise,
)
from iamt_jax.robust.noise_level import (
    LAPLACE,
    OPPONENT,
    Levels,
    estimate_sigma,
    is_clipped,
    median,
)
from iamt_jax.robust.treatment import Transformation, treat
from iamt_jax.synthetic import render, sample_attributes, sample_nuisance

SIDE = 32


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    return (
        render(sample_attributes(rng, 96), sample_nuisance(rng, 96), SIDE).astype(np.float32) / 255
    )


@pytest.fixture(scope="module")
def prior(faces):
    return fit_prior([faces[:40], faces[40:80]])


def noisy(images, sigma, seed=0):
    draw = np.random.default_rng(seed).standard_normal(images.shape)
    return (images + sigma * draw).astype(np.float32)


def psnr(images, clean):
    return -10 * np.log10(np.square(np.asarray(images) - clean).mean())


def slow_sigma(image):
    """The estimate, written with loops."""
    chroma = image.astype(np.float64) @ OPPONENT[1:].T.astype(np.float64)
    mask = np.outer(LAPLACE, LAPLACE).astype(np.float64)
    height, width = image.shape[:2]
    left = [
        np.sum(mask * chroma[i : i + 3, j : j + 3, c])
        for i in range(height - 2)
        for j in range(width - 2)
        for c in range(2)
    ]
    return np.median(np.abs(left)) / 0.6744898


def test_the_estimate_equals_its_slow_twin(faces):
    images = noisy(faces[:3], 0.1)
    expected = [slow_sigma(image) for image in images]
    # Of an even count the median lies anywhere between the two middle values.
    np.testing.assert_allclose(estimate_sigma(images), expected, rtol=5e-3)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2, 0.5])
def test_the_estimate_is_right_and_agrees_with_scikit_image(sigma):
    flat = np.full((24, 64, 64, 3), 0.5, np.float32)
    images = noisy(flat, sigma)
    found = np.asarray(estimate_sigma(images))
    # 7,688 differences an image: the median's standard error is about 2 %, its mean's 0.4 %.
    np.testing.assert_allclose(found.mean(), sigma, rtol=0.02)
    theirs = [skimage_sigma(image, channel_axis=-1, average_sigmas=True) for image in images]
    np.testing.assert_allclose(found.mean(), np.mean(theirs), rtol=0.03)


def test_the_estimate_sees_one_image_at_a_time(faces):
    images = np.concatenate([noisy(faces[:4], 0.1), noisy(faces[4:8], 0.3)])
    alone = [estimate_sigma(image[None])[0] for image in images]
    np.testing.assert_allclose(estimate_sigma(images), alone, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 9, 1000])
def test_the_median_is_the_median(count):
    values = np.random.default_rng(0).exponential(size=(3, count)).astype(np.float32)
    low, high = np.sort(values)[:, (count - 1) // 2], np.sort(values)[:, count // 2]
    found = np.asarray(median(values))
    slack = values.max(1) * 2.0**-15
    assert (found >= low - slack).all() and (found <= high + slack).all()


def test_noise_that_leaves_the_range_is_open(faces):
    images = np.stack([faces[0], noisy(faces[0], 0.5), noisy(faces[0], 0.5).clip(0, 1)])
    assert np.asarray(is_clipped(images)).tolist() == [True, False, True]


def test_patches_hold_their_pixels_and_come_back(faces):
    images = faces[:2]
    patches = np.asarray(to_patches(images))
    assert patches.shape == (SIDE // BLOCK - 1, SIDE // BLOCK - 1, 2, VALUES)
    corner = patches[2, 3, 1].reshape(2, 2, BLOCK, BLOCK, 3)
    row, column = 2 * BLOCK, 3 * BLOCK
    np.testing.assert_array_equal(
        corner[1, 0],
        images[1, row + BLOCK : row + 2 * BLOCK, column : column + BLOCK],
    )
    np.testing.assert_allclose(from_patches(patches), images, atol=1e-6)


def test_the_prior_is_the_principal_components_of_faces_and_mirrored_faces(faces, prior):
    both = np.concatenate([faces[:80], faces[:80, :, ::-1]])
    values = np.asarray(to_patches(both))[1, 2].astype(np.float64)
    np.testing.assert_allclose(prior.mean[1, 2], values.mean(0), atol=1e-5)
    covariance = np.cov(values.T, bias=True)
    variance = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(prior.variance[1, 2], variance[:64], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(prior.rest[1, 2], variance[64:].mean(), rtol=1e-2, atol=1e-6)
    basis = prior.basis[1, 2].astype(np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(64), atol=1e-5)
    kept = np.trace(basis.T @ covariance @ basis)
    np.testing.assert_allclose(kept, variance[:64].sum(), rtol=1e-4)


def slow_denoise(image, sigma, prior):
    """The denoiser for one image, written patch by patch."""
    rows, columns = prior.mean.shape[:2]
    side = 2 * BLOCK
    window = np.hanning(side + 2)[1:-1]
    window = np.outer(window, window)[..., None]
    order = np.arange(VALUES).reshape(2, 2, BLOCK, BLOCK, 3).transpose(0, 2, 1, 3, 4).ravel()

    def blend(patches):
        total, weights = np.zeros(image.shape), np.zeros((*image.shape[:2], 1))
        for (r, c), patch in patches.items():
            place = np.s_[r * BLOCK : r * BLOCK + side, c * BLOCK : c * BLOCK + side]
            total[place] += window * patch.reshape(side, side, 3)
            weights[place] += window
        return total / weights

    def run(pilot):
        patches = {}
        for r in range(rows):
            for c in range(columns):
                place = np.s_[r * BLOCK : r * BLOCK + side, c * BLOCK : c * BLOCK + side]
                mean, basis = prior.mean[r, c][order], prior.basis[r, c][order]
                values = image[place].ravel() - mean
                inside = basis.T @ values
                variance = prior.variance[r, c]
                if pilot is not None:
                    variance = np.square(basis.T @ (pilot[place].ravel() - mean))
                gains = variance / (variance + sigma**2)
                kept = prior.rest[r, c] / (prior.rest[r, c] + sigma**2)
                patches[r, c] = mean + basis @ (gains * inside) + kept * (values - basis @ inside)
        return blend(patches)

    return run(run(None))


def test_the_denoiser_equals_its_slow_twin(faces, prior):
    images = noisy(faces[80:82], 0.2)
    expected = [slow_denoise(image.astype(np.float64), 0.2, prior) for image in images]
    found = wiener_denoise(images, np.full(2, 0.2, np.float32), prior)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_noise_an_image_passes_unchanged_and_gains_fall_with_sigma(faces, prior):
    images = faces[80:84]
    sigma = np.array([0, 0, 1e-4, 10], np.float32)
    found = np.asarray(wiener_denoise(images, sigma, prior))
    np.testing.assert_allclose(found[:3], images[:3], atol=1e-4)
    assert found[3].std() < images[3].std()


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_unseen_images_come_out_nearer_to_clean_ones(faces, prior, sigma):
    clean = faces[80:]
    images = noisy(clean, sigma)
    found = wiener_denoise(images, np.full(len(images), sigma, np.float32), prior)
    assert psnr(found, clean) > psnr(images, clean) + 4


def test_betas_solve_the_bounded_least_squares():
    rng = np.random.default_rng(0)
    plain, masked = rng.normal(size=(2, 200, 3, 5))
    clean = (0.6 * plain + 1.4 * masked).sum(2) + 0.1 * rng.normal(size=(200, 3))
    found = fit_beta(plain, masked, clean)
    np.testing.assert_allclose(found, 0.4, atol=0.05)
    gap, left = (masked - plain)[:, 1], (clean - (plain + masked).sum(2))[:, 1] + plain[:, 1, 0]
    ridge = np.sqrt(RIDGE * np.square(gap).sum() / 5) * np.eye(5)
    rows = np.concatenate([gap, ridge]), np.concatenate([left, np.zeros(5)])
    expected = lsq_linear(*rows, bounds=(0, 1), tol=1e-12).x
    moved = fit_beta(plain, masked, clean + plain[:, :, 0])[1]
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    assert moved.min() >= 0 and moved.max() <= 1


LEVELS = Levels(
    np.array([0, 0.1, 0.3], np.float32),
    np.array([[0.002, 0.1, 0.3], [0.002, 0.09, 0.2]], np.float32),
    np.float32(0.003),
)


def test_levels_interpolate_and_leave_clean_images_alone():
    estimate = np.array([0.0029, 0.1, 0.2, 0.2, 0.9], np.float32)
    clipped = np.array([False, False, False, True, False])
    place = LEVELS.of_estimate(estimate, clipped)
    np.testing.assert_allclose(place, [0, 1, 1.5, 2, 2], atol=1e-6)
    np.testing.assert_allclose(LEVELS.sigma_at(place), [0, 0.1, 0.2, 0.3, 0.3], atol=1e-6)
    np.testing.assert_allclose(LEVELS.of_sigma(np.array([0, 0.2, 9.0])), [0, 1.5, 2])
    weights = np.asarray(LEVELS.weights(place, clipped))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[2], [0, 0.5, 0.5, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(weights[3], [0, 0, 0, 0, 0, 1], atol=1e-6)


def test_the_whole_leaves_clean_images_alone_and_believes_a_known_sigma(faces, prior):
    beta = np.zeros((6, 2, 5), np.float32)
    beta[1:3] = 0.5
    levels = LEVELS._replace(floor=np.float32(0.05))
    whole = Transformation(levels, prior, beta)
    images = np.concatenate([faces[80:82], noisy(faces[80:81], 0.1)])
    done = treat(images, whole)
    np.testing.assert_array_equal(done.sigma[:2], 0)
    np.testing.assert_allclose(done.images[:2], images[:2], atol=1e-6)
    np.testing.assert_array_equal(done.beta[:2], 0)
    np.testing.assert_allclose(done.sigma[2], 0.1, rtol=0.1)
    told = treat(images, whole, np.array([0.3, 0, 0.3], np.float32))
    np.testing.assert_allclose(told.sigma, [0.3, 0, 0.3], atol=1e-6)
    assert psnr(done.images[2], faces[80]) > psnr(images[2], faces[80]) + 4


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_without_noise_the_fit_stays_at_the_networks_own_curve(own):
    rng = np.random.default_rng(5)
    plain, masked = rng.normal(size=(2, 50, 3, 8))
    clean = ((1 - own) * plain + (1 + own) * masked).sum(2)
    np.testing.assert_allclose(fit_beta(plain, masked, clean, own), own, atol=1e-6)
