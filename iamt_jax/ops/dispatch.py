"""What computes curved sums: the blocked form anywhere, or kernels where they are known to pay.

The environment variable IAMT_POOLING, read when a program is traced, forces one of them:

- `auto`: kernels on the platforms in `MEASURED`, else blocked; as if unset.
- `blocked`: blocked everywhere.
- `kernel`: kernels on GPU and TPU; blocked on a CPU, which cannot run them.
- `interpret`: the GPU's kernels, interpreted, on any platform; slow, for tests.

Arrays that do not fit a platform's kernels go to the blocked form in any case.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from jax import lax

from iamt_jax.errors import InputError
from iamt_jax.ops import tiled

MEASURED: frozenset[str] = frozenset()
"""Platforms ("cuda", "tpu") on which the kernels were measured to be faster than blocked.

None yet: they were compiled for both, and run only interpreted.
"""

VARIABLE = "IAMT_POOLING"
CHOICES = ("auto", "blocked", "kernel", "interpret")


def forward(features, kernel, bias, n):
    """As `tiled.forward`."""
    return _run(tiled.forward, lambda kernels: kernels.forward, features, kernel, bias, n)


def backward(features, kernel, bias, n, to_sums, to_masks):
    """As `tiled.backward`."""
    inputs = features, kernel, bias, n, to_sums, to_masks
    return _run(tiled.backward, lambda kernels: kernels.backward, *inputs)


def _run(plain: Callable, named: Callable, features, kernel, bias, n, *derivatives) -> Any:
    choice = _choice()
    inputs = features, kernel, bias, n, *derivatives
    if choice == "blocked" or (choice == "auto" and not MEASURED):
        return plain(*inputs)

    from iamt_jax.ops import kernels

    by_kernels = named(kernels)
    if choice == "interpret" and kernels.fits(features, kernel, n, "cuda"):
        return by_kernels(*inputs, platform="cuda", interpret=True)
    wanted = {"auto": MEASURED, "kernel": kernels.TARGETS, "interpret": ()}
    branches = {
        platform: functools.partial(by_kernels, platform=platform)
        for platform in wanted[choice]
        if kernels.fits(features, kernel, n, platform)
    }
    if not branches:
        return plain(*inputs)
    return lax.platform_dependent(*inputs, default=plain, **branches)


def _choice() -> str:
    choice = os.environ.get(VARIABLE, CHOICES[0])
    if choice not in CHOICES:
        raise InputError(f"{VARIABLE}: found {choice!r}, expected one of {', '.join(CHOICES)}")
    return choice
