"""Every family of degradations equals SciPy, scikit-image, OpenCV or Pillow on the same images."""

import functools
import io
import logging
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage
from PIL import Image
from scipy import ndimage, stats

from iamt_jax.degradation import blur
from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys, draw, gaussian_noise, noise_keys
from iamt_jax.degradation.severities import FAMILIES, SEVERITIES
from iamt_jax.errors import InputError

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
DISPLACED = ("motion_blur", "glass_blur", "elastic_transform")
WEATHER = ("fog", "snow", "spatter")
RANDOM = (*NOISE, *DISPLACED, *WEATHER)
SHAPE = (37, 50, 3)
"""Odd, and not a multiple of JPEG's blocks."""

FLAT = (20, 128, 255)
"""Grey levels of the first pictures; noise on them has one known distribution."""


def pictures():
    """Three flat images, a smooth one with black and white in it, and one of independent pixels."""
    rng = np.random.default_rng(0)
    flat = [np.full(SHAPE, level, np.uint8) for level in FLAT]
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), (3, 3, 0))
    smooth = np.clip(128 + 160 * smooth / smooth.std() / 2, 0, 255).astype(np.uint8)
    smooth[:8, :8], smooth[-8:, -8:] = 0, 255
    return np.stack([*flat, smooth, rng.integers(0, 256, SHAPE, np.uint8)])


PICTURES = pictures()
CLEAN = PICTURES / 255
NAMES = [f"{i}.jpg" for i in range(len(PICTURES))]


def degraded(family, severity, rows=slice(None), seed=0):
    keys = degradation_keys(NAMES[rows], family, severity, seed)
    return np.asarray(degrade(jnp.asarray(CLEAN[rows], jnp.float32), family, severity, keys))


whole = functools.cache(degraded)
"""All pictures as one batch, cached because most tests use the same results."""


def strength(family, severity):
    """The only strength of the family, or the list of them."""
    values = [values[severity - 1] for values in FAMILIES[family].values()]
    return values[0] if len(values) == 1 else values


def each(change):
    """Applies a function of one picture to all of them."""
    return np.stack([change(picture) for picture in PICTURES])


def close(actual, expected):
    np.testing.assert_allclose(actual, np.clip(expected, 0, 1), rtol=0, atol=1e-5)


severities = pytest.mark.parametrize("severity", SEVERITIES)
families = pytest.mark.parametrize("family", FAMILIES)


# Deterministic families.


@severities
def test_gaussian_blur_equals_scikit_image(severity):
    sigma = strength("gaussian_blur", severity)
    twin = each(lambda p: skimage.filters.gaussian(p / 255, sigma, channel_axis=-1))
    close(whole("gaussian_blur", severity), twin)


@severities
def test_defocus_blur_equals_its_twin(severity):
    """Of OpenCV's functions: GaussianBlur of a disk, 3 or 5 pixels wide, then filter2D."""
    radius, alias_blur = strength("defocus_blur", severity)
    side = np.arange(-max(radius, 8), max(radius, 8) + 1)
    disk = np.float64(np.hypot(*np.meshgrid(side, side)) <= radius)
    disk = ndimage.gaussian_filter(
        disk / disk.sum(), alias_blur, mode="mirror", radius=1 if radius <= 8 else 2
    )
    twin = each(lambda p: ndimage.correlate(p / 255, disk[..., None], mode="mirror"))
    close(whole("defocus_blur", severity), twin)


@severities
def test_zoom_blur_equals_scipy(severity):
    factors = np.arange(1, *strength("zoom_blur", severity))
    twin = each(lambda p: (p / 255 + sum(zoomed(p / 255, x) for x in factors)) / (len(factors) + 1))
    close(whole("zoom_blur", severity), twin)


def zoomed(picture, factor):
    """The centre of a picture, enlarged by SciPy and trimmed to the picture's size."""
    middle = [centre(size, math.ceil(size / factor)) for size in picture.shape[:2]]
    large = ndimage.zoom(picture[*middle], (factor, factor, 1), order=1)
    trimmed = (centre(*sizes) for sizes in zip(large.shape, picture.shape[:2], strict=False))
    return large[*trimmed]


def centre(size, part):
    return slice((size - part) // 2, (size - part) // 2 + part)


@severities
def test_saturate_equals_scikit_image(severity):
    factor, rise = strength("saturate", severity)
    hsv = skimage.color.rgb2hsv(CLEAN)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + rise, 0, 1)
    close(whole("saturate", severity), skimage.color.hsv2rgb(hsv))


@severities
def test_brightness_equals_scikit_image(severity):
    hsv = skimage.color.rgb2hsv(CLEAN)
    hsv[..., 2] = np.clip(hsv[..., 2] + strength("brightness", severity), 0, 1)
    close(whole("brightness", severity), skimage.color.hsv2rgb(hsv))


@severities
def test_contrast_equals_numpy(severity):
    mean = CLEAN.mean(axis=(1, 2), keepdims=True)
    close(whole("contrast", severity), (CLEAN - mean) * strength("contrast", severity) + mean)


@severities
def test_pixelate_equals_pillow(severity):
    fraction = strength("pixelate", severity)
    size = SHAPE[1], SHAPE[0]
    small = [int(side * fraction) for side in size]

    def twin(picture):
        image = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
        return np.asarray(image.resize(size, Image.Resampling.BOX))

    assert_same_levels(whole("pixelate", severity), each(twin))


@severities
def test_jpeg_equals_pillow(severity):
    def twin(picture):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=strength("jpeg_compression", severity))
        return np.asarray(Image.open(file))

    assert_same_levels(whole("jpeg_compression", severity), each(twin))


def assert_same_levels(images, levels):
    np.testing.assert_allclose(images * 255, levels, rtol=0, atol=1e-4)


# Random displacements and weather, from the same draws.


def drawn(family, severity, *draws):
    """One array a draw of (sampler, shape), from the keys or, of several draws, from their parts;
    for each picture."""
    keys = degradation_keys(NAMES, family, severity, 0)
    parts = [keys] if len(draws) == 1 else jax.vmap(jax.random.split)(keys).T
    return [
        np.asarray(draw(sampler, shape, part), np.float64)
        for part, (sampler, shape) in zip(parts, draws, strict=True)
    ]


def symmetric(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -1, 1)


@severities
def test_motion_blur_equals_its_twin(severity):
    radius, sigma = strength("motion_blur", severity)
    angles = (-44.9, -20.3, 0, 11.7, 39.2)
    actual = blur.motion_blur(jnp.asarray(CLEAN, jnp.float32), radius, sigma, jnp.array(angles))
    for picture, angle, result in zip(CLEAN, angles, actual, strict=True):
        close(result, smeared(picture, radius, sigma, angle))


def smeared(picture, radius, sigma, angle):
    """ImageMagick's MotionBlurImage, pixel by pixel."""
    height, width = picture.shape[:2]
    total, weights = np.zeros(picture.shape), 0
    for i in range(2 * radius + 1):
        weight = math.exp(-i * i / (2 * sigma * sigma))
        right = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        down = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        total += weight * picture[rows][:, columns]
        weights += weight
    return total / weights


def test_motion_blur_draws_its_angle_from_the_key():
    keys = degradation_keys(NAMES, "motion_blur", 1, 0)
    radius, sigma = strength("motion_blur", 1)
    images = jnp.asarray(CLEAN, jnp.float32)
    angles = blur.random_angles(keys, -45, 45)
    close(whole("motion_blur", 1), blur.motion_blur(images, radius, sigma, angles))
    many = blur.random_angles(jax.random.split(jax.random.key(0), 1000), -45, 45)
    assert stats.kstest(np.asarray(many), stats.uniform(-45, 90).cdf).pvalue > 1e-3


@severities
def test_glass_blur_equals_its_twin(severity):
    """One copy after the other."""
    sigma, reach, rounds = strength("glass_blur", severity)

    def step(key, shape, dtype):
        return jax.random.randint(key, shape, -reach, reach).astype(dtype)

    (steps,) = drawn("glass_blur", severity, (step, (rounds, 2, *SHAPE[:2])))
    assert (steps.min(), steps.max()) == (-reach, reach - 1)
    smooth = functools.partial(skimage.filters.gaussian, sigma=sigma, channel_axis=-1)
    for picture, moves, result in zip(CLEAN, steps, whole("glass_blur", severity), strict=True):
        copied = smooth(picture)
        for down, right in moves.astype(int):
            for row in range(SHAPE[0] - reach, reach, -1):
                for column in range(SHAPE[1] - reach, reach, -1):
                    place = row, column
                    copied[place] = copied[row + down[place], column + right[place]]
        close(result, smooth(copied))


@severities
def test_elastic_transform_equals_its_twin(severity):
    height, width = SHAPE[:2]
    side = min(height, width)
    alpha, sigma, shift = np.multiply(strength("elastic_transform", severity), side)
    draws = (symmetric, (3, 2)), (symmetric, (height, width, 2))
    y, x = np.mgrid[:height, :width].astype(float)
    corners = np.array([width // 2, height // 2]) + side // 3 * np.array(
        [[1, 1], [1, -1], [-1, -1]]
    )
    smooth = functools.partial(skimage.filters.gaussian, sigma=sigma, mode="reflect", truncate=3)
    actual = whole("elastic_transform", severity)
    for picture, noise, field, result in zip(
        CLEAN, *drawn("elastic_transform", severity, *draws), actual, strict=True
    ):
        forward = cv2.getAffineTransform(*np.float32([corners, corners + shift * noise]))
        columns, rows, _ = np.linalg.inv([*forward, [0, 0, 1]]) @ [
            x.ravel(),
            y.ravel(),
            0 * x.ravel() + 1,
        ]
        right, down = (alpha * smooth(field[..., i]) for i in (0, 1))
        for channel in range(3):
            moved = ndimage.map_coordinates(
                picture[..., channel], (rows, columns), order=1, mode="mirror"
            )
            moved = ndimage.map_coordinates(
                moved.reshape(height, width), (y + down, x + right), order=1, mode="reflect"
            )
            np.testing.assert_allclose(result[..., channel], moved, rtol=0, atol=1e-4)


@severities
def test_fog_equals_its_twin(severity):
    """Diamond-square, one point after the other."""
    thickness, decay = strength("fog", severity)
    side = 64
    (noise,) = drawn("fog", severity, (symmetric, (side**2 - 1,)))
    for picture, noises, result in zip(CLEAN, noise, whole("fog", severity), strict=True):
        plasma, noises, step, scale = np.zeros((side, side)), iter(noises), side, 1.0
        while step > 1:
            half = step // 2
            diagonal = [(-half, -half), (-half, half), (half, -half), (half, half)]
            straight = [(-half, 0), (half, 0), (0, -half), (0, half)]
            for down, right, around in (
                (half, half, diagonal),
                (0, half, straight),
                (half, 0, straight),
            ):
                for row in range(down, side, step):
                    for column in range(right, side, step):
                        mean = (
                            sum(plasma[(row + i) % side, (column + j) % side] for i, j in around)
                            / 4
                        )
                        plasma[row, column] = mean + scale * next(noises)
            step, scale = half, scale / decay**2
        plasma = (plasma - plasma.min()) / np.ptp(plasma)
        foggy = picture + thickness * plasma[: SHAPE[0], : SHAPE[1], None]
        close(result, foggy * picture.max() / (picture.max() + thickness))


@severities
def test_snow_equals_its_twin(severity):
    mean, spread, factor, least, radius, sigma, share = strength("snow", severity)
    (layers, _) = drawn("snow", severity, (jax.random.normal, (*SHAPE[:2], 1)), (symmetric, ()))
    keys = jax.vmap(jax.random.split)(degradation_keys(NAMES, "snow", severity, 0))[:, 1]
    angles = blur.random_angles(keys, -135, -45)
    for picture, layer, angle, result in zip(
        PICTURES, layers, angles, whole("snow", severity), strict=True
    ):
        flakes = zoomed(mean + spread * layer, factor)
        flakes = smeared(
            np.where(flakes < least, 0, flakes.clip(0, 1)), radius, sigma, float(angle)
        )
        clean = np.float32(picture / 255)
        grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)[..., None]
        white = share * clean + (1 - share) * np.maximum(clean, 1.5 * grey + 0.5)
        close(result, white + flakes + np.rot90(flakes, 2))


@severities
def test_spatter_equals_its_twin(severity):
    mean, spread, sigma, least, water, mud = strength("spatter", severity)
    (noise,) = drawn("spatter", severity, (jax.random.normal, SHAPE[:2]))
    for picture, one, result in zip(CLEAN, noise, whole("spatter", severity), strict=True):
        layer = skimage.filters.gaussian(mean + spread * one, sigma)
        layer[layer < least] = 0
        if water:
            drops = water * drops_of_opencv(layer)[..., None]
            # OpenCV equalises in float32: one level more or less, here and there.
            twin, far = picture + drops * np.array([175, 238, 238]) / 255, 0.01
        else:
            cover = skimage.filters.gaussian(np.float64(layer > least), mud)[..., None]
            cover[cover < 0.8] = 0
            twin, far = picture * (1 - cover) + cover * np.array([63, 42, 20]) / 255, 1e-5
        np.testing.assert_allclose(result, twin.clip(0, 1), rtol=0, atol=far)


def drops_of_opencv(layer):
    """The drops of make_imagenet_c.py, but with exact distances."""
    layer = np.uint8(layer * 255)
    distance = cv2.distanceTransform(
        255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    relief = cv2.equalizeHist(np.uint8(cv2.blur(np.minimum(distance, 20), (3, 3))))
    relief = cv2.filter2D(relief, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    drops = layer * cv2.blur(relief, (3, 3)).astype(float)
    return drops / drops.max() if drops.any() else drops


# Noise, by its distribution. Keys are fixed, so that results do not change from run to run.


def noise_twin(family, x, c, rng):
    """The noise of make_imagenet_c.py, before it clips."""
    match family:
        case "gaussian_noise":
            return x + rng.normal(size=x.shape, scale=c)
        case "shot_noise":
            return rng.poisson(x * c) / c
        case "impulse_noise":
            return skimage.util.random_noise(x, mode="s&p", amount=c, rng=rng)
        case "speckle_noise":
            return x + x * rng.normal(size=x.shape, scale=c)


@severities
@pytest.mark.parametrize("family", NOISE)
def test_noise_has_the_mean_and_variance_of_its_twin(family, severity):
    rng = np.random.default_rng(1)
    for level, actual in zip(FLAT, whole(family, severity)[: len(FLAT)], strict=True):
        many = np.full(200_000, level / 255)
        twin = np.clip(noise_twin(family, many, strength(family, severity), rng), 0, 1)
        square = (twin - twin.mean()) ** 2
        # Four standard errors of a mean and of a variance over the values of an image.
        error, square_error = 4 * np.array([twin.std(), square.std()]) / math.sqrt(actual.size)
        assert abs(actual.mean() - twin.mean()) <= error + 1e-6
        assert abs(actual.var() - twin.var()) <= square_error + 1e-6


@pytest.mark.parametrize("family", ["gaussian_noise", "speckle_noise"])
def test_normal_noise_is_normal(family):
    grey = FLAT[1] / 255
    sigma = strength(family, 1) * (grey if family == "speckle_noise" else 1)
    noise = (whole(family, 1)[1] - grey).ravel()
    assert stats.kstest(noise, stats.norm(0, sigma).cdf).pvalue > 1e-3


@severities
@pytest.mark.parametrize("row", range(len(FLAT)))
def test_shot_noise_counts_as_poisson(row, severity):
    photons = strength("shot_noise", severity)
    counts = whole("shot_noise", severity)[row].ravel() * photons
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    law = stats.poisson(photons * FLAT[row] / 255)
    expected = law.pmf(np.arange(photons + 1))
    expected[photons] = law.sf(photons - 1)  # includes all saturated counts
    observed = np.bincount(np.rint(counts).astype(int), minlength=photons + 1)
    rare = expected * counts.size < 5  # too few for chi-square: joined into one bin
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    assert stats.chisquare(observed, expected * counts.size).pvalue > 1e-3


@severities
def test_impulse_noise_strikes_each_channel_by_itself(severity):
    amount = strength("impulse_noise", severity)
    grey = whole("impulse_noise", severity)[1]
    struck = np.abs(grey - FLAT[1] / 255) > 1e-6
    assert set(grey[struck]) == {0, 1}
    assert stats.binomtest(int((grey == 1).sum()), grey.size, amount / 2).pvalue > 1e-3
    pairs = (struck[..., 0] & struck[..., 1]).ravel()
    assert stats.binomtest(int(pairs.sum()), pairs.size, amount**2).pvalue > 1e-3


# All families.


@families
def test_results_are_images(family):
    for severity in SEVERITIES:
        images = whole(family, severity)
        assert images.shape == CLEAN.shape and images.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1


KINDS = {
    "glass_blur": ((1, 3), (2, 4, 5)),  # A wider reach, but fewer rounds.
    "snow": ((1, 3, 4, 5), (2, 4, 5)),  # Larger flakes, but fewer.
    "saturate": ((1, 2), (3, 4, 5)),  # Paler, then more colourful.
    "elastic_transform": ((1, 2), (3, 4, 5)),  # The whole face, then small waves.
}
"""Severities of one kind, of families in which ImageNet-C's differ in kind."""


@families
def test_severities_rise(family):
    """Measured as squared error over the pictures that the family can change."""
    errors = [((whole(family, s) - CLEAN)[1:] ** 2).mean() for s in SEVERITIES]
    assert min(errors) > 0
    for kind in KINDS.get(family, (SEVERITIES,)):
        assert (np.diff([errors[s - 1] for s in kind]) > 0).all(), errors


@pytest.mark.parametrize("family", ["glass_blur", "zoom_blur", "elastic_transform", *WEATHER])
@pytest.mark.parametrize("side", [32, 128])
def test_square_images_of_every_size(family, side):
    image = jnp.asarray(np.resize(CLEAN[-1], (1, side, side, 3)), jnp.float32)
    result = np.asarray(degrade(image, family, 5, degradation_keys(["a"], family, 5, 0)))
    assert result.shape == image.shape and np.isfinite(result).all()
    assert (result != image).any()


@families
def test_the_batch_changes_nothing(family):
    alone = np.concatenate([degraded(family, 5, slice(i, i + 1)) for i in range(len(PICTURES))])
    # A matrix product may take the last rows of a batch by another path, with other roundings.
    products = ("gaussian_blur", "defocus_blur", "glass_blur", "elastic_transform")
    last_bits = 1e-6 if family in products else 0
    np.testing.assert_allclose(alone, whole(family, 5), rtol=0, atol=last_bits)


@families
def test_keys_matter_in_random_families(family):
    differs = (degraded(family, 5, seed=1) != whole(family, 5)).any()
    assert differs == (family in RANDOM)


@pytest.mark.parametrize(
    ("family", "programs"), [("saturate", 1), ("fog", 4), ("elastic_transform", 3)]
)
def test_severities_that_differ_in_numbers_alone_share_a_program(family, programs, caplog):
    jax.clear_caches()
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        for severity in SEVERITIES:
            degraded(family, severity)
    compiled = [x for x in caplog.messages if x.startswith("Compiling jit(_compiled)")]
    assert len(compiled) == programs


def test_gaussian_noise_is_that_of_the_network_input():
    keys = degradation_keys(NAMES, "gaussian_noise", 1, 0)
    noisy = gaussian_noise(jnp.asarray(CLEAN, jnp.float32), 0.08, keys)
    close(whole("gaussian_noise", 1), noisy)


def test_keys_depend_on_name_family_severity_and_seed():
    keys = [
        *degradation_keys(NAMES, "shot_noise", 1, 0),
        *degradation_keys(NAMES, "shot_noise", 2, 0),
        *degradation_keys(NAMES, "contrast", 1, 0),
        *degradation_keys(NAMES, "shot_noise", 1, 1),
        *noise_keys(NAMES, 1, 0),
    ]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == 25


@pytest.mark.parametrize(
    "family, severity, message",
    [
        ("gausian_blur", 1, "'gausian_blur': did you mean gaussian_blur?"),
        ("frost", 1, "'frost': choose one of gaussian_noise, shot_noise"),
        ("contrast", 0, "severity 0 of contrast: expected 1 to 5, nearest is 1"),
        ("contrast", 9, "nearest is 5"),
    ],
)
def test_unknown_families_and_severities_are_refused(family, severity, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as error:
        degrade(jnp.zeros((1, *SHAPE)), family, severity, degradation_keys(["a"], family, 1, 0))
    assert "\n" not in str(error.value)
