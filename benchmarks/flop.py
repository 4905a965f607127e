"""How many operations a function's matrix products and convolutions are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax


def products(function: Callable, *inputs: Any) -> int:
    """FLOP of the matrix products and convolutions of a function, those of its loops counted as
    often as they run, multiplications by the zeros of strided gradients not at all."""
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
        else:
            inner = [x for value in settings.values() for x in jax.tree.leaves(value, _is_jaxpr)]
            each = sum(_products(getattr(x, "jaxpr", x)) for x in inner if _is_jaxpr(x))
            total += each * settings.get("length", 1)
    return total


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")
