"""Augmentation on the device: each kind, against SciPy, and alike on any number of devices."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from scipy.ndimage import map_coordinates

from iamt_jax.config import MISSING, DataConfig
from iamt_jax.data.augment import augment, mixup, move, quarter_turned, reach, recolour

PLAIN = DataConfig(flip=False)
BUSY = DataConfig(shift=0.1, zoom=0.1, rotate=10, colour=0.2)


def pictures(count=4, side=20, seed=0):
    return np.random.default_rng(seed).random((count, side, side, 3), np.float32)


def smooth(side=32):
    """Images that linear interpolation in one order or another draws nearly alike."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(4 * x + 3 * y), np.cos(5 * y - 2 * x), x * y]
    return np.stack(waves, axis=-1)[None].astype(np.float32)


def keys(count=4, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def drawn(config, count=20, side=20):
    image = pictures(1, side)
    return image[0], np.asarray(augment(jnp.repeat(image, count, axis=0), keys(count), config))


def test_without_augmentation_nothing_changes():
    image, found = drawn(PLAIN)
    np.testing.assert_array_equal(found, np.broadcast_to(image, found.shape))


def test_flip_mirrors_every_other_image():
    image, found = drawn(DataConfig(), 200)
    mirrored = (found == image[:, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(mirrored, ~(found == image).all(axis=(1, 2, 3)))
    assert 70 <= mirrored.sum() <= 130


@pytest.mark.parametrize("field", ["shift", "zoom", "rotate", "colour"])
def test_each_augmentation_changes_every_image_and_stays_in_range(field):
    config = dataclasses.replace(PLAIN, **{field: 8.0 if field == "rotate" else 0.25})
    image, found = drawn(config)
    assert found.shape == (20, 20, 20, 3) and found.min() >= 0 and found.max() <= 1 + 1e-6
    assert (abs(found - image).max(axis=(1, 2, 3)) > 0.01).all()
    assert len({x.tobytes() for x in found}) == 20


@pytest.mark.parametrize("shift", [(0.1, 0.0), (0.0, -0.15)])
def test_a_whole_shift_moves_pixels(shift):
    image = pictures()
    across, down = (round(20 * x) for x in shift)
    shifts = jnp.broadcast_to(jnp.array(shift), (4, 2))
    moved = move(image, jnp.zeros(4), jnp.ones(4), shifts, reach(DataConfig(shift=0.15), 20))
    rolled = np.roll(image, (-down, -across), axis=(1, 2))
    inside = np.s_[:, 3:-3, 3:-3]
    np.testing.assert_allclose(moved[inside], rolled[inside], atol=1e-5)


@pytest.mark.parametrize(
    "angle, zoom, x, y",
    [
        (0, 1.2, 0, 0),
        (0, 1 / 1.2, 0.1, -0.1),
        (15, 1, 0, 0),
        (-45, 1.1, 0, 0.05),
        (30, 0.8, 0.1, 0),
    ],
)
def test_a_motion_is_that_of_scipy(angle, zoom, x, y):
    """Linear interpolation of the place R(angle) p / zoom + shift, mirrored at the border."""
    image, turn = smooth(), np.deg2rad(angle)
    side = image.shape[1]
    config = DataConfig(shift=0.2, zoom=0.3, rotate=45)
    one = [jnp.array([float(value)]) for value in (turn, zoom)]
    found = move(image, *one, jnp.array([[x, y]]), reach(config, side))[0]
    v, u = np.mgrid[:side, :side] - (side - 1) / 2
    places = np.stack(
        [
            (np.sin(turn) * u + np.cos(turn) * v) / zoom + y * side,
            (np.cos(turn) * u - np.sin(turn) * v) / zoom + x * side,
        ]
    )
    expected = np.stack(
        [
            map_coordinates(plane, places + (side - 1) / 2, order=1, mode="mirror")
            for plane in np.moveaxis(image[0], -1, 0)
        ],
        axis=-1,
    )
    # At the mirrored border the image has a kink, which two passes smooth a little more than one.
    assert np.abs(found - expected).mean() < 5e-3
    inside = (np.abs(places) < side / 2 - 3).all(axis=0)
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)


@pytest.mark.parametrize("angle", [0, 40, 50, 90, -100, 179])
def test_large_angles_are_quarter_turns_and_a_rest(angle):
    image = smooth()
    turned, rest = quarter_turned(image, jnp.array([float(angle)]))
    assert abs(float(rest[0])) <= 45
    quarters = round((angle - float(rest[0])) / 90)
    np.testing.assert_array_equal(turned[0], np.rot90(image[0], quarters))


def test_a_quarter_turn_is_the_motion_by_90_degrees():
    image, (v, u) = smooth(), np.mgrid[:32, :32]
    turned, rest = quarter_turned(image, jnp.array([90.0]))
    np.testing.assert_array_equal(turned[0], image[0][u, 31 - v])
    assert float(rest[0]) == 0


@pytest.mark.parametrize("config", [BUSY, DataConfig(rotate=180, zoom=0.5, shift=0.25)])
def test_reach_holds_every_motion(config):
    """A wider reach changes nothing."""
    image, (across, down) = pictures(64), reach(config, 20)
    near = np.random.default_rng(1).uniform(-1, 1, (4, 64)).round(1).astype(np.float32)
    angle = np.deg2rad(min(config.rotate, 45)) * near[0]
    zoom = (1 + config.zoom) ** near[1]
    shift = config.shift * near[2:].T
    found = move(image, angle, zoom, shift, (across, down))
    wider = move(image, angle, zoom, shift, (across + 3, down + 3))
    np.testing.assert_allclose(found, wider, atol=1e-5)


def test_colour_factors_are_brightness_saturation_contrast():
    image = 0.4 + 0.2 * pictures(1)
    bright = recolour(image, jnp.array([[1.2, 1, 1]]))
    np.testing.assert_allclose(bright, 1.2 * image, rtol=1e-5)
    grey = recolour(image, jnp.array([[1.0, 0, 1]]))
    means = np.broadcast_to(image.mean(-1, keepdims=True), grey.shape)
    np.testing.assert_allclose(grey, means, rtol=1e-5)
    flat = recolour(image, jnp.array([[1.0, 1, 0]]))
    np.testing.assert_allclose(flat, np.full_like(image, image.mean()), rtol=1e-5)
    assert float(recolour(image, jnp.array([[3.0, 1, 1]])).max()) == 1


def test_an_image_alone_is_augmented_as_in_a_batch():
    image = pictures(6)
    whole = augment(image, keys(6), BUSY)
    for i in range(6):
        alone = augment(image[i : i + 1], keys(6)[i : i + 1], BUSY)
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-6)


# Mixup


LABELS = np.array([[1, 0, MISSING, 1], [0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, MISSING]], np.float32)


def on_devices(devices, images, labels, strength=1.0):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    split = PartitionSpec("data")
    run = partial(mixup, strength=strength, axis="data")
    mapped = jax.shard_map(run, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    return jax.tree.map(np.asarray, mapped(images, labels, keys(len(images))))


def test_mixup_blends_images_and_labels_alike_with_the_next():
    images = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None, None], (4, 2, 2, 3))
    found, labels = on_devices(1, images, LABELS)
    following = [1, 2, 3, 0]
    for i, j in enumerate(following):
        share = (found[i, 0, 0, 0] - j) / (i - j)
        assert 0 < share < 1
        missing = (LABELS[i] == MISSING) | (LABELS[j] == MISSING)
        expected = share * LABELS[i] + (1 - share) * LABELS[j]
        np.testing.assert_allclose(labels[i], np.where(missing, MISSING, expected), atol=1e-5)


@pytest.mark.parametrize("devices", [2, 4])
def test_mixup_does_not_depend_on_the_devices(devices):
    images = pictures(4)
    alone, several = (on_devices(count, images, LABELS) for count in (1, devices))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), several, alone)
