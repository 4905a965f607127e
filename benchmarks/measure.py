"""Shared parts of the benchmarks: alternating timings, the matmul ceiling, FLOP, memory, report."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

# This checkout is measured, even if another version is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.config import PRESETS, Config  # noqa: E402
from iamt_jax.data.batches import Batch  # noqa: E402
from iamt_jax.evaluation.measure import environment  # noqa: E402
from iamt_jax.files import json_text  # noqa: E402
from iamt_jax.model.extractor import DATA_AXIS  # noqa: E402
from iamt_jax.runs.checkpoints import State  # noqa: E402
from iamt_jax.training.step import StepMetrics  # noqa: E402

SHORTEST = 0.05
"""Seconds of the shortest timing; a faster program is called several times in one timing."""

SHAPES = ((8192, 128, 640), (2048, 2048, 2048))
"""Matrix products that define the ceiling: a tile of the pooling, and a large square."""
ACCELERATOR_SHAPES = ((8192, 8192, 8192),)
"""Further matrix products, which would take seconds on a CPU."""


def take_turns(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Seconds per call of each program, the median over rounds.

    The programs alternate, so that other load on the machine affects all of them alike.
    """
    calls = {}
    for name, way in ways.items():
        _timed(way, 1)  # compiles
        calls[name] = max(1, round(SHORTEST / _timed(way, 1)))
    times = [{name: _timed(way, calls[name]) for name, way in ways.items()} for _ in range(repeats)]
    return {name: float(np.median([each[name] for each in times])) for name in ways}


def _timed(way: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        result = way()
    jax.block_until_ready(result)
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def compete(
    ways: dict[str, Callable[[], Any]], dtype: str, repeats: int
) -> tuple[dict[str, float], float]:
    """Seconds per call of each program, and the ceiling: the FLOP/s of the fastest matrix product,
    which is timed in turn with the programs."""
    shapes = SHAPES if jax.default_backend() == "cpu" else SHAPES + ACCELERATOR_SHAPES
    multiply = jax.jit(jnp.matmul)

    def product(rows: int, inner: int, columns: int) -> Callable[[], jax.Array]:
        x, y = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
        return lambda: multiply(x, y)

    matmuls = {"matmul {}x{}x{}".format(*shape): product(*shape) for shape in shapes}
    times = take_turns(ways | matmuls, repeats)
    rates = [2 * np.prod(s) / times[name] for name, s in zip(matmuls, shapes, strict=True)]
    return {name: times[name] for name in ways}, float(max(rates))


def steps(step: Callable, state: State, batch: Batch) -> Callable[[], StepMetrics]:
    """Returns a function that takes one step at each call, and donates the last state to it."""
    state = jax.tree.map(jnp.copy, state)

    def way():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return way


def temporary(compiled: jax.stages.Compiled) -> int:
    """Bytes of a compiled program's temporary buffers."""
    return compiled.memory_analysis().temp_size_in_bytes


def products(function: Callable, *inputs: Any) -> int:
    """FLOP of the matrix products and convolutions of a function.

    Those inside a loop count once for each iteration; multiplications by the zeros of strided
    gradients do not count.
    """
    return _products(jax.make_jaxpr(function)(*inputs).jaxpr)


def _products(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        settings, size = equation.params, equation.outvars[0].aval.size if equation.outvars else 0
        if equation.primitive.name == "dot_general":
            shape, axes = equation.invars[0].aval.shape, settings["dimension_numbers"][0][0]
            total += 2 * size * math.prod(shape[axis] for axis in axes)
        elif equation.primitive.name == "conv_general_dilated":
            numbers, kernel = settings["dimension_numbers"], equation.invars[1].aval
            outputs = kernel.shape[numbers.rhs_spec[0]]
            total += 2 * size * kernel.size // outputs // math.prod(settings["lhs_dilation"])
        elif settings.get("branches_platforms"):  # `lax.platform_dependent`
            total += _products(_branch_here(settings).jaxpr)
        else:
            inner = [x for value in settings.values() for x in jax.tree.leaves(value, _is_jaxpr)]
            each = sum(_products(getattr(x, "jaxpr", x)) for x in inner if _is_jaxpr(x))
            total += each * settings.get("length", 1)
    return total


def _branch_here(settings: dict[str, Any]) -> Any:
    """The branch for the platform that JAX runs on."""
    platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    branches = zip(settings["branches_platforms"], settings["branches"], strict=True)
    return next(each for names, each in branches if names is None or platform in names)


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def on_one_device(function: Callable) -> Callable:
    """Compiles a function for the first device, inside the mapped axis of a training step."""
    mesh, whole = Mesh(np.array(jax.devices()[:1]), (DATA_AXIS,)), PartitionSpec()
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    )


def configured(preset: str, batch_size: int, dtype: str | None) -> Config:
    """A preset with another batch size, and another compute type if one is given."""
    config = PRESETS[preset]
    model = dataclasses.replace(config.model, dtype=dtype or config.model.dtype)
    train = dataclasses.replace(config.train, batch_size=batch_size)
    return dataclasses.replace(config, model=model, train=train)


def random_batch(config: Config) -> Batch:
    """Random images and labels in the types of the input pipeline."""
    rng, size, batch = np.random.default_rng(0), config.data.size, config.train.batch_size
    images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    labels = rng.integers(0, 2, (batch, len(CELEBA_ATTRIBUTES)))
    return Batch(images, labels.astype(np.float32))


def find_peer() -> ModuleType | None:
    """Imports `peer_torch`; without PyTorch prints how to install it, and returns None."""
    if importlib.util.find_spec("torch") is None:
        print("torch: not installed, so no ratio against it; pip install -e '.[benchmark]'")
        return None
    import peer_torch

    return peer_torch


def comparison(
    times: dict[str, float], ceiling: float, images: int, useful: int, repeated: int
) -> dict[str, Any]:
    """Figures of `ours` against the other programs and the ceiling.

    Args:
      times: seconds per call of `ours`, `plain`, and `torch` where it is installed.
      ceiling: FLOP/s, from `compete`.
      images: images in one call.
      useful: FLOP of one call of `ours` without recomputation.
      repeated: FLOP of the recomputation in the backward pass.
    """
    ours = times["ours"]
    return {
        "ms": {name: 1e3 * seconds for name, seconds in times.items()},
        "images_per_s": {name: images / seconds for name, seconds in times.items()},
        "useful_gflop": useful / 1e9,
        "useful_gflop_per_s": useful / ours / 1e9,
        "useful_gflop_per_s_with_recomputation": (useful + repeated) / ours / 1e9,
        "ceiling_gflop_per_s": ceiling / 1e9,
        "share_of_ceiling": (useful + repeated) / ours / ceiling,
        "share_of_ceiling_without_recomputation": useful / ours / ceiling,
        "ratio_vs_plain": ours / times["plain"],
        "ratio_vs_torch": ours / times["torch"] if "torch" in times else None,
    }


def memory(ours: int, plain: int) -> dict[str, Any]:
    """Temporary memory of two programs in bytes, and its ratio."""
    return {
        "temp_memory_mb": {"ours": ours / 1e6, "plain": plain / 1e6},
        "temp_memory_ratio": ours / plain,
    }


def report(sizes: Any, figures: dict[str, Any], path: Path | None) -> None:
    """Prints machine, versions, sizes and figures, and writes them as JSON if there is a path."""
    result = {"machine": machine(), **environment(), "sizes": _plain(sizes), **figures}
    if importlib.util.find_spec("torch"):
        result["versions"]["torch"] = version("torch")
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
        if not isinstance(value, list):  # Tables are printed by the benchmark itself.
            print(f"{name}: {_shown(value)}")
    if path:
        path.write_text(json_text(result, indent=2) + "\n")


def machine() -> str:
    """Processor, number of threads and load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} threads, load {os.getloadavg()[0]:.1f}"


def _plain(sizes: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(sizes) if dataclasses.is_dataclass(sizes) else sizes
    return {name: value for name, value in fields.items() if name != "json"}


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
