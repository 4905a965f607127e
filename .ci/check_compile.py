"""Compiles for TPUs and GPUs that are not there, and compares the compiler's figures with bounds.

python .ci/check_compile.py fast|slow|colab

`fast` compiles the pooling and a training step, `slow` the training step for a TPU. Both need
jax, libtpu, and jax's plugin for CUDA 12 with nvidia-cuda-nvcc-cu12. `colab` needs the libtpu of
Colab, which is too old for the TPU kernels. Status 1 if a figure is out of its bound.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# Before jax starts. The host has no accelerator, and its compilers must not look for one.
os.environ.update(
    JAX_PLATFORMS="cpu",
    TPU_SKIP_MDS_QUERY="1",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
    CUDA_VISIBLE_DEVICES="-1",
    JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1",
)

ATTRIBUTES, BATCH, POSITIONS, CHANNELS = 40, 256, 128, 128
"""Of the pooling in a training step of the preset `celeba`, whose heads see half of 16x16."""

MASKS = 2 * ATTRIBUTES * BATCH * POSITIONS * CHANNELS
"""Bytes of all masks in bfloat16: the least that a form needs which stores them."""

_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin:
  {block} core_count: {cores} fpus_per_core: {units} block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: {bandwidth}
  l2_cache_size: {cache} clock_rate_ghz: {clock} device_memory_size: 84929347584
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 }} device_description_str: "{name}"
"""

H100 = _GPU.format(
    name="NVIDIA H100 80GB HBM3",
    **{"major": 9, "cores": 132, "units": 128, "clock": 1.98, "shared": 233472, "block": 232448},
    **{"bandwidth": 3352320000000, "cache": 52428800},
)
A100 = _GPU.format(
    name="NVIDIA A100-SXM4-80GB",
    **{"major": 8, "cores": 108, "units": 64, "clock": 1.41, "shared": 167936, "block": 166912},
    **{"bandwidth": 2039000000000, "cache": 41943040},
)


class Check(NamedTuple):
    """A figure and its bound."""

    name: str
    found: float
    allowed: float
    exact: bool = False
    """The figure must equal the bound; otherwise it is the largest allowed."""

    @property
    def bound(self) -> str:
        """What is allowed, in words."""
        return f"{self.allowed:g}" if self.exact else f"at most {self.allowed:g}"

    @property
    def passed(self) -> bool:
        """Whether the figure is within its bound."""
        return self.found == self.allowed if self.exact else self.found <= self.allowed


def mesh_of(kind: str, chips: int = 1) -> Any:
    """Mesh of devices that are not there: "v5e", "v6e", "h100" or "a100"."""
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh

    gpus = {"h100": H100, "a100": A100}
    if kind in gpus:
        how = {"platform": "cuda", "target_config": gpus[kind], "topology": "1x1x1"}
    else:
        how = {"platform": "tpu", "topology_name": f"{kind}:2x2"}
    return Mesh(np.array(topologies.get_topology_desc(**how).devices[:chips]), ("data",))


def compiled(function: Callable, inputs: tuple, mesh: Any, donated: tuple = ()) -> tuple[Any, Any]:
    """A program's lowered and compiled form on a mesh; inputs without a sharding are replicated."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    def placed(x: Any) -> Any:
        sharding = x.sharding or NamedSharding(mesh, PartitionSpec())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    platform = "cuda" if mesh.devices.flat[0].platform in ("gpu", "cuda") else "tpu"
    traced = jax.jit(function, donate_argnums=donated).trace(*jax.tree.map(placed, inputs))
    lowered = traced.lower(lowering_platforms=(platform,))
    return lowered, lowered.compile()


def pooling(dtype: str = "bfloat16", curves: int = 0) -> tuple[Callable, tuple]:
    """Value and derivatives of the pooling of a training step, and its inputs."""
    import jax
    import jax.numpy as jnp

    from iamt_jax.ops.attention_pool import curved_sums

    def loss(*inputs):
        sums, masks = curved_sums(*inputs)
        return jnp.sum(sums**2) + jnp.sum(masks**2)

    shape = jax.ShapeDtypeStruct
    inputs = (
        shape((BATCH, POSITIONS, CHANNELS), dtype),
        shape((ATTRIBUTES, CHANNELS, CHANNELS), "float32"),
        shape((ATTRIBUTES, CHANNELS), "float32"),
        shape((curves, BATCH, ATTRIBUTES, CHANNELS), "float32") if curves else None,
    )
    which = (0, 1, 2, 3) if curves else (0, 1, 2)
    # A function of its own for each call, since jax keeps traces and IAMT_POOLING changes.
    return functools.partial(jax.value_and_grad(loss, which)), inputs


def step(mesh: Any, batch: int = BATCH) -> tuple[Callable, tuple, int]:
    """A training step of `celeba`, its inputs, and the number of arrays of its state."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from iamt_jax.config import PRESETS
    from iamt_jax.data.batches import Batch
    from iamt_jax.training.step import create, train_step

    config, definitions = PRESETS["celeba"], []

    def initial():
        definition, state = create(config, ATTRIBUTES)
        definitions.append(definition)
        return state

    state = jax.eval_shape(initial)
    split = NamedSharding(mesh, PartitionSpec("data"))
    size = config.data.size
    images = jax.ShapeDtypeStruct((batch, size, size, 3), "uint8", sharding=split)
    labels = jax.ShapeDtypeStruct((batch, ATTRIBUTES), "float32", sharding=split)
    whole, parts = PartitionSpec(), PartitionSpec("data")
    run = jax.shard_map(
        train_step(definitions[0], config),
        mesh=mesh,
        in_specs=(whole, parts),
        out_specs=(whole, whole),
        check_vma=False,
    )
    return run, (state, Batch(images, labels)), len(jax.tree.leaves(state))


def megabytes(program: Any) -> float:
    """Peak memory of a compiled program."""
    memory = program.memory_analysis()
    return round(memory.peak_memory_in_bytes / 1e6, 1)


FREE = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id")
)
"""Instructions that launch nothing."""


def launches(text: str) -> Counter[str]:
    """Instructions of optimised HLO that launch something; those of a loop count in each turn."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        start = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$", line)
        if start:
            name = start[2]
            bodies[name] = []
            entry = name if start[1] else entry
        elif name:
            bodies[name].append(line)

    def of(name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for line in bodies[name]:
            # Types are words or tuples of them, then comes the instruction.
            found = re.match(r"\s+(?:ROOT )?%[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(", line)
            if not found or found[1] in FREE or found[1].endswith("-done"):
                continue
            if found[1] == "while":
                turns = int(re.search(r'"known_trip_count":\{"n":"(\d+)"', line)[1])
                inner = of(re.search(r"body=%?([\w.\-]+)", line)[1])
                total += Counter({each: turns * count for each, count in inner.items()})
            elif found[1] == "call":
                total += of(re.search(r"to_apply=%?([\w.\-]+)", line)[1])
            else:
                total[found[1]] += 1
        return total

    return of(entry)


def spilled(paths: Iterable[Path], capability: str) -> int:
    """Bytes that the Pallas kernels in files of PTX spill, by ptxas."""
    import nvidia.cuda_nvcc

    ptxas = Path(next(iter(nvidia.cuda_nvcc.__path__))) / "bin" / "ptxas"
    kernels = [path for path in paths if re.search(r"\.entry \w*_body", path.read_text())]
    if not kernels:
        raise ValueError("no PTX of a Pallas kernel")
    spills = 0
    for path in kernels:
        command = [ptxas, "-v", "--gpu-name", capability, "-o", os.devnull, path]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        spills += sum(map(int, re.findall(r"(\d+) bytes spill stores", said)))
    return spills


def unlike_bfloat16(lowered: Any) -> int:
    """Number of convolutions of StableHLO with an operand of another type."""
    operands = re.findall(r"stablehlo\.convolution\(.*: \((.*)\) ->", lowered.as_text())
    if not operands:
        raise ValueError("no convolution found")
    return sum(types.count("xbf16>") != 2 for types in operands)


CASES = (("bfloat16", 0), ("bfloat16", 1), ("float32", 0), ("float32", 1))
"""Types of the features, and numbers of tone curves."""


def tpu_pooling(kind: str) -> Iterator[Check]:
    """The pooling in both forms, and the kernels of all cases."""
    mesh = mesh_of(kind)
    for form in ("tiled", "kernel"):
        os.environ["IAMT_POOLING"] = form
        _, program = compiled(*pooling(), mesh)
        yield Check(f"{kind}: pooling, {form}, peak MB", megabytes(program), MASKS / 2e6)
    for dtype, curves in CASES:
        lowered, _ = compiled(*pooling(dtype, curves), mesh)
        name = f"{kind}: pooling, kernel, {dtype}, {curves} curves, kernels"
        yield Check(name, lowered.as_text().count("@tpu_custom_call"), 3, exact=True)


def gpu_pooling(kind: str) -> Iterator[Check]:
    """The pooling in both forms, and the spills of the kernels of all cases."""
    mesh, capability = mesh_of(kind), {"h100": "sm_90a", "a100": "sm_80"}[kind]
    os.environ["IAMT_POOLING"] = "tiled"
    _, program = compiled(*pooling(), mesh)
    yield Check(f"{kind}: pooling, tiled, peak MB", megabytes(program), 400)
    yield Check(f"{kind}: pooling, tiled, launches", launches(program.as_text()).total(), 220)
    os.environ["IAMT_POOLING"] = "kernel"
    dump = Path(os.environ[DUMP])
    for dtype, curves in CASES:
        name, before = f"{kind}: pooling, kernel, {dtype}, {curves} curves", {*dump.glob("*.ptx")}
        _, program = compiled(*pooling(dtype, curves), mesh)
        yield Check(f"{name}, peak MB", megabytes(program), MASKS / 2e6)
        spills = spilled({*dump.glob("*.ptx")} - before, capability)
        yield Check(f"{name}, spilled bytes", spills, 0)


def train_step(kind: str, chips: int, peak: float) -> Iterator[Check]:
    """A training step of `celeba`."""
    mesh = mesh_of(kind, chips)
    function, inputs, arrays = step(mesh)
    lowered, program = compiled(function, inputs, mesh, donated=(0,))
    text, name = program.as_text(), f"{kind} x {chips}: training step"
    yield Check(f"{name}, convolutions not in bfloat16", unlike_bfloat16(lowered), 0)
    yield Check(f"{name}, peak MB", megabytes(program), peak)
    donated = text.splitlines()[0].count("-alias)")
    yield Check(f"{name}, donated arrays", donated, arrays, exact=True)
    if kind == "h100":
        yield Check(f"{name}, launches", launches(text).total(), LAUNCHES)
    found = len(re.findall(r" all-reduce(?:-start)?\(", text))
    yield Check(f"{name}, all-reduces", found, ALL_REDUCES if chips > 1 else 0)


def old_libtpu() -> Iterator[Check]:
    """With a libtpu that refuses the kernels, the pooling compiles without them."""
    import jax

    os.environ["IAMT_POOLING"] = "kernel"
    function, inputs = pooling()
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), inputs)
    # By pmap: after a compilation by jit, jax 0.7.2 asks this libtpu for layouts, which crashes.
    with contextlib.redirect_stderr(io.StringIO()) as said:
        lowered = jax.pmap(function, devices=list(mesh_of("v5e").devices.flat)).lower(*inputs)
    program = lowered.compile()
    warned = said.getvalue().count("runs without its TPU kernels")
    yield Check("v5e: pooling, kernel refused, warnings", warned, 1, exact=True)
    found = lowered.as_text().count("@tpu_custom_call")
    yield Check("v5e: pooling, kernel refused, kernels", found, 0)
    yield Check("v5e: pooling, kernel refused, peak MB", megabytes(program), MASKS / 2e6)


LAUNCHES = 375
"""Of a training step on one GPU."""

ALL_REDUCES = 27
"""Of a training step on several devices: one forward and one backward for each of 13 BatchNorms,
and one of all gradients."""

SECTIONS: dict[str, dict[str, Callable[[], Iterator[Check]]]] = {
    "fast": {
        "v5e": lambda: tpu_pooling("v5e"),
        "v6e": lambda: tpu_pooling("v6e"),
        "h100": lambda: gpu_pooling("h100"),
        "a100": lambda: gpu_pooling("a100"),
        "h100-step": lambda: train_step("h100", 1, 2000),
    },
    "slow": {
        "v5e-step": lambda: train_step("v5e", 1, 2000),
        "v5e-step-4": lambda: train_step("v5e", 4, 700),
    },
    "colab": {"colab": old_libtpu},
}
"""Groups of checks; each section runs in a process of its own."""


def run_section(group: str, section: str) -> list[Check]:
    """Runs a section in another process; raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as dump:
        flags = "--xla_gpu_autotune_level=0"  # Without a GPU there is nothing to time.
        if group == "fast" and section in ("h100", "a100"):
            flags += f" --xla_dump_to={dump}"
        command = [sys.executable, __file__, group, section]
        environment = {**os.environ, "XLA_FLAGS": flags, DUMP: dump}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        done.check_returncode()
    return [Check(*values) for values in json.loads(done.stdout.splitlines()[-1])]


DUMP = "IAMT_CHECK_DUMP"
"""Environment variable with the folder into which XLA writes the PTX."""


def main(group: str, section: str | None = None) -> int:
    """Prints a table of the figures; returns 1 if one is out of its bound."""
    if section:
        print(json.dumps(list(SECTIONS[group][section]())))
        return 0
    failed = []
    print("| check | found | allowed |\n| --- | --- | --- |")
    for section in SECTIONS[group]:
        start = time.monotonic()
        for check in run_section(group, section):
            print(f"| {check.name} | {check.found:g} | {check.bound} |", flush=True)
            failed += [] if check.passed else [check]
        print(f"| {section}: seconds | {time.monotonic() - start:.0f} | |", flush=True)
    for check in failed:
        print(f"failed: {check.name}: found {check.found:g}, allowed {check.bound}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
