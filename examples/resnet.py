"""Attribute heads on a backbone of your own: here a small ResNet, on handwritten digits.

    pip install -e . scikit-learn && python examples/resnet.py

`AttributeHeads` asks for nothing but a feature map; with `extractor` and `heads` under these
names, `iamt_jax.sweep` and `iamt_jax.explain` work on your module as they do on `IAMT`.
"""

from __future__ import annotations

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits import ATTRIBUTES
from flax import nnx

import iamt_jax
from iamt_jax.progress import progress_bar


class Block(nnx.Module):
    """A residual block (He et al. 2016), with GroupNorm."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        conv = {"use_bias": False, "rngs": rngs}
        self.first = nnx.Conv(inputs, outputs, (3, 3), strides=stride, **conv)
        self.first_norm = nnx.GroupNorm(outputs, num_groups=8, rngs=rngs)
        self.second = nnx.Conv(outputs, outputs, (3, 3), **conv)
        self.second_norm = nnx.GroupNorm(outputs, num_groups=8, rngs=rngs)
        self.shortcut = nnx.Conv(inputs, outputs, (1, 1), strides=stride, **conv)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.first_norm(self.first(x)))
        return nnx.relu(self.shortcut(x) + self.second_norm(self.second(y)))


class ResNet(nnx.Module):
    """Images (batch, 32, 32, 3) -> features (batch, 8, 8, 64), without a classifier."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, 16, (3, 3), rngs=rngs)
        self.blocks = nnx.Sequential(
            Block(16, 32, 2, rngs=rngs), Block(32, 64, 2, rngs=rngs), Block(64, 64, 1, rngs=rngs)
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.blocks(nnx.relu(self.stem(images)))


class AttentiveResNet(nnx.Module):
    """The two parts that `sweep` and `explain` ask for."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.extractor = ResNet(rngs=rngs)
        self.heads = iamt_jax.AttributeHeads(len(ATTRIBUTES), channels=64, rngs=rngs)

    def __call__(self, images: jax.Array):
        return self.heads(self.extractor(images))


@nnx.jit
def train_step(network, optimiser, images, labels):
    """One step on Eq. 1 and the mask penalty of Eq. 6; returns the loss."""

    def loss(network):
        outputs = network(images)
        binary = optax.sigmoid_binary_cross_entropy(outputs.logits, labels).sum(-1).mean()
        return binary + 1e-5 * outputs.mask_l1.sum(-1).mean()

    value, gradients = nnx.value_and_grad(loss)(network)
    optimiser.update(network, gradients)
    return value


def main(arguments: list[str] | None = None) -> int:
    """Flags in, exit status out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args(arguments).steps
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("error: scikit-learn is missing; pip install scikit-learn", file=sys.stderr)
        return 2
    digits = load_digits()
    images = np.float32(digits.images / 16).repeat(4, 1).repeat(4, 2)[..., None].repeat(3, 3)
    labels = np.stack([np.isin(digits.target, list(x)) for x in ATTRIBUTES.values()], -1)
    training, test = np.arange(1500), np.arange(1500, len(images))

    network = AttentiveResNet(rngs=nnx.Rngs(0))
    optimiser = nnx.Optimizer(network, optax.adamw(5e-3), wrt=nnx.Param)
    rng = np.random.default_rng(0)
    for _ in (bar := progress_bar(range(steps), unit="step", desc="training")):
        rows = rng.choice(training, 64)
        loss = train_step(network, optimiser, images[rows], labels[rows].astype(np.float32))
        bar.set_postfix(loss=float(loss))

    majority = (labels[test] == (labels[training].mean(0) > 0.5)).mean()
    n_values, beta_values = [0.5, 1.0, 4.0], [0.0, 0.5, 1.0]
    sweep = nnx.jit(lambda network, x: iamt_jax.sweep(network, x, n_values, beta_values))
    for sigma in (0.0, 0.2, 0.4):
        noisy = images[test] + sigma * rng.standard_normal(images[test].shape, np.float32)
        accuracy = ((np.asarray(sweep(network, noisy)) > 0) == labels[test]).mean((2, 3))
        print(f"sigma {sigma}: accuracy by n (rows) and beta (columns); majority {majority:.3f}")
        for n, row in zip(n_values, accuracy, strict=True):
            print(f"  n {n:3}: " + "  ".join(f"{x:.3f}" for x in row))

    said = iamt_jax.explain(network, jnp.asarray(images[test[:1]]), [0], top=3)
    whole = float(said.contributions.sum() + said.bias[0, 0])
    print(f"the first test digit is a {digits.target[test[0]]}; {next(iter(ATTRIBUTES))}: ", end="")
    print(f"logit {said.logits[0, 0]:.3f}, its channels and bias add up to {whole:.3f},")
    print(f"most of it by channels {said.channels[0, 0].tolist()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
