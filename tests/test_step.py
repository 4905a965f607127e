"""The training step is the same on any number of devices, by pmap and by shard_map."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from iamt_jax.config import MISSING, PRESETS
from iamt_jax.data.batches import Batch
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.training.loop import stepper
from iamt_jax.training.step import create, sharded, train_step

BATCH, ATTRIBUTES = 16, 5

SIZES = [1, 8]
"""Numbers of devices."""


@pytest.fixture(scope="module")
def config():
    """Augmentation, noise, dropout and a moving average on; AdamW, whose first moment is the
    gradient."""
    debug = PRESETS["debug"]
    moved = {"shift": 0.1, "zoom": 0.1, "rotate": 10, "colour": 0.1, "mixup": 0.5}
    return dataclasses.replace(
        debug,
        data=dataclasses.replace(debug.data, size=16, noise_max=0.2, **moved),
        model=dataclasses.replace(debug.model, widths=(8, 16), blocks=(0, 0), dropout=0.3),
        train=dataclasses.replace(debug.train, optimiser="adamw", warmup=0, ema=0.9),
    )


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 16, 16, 3)).astype(np.uint8)
    return Batch(images, rng.integers(MISSING, 2, (BATCH, ATTRIBUTES)).astype(np.int8))


@pytest.fixture(scope="module")
def stepped(config, batch):
    """(way, devices) -> the state given, the state after one step, and its metrics."""
    definition, start = create(config, ATTRIBUTES)
    start = jax.device_get(start)

    def run(way, devices):
        mesh = Mesh(np.array(jax.devices()[:devices]), (DATA_AXIS,))
        # A copy: on CPU, a donated NumPy array could lie in the very memory of `start`.
        state = jax.tree.map(np.array, start)
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        if way == "pmap":
            step, place = stepper(definition, config, mesh)
        else:
            step, place = sharded(train_step(definition, config), mesh), lambda batch: batch
        after, metrics = step(state, place(batch))
        return state, jax.device_get(after), jax.device_get(metrics)

    return functools.cache(run)


def gradients(state):
    return optax.tree_utils.tree_get(state.optimiser, "mu")


def close(actual, expected):
    """Leaf by leaf to 1e-5 of the leaf's largest element: sums over the batch are taken in
    another order, and an element near 0 is a difference of larger ones."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        other = functools.reduce(lambda tree, entry: tree[entry.key], path, actual)
        scale = np.abs(leaf).max()
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, leaf, rtol=1e-5, atol=1e-5 * scale, err_msg=where)


def test_every_parameter_has_a_gradient(stepped):
    _, after, _ = stepped("shard_map", 1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(after)):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_gradients_are_the_same_on_1_and_8_devices(stepped):
    one, eight = (stepped("pmap", devices)[1] for devices in SIZES)
    close(gradients(eight), gradients(one))


def test_statistics_and_metrics_are_the_same_on_1_and_8_devices(stepped):
    (_, one, seen), (_, eight, seen_by_8) = (stepped("pmap", devices) for devices in SIZES)
    close(eight.statistics, one.statistics)
    close(seen_by_8, seen)


def test_pmap_and_shard_map_are_the_same(stepped):
    (_, mapped, seen), (_, other, seen_otherwise) = (
        stepped(way, 8) for way in ("pmap", "shard_map")
    )
    close(gradients(other), gradients(mapped))
    close(other.params, mapped.params)
    close(seen_otherwise, seen)


def test_a_large_gradient_is_scaled_down_to_the_clip(config, batch):
    """AdamW's first moment is a tenth of the gradient that it was given."""
    found = {}
    for clip in (1e9, 0.5):
        chosen = dataclasses.replace(config, train=dataclasses.replace(config.train, clip=clip))
        definition, state = create(chosen, ATTRIBUTES)
        mesh = Mesh(np.array(jax.devices()[:1]), (DATA_AXIS,))
        step, place = stepper(definition, chosen, mesh)
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        after, metrics = step(state, place(batch))
        norm = 10 * float(optax.tree.norm(gradients(after)))
        found[clip] = norm, float(metrics["gradient_norm"])
    (free, told), (clipped, told_again) = found.values()
    assert told == pytest.approx(told_again) == pytest.approx(free, rel=1e-4) and told > 1
    assert clipped == pytest.approx(0.5, rel=1e-4)


def test_the_average_moves_and_the_step_counts(stepped):
    _, after, _ = stepped("pmap", 8)
    assert after.step == 1
    params, average = jax.tree.leaves(after.params), jax.tree.leaves(after.average)
    assert any((x != y).any() for x, y in zip(params, average, strict=True))


@pytest.mark.parametrize("way", ["pmap", "shard_map"])
def test_the_state_given_is_donated(stepped, way):
    before, _, _ = stepped(way, 8)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.optimiser)))
