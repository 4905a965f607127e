"""The tone curve, pooling and metrics hold for any numbers, not only for likely ones."""

import json

import fuzz_strategies as fz
import jax
import numpy as np
from fuzz_strategies import fuzz
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_metrics import slow_twin

from iamt_jax.config import LARGEST_N
from iamt_jax.metrics import classification
from iamt_jax.model.tone_curve import contrast, tone_curve
from iamt_jax.ops import mask_powers
from iamt_jax.ops.attention_pool import attention_pool

# XLA takes subnormal numbers for 0.
unit = st.floats(0, 1, width=32, allow_subnormal=False)
powers = st.floats(0, 16, width=32, allow_subnormal=False)
powers |= st.floats(0, LARGEST_N, width=32, allow_subnormal=False)
logits = st.floats(-100, 100, width=32) | st.floats(-(2**-10), 2**-10, width=32)

curve = jax.jit(lambda mask, n, beta: (contrast(mask, n), tone_curve(mask, n, beta)))
slopes = jax.jit(jax.vmap(jax.grad(tone_curve, (0, 1, 2))))


@fuzz
@given(hnp.arrays(np.float32, (8, 2), elements=unit), hnp.arrays(np.float32, 8, elements=powers))
def test_the_tone_curve_holds_for_any_power(masks_and_betas, n):
    mask, beta = masks_and_betas.T
    h, g = curve(mask, n, beta)
    wide = np.float64(mask)
    tail = (2 * np.minimum(wide, 1 - wide)) ** n / 2
    expected = np.where(wide < 0.5, tail, 1 - tail)
    np.testing.assert_allclose(h, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(g, (1 + beta) * expected - beta, rtol=0, atol=3e-6)
    assert all(np.isfinite(x).all() for x in slopes(mask, np.minimum(n, 100), beta))


FORMS = ((None, None), ((), ()), ((3,), (2, 4, 3)), ((4, 3), None), ((2, 1, 1), (4, 1)))
"""Shapes of n and beta that attention pooling takes, for 2 images, 4 heads and 3 channels."""

pool = jax.jit(attention_pool)


@fuzz
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS), st.sampled_from((0, 0.1, 1, 30)))
def test_pooling_equals_float64_whatever_the_form_of_its_curve(seed, forms, scale):
    rng = np.random.default_rng(seed)
    f, w, a = (rng.normal(size=s).astype(np.float32) for s in ((2, 2, 3, 3), (4, 3, 3), (4, 3)))
    w, a = w * np.float32(scale), a * np.float32(scale)
    n = None if forms[0] is None else np.float32(10 ** rng.uniform(-3, 3, forms[0]))
    beta = None if forms[1] is None else rng.random(forms[1], np.float32)
    wide = np.float64(f).reshape(2, 6, 1, 3)
    z = np.einsum("bpc,kcd->bpkd", wide[:, :, 0], np.float64(w)) + a
    power = np.broadcast_to(np.float64(1 if n is None else n), (2, 4, 3))[:, None]
    b = np.broadcast_to(0 if beta is None else beta, (2, 4, 3))
    low = 1 / (1 + np.exp(abs(z)))
    tail = (2 * low) ** power / 2
    bent = np.where(z >= 0, 1 - tail, tail)
    expected = ((1 + (1 + b[:, None]) * bent - b[:, None]) * wide).mean(1)
    # To first order an error of z moves h by n * tail times as much.
    error = (abs(wide) * (1e-6 + power * tail * 1e-6 * (1 + 6 * scale))).mean(1)
    pooled, mask_l1 = pool(f, w, a, n, beta)
    assert (abs(pooled - expected) <= 4 * error).all()
    masks = np.where(z >= 0, 1 - low, low).sum((1, 3))
    np.testing.assert_allclose(mask_l1, masks, rtol=2e-6 * (1 + scale), atol=1e-5)


def _pool_ones(z, n, beta):
    ones = np.ones((1, 1, 1, len(z)), np.float32)
    return attention_pool(ones, np.zeros((1, len(z), len(z)), np.float32), z[None], n, beta)[0]


pool_ones = jax.jit(_pool_ones)
log2 = jax.jit(lambda z: mask_powers.masks(z).log2)
slopes_of_ones = jax.jit(jax.grad(lambda *x: _pool_ones(*x).sum(), (0, 1, 2)))


@fuzz
@given(hnp.arrays(np.float32, 8, elements=logits), powers, unit)
def test_a_pooled_curve_stays_in_its_range_for_any_power(z, n, beta):
    n, beta = np.float32(n), np.float32(beta)
    g = np.asarray(pool_ones(z, n, beta)[0, 0]) - 1
    assert (g >= -beta - 1e-5).all() and (g <= 1 + 1e-5).all()
    assert (log2(z) <= 0).all()
    assert all(np.isfinite(x).all() for x in slopes_of_ones(z, n, beta))


# Metrics.


@fuzz
@given(fz.measured())
def test_metrics_stay_in_range_and_go_into_json(drawn):
    logits, labels, _ = drawn
    found = classification.compute_metrics(*drawn, bootstrap=5)
    for name in classification.METRIC_NAMES:
        low = -1 if name == "gain" else 0
        ordered = (low, *found.interval[name], 1)
        values = [*found.attributes[name], found.average[name]]
        assert all(np.isnan(x) or low - 1e-12 <= x <= 1 + 1e-12 for x in values)
        assert np.isnan(ordered).any() or (np.diff(ordered) >= -1e-12).all()
    names = [f"attribute {k}" for k in range(labels.shape[1])]
    json.dumps(classification.metrics_json(found, names), allow_nan=False)
    for name, value in classification.validation_metrics(logits, labels).items():
        np.testing.assert_array_equal(value, found.average[name])


@fuzz
@given(fz.measured(), st.integers(1, 3))
def test_metrics_of_extreme_logits_copies_and_gaps(drawn, copies):
    """They equal those of ranks and of signs; copies and images without labels change none."""
    logits, labels, majority = drawn
    found = classification.compute_metrics(*drawn, bootstrap=0).attributes
    for k, column in enumerate(logits.T):
        expected = slow_twin(np.sign(column), labels[:, k], majority[k])
        ranks = slow_twin(np.unique(column, return_inverse=True)[1], labels[:, k], majority[k])
        expected |= {"average_precision": ranks["average_precision"], "ece": found["ece"][k]}
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][k], value, atol=1e-12, err_msg=name)
    more = np.concatenate([logits] * copies + [logits[::-1]])
    known = np.concatenate([labels] * copies + [np.full_like(labels, -1)])
    after = classification.compute_metrics(more, known, majority, bootstrap=0).attributes
    for name in classification.METRIC_NAMES:
        np.testing.assert_allclose(after[name], found[name], atol=1e-12, err_msg=name)
