"""The heads: the fast path equals the plain one, heads are independent, masks are never stored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from abstract import shapes
from flax import nnx
from jax.sharding import Mesh

from iamt_jax.config import Config, DataConfig, ModelConfig
from iamt_jax.data.batches import Batch
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.heads import AttributeHeads
from iamt_jax.training.step import sharded, train_step

BATCH, SIDE, CHANNELS = 3, 4, 6


def heads_of(attributes):
    """The heads' definition, and random parameters (biases too)."""
    heads = AttributeHeads(attributes, CHANNELS, rngs=nnx.Rngs(0))
    definition, params = nnx.split(heads, nnx.Param)
    rng = np.random.default_rng(attributes)
    params = jax.tree.map(
        lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), nnx.to_pure_dict(params)
    )
    return definition, params


def features(seed=0):
    return np.random.default_rng(seed).normal(size=(BATCH, SIDE, SIDE, CHANNELS)).astype(np.float32)


def close(actual, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected
    )


@pytest.mark.parametrize("attributes", [1, 7, 10])
def test_tiled_equals_vmapped_in_values_and_gradients(attributes):
    definition, params = heads_of(attributes)
    rng = np.random.default_rng(1)
    n = rng.uniform(0.5, 4, (BATCH, attributes, CHANNELS)).astype(np.float32)
    beta = rng.uniform(0, 1, (attributes, 1)).astype(np.float32)
    weights = rng.normal(size=(BATCH, attributes)).astype(np.float32)

    def run(plain, *inputs):
        params, f, n, beta = inputs
        heads = nnx.merge(definition, params)
        logits = heads.reference(f, n, beta) if plain else heads(f, n, beta).logits
        return jnp.sum(weights * logits), logits

    def results(plain):
        gradient = jax.value_and_grad(run, argnums=(1, 2, 3, 4), has_aux=True)
        return jax.jit(functools.partial(gradient, plain))(params, features(), n, beta)

    close(results(plain=False), results(plain=True))


def test_masks_and_logits_are_float32_whatever_the_features():
    definition, params = heads_of(7)
    heads, rounded = nnx.merge(definition, params), features().astype(jnp.bfloat16)
    masks = heads.masks(rounded, jnp.arange(2))
    found = masks, heads.reference(rounded), heads(rounded).logits, *heads.contributions(rounded)
    assert {x.dtype for x in found} == {jnp.dtype(jnp.float32)}


def test_training_form_is_the_identity_curve():
    definition, params = heads_of(7)
    heads = nnx.merge(definition, params)
    outputs = heads(features())
    close(outputs.logits, heads.reference(features()))
    close(outputs.logits, heads(features(), jnp.ones(()), jnp.zeros(())).logits)
    close(outputs.mask_l1, jnp.sum(heads.masks(features(), jnp.arange(7)), axis=(2, 3, 4)).T)


def test_heads_are_independent():
    """The derivative of logit k in the parameters of head j is 0 exactly, for every j != k."""
    attributes = 10
    definition, params = heads_of(attributes)

    def logits(params):
        return jnp.sum(nnx.merge(definition, params)(features()).logits, axis=0)

    jacobian = jax.jit(jax.jacrev(logits))(params)
    for leaf in jax.tree.leaves(jacobian):
        moved = np.abs(leaf).reshape(attributes, attributes, -1).max(axis=-1)
        assert (np.diag(moved) > 0).all()
        np.testing.assert_array_equal(moved[~np.eye(attributes, dtype=bool)], 0)


def test_training_never_holds_all_masks():
    """The 30 heads added to 10 take less memory than the masks of 3 heads."""
    batch, size, channels = 8, 32, 32
    model = ModelConfig(widths=(channels,), blocks=(0,), dilations=(), reconstructor=False)
    config = Config(data=DataConfig(size=size), model=model)
    mesh = Mesh(np.array(jax.devices()[:1]), (DATA_AXIS,))

    def temporary(attributes):
        definition, state = shapes(config, attributes)
        images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
        labels = jax.ShapeDtypeStruct((batch, attributes), jnp.int8)
        step = sharded(train_step(definition, config), mesh)
        compiled = step.lower(state, Batch(images, labels)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    mask = 4 * batch * (size // 2) ** 2 * channels
    assert temporary(40) - temporary(10) < 3 * mask


def test_an_independent_start_for_each_head():
    params = nnx.to_pure_dict(nnx.state(AttributeHeads(3, CHANNELS, rngs=nnx.Rngs(0)), nnx.Param))
    kernel = params["stacked"]["mask"]["kernel"]
    assert kernel.shape == (3, CHANNELS, CHANNELS)
    assert len(np.unique(kernel)) == kernel.size
