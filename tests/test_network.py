"""The network: its size, its switches, its types, and that images do not see each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import shapes
from flax import nnx

from iamt_jax.config import PRESETS, ModelConfig
from iamt_jax.model.extractor import DATA_AXIS, with_coordinates
from iamt_jax.model.network import IAMT, abstract, build, checkerboard

COUNTS = {
    preset: {
        "extractor": extractor,
        "heads": 665_640,
        "multilabel": 5_160,
        "reconstructor": reconstructor,
    }
    for preset, extractor, reconstructor in (
        ("faces", 132_752, 39_948),
        ("small", 428_176, 39_948),
        ("celeba", 956_096, 60_720),
        ("paper", 131_888, 39_948),
    )
}
"""Parameters of each part, for 40 attributes."""

SMALL = ModelConfig(widths=(16, 16), blocks=(0, 1), dilations=(2,))


def with_model(config, **changes):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def training_outputs(config, attributes=40, batch=2):
    """Shapes and types of the outputs of the training pass."""
    definition, state = shapes(config, attributes)
    side = config.data.size
    images = jax.ShapeDtypeStruct((1, batch, side, side, 3), jnp.float32)

    def forward(params, statistics, images):
        keys = jax.random.split(jax.random.key(0), batch)
        return nnx.merge(definition, params, statistics)(images, keys)

    mapped = jax.vmap(forward, in_axes=(None, None, 0), axis_name=DATA_AXIS)
    outputs = jax.eval_shape(mapped, state.params, state.statistics, images)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), outputs)


@pytest.mark.parametrize("preset", COUNTS)
def test_parameter_counts(preset):
    _, state = shapes(PRESETS[preset], 40)
    counts = {part: sum(x.size for x in jax.tree.leaves(p)) for part, p in state.params.items()}
    assert counts == COUNTS[preset]


def test_the_abstract_network_is_the_one_that_is_built():
    (definition, *arrays), (described, *kinds) = build(SMALL, 3), abstract(SMALL, 3)
    assert kinds == jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays)
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    wanted, found = (nnx.merge(x, *arrays).predict(images) for x in (definition, described))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("preset", PRESETS)
def test_output_shapes_and_types(preset):
    config = PRESETS[preset]
    side = config.data.size // 2 ** len(config.model.widths)
    outputs = training_outputs(config)
    assert outputs.features.shape == (2, side, side, config.model.widths[-1])
    assert outputs.reconstruction.shape == (2, config.data.size, config.data.size, 3)
    for name in ("logits", "mask_l1", "multilabel"):
        assert getattr(outputs, name).shape == (2, 40)
        assert getattr(outputs, name).dtype == jnp.float32


def test_bfloat16_computes_features_and_keeps_parameters_in_float32():
    config = PRESETS["celeba"]
    assert config.model.dtype == "bfloat16"
    outputs = training_outputs(config)
    assert outputs.features.dtype == outputs.reconstruction.dtype == jnp.bfloat16
    _, state = shapes(config, 40)
    kept = jax.tree.leaves((state.params, state.statistics, state.average))
    assert {leaf.dtype for leaf in kept} == {jnp.dtype("float32")}


@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("reconstructor", [True, False])
def test_switches_remove_their_parts(multilabel, reconstructor):
    config = with_model(PRESETS["debug"], multilabel=multilabel, reconstructor=reconstructor)
    _, state = shapes(config, 5)
    expected = {"extractor", "heads"} | ({"multilabel"} if multilabel else set())
    assert set(state.params) == expected | ({"reconstructor"} if reconstructor else set())
    outputs = training_outputs(config, attributes=5)
    assert (outputs.multilabel is not None) == multilabel
    assert (outputs.reconstruction is not None) == reconstructor


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_image_does_not_see_its_batch_mates(norm):
    config = dataclasses.replace(SMALL, norm=norm)
    network = IAMT(config, 5, rngs=nnx.Rngs(0))
    definition, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    assert bool(jax.tree.leaves(statistics)) == (norm == "batch")
    predict = jax.jit(lambda images: nnx.merge(definition, params, statistics).predict(images))
    first, second = np.random.default_rng(0).random((2, 4, 16, 16, 3), np.float32)
    second[1] = first[1]
    one, other = np.asarray(predict(first)), np.asarray(predict(second))
    np.testing.assert_allclose(one[1], other[1], rtol=1e-5)
    assert np.abs(one - other)[[0, 2, 3]].min() > 0


def test_eq9_prediction_is_the_plain_heads_on_the_extractors_features():
    """With n and beta so different that they cannot have changed places."""
    network = IAMT(SMALL, 3, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    n, beta = jnp.float32(3), jnp.float32(0.25)
    plain = network.heads.reference(network.extractor(images), n, beta)
    np.testing.assert_allclose(network.predict(images, n, beta), plain, rtol=1e-5, atol=1e-5)
    assert not np.allclose(plain, network.heads.reference(network.extractor(images), beta, n))


def test_eq3_the_multilabel_classifier_reads_the_pooled_plain_features():
    network = IAMT(SMALL, 3, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(1), (1, 2, 16, 16, 3))
    keys = jax.random.split(jax.random.key(0), 2)
    definition, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)

    def forward(params, statistics, images):
        return nnx.merge(definition, params, statistics)(images, keys)

    mapped = jax.vmap(forward, in_axes=(None, None, 0), axis_name=DATA_AXIS)
    outputs = mapped(nnx.to_pure_dict(params), nnx.to_pure_dict(statistics), images)
    features = np.asarray(outputs.features[0], np.float64)
    kernel, bias = (
        np.asarray(x[...]) for x in (network.multilabel.kernel, network.multilabel.bias)
    )
    expected = features.mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(outputs.multilabel[0], expected, rtol=1e-5, atol=1e-5)


FIELDS = [
    (ModelConfig(widths=(16, 16), blocks=(1, 1), dilations=(0, 0)), 31),
    (ModelConfig(widths=(16, 16), blocks=(0, 1), dilations=(1, 0)), 39),
    (ModelConfig(widths=(16, 16), blocks=(1, 0), dilations=(2,)), 47),
    (ModelConfig(widths=(16, 16, 16), blocks=(0, 1, 0), dilations=()), 31),
    (ModelConfig(widths=(16, 16), blocks=(0, 1), dilations=(1, 0), mirror=True), 42),
    (ModelConfig(widths=(16, 16), blocks=(1, 0), dilations=(0,), coordinates=True), 15),
]


@pytest.mark.parametrize(("config", "field"), FIELDS)
def test_nothing_outside_the_receptive_field_moves_a_feature(config, field):
    assert config.receptive_field == field
    extractor, size = IAMT(config, 1, rngs=nnx.Rngs(0)).extractor, 96
    images = jax.random.uniform(jax.random.key(0), (1, size, size, 3))
    middle = size // config.stride // 2

    moved = jax.grad(lambda x: jnp.sum(extractor(x)[0, middle, middle]))(images)
    rows, columns = (jnp.any(moved[0] != 0, axis=(axis, 2)).nonzero()[0] for axis in (1, 0))
    for seen in (rows, columns):
        assert int(seen.max() - seen.min()) + 1 <= field
    reached = max(int(seen.max() - seen.min()) + 1 for seen in (rows, columns))
    assert reached > field - 2 * config.stride  # ReLUs may shut the outermost paths.


def test_coordinates_run_from_corner_to_corner():
    found = np.asarray(with_coordinates(jnp.full((2, 3, 5, 3), 0.5)))
    assert found.shape == (2, 3, 5, 5) and (found[..., :3] == 0.5).all()
    np.testing.assert_allclose(found[1, :, 2, 3], [-1, 0, 1])
    np.testing.assert_allclose(found[0, 1, :, 4], [-1, -0.5, 0, 0.5, 1])


def test_with_mirror_an_image_and_its_mirror_image_have_the_same_answer():
    config = dataclasses.replace(SMALL, mirror=True)
    network = IAMT(config, 3, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    features, turned = network.extractor(images), network.extractor(images[:, :, ::-1])
    np.testing.assert_allclose(turned, features[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(
        network.predict(images), network.predict(images[:, :, ::-1]), atol=1e-5
    )
    plain = IAMT(SMALL, 3, rngs=nnx.Rngs(0)).extractor
    expected = (plain(images) + plain(images[:, :, ::-1])[:, :, ::-1]) / 2
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_a_checkerboard_sees_every_other_position():
    features = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    seen = set()
    for seed in range(6):
        keys = jax.random.split(jax.random.key(seed), 2)
        found = np.asarray(checkerboard(features, keys))
        assert found.shape == (2, 4, 3, 3)
        for image in range(2):
            columns = [(found[image, y, :, 0] - features[image, y, 0, 0]) / 3 for y in range(4)]
            first = int(columns[0][0])
            seen.add(first)
            for y in range(4):
                start = (first + y) % 2
                np.testing.assert_array_equal(columns[y], [start, start + 2, start + 4])
    assert seen == {0, 1}


def test_the_checkerboards_two_colours_average_to_the_whole():
    """Pooled features and mask sums of both colours together are those of all positions."""
    config = dataclasses.replace(SMALL, checkerboard=True)
    network = IAMT(config, 3, rngs=nnx.Rngs(0))
    features = jax.random.uniform(jax.random.key(1), (1, 4, 4, SMALL.widths[-1]))
    both = {}
    for seed in range(20):
        part = checkerboard(features, jax.random.split(jax.random.key(seed), 1))
        both[float(part[0, 0, 0, 0])] = network.heads(part)
    black, white = both.values()
    whole = network.heads(features)
    np.testing.assert_allclose(black.logits + white.logits, 2 * whole.logits, rtol=1e-5)
    np.testing.assert_allclose(black.mask_l1 + white.mask_l1, whole.mask_l1, rtol=1e-5)


def test_masks_begin_at_the_bias_that_the_config_gives():
    config = dataclasses.replace(SMALL, mask_bias=-4.0)
    _, bias = IAMT(config, 3, rngs=nnx.Rngs(0)).heads.mask_parameters()
    np.testing.assert_array_equal(bias, np.full((3, 16), -4.0))


def trained_forward(network, images, keys):
    """The forward pass of training, on one device."""
    run = jax.vmap(network, axis_name=DATA_AXIS)
    return jax.tree.map(lambda x: x[0], run(images[None], keys[None]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_images_is_trained_at_beta_1(share):
    config = dataclasses.replace(SMALL, norm="group", curve_share=share)
    network = IAMT(config, 3, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(1), (16, 16, 16, 3))
    outputs = trained_forward(network, images, jax.random.split(jax.random.key(2), 16))

    by_beta = [network.predict(images, beta=beta) for beta in (0.0, 1.0)]
    apart = [jnp.max(abs(outputs.logits - each), axis=1) for each in by_beta]
    shut = apart[1] < apart[0]
    np.testing.assert_allclose(jnp.minimum(*apart), 0, atol=1e-5)
    assert {0.0: shut.sum() == 0, 0.5: 0 < shut.sum() < 16, 1.0: shut.sum() == 16}[share]


@pytest.mark.parametrize(("share", "own"), [(0.0, 0.0), (0.3, 1.0)])
def test_a_networks_own_curve_is_what_it_was_trained_for(share, own):
    config = dataclasses.replace(SMALL, norm="group", curve_share=share)
    network = IAMT(config, 3, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    assert network.own_beta == own
    np.testing.assert_array_equal(
        network.predict(images), network.predict(images, n=None, beta=own)
    )
    close = network.predict(images, n=1.0, beta=own)
    np.testing.assert_allclose(network.predict(images), close, atol=1e-6)
