"""Dry run of a training: its data, memory, cache, FLOP and time, computed before it.

The step is compiled, but not run, for the devices at hand or, through libtpu, for a TPU that is not
there (`jax.experimental.topologies`).
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from iamt_jax.config import Config
from iamt_jax.data.batches import Batch
from iamt_jax.data.cache import cache_bytes
from iamt_jax.data.dataset import Dataset, Records
from iamt_jax.data.decode import DECODE_THREADS, check_header
from iamt_jax.errors import InputError
from iamt_jax.files import cache_folder
from iamt_jax.progress import progress_bar
from iamt_jax.training.loop import check_fit
from iamt_jax.training.step import create, pmapped, train_step

SHARE = 0.4
"""Share of the speed of a large matrix product that a step is assumed to reach on average."""

_SAMPLE = 64
"""Images that are decoded to estimate the time of the cache."""


class Chip(NamedTuple):
    """A TPU by its data sheet (cloud.google.com/tpu/docs)."""

    topology: str
    """Generation in the names of topologies."""
    flops: float
    """Largest number of bfloat16 FLOP/s."""
    memory: int
    """Bytes that a program can use."""


CHIPS = {
    "v5e": Chip("v5e", 197e12, int(15.75 * 2**30)),
    "v6e": Chip("v6e", 918e12, int(31.25 * 2**30)),
}
"""Chips that a step can be compiled for without having one."""

_LAYOUTS = {1: "2x2", 4: "2x2", 8: "2x4"}
"""Chips -> topology that has them."""


class Machine(NamedTuple):
    """Devices that a step is compiled for."""

    name: str
    devices: Sequence[Any]
    memory: int
    """Bytes of one device."""
    flops: float
    """FLOP/s of a large matrix product on one device."""
    source: str
    """Source of `flops`, for the text."""


class Needs(NamedTuple):
    """Needs of a compiled step."""

    parameters: dict[str, int]
    """Part of the network -> parameters."""
    state: int
    """Bytes of the state: parameters, statistics, optimiser, moving average."""
    peak: int
    """Bytes of one device: the state, a batch, and temporary memory."""
    flop: int
    """FLOP of matrix products and convolutions of one device's part of a step."""
    compiled_in: float
    """Seconds."""


def dry_run(config: Config, dataset: Dataset, target: Machine) -> None:
    """Prints what a run will be; reads the header of every image, and compiles the step.

    Raises:
      InputError: images are damaged, more than `data.damaged_limit`, batch and devices do not fit
        together, or the step needs more memory than a device has.
    """
    records, validation = dataset.split(config.data.train_split), dataset.split("validation")
    check_fit(config, records, validation, len(target.devices))
    print(
        f"data: {dataset.root}: {dataset.layout}, {len(records):,} images to train on, "
        f"{len(validation):,} to validate, {len(dataset.attributes)} attributes",
        flush=True,
    )
    check_headers([records, validation], config.data.damaged_limit)
    print(f"cache: {cache_plan(config, [records, validation])}")
    train, places = config.train, config.data.size // config.model.stride
    every = train.validate_every or max(1, len(records) // train.batch_size)
    print(
        f"run: {train.steps:,} steps of {train.batch_size:,} images, "
        f"{train.steps * train.batch_size / len(records):.1f} epochs, validated every {every:,} "
        f"steps; {places} x {places} positions of {config.model.widths[-1]} channels"
    )
    needs = needs_of(config, len(dataset.attributes), target)
    parts = ", ".join(f"{name} {count:,}" for name, count in needs.parameters.items())
    print(f"parameters: {parts}; with the optimiser {_bytes(needs.state)}")
    if needs.peak > target.memory:
        raise InputError(
            f"`train.batch_size` {train.batch_size}: the step needs {_bytes(needs.peak)} on each "
            f"of {target.name}, which has {_bytes(target.memory)}: give a smaller batch, or more "
            "devices"
        )
    print(
        f"step: compiled for {target.name} in {needs.compiled_in:.0f} s; memory "
        f"{_bytes(needs.peak)} of {_bytes(target.memory)} a device; "
        f"{needs.flop * len(target.devices) / 1e9:,.0f} GFLOP"
    )
    seconds = needs.flop / (SHARE * target.flops)
    print(
        f"time: about {_duration(seconds * train.steps)} for the steps ({_rate(config, seconds)}), "
        f"if they reach {SHARE:.0%} of {target.source}, and the images come as fast"
    )


def check_headers(splits: Sequence[Records], limit: int) -> None:
    """Reads every image and checks its header, without decoding the pixels.

    Raises:
      InputError: more images are damaged than `limit`; the line names the first.
    """

    def damage(place: tuple[Records, int]) -> str:
        records, row = place
        try:
            check_header(records.read(row), records.images.location(row))
        except InputError as error:
            return str(error)
        return ""

    places = [(records, row) for records in splits for row in range(len(records))]
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        found = progress_bar(
            pool.map(damage, places), total=len(places), unit="image", desc="checking headers"
        )
        damaged = [reason for reason in found if reason]
    if len(damaged) > limit:
        raise InputError(f"{len(damaged):,} of {len(places):,} images are damaged: {damaged[0]}")


def cache_plan(config: Config, splits: Sequence[Records]) -> str:
    """Size, folder and time of the cache of decoded images, in words."""
    size, limit = config.data.size, config.data.cache_gib
    sizes = [cache_bytes(len(records), size) for records in splits]
    folder = Path(config.data.cache) if config.data.cache else cache_folder("decoded")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    sample = np.arange(min(_SAMPLE, len(splits[0])))
    start = time.perf_counter()
    splits[0].pictures(sample, size)
    each = (time.perf_counter() - start) / len(sample)
    told = f"{_bytes(sum(sizes))} in {folder}, which has {_bytes(free)} free"
    if max(sizes) > limit * 2**30 or sum(sizes) > free:
        return f"none (`data.cache_gib` {limit:g}): it would take {told}"
    return f"{told}; made once, in about {_duration(each * sum(map(len, splits)))}"


def needs_of(config: Config, attributes: int, target: Machine) -> Needs:
    """Compiles the step for the target, and reads from the executable what it needs."""
    definition, state = create(config, attributes)
    devices, size = len(target.devices), config.data.size
    each = config.train.batch_size // devices
    batch = Batch(
        jax.ShapeDtypeStruct((devices, each, size, size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((devices, each, attributes), jnp.float32),
    )
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    step = pmapped(train_step(definition, config), target.devices)
    start = time.perf_counter()
    memory = step.lower(state, batch).compile().memory_analysis()
    seconds = time.perf_counter() - start
    # A donated output takes the place of its input.
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    parameters = {
        name: sum(x.size for x in jax.tree.leaves(part)) for name, part in state.params.items()
    }
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    flop = products(step, state, batch, platform=target.devices[0].platform)
    return Needs(parameters, held, peak, flop, seconds)


def products(function: Callable, *inputs: Any, platform: str | None = None) -> int:
    """FLOP of the matrix products and convolutions of a function.

    Those inside a loop count once for each iteration; multiplications by the zeros of strided
    gradients do not count. Of the forms of different platforms, that of `platform` counts, by
    default JAX's own.
    """
    platform = platform or jax.default_backend()
    return _products(
        jax.make_jaxpr(function)(*inputs).jaxpr, {"gpu": "cuda"}.get(platform, platform)
    )


def _products(jaxpr: Any, platform: str) -> int:
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
            forms = zip(settings["branches_platforms"], settings["branches"], strict=True)
            form = next(form for names, form in forms if names is None or platform in names)
            total += _products(form.jaxpr, platform)
        else:
            inner = [x for value in settings.values() for x in jax.tree.leaves(value, _is_jaxpr)]
            each = sum(_products(getattr(x, "jaxpr", x), platform) for x in inner if _is_jaxpr(x))
            grid = getattr(settings.get("grid_mapping"), "grid", ())  # A Pallas kernel's programs.
            total += each * settings.get("length", 1) * math.prod(grid)
    return total


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def devices_here(dtype: str) -> Machine:
    """The devices of this process, with the measured speed of a matrix product of a type."""
    devices = jax.local_devices()
    kind, cpu = devices[0].device_kind, devices[0].platform == "cpu"
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    if limit is None:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(devices)
    side = 2048 if cpu else 8192
    x = jnp.ones((side, side), dtype)
    multiply = jax.jit(jnp.matmul)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        multiply(x, x).block_until_ready()
        times.append(time.perf_counter() - start)
    # Virtual devices of a CPU share its threads.
    flops = 2 * side**3 / min(times) / (len(devices) if cpu else 1)
    source = f"a matrix product's {2 * side**3 / min(times) / 1e9:,.0f} GFLOP/s, measured"
    return Machine(f"{len(devices)} x {kind}", devices, limit, flops, source)


def devices_of(name: str) -> Machine:
    """A TPU that is not there, such as v5e, v5e-4 or v6e-8, for which libtpu can compile.

    Raises:
      InputError: an unknown name, or libtpu is not installed.
    """
    found = re.fullmatch(r"(\w+?)(?:-(\d+))?", name)
    kind, count = (found[1], int(found[2] or 1)) if found else ("", 0)
    if kind not in CHIPS or count not in _LAYOUTS:
        chips = " or ".join(CHIPS)
        raise InputError(
            f"`for` {name}: expected {chips}, alone or with the number of chips, "
            f"{', '.join(map(str, _LAYOUTS))}, such as v5e-4"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"`for` {name}: compiling for a TPU that is not there needs libtpu, which is not "
            "installed: pip install 'jax[tpu]', in an environment of its own"
        )
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # Else libtpu asks Google's cloud what it is.
    chip = CHIPS[kind]
    topology = f"{chip.topology}:{_LAYOUTS[count]}"
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[:count]
    source = f"the data sheet's {chip.flops / 1e12:,.0f} TFLOP/s"
    return Machine(f"{count} x TPU {kind}", devices, chip.memory, chip.flops, source)


def _rate(config: Config, seconds: float) -> str:
    return f"{config.train.batch_size / seconds:,.0f} images/s"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
