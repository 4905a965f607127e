"""Muon (Jordan et al. 2024): momentum, orthogonalised by Newton-Schulz iterations.

A kernel is one or more matrices. Kernel by kernel, the iterations are hundreds of launches on a
GPU. So the optimiser works on stacks of all matrices of equal shape, and the iterations, except on
a CPU, on one stack of all matrices, cut into square blocks. Zeros that fill a block change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from iamt_jax.model.network import Tree

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of an iteration, x -> x (c0 + c1 A + c2 A^2) with A = x^T x (Jordan et al. 2024)."""

ITERATIONS = 5

SMALLEST_NORM = 1e-8
"""Added to the norm of a matrix, which may be 0."""


class Stacked(NamedTuple):
    """Parameters or gradients by the rule that updates them."""

    muon: dict[str, Float[Array, "matrix row column"]]
    """All matrices of equal shape, under the name of this shape."""
    adam: Tree
    """The other arrays, in their places."""


def update_rules(params: Tree) -> Tree:
    """Rule that updates each parameter: "muon" or "adam".

    Muon updates the kernels of convolutions and masks. AdamW updates the rest, with the classifiers
    among them, as is usual for last layers.
    """

    def rule(path: tuple, leaf: Array) -> str:
        names = [entry.key for entry in path]
        is_matrix = leaf.ndim == 4 or "mask" in names
        return "muon" if is_matrix and names[-1] == "kernel" else "adam"

    return jax.tree_util.tree_map_with_path(rule, params)


def stacked(tree: Tree) -> Stacked:
    """Stacks the kernels that Muon updates."""
    rules = update_rules(tree)
    parts: dict[str, list[Array]] = {}
    for leaf, rule in zip(jax.tree.leaves(tree), jax.tree.leaves(rules), strict=True):
        if rule == "muon":
            parts.setdefault(_shape(leaf), []).append(_matrices(leaf))
    others = jax.tree.map(lambda x, rule: optax.MaskedNode() if rule == "muon" else x, tree, rules)
    return Stacked({shape: jnp.concatenate(each) for shape, each in parts.items()}, others)


def unstacked(stacks: Stacked, like: Tree) -> Tree:
    """Inverse of `stacked`; `like` is a tree of the same shapes."""
    used = dict.fromkeys(stacks.muon, 0)

    def part(leaf: Array, rule: str, other: Array) -> Array:
        if rule == "adam":
            return other
        shape, first = _shape(leaf), used[_shape(leaf)]
        used[shape] += len(_matrices(leaf))
        return stacks.muon[shape][first : used[shape]].reshape(leaf.shape)

    return jax.tree.map(part, like, update_rules(like), stacks.adam)


def on_stacks(update: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs a transformation on `Stacked` gradients."""

    def run(gradients: Tree, state: Tree, _: Tree = None) -> tuple[Tree, Tree]:
        updates, state = update.update(stacked(gradients), state)
        return unstacked(updates, gradients), state

    return optax.GradientTransformation(lambda params: update.init(stacked(params)), run)


def _matrices(kernel: Array) -> Float[Array, "matrix row column"]:
    """(height, width, input, output) -> (1, inputs, output); (attribute, input, output) stays."""
    return kernel if kernel.ndim == 3 else kernel.reshape(1, -1, kernel.shape[-1])


def _shape(kernel: Array) -> str:
    return "{}x{}".format(*_matrices(kernel).shape[1:])


class MuonState(NamedTuple):
    """State of `scale_by_muon`."""

    count: Int[Array, ""]
    """Updates done."""
    mu: Tree
    """Moving average of the gradients."""


def scale_by_muon(beta: float, rms: float) -> optax.GradientTransformation:
    """The orthogonalised Nesterov momentum of `optax.contrib.scale_by_muon`, for stacks.

    Args:
      beta: decay of the moving average of the gradients.
      rms: root mean square of an update whose singular values are 1, whatever its shape.
    """

    def init(params: Tree) -> MuonState:
        return MuonState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(gradients: Tree, state: MuonState, _: Tree = None) -> tuple[Tree, MuonState]:
        count = state.count + 1
        mu = optax.tree.update_moment(gradients, state.mu, beta, 1)
        past, now = beta / (1 - beta ** (count + 1)), (1 - beta) / (1 - beta**count)
        directions = jax.tree.map(lambda m, g: past * m + now * g, mu, gradients)
        stacks, structure = jax.tree.flatten(directions)
        updates = [rms * max(x.shape[1:]) ** 0.5 * x for x in orthogonalised(stacks)]
        return jax.tree.unflatten(structure, updates), MuonState(count, mu)

    return optax.GradientTransformation(init, update)


def orthogonalised(
    stacks: Sequence[Float[Array, "matrix row column"]],
) -> list[Float[Array, "matrix row column"]]:
    """Brings all singular values near 1."""
    tall = [_tall(x) for x in stacks]
    # A launch costs a CPU nothing, but filling blocks does.
    found = jax.lax.platform_dependent(
        tall, cpu=lambda tall: [newton_schulz(x, [(len(x), 1)]) for x in tall], default=in_blocks
    )
    return [
        y.swapaxes(1, 2) if x.shape[1] < x.shape[2] else y
        for x, y in zip(stacks, found, strict=True)
    ]


def _tall(x: Array) -> Array:
    return x.swapaxes(1, 2) if x.shape[1] < x.shape[2] else x


def in_blocks(
    stacks: Sequence[Float[Array, "matrix row column"]],
) -> list[Float[Array, "matrix row column"]]:
    """Brings all singular values of tall matrices near 1, by few launches."""
    side = max(x.shape[2] for x in stacks)
    parts, runs = [], []
    for x in stacks:
        blocks = -(-x.shape[1] // side)
        x = jnp.pad(x, ((0, 0), (0, blocks * side - x.shape[1]), (0, side - x.shape[2])))
        parts.append(x.reshape(-1, side, side))
        runs.append((len(x), blocks))
    parts = _split(newton_schulz(jnp.concatenate(parts), runs), runs)
    return [
        part.reshape(len(x), -1, side)[:, : x.shape[1], : x.shape[2]]
        for x, part in zip(stacks, parts, strict=True)
    ]


def newton_schulz(
    x: Float[Array, "block row column"], runs: Sequence[tuple[int, int]]
) -> Float[Array, "block row column"]:
    """Brings the singular values of matrices near 1.

    Args:
      x: the blocks of each matrix, one below the other.
      runs: numbers of matrices and of blocks in each of them; the runs follow one another.
    """

    def summed(x: Array) -> Array:
        """Sum over the blocks of each matrix."""
        parts = zip(_split(x, runs), runs, strict=True)
        return jnp.concatenate([part.reshape(*run, *x.shape[1:]).sum(1) for part, run in parts])

    def repeated(x: Array) -> Array:
        """Array of each matrix, for each of its blocks."""
        parts = zip(_split(x, [(matrices, 1) for matrices, _ in runs]), runs, strict=True)
        wide = [jnp.broadcast_to(part[:, None], (*run, *x.shape[1:])) for part, run in parts]
        return jnp.concatenate([each.reshape(-1, *x.shape[1:]) for each in wide])

    first, third, fifth = COEFFICIENTS
    norm = jnp.sqrt(summed(jnp.sum(x * x, axis=(1, 2), keepdims=True)))
    x = x / (repeated(norm) + SMALLEST_NORM)
    for _ in range(ITERATIONS):
        a = summed(jnp.einsum("nij,nik->njk", x, x))
        x = first * x + x @ repeated(third * a + fifth * a @ a)
    return x


def _split(x: Array, runs: Sequence[tuple[int, int]]) -> list[Array]:
    """Parts of the first axis, one for each run."""
    return jnp.split(x, np.cumsum([matrices * blocks for matrices, blocks in runs])[:-1])
