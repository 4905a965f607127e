"""Attention pooling: values and derivatives against float64, tiles, saturation, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iamt_jax.model.tone_curve import contrast
from iamt_jax.ops import attention_pool as pooling
from iamt_jax.ops import mask_powers
from iamt_jax.ops.attention_pool import attention_pool, curved_sums, pool_powers
from iamt_jax.ops.tiled import Limits

POWERS = (0.0, 0.3, 1.0, 2.5, 8.0)

SHAPES = ((1, 1, 1, 1), (3, 2, 4, 4), (5, 7, 3, 6), (4, 3, 2, 5))
"""Batch, positions, channels and attributes: with tiles of 8 rows and 4 heads, less than one tile,
whole ones, and some with a rest. Few, because each is compiled for each number of curves."""


def exact(features, kernel, bias, n, to_sums, to_masks):
    """Both results of `curved_sums` and their analytic derivatives, float64, all masks at once."""
    f, w, a, to_sums, to_masks = (
        np.asarray(x, np.float64) for x in (features, kernel, bias, to_sums, to_masks)
    )
    n = np.ones_like(to_sums) if n is None else np.asarray(n, np.float64)
    z = np.einsum("bpc,kcd->bpkd", f, w) + a
    with np.errstate(over="ignore"):
        high, low = 1 / (1 + np.exp(-abs(z))), 1 / (1 + np.exp(abs(z)))
    up, f_wide = z >= 0, f[:, :, None]
    mask = np.where(up, high, low)
    sums, to_z, to_n = [], to_masks[:, None] * high * low, []
    to_f = np.zeros_like(f)
    for power, c in zip(n[:, :, None], to_sums[:, :, None], strict=True):
        t = (2 * low) ** power
        h = np.where(up, 1 - t / 2, t / 2)
        log = np.log(2 * low, out=np.zeros_like(low), where=low > 0)
        sums.append((h * f_wide).sum(1))
        to_z = to_z + c * f_wide * power * t * high / 2
        to_f += (c * h).sum(2)
        to_n.append((c * f_wide * np.where(up, -1, 1) * t * log / 2).sum(1))
    to_f += np.einsum("bpkd,kcd->bpc", to_z, w)
    to_w = np.einsum("bpc,bpkd->kcd", f, to_z)
    return (np.stack(sums), mask.sum(1)), (to_f, to_w, to_z.sum((0, 1)), np.stack(to_n))


@st.composite
def problems(draw):
    """Features, kernel, bias, n (or None) and derivatives of the results, float32; logits are
    random, or exactly 0, or so large that masks are exactly 0 and 1."""
    batch, positions, channels, attributes = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = rng.normal(size=(batch, positions, channels))
    kernel = rng.normal(size=(attributes, channels, channels))
    bias = rng.normal(size=(attributes, channels))
    for k in range(attributes):
        kind = draw(st.sampled_from(("random", "random", "half", "saturated")))
        if kind != "random":
            kernel[k] = 0
            bias[k] = 0 if kind == "half" else rng.choice([-1e3, 1e3, -200, 200], channels)
    curves = draw(st.sampled_from((None, 1, 2)))
    shape = (curves or 1, batch, attributes, channels)
    n = None if curves is None else rng.choice(POWERS, shape).astype(np.float32)
    others = features, kernel, bias, rng.normal(size=shape), rng.normal(size=shape[1:])
    features, kernel, bias, *derivatives = (x.astype(np.float32) for x in others)
    return features, kernel, bias, n, *derivatives


def tiles_of(patch, rows, heads):
    """Sets the size of the tiles on all platforms."""
    limits = Limits(heads, rows)
    patch.setattr(pooling, "FORMS", [form._replace(limits=limits) for form in pooling.FORMS])


@pytest.fixture(scope="module")
def small_tiles():
    """Values of `curved_sums` and its derivatives in all inputs, compiled with tiles of 8 x 4."""

    def run(inputs, to):
        values, pull = jax.vjp(curved_sums, *inputs)
        return values, pull(to)

    with pytest.MonkeyPatch.context() as patch:
        tiles_of(patch, rows=8, heads=4)
        yield jax.jit(run)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(problems())
def test_values_and_derivatives_equal_float64(small_tiles, problem):
    *inputs, to_sums, to_masks = problem
    values, derivatives = small_tiles(inputs, (to_sums, to_masks))
    expected_values, expected = exact(*problem)
    expected = expected if inputs[3] is not None else (*expected[:3], None)
    for actual, true in zip((*values, *derivatives), (*expected_values, *expected), strict=True):
        if true is not None:
            scale = max(1, np.abs(true).max())
            np.testing.assert_allclose(actual / scale, true / scale, atol=1e-5, rtol=0)


@jax.jit
def pool_and_slopes(*inputs):
    """The sum of pooling's results, and its derivatives."""

    def pool(features, kernel, bias, n):
        pooled, mask_l1 = attention_pool(features, kernel, bias, n, jnp.ones(()))
        return pooled.sum() + mask_l1.sum()

    return jax.value_and_grad(pool, (0, 1, 2, 3))(*inputs)


@pytest.mark.parametrize("logit", [0.0, 80.0, 95.0, 200.0, 1e4, 3e38, np.inf])
@pytest.mark.parametrize("sign", [-1, 1])
def test_nothing_is_lost_where_masks_saturate(logit, sign):
    features, kernel = np.ones((1, 2, 2, 1), np.float32), np.zeros((1, 1, 1), np.float32)
    bias = np.full((1, 1), sign * logit, np.float32)
    for power in POWERS:
        results = pool_and_slopes(features, kernel, bias, np.float32(power))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))


@pytest.mark.parametrize("n", POWERS)
def test_eq8_from_logits_equals_the_plain_form(n):
    """`mask_powers.contrast_of_powers` against `tone_curve.contrast`, with both derivatives."""
    # Beyond |z| = 6 the plain form loses digits of 1 - M; at 0 its minimum has two derivatives.
    z = jnp.concatenate([jnp.linspace(-6, 6, 96), jnp.array([-1e-3, 1e-3])])

    def fast(z, n):
        m = mask_powers.masks(z)
        return mask_powers.contrast_of_powers(m, mask_powers.tail(m, n))

    def plain(z, n):
        return contrast(jax.nn.sigmoid(z), n)

    np.testing.assert_allclose(fast(z, n), plain(z, n), rtol=1e-4, atol=1e-6)
    m = mask_powers.masks(z)
    t = mask_powers.tail(m, n)
    slopes = mask_powers.slope(m, t, n), mask_powers.slope_in_n(m, t)
    for argument, slope in enumerate(slopes):
        derivative = jax.vmap(jax.grad(plain, argument), (0, None))(z, jnp.float32(n))
        np.testing.assert_allclose(slope, derivative, rtol=1e-3, atol=1e-5)


def test_tiles_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(7, 3, 3, 4)).astype(np.float32)
    kernel, bias = rng.normal(size=(11, 4, 4)).astype(np.float32), np.zeros((11, 4), np.float32)
    n = rng.choice(POWERS, (7, 11, 4)).astype(np.float32)

    def results(rows, heads):
        tiles_of(monkeypatch, rows, heads)
        pool = lambda *x: sum(jnp.sum(jnp.sin(y)) for y in attention_pool(*x))  # noqa: E731
        return jax.jit(jax.value_and_grad(pool, (0, 1, 2, 3)))(features, kernel, bias, n)

    whole = results(1000, 100)
    for rows, heads in ((1, 1), (20, 3), (30, 4)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
            results(rows, heads),
            whole,
        )


def test_powers_equal_pooling_one_by_one():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 2, 2, 4)).astype(np.float32)
    kernel, bias = rng.normal(size=(6, 4, 4)).astype(np.float32), np.zeros((6, 4), np.float32)
    together = pool_powers(features, kernel, bias, np.array(POWERS))
    for n, pooled in zip(POWERS, together, strict=True):
        twice, _ = attention_pool(features, kernel, bias, np.float32(n), np.float32(1))
        np.testing.assert_allclose(2 * pooled, twice, rtol=1e-6, atol=1e-6)


def test_bfloat16_features_keep_float32_sums():
    """Products of bfloat16 numbers have 3 digits; sums over positions must not lose any."""
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(2, 16, 16, 8)), jnp.bfloat16)
    kernel, bias = rng.normal(size=(3, 8, 8)).astype(np.float32), np.zeros((3, 8), np.float32)
    rounded = jnp.asarray(kernel, jnp.bfloat16).astype(jnp.float32)
    pooled, mask_l1 = attention_pool(features, kernel, bias)
    expected = attention_pool(features.astype(jnp.float32), rounded, bias)
    assert pooled.dtype == mask_l1.dtype == jnp.float32
    np.testing.assert_allclose(pooled, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mask_l1, expected[1], rtol=1e-5)


def test_temporary_memory_does_not_grow_with_attributes():
    """It is at most a tenth of the masks' memory, which the plain form takes several times."""
    shape = batch, height, width, channels = 32, 16, 16, 32

    def temporary(attributes):
        kernel = jax.ShapeDtypeStruct((attributes, channels, channels), jnp.float32)
        bias = jax.ShapeDtypeStruct((attributes, channels), jnp.float32)
        pool = lambda *x: sum(jnp.sum(jnp.square(y)) for y in attention_pool(*x))  # noqa: E731
        compiled = jax.jit(jax.grad(pool, (0, 1, 2))).lower(
            jax.ShapeDtypeStruct(shape, jnp.float32), kernel, bias
        )
        return compiled.compile().memory_analysis().temp_size_in_bytes

    small = 8 * 4 * channels * (batch + channels)  # a head's share of pooled features and kernels
    assert temporary(160) - temporary(40) < 120 * small
    assert temporary(160) < 0.1 * 4 * 160 * np.prod(shape)
