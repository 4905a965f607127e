"""The Pallas kernels: interpreted they equal the tiled form, and they lower for GPU and TPU."""

import contextlib
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental.pallas import tpu as mosaic

from iamt_jax.errors import InputError
from iamt_jax.ops import attention_pool, kernels
from iamt_jax.ops.attention_pool import curved_sums, dispatched_derivatives, dispatched_sums
from iamt_jax.ops.kernels import kernel_derivatives, kernel_sums
from iamt_jax.ops.tiled import Limits, tiled_derivatives, tiled_sums

LIMITS = Limits(heads=2, rows=64)
TILED = tuple(functools.partial(form, limits=LIMITS) for form in (tiled_sums, tiled_derivatives))
KERNELS = kernel_sums, kernel_derivatives

TRITON = "__gpu$xla.gpu.triton"


def inputs(batch, positions, channels, attributes, curves, dtype, scale=1.0):
    """Arguments of `curved_sums`, and derivatives in its results; no curves is n = None."""
    rng = np.random.default_rng(attributes)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    features = normal(batch, positions, channels).astype(dtype)
    kernel = scale * normal(attributes, channels, channels) / channels**0.5
    n = rng.uniform(0.5, 4, (curves, batch, attributes, channels)).astype(np.float32)
    to = normal(max(curves, 1), batch, attributes, channels), normal(batch, attributes, channels)
    return (features, kernel, normal(attributes, channels), n if curves else None), to


def both(form, arguments, to, **how):
    """Values and derivatives of one form, in one program."""

    sums, derivatives = form

    def run(arguments, to):
        return sums(*arguments, **how), derivatives(*arguments, *to, **how)

    return jax.jit(run)(arguments, to)


def close(actual, expected, tolerance):
    """Asserts equality up to a share of each array's largest element."""

    def check(actual, expected):
        assert actual.dtype == expected.dtype
        actual, expected = (np.asarray(x, np.float32) for x in (actual, expected))
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=tolerance * np.abs(expected).max()
        )

    jax.tree.map(check, actual, expected)


@pytest.fixture
def small(monkeypatch):
    """Limits so small that every loop and every axis of the grids has several steps."""
    bounds = {"forward": 64, "backward": 64}
    cuda = kernels.TARGETS["cuda"]._replace(**bounds, columns=8, programs=12)
    tpu = kernels.TARGETS["tpu"]._replace(**bounds, heads=1, positions=32, channels=(16,))
    monkeypatch.setitem(kernels.TARGETS, "cuda", cuda)
    monkeypatch.setitem(kernels.TARGETS, "tpu", tpu)


@pytest.mark.parametrize(
    "platform, curves, dtype",
    [
        ("cuda", 0, jnp.float32),
        ("cuda", 2, jnp.float32),
        ("cuda", 1, jnp.bfloat16),
        ("tpu", 0, jnp.float32),
        ("tpu", 1, jnp.float32),
        ("tpu", 0, jnp.bfloat16),
    ],
)
def test_interpreted_equals_tiled_in_values_and_derivatives(small, platform, curves, dtype):
    arguments, to = inputs(3, 32, 16, 3, curves, dtype)
    actual = both(KERNELS, arguments, to, platform=platform, interpret=True)
    # In bfloat16, derivatives in biases are sums of numbers that the tiled form rounds (8 bits)
    # first, and a derivative in features can round to the neighbouring number.
    close(actual, both(TILED, arguments, to), 1e-5 if dtype == jnp.float32 else 1e-2)


def test_sums_go_on_in_a_tpus_memory(small):
    """In the simulated memory of a TPU, which is NaN where nothing was written."""
    arguments, to = inputs(2, 32, 16, 2, 1, jnp.float32)
    how = {"platform": "tpu", "interpret": mosaic.InterpretParams()}
    close(both(KERNELS, arguments, to, **how), both(TILED, arguments, to), 1e-5)


def test_saturated_masks_are_finite(small):
    arguments, to = inputs(1, 16, 16, 2, 1, jnp.float32, scale=1e4)
    actual = both(KERNELS, arguments, to, platform="tpu", interpret=True)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(actual))
    close(actual, both(TILED, arguments, to), 1e-5)


@contextlib.contextmanager
def lowering_for(platform):
    """jax 0.12 lowers Triton kernels for a named GPU only, here an abstract one."""
    if platform != "cuda" or jax.version.__version_info__ < (0, 12):
        yield
        return
    device = jax.sharding.AbstractDevice("NVIDIA H100", num_cores=132, platform="gpu")
    axes = (jax.sharding.AxisType.Explicit,)
    mesh = jax.sharding.AbstractMesh((1,), ("data",), axes, abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


@pytest.mark.parametrize("curves", [0, 1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("platform, call", [("cuda", TRITON), ("tpu", "tpu_custom_call")])
def test_lowers_at_real_size(monkeypatch, platform, call, dtype, curves):
    monkeypatch.setenv(attention_pool.VARIABLE, "kernel")

    def loss(*arguments):
        sums, masks = curved_sums(*arguments)
        return jnp.sum(sums**2) + jnp.sum(masks**2)

    arguments, _ = jax.eval_shape(functools.partial(inputs, 2, 256, 128, 3, curves, dtype))
    which = (0, 1, 2, 3) if curves else (0, 1, 2)
    gradient = jax.jit(jax.value_and_grad(loss, which))
    checks = [export.DisabledSafetyCheck.custom_call(TRITON)]
    with lowering_for(platform):
        exported = export.export(gradient, platforms=[platform], disabled_checks=checks)(*arguments)
    assert exported.mlir_module().count(f"@{call}") == 3


def test_what_fits():
    def fits(platform, positions, channels, dtype=jnp.float32, batch=3, attributes=7):
        features = jax.ShapeDtypeStruct((batch, positions, channels), dtype)
        kernel = jax.ShapeDtypeStruct((attributes, channels, channels), jnp.float32)
        return kernels.fits(features, kernel, None, platform)

    for platform in kernels.TARGETS:
        assert all(fits(platform, side * side, 128) for side in (8, 16, 32))
        assert fits(platform, 64, 128, jnp.bfloat16, batch=1, attributes=1)
        assert not fits(platform, 49, 128)
        assert not fits(platform, 64, 96)
        assert not fits(platform, 64, 128, jnp.float16)
        assert not fits(platform, 64, 128, batch=0)
    assert fits("cuda", 64, 32) and not fits("tpu", 64, 32)
    assert fits("tpu", 64, 256) and not fits("cuda", 64, 256)
    assert not fits("tpu", 4096, 128)


def traced(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments))


def dispatched(monkeypatch, choice, *arguments):
    """`dispatched_sums` under a choice; its trace is not shared with other choices."""
    monkeypatch.setenv(attention_pool.VARIABLE, choice)
    return jax.jit(functools.partial(dispatched_sums)).trace(*arguments)


@pytest.mark.parametrize("choice", attention_pool.CHOICES)
def test_each_choice_gives_the_same(monkeypatch, choice):
    arguments, _ = inputs(1, 16, 16, 1, 0, jnp.float32)
    traced = dispatched(monkeypatch, choice, *arguments)
    assert ("pallas_call" in str(traced.jaxpr)) == (choice != "tiled")
    close(traced.lower().compile()(*arguments), jax.jit(TILED[0])(*arguments), 1e-5)


@pytest.mark.parametrize("choice", attention_pool.CHOICES)
def test_what_does_not_fit_is_tiled(monkeypatch, choice):
    arguments, to = inputs(1, 9, 6, 2, 1, jnp.float32)
    monkeypatch.setenv(attention_pool.VARIABLE, choice)
    for form, given in (
        (dispatched_sums, arguments),
        (dispatched_derivatives, (*arguments, *to)),
    ):
        assert "pallas_call" not in str(jax.make_jaxpr(functools.partial(form))(*given))


def test_each_device_takes_its_row(monkeypatch):
    """A row of the table by the default device; without one of the platform, the last."""

    def row(platform, kind, capability=None):
        device = SimpleNamespace(platform={"cuda": "gpu"}.get(platform, platform), device_kind=kind)
        if capability:
            device.compute_capability = capability
        monkeypatch.setattr(jax, "devices", lambda: [device])
        return attention_pool.form_of(platform)

    assert row("cuda", "NVIDIA H100 80GB HBM3", "9.0").kernels
    assert row("cuda", "NVIDIA A100-SXM4-40GB", "8.0").kernels
    assert not row("cuda", "Tesla T4", "7.5").kernels
    assert row("tpu", "TPU v6 lite").kernels
    assert not row("tpu", "TPU v5 lite").kernels
    assert row("cpu", "cpu").limits == Limits(5, 2048)
    assert attention_pool.form_of("cuda") == attention_pool.FORMS[-1]


def test_a_libtpu_that_is_too_old_gets_tiles(monkeypatch, capsys):
    arguments, _ = inputs(1, 16, 128, 1, 0, jnp.float32)
    monkeypatch.setattr(kernels.metadata, "version", lambda _: "0.0.21.1")
    kernels.accepted.cache_clear()
    for _ in range(2):
        traced = dispatched(monkeypatch, "kernel", *arguments)
        assert traced.lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call") == 0
    kernels.accepted.cache_clear()
    assert capsys.readouterr().err.count("warning: libtpu 0.0.21.1 is older than") == 1


def test_an_unknown_choice_is_one_line(monkeypatch):
    monkeypatch.setenv(attention_pool.VARIABLE, "fast")
    with pytest.raises(InputError, match=r"^IAMT_POOLING: found 'fast', expected .*interpret$"):
        dispatched_sums(*inputs(1, 16, 16, 1, 0, jnp.float32)[0])
