"""Every equation of the paper against its slow twin in `reference.py`."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iamt_jax.config import LossConfig
from iamt_jax.model.heads import AttributeHeads
from iamt_jax.model.losses import cross_entropy, losses, mask_penalty, reconstruction_error
from iamt_jax.model.network import Outputs
from iamt_jax.model.tone_curve import contrast, tone_curve
from iamt_jax.ops.attention_pool import attention_pool

MASKS = np.array([0, 1e-6, 0.1, 0.25, 0.4999, 0.5, 0.5001, 0.75, 0.9, 1], np.float32)
POWERS = np.array([0, 0.25, 0.5, 1, 1.7, 2, 4, 10], np.float32)[:, None]
BETAS = np.array([0, 0.3, 0.5, 1], np.float32)[:, None, None]
SHAPES = [(1, 1, 1, 3, 1), (2, 3, 5, 4, 7), (3, 2, 1, 5, 10)]
"""Batch, height, width, channel, attribute: odd ones, and a prime number of heads."""

h = jax.jit(contrast)
g = jax.jit(tone_curve)
pool = jax.jit(attention_pool)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def scene(shape, seed=0):
    """Features and the parameters of some heads."""
    *size, attributes = shape
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    channels = size[-1]
    mask = {"kernel": draw(attributes, channels, channels), "bias": draw(attributes, channels)}
    classifier = {"kernel": draw(attributes, channels, 1), "bias": draw(attributes, 1)}
    return draw(*size), {"mask": mask, "classifier": classifier}


def heads_with(parameters):
    attributes, channels = parameters["mask"]["bias"].shape
    heads = nnx.eval_shape(lambda: AttributeHeads(attributes, channels, rngs=nnx.Rngs(0)))
    definition, _ = nnx.split(heads)
    return nnx.merge(definition, {"stacked": jax.tree.map(jnp.asarray, parameters)})


def labels_for(logits, seed=1):
    """Labels 0 and 1, some missing."""
    return np.random.default_rng(seed).integers(-1, 2, logits.shape).astype(np.int8)


def curve_for(shape, kind, seed=2):
    batch, _, _, channels, attributes = shape
    sizes = {"scalar": (), "channel": (channels,), "attribute": (attributes, 1)}
    sizes |= {"image": (batch, 1, 1), "all": (batch, attributes, channels)}
    rng = np.random.default_rng(seed)
    n, beta = rng.uniform(0, 5, sizes[kind]), rng.uniform(0, 1, sizes[kind])
    return np.float32(n), np.float32(beta)


# Eq. 8, the tone curve h.


def test_eq8_contrast_equals_its_twin():
    close(h(MASKS, POWERS), reference.elementwise(reference.contrast, MASKS, POWERS))


def test_eq8_contrast_of_a_scalar():
    assert float(contrast(0.25, 2.0)) == 0.125
    assert float(contrast(0.75, 2.0)) == 0.875


def test_eq8_contrast_is_symmetric_about_a_half():
    masks = np.arange(65, dtype=np.float32) / 64  # of these, 1 - M is exact
    close(h(1 - masks, POWERS), 1 - h(masks, POWERS))


def test_eq8_power_0_gives_a_half_everywhere():
    np.testing.assert_array_equal(h(MASKS, np.zeros_like(POWERS)), np.full((8, 10), 0.5))


unit = hnp.arrays(np.float32, 16, elements=st.floats(0, 1, width=32))
power = st.floats(0, 16, width=32)


@settings(deadline=None, max_examples=50)
@given(mask=unit, n=power, beta=st.floats(0, 1, width=32))
def test_eq7_eq8_range_and_order(mask, n, beta):
    """h is in [0, 1], g in [-beta, 1], and both are monotonic in M."""
    mask = np.sort(mask)
    curve, lowered = np.asarray(h(mask, n)), np.asarray(g(mask, n, beta))
    assert (curve >= 0).all() and (curve <= 1).all()
    assert (lowered >= -np.float32(beta) - 1e-6).all() and (lowered <= 1 + 1e-6).all()
    assert (np.diff(curve) >= -1e-6).all() and (np.diff(lowered) >= -2e-6).all()


# Eq. 7, the transformation g.


def test_eq7_tone_curve_equals_its_twin():
    twin = reference.elementwise(reference.tone_curve, MASKS, POWERS, BETAS)
    close(g(MASKS, POWERS, BETAS), twin)


def test_eq7_identity():
    close(g(MASKS, 1.0, 0.0), MASKS)


def test_eq7_eq8_gradients_are_finite_where_masks_saturate():
    derivative = jax.jit(jax.vmap(jax.grad(tone_curve, argnums=(0, 1, 2))))
    grid = itertools.product([0, 0.5, 1], [0, 0.5, 1, 4], [0, 0.5, 1])
    assert np.isfinite(derivative(*np.array(list(grid), np.float32).T)).all()


# Eq. 9, inference, and its pooled features.


@pytest.mark.parametrize("kind", ["scalar", "channel", "attribute", "image", "all"])
def test_eq9_pooled_features_equal_their_twin(kind):
    shape = SHAPES[1]
    features, heads = scene(shape)
    n, beta = curve_for(shape, kind)
    pooled, mask_l1 = pool(features, heads["mask"]["kernel"], heads["mask"]["bias"], n, beta)
    mask = reference.masks(features, heads["mask"]["kernel"], heads["mask"]["bias"])
    close(pooled, reference.pooled(features, *heads["mask"].values(), n, beta))
    close(mask_l1, mask.sum(axis=(2, 3, 4)).T)


@pytest.mark.parametrize("shape", SHAPES)
def test_eq9_logits_equal_their_twin(shape):
    features, parameters = scene(shape)
    n, beta = curve_for(shape, "all")
    outputs = heads_with(parameters)(features, n, beta)
    close(outputs.logits, reference.logits(features, parameters, n, beta))


# Eq. 1 and 2, the heads' loss; Eq. 3 and 4, the multi-label classifier's.


@pytest.mark.parametrize("shape", SHAPES)
def test_eq1_eq2_binary_loss_equals_its_twin(shape):
    """From features to the loss, with T(M) = 1 + M as in training."""
    features, parameters = scene(shape)
    logits = heads_with(parameters)(features).logits
    twin = reference.logits(features, parameters)
    labels = labels_for(twin)
    close(logits, twin)
    close(cross_entropy(logits, labels), reference.cross_entropy(twin, labels))


def test_eq2_eq4_cross_entropy_equals_its_twin():
    logits = np.random.default_rng(0).normal(0, 3, (5, 7)).astype(np.float32)
    labels = labels_for(logits)
    twin = reference.cross_entropy(logits.astype(np.float64), labels)
    close(cross_entropy(logits, labels), twin)


def test_eq3_eq4_multilabel_loss_equals_its_twin():
    features, _ = scene((3, 2, 5, 4, 1))
    layer = nnx.Linear(4, 7, rngs=nnx.Rngs(0))
    logits = layer(jnp.mean(features, axis=(1, 2)))  # as IAMT.__call__ does
    twin = reference.multilabel_logits(features, *map(np.asarray, (layer.kernel, layer.bias)))
    labels = labels_for(twin)
    close(cross_entropy(logits, labels), reference.cross_entropy(twin, labels))


def test_eq2_missing_labels_add_nothing_to_loss_and_gradient():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    labels = labels_for(logits)
    missing = labels == reference.MISSING
    assert missing.any() and not missing.all()
    loss, gradient = jax.value_and_grad(cross_entropy)(logits, labels)
    moved = np.where(missing, 100.0, logits)
    assert float(cross_entropy(moved, labels)) == float(loss)
    np.testing.assert_array_equal(np.asarray(gradient == 0), missing)


# Eq. 5, the reconstruction; Eq. 6, the whole.


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_eq5_reconstruction_error_equals_its_twin(reduction):
    rng = np.random.default_rng(0)
    images, guess = rng.random((2, 2, 3, 5, 3), np.float32)
    twin = reference.reconstruction_error(guess, images, reduction)
    close(reconstruction_error(guess, images, reduction), twin)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_eq6_mask_penalty_equals_its_twin(reduction):
    features, heads = scene(SHAPES[1])
    kernel, bias = heads["mask"]["kernel"], heads["mask"]["bias"]
    _, mask_l1 = pool(features, kernel, bias)
    twin = reference.mask_penalty(reference.masks(features, kernel, bias), reduction)
    close(mask_penalty(mask_l1, features[0].size, reduction), twin)


@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("reconstructor", [True, False])
def test_eq6_total_is_the_weighted_sum_of_the_terms_there_are(multilabel, reconstructor):
    rng = np.random.default_rng(0)
    features, heads = scene(SHAPES[1])
    kernel, bias = heads["mask"]["kernel"], heads["mask"]["bias"]
    logits, other = rng.normal(size=(2, 2, 7)).astype(np.float32)
    images, guess = rng.random((2, 2, 6, 10, 3), np.float32)
    labels = labels_for(logits)
    config = LossConfig(0.5, 2.0, 3.0, "sum", 0.01, "mean")
    outputs = Outputs(
        features=features,
        logits=logits,
        mask_l1=pool(features, kernel, bias)[1],
        multilabel=other if multilabel else None,
        reconstruction=guess if reconstructor else None,
    )
    terms = losses(outputs, images, labels, config)
    twin = {
        "binary": reference.cross_entropy(logits, labels),
        "multilabel": multilabel * reference.cross_entropy(other, labels),
        "reconstruction": reconstructor * reference.reconstruction_error(guess, images, "sum"),
        "mask_l1": reference.mask_penalty(reference.masks(features, kernel, bias), "mean"),
    }
    for name, value in twin.items():
        close(getattr(terms, name), value)
    close(terms.total, sum(dataclasses.asdict(config)[name] * twin[name] for name in twin))
