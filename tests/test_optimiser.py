"""The update rule: which parameters decay, by which rule each is updated, and how far."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from iamt_jax.config import PRESETS, TrainConfig
from iamt_jax.model.network import build
from iamt_jax.training import muon
from iamt_jax.training import step as ours


@pytest.fixture(scope="module")
def params():
    """Of a network with few shapes: Muon's iteration is compiled for each."""
    model = dataclasses.replace(PRESETS["debug"].model, widths=(8, 16), blocks=(0, 0))
    return build(model, 3)[1]


def config(rule, **others):
    return TrainConfig(optimiser=rule, steps=100, warmup=0, **others)


def by_name(tree):
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}


@pytest.mark.parametrize("rule", ["muon", "adamw"])
def test_with_no_gradient_kernels_decay_and_nothing_else_moves(params, rule):
    chosen = config(rule, learning_rate=0.1, weight_decay=0.5)
    ones = jax.tree.map(jnp.ones_like, params)
    update = ours.optimiser(chosen)
    state = update.init(ones)
    moved, _ = jax.jit(update.update)(jax.tree.map(jnp.zeros_like, ones), state, ones)
    for name, after in by_name(optax.apply_updates(ones, moved)).items():
        expected = 1 - 0.1 * 0.5 if name.endswith("['kernel']") else 1
        np.testing.assert_allclose(after, expected, rtol=1e-6, err_msg=name)


def test_muon_updates_convolutions_and_masks_alone(params):
    rules = {name: str(rule) for name, rule in by_name(muon.update_rules(params)).items()}
    by_muon = {name for name, rule in rules.items() if rule == "muon"}
    assert by_muon == {
        name
        for name, leaf in by_name(params).items()
        if name.endswith("['kernel']") and (leaf.ndim == 4 or "['mask']" in name)
    }


def matrix_axes(params):
    """Axes by which optax treats a kernel as matrices; None where Adam updates it."""

    def axes(leaf, rule):
        if rule == "adam":
            return None
        return MuonDimensionNumbers((0, 1, 2) if leaf.ndim == 4 else (1,), leaf.ndim - 1)

    return jax.tree.map(axes, params, muon.update_rules(params))


def test_without_decay_muon_is_optax_own(params):
    """Compares Muon's parameters only: `optax.contrib.muon` has Nesterov's momentum in Adam."""
    chosen = config("muon", weight_decay=0.0, learning_rate=0.01)
    theirs = optax_muon(
        ours.schedule(chosen),
        beta=ours.MUON_MOMENTUM,
        nesterov=True,
        consistent_rms=ours.MUON_RMS,
        muon_weight_dimension_numbers=matrix_axes,
    )
    update = ours.optimiser(chosen)
    states = update.init(params), theirs.init(params)
    rng = np.random.default_rng(0)
    compiled = jax.jit(update.update), jax.jit(theirs.update)
    for _ in range(2):
        gradient = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
        (mine, a), (other, b) = (
            run(gradient, state, params) for run, state in zip(compiled, states, strict=True)
        )
        states = a, b
    mine, other = by_name(mine), by_name(other)
    for name, rule in by_name(muon.update_rules(params)).items():
        if rule == "muon":
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-4, atol=1e-7, err_msg=name)


def test_all_matrices_in_blocks_equal_those_of_one_shape():
    """The form of accelerators against that of a CPU; some are wide, some fill no block."""
    rng = np.random.default_rng(0)
    shapes = ((2, 9, 3), (4, 5, 5), (1, 4, 11), (1, 5, 2))
    stacks = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    tall = [x if x.shape[1] >= x.shape[2] else x.swapaxes(1, 2) for x in stacks]
    together = jax.jit(muon.in_blocks)(tall)
    alone = jax.jit(lambda xs: [muon.newton_schulz(x, [(len(x), 1)]) for x in xs])(tall)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert np.linalg.svd(one, compute_uv=False).min() > 0.5


def test_zero_matrices_stay_zero():
    zero = [jnp.zeros((1, 4, 3)), jnp.zeros((2, 3, 3))]
    assert all(not np.asarray(x).any() for x in muon.in_blocks(zero) + muon.orthogonalised(zero))


def test_adamw_by_hand():
    chosen = config("adamw", learning_rate=0.01, weight_decay=0.1)
    start = {"kernel": jnp.full((2,), 3.0), "bias": jnp.full((2,), 3.0)}
    update = ours.optimiser(chosen)
    gradients = [np.float32([0.5, -0.2]), np.float32([0.1, 0.4])]
    state, params = update.init(start), start
    for gradient in gradients:
        moved, state = update.update({"kernel": gradient, "bias": gradient}, state, params)
        params = optax.apply_updates(params, moved)
    expected = {"kernel": np.full(2, 3.0), "bias": np.full(2, 3.0)}
    m = v = 0.0
    for i, gradient in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        step = m / (1 - 0.9**i) / (np.sqrt(v / (1 - 0.999**i)) + 1e-8)
        rate = float(ours.schedule(chosen)(i - 1))
        for name, decay in {"kernel": 0.1, "bias": 0.0}.items():
            expected[name] = expected[name] - rate * (step + decay * expected[name])
    for name, value in expected.items():
        np.testing.assert_allclose(params[name], value, rtol=1e-5)


def test_every_update_has_a_learning_rate():
    chosen = TrainConfig(steps=10, warmup=4, learning_rate=1.0)
    rates = [float(ours.schedule(chosen)(i)) for i in range(10)]
    np.testing.assert_allclose(rates[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    assert all(later < earlier for earlier, later in zip(rates[4:], rates[5:], strict=False))
    assert rates[-1] > 0
    for steps in (1, 2, 3):
        few = dataclasses.replace(chosen, steps=steps)
        assert all(ours.schedule(few)(i) > 0 for i in range(steps))
