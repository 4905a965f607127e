"""The benchmarks: each runs at tiny sizes and reports the figures that it promises."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import input_pipeline  # noqa: E402
import measure  # noqa: E402
import pooling  # noqa: E402
import sweep  # noqa: E402
import train_step  # noqa: E402

TINY = {"batch": 4, "size": 4, "channels": 6, "attributes": 7, "repeats": 1}

COMPARED = {
    "images_per_s",
    "share_of_ceiling",
    "share_of_ceiling_without_recomputation",
    "temp_memory_mb",
    "temp_memory_ratio",
    "ratio_vs_plain",
    "ratio_vs_torch",
}

FIGURES = {
    pooling: COMPARED,
    train_step: COMPARED | {"parts_ms", "parts_share_of_ceiling"},
    sweep: COMPARED | {"ratio_vs_single"},
    input_pipeline: {
        "images_per_second_a_core",
        "ratio_vs_step",
        "cores_for_v5e",
        "cores_for_h100",
    },
}


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(measure, "SHORTEST", 0)
    monkeypatch.setattr(measure, "SHAPES", ((64, 64, 64),))


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: None)


def run(benchmark, path):
    """JSON of a benchmark. Steps use AdamW, since Muon's take 6 seconds to compile."""
    small = {"preset": "debug", "batch_size": 8, "repeats": 1}
    if benchmark is input_pipeline:
        benchmark.main(["--preset=debug", "--train.optimiser=adamw", f"--json={path}"])
    elif benchmark is pooling:
        benchmark.main(pooling.Arguments(**TINY, json=path))
    elif benchmark is train_step:
        benchmark.main(train_step.Arguments(**small, optimiser="adamw", json=path))
    else:
        benchmark.main(sweep.Arguments(**small, json=path))
    return json.loads(path.read_text())


@pytest.mark.parametrize("benchmark", FIGURES, ids=lambda module: module.__name__)
@pytest.mark.slow
def test_each_says_what_it_promises_without_torch(benchmark, tmp_path, capsys, no_torch):
    figures = run(benchmark, tmp_path / "figures.json")
    promised = FIGURES[benchmark]
    assert promised | {"machine", "versions", "sizes"} <= set(figures)
    printed = capsys.readouterr().out
    assert all(f"\n{name}: " in printed for name in promised)
    ratios = {name: figures[name] for name in promised if "ratio" in name}
    if "ratio_vs_torch" in ratios:
        assert ratios.pop("ratio_vs_torch") is None
        assert "pip install -e '.[benchmark]'" in printed
    assert all(np.isfinite(x) and x > 0 for x in ratios.values())


@pytest.mark.slow
def test_scaling_is_a_table(capsys):
    arguments = pooling.Arguments(**TINY, forward_only=True)
    rows = pooling.scaling(arguments)["scaling"]
    header, rule, *lines = capsys.readouterr().out.splitlines()
    assert len(rows) == len(lines) == 7
    assert {line.count("|") for line in (header, rule, *lines)} == {8}


@pytest.mark.parametrize("norm", ["batch", "group", "curve and mirror"])
def test_torch_says_the_same_of_the_same_weights(norm):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    import peer_training

    from iamt_jax.model.network import build

    config = measure.configured("debug", 8, None)
    model = dataclasses.replace(config.model, widths=(16, 16, 32))
    loss = config.loss
    if norm == "group":
        model = dataclasses.replace(model, norm=norm, reconstructor=False)
        loss = dataclasses.replace(loss, mask_l1_reduction="mean")
    if norm == "curve and mirror":
        model = dataclasses.replace(model, dilations=(0, 2), coordinates=True)
        model = dataclasses.replace(model, curve_share=0.85, checkerboard=True, mirror=True)
    config = dataclasses.replace(config, model=model, loss=loss)
    _, params, statistics = build(config.model, 40)
    batch = measure.random_batch(config)
    peer_training.check(config, params, statistics, batch)
    params["heads"]["stacked"]["classifier"]["bias"] += np.nan
    with pytest.raises(AssertionError, match="differ"):
        peer_training.check(config, params, statistics, batch)


def test_torch_orthogonalises_as_optax():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    import peer_training
    from optax.contrib import MuonDimensionNumbers
    from optax.contrib._muon import orthogonalize_via_newton_schulz

    x = np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype(np.float32)
    dimensions = MuonDimensionNumbers((0, 1, 2), 3)
    coefficients = jnp.array(peer_training.NEWTON_SCHULZ)
    expected = orthogonalize_via_newton_schulz(x, coefficients, 5, dimension_numbers=dimensions)
    matrices = torch.from_numpy(x).permute(3, 2, 0, 1).reshape(1, 16, -1)
    actual = peer_training.orthogonalised(matrices).reshape(16, 8, 3, 3).permute(2, 3, 1, 0)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("forward_only", [False, True])
def test_pooling_is_the_same_in_torch(forward_only):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    arguments = pooling.Arguments(**TINY, curve=True, forward_only=forward_only)
    pooling.check(arguments, measure.find_peer())


@pytest.mark.slow
def test_a_script_runs_from_anywhere(tmp_path):
    command = [sys.executable, str(FOLDER / "sweep.py"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--json" in result.stdout


def test_the_gpu_script_names_what_exists():
    script = FOLDER / "gpu.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    named = [line.split()[2] for line in script.read_text().splitlines() if line.startswith("run ")]
    assert {"pooling.py", "train_step.py", "sweep.py", "input_pipeline.py"} <= set(named)
    assert all((FOLDER / name).exists() for name in named)
