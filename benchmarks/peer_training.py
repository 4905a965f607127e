"""Training step of the PyTorch network, and the check that it computes the same as ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import measure
import numpy as np
import optax
import torch
from flax import nnx
from peer_torch import DEVICE, Peer, compiled, computing, exactly, pixels, tensor
from torch import Tensor, nn

from iamt_jax.config import Config, TrainConfig
from iamt_jax.data.batches import Batch
from iamt_jax.model.losses import losses
from iamt_jax.model.network import IAMT, Tree
from iamt_jax.training.step import MUON_MOMENTUM, MUON_RMS

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Coefficients of Muon's iteration, those of optax."""

TOLERANCE = 1e-4
"""Largest difference of peer and network, as a share of the largest number of an array."""


def orthogonalised(x: Tensor) -> Tensor:
    """Newton-Schulz iteration on a stack of matrices."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-8)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(5):
        a = x @ x.mT
        x = first * x + (third * a + fifth * a @ a) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon as ours; that of torch.optim supports neither convolutions nor stacks of matrices."""

    def __init__(self, params: Iterable[nn.Parameter], config: TrainConfig):
        super().__init__(params, {"lr": config.learning_rate, "decay": config.weight_decay})
        self.taken = 0
        # One compilation for all shapes, not one for each.
        self.all = compiled(lambda xs: [orthogonalised(x) for x in xs])

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        (group,), decay = self.param_groups, MUON_MOMENTUM
        self.taken += 1
        now, later = (1 - decay ** (self.taken + i) for i in (0, 1))
        directions = []
        for p in group["params"]:
            moment = self.state[p].setdefault("moment", torch.zeros_like(p))
            moment.lerp_(p.grad, 1 - decay)
            nesterov = moment * (decay / later) + p.grad * ((1 - decay) / now)
            directions.append(nesterov.reshape(-1, *matrix(p)))
        for p, update in zip(group["params"], self.all(directions), strict=True):
            p.mul_(1 - group["lr"] * group["decay"])
            scale = MUON_RMS * max(matrix(p)) ** 0.5
            p.sub_(update.reshape(p.shape), alpha=group["lr"] * scale)


def matrix(p: Tensor) -> tuple[int, int]:
    """Outputs and inputs of a kernel."""
    return (p.shape[0], p[0].numel()) if p.ndim == 4 else tuple(p.shape[-2:])


class Training:
    """A step of training: losses, autograd, clipping, update, moving average.

    Learning rate and dropout rate are those of the config; there is no schedule.
    """

    def __init__(self, config: Config, params: Tree, statistics: Tree):
        self.peer = Peer(config, params, statistics).train()
        self.dtype, self.clip = config.model.dtype, config.train.clip
        train = config.train
        kernels = [p for p in self.peer.parameters() if p.ndim > 2 and train.optimiser == "muon"]
        chosen = set(map(id, kernels))
        others = [p for p in self.peer.parameters() if id(p) not in chosen]
        rate, decay = train.learning_rate, train.weight_decay
        fused = DEVICE == "cuda"
        self.optimisers = [torch.optim.AdamW(others, rate, weight_decay=decay, fused=fused)]
        if kernels:
            self.optimisers.append(Muon(kernels, train))
        self.average = None
        if train.ema:
            average = torch.optim.swa_utils.get_ema_multi_avg_fn(train.ema)
            self.average = torch.optim.swa_utils.AveragedModel(self.peer, multi_avg_fn=average)
        self.loss = compiled(self.peer.loss)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """uint8 images, channels first, and labels, on the device -> the loss before the update."""
        with computing(self.dtype):
            loss, _ = self.loss(images / 255, labels)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.peer.parameters(), self.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.peer)
        return loss.detach()


def training(config: Config, params: Tree, statistics: Tree, batch: Batch) -> Callable[[], Tensor]:
    """Returns a function that takes one step at each call, always on the same batch."""
    run = Training(config, params, statistics)
    images, labels = tensor(batch.images).permute(0, 3, 1, 2), tensor(batch.labels)
    return lambda: run.step(images, labels)


def prediction(
    config: Config, params: Tree, statistics: Tree, batch: Batch, n: float, beta: float
) -> Callable[[], Tensor]:
    """Returns a function that evaluates a batch at one pair (n, beta), given at run time."""
    peer = Peer(config, params, statistics).eval()
    images, predict = pixels(batch.images), compiled(peer.predict)
    n, beta = (torch.full((1, 1, 1), float(x), device=DEVICE) for x in (n, beta))

    @torch.no_grad()
    def way():
        with computing(config.model.dtype):
            return predict(images, n, beta)

    return way


def check(config: Config, params: Tree, statistics: Tree, batch: Batch) -> float:
    """Compares the PyTorch network with ours on the same weights.

    It compares outputs, loss, the norm of all gradients, and predictions under a tone curve, in
    float32, without dropout, from perturbed weights, since every bias is initialised as 0. With a
    training curve, all images have it, and no position is left out, since the two draw differently.

    Returns:
      The largest difference, as a share of the largest number of its array.

    Raises:
      AssertionError: a difference is not below 1e-4.
    """
    rng = np.random.default_rng(0)
    move = lambda x: np.float32(x + 0.1 * np.abs(rng.normal(size=x.shape)))  # noqa: E731
    params, statistics = jax.tree.map(move, (params, statistics))
    share = float(config.model.curve_share > 0)
    model = dataclasses.replace(
        config.model, dtype="float32", dropout=0.0, curve_share=share, checkerboard=False
    )
    exact = dataclasses.replace(config, model=model)
    with jax.default_matmul_precision("highest"), exactly():
        expected = our_results(exact, params, statistics, batch)
        actual = peer_results(exact, params, statistics, batch)
    differences = {}
    for name, value in expected.items():
        value, other = np.asarray(value), actual[name].detach().cpu().numpy()
        differences[name] = float(np.abs(value - other).max() / np.abs(value).max())
    if not max(differences.values()) < TOLERANCE:
        raise AssertionError(f"PyTorch and JAX differ: {differences}")
    return max(differences.values())


def our_results(config: Config, params: Tree, statistics: Tree, batch: Batch) -> dict[str, Any]:
    """Outputs, loss, gradient norm and predictions of our network."""
    make = lambda: IAMT(config.model, batch.labels.shape[1], rngs=nnx.Rngs(0))  # noqa: E731
    definition = nnx.graphdef(nnx.eval_shape(make))
    images = batch.images.astype(np.float32) / 255

    def objective(params, statistics):
        network = nnx.merge(definition, params, statistics)
        outputs = network(images, jax.random.split(jax.random.key(0), len(images)))
        total = losses(outputs, images, batch.labels, config.loss)
        return total.total, outputs._asdict()

    def say(params, statistics):
        run = jax.value_and_grad(objective, has_aux=True)
        (loss, outputs), gradients = run(params, statistics)
        network = nnx.merge(definition, params, statistics)
        predicted = network.predict(images, 2.0, 0.5)
        said = {"loss": loss, "gradient": optax.tree.norm(gradients), "predicted": predicted}
        return said | {name: x for name, x in outputs.items() if x is not None}

    said = measure.on_one_device(say)(params, statistics)
    said.pop("features")
    return said


def peer_results(config: Config, params: Tree, statistics: Tree, batch: Batch) -> dict[str, Tensor]:
    """Outputs, loss, gradient norm and predictions of the PyTorch network."""
    peer = Peer(config, params, statistics).eval()
    images = pixels(batch.images)
    n, beta = (torch.full((1, 1, 1), x, device=DEVICE) for x in (2.0, 0.5))
    predicted = peer.predict(images, n, beta)
    loss, said = peer.train().loss(images, tensor(batch.labels))
    if "reconstruction" in said:
        said["reconstruction"] = said["reconstruction"].permute(0, 2, 3, 1)
    gradients = torch.autograd.grad(loss, list(peer.parameters()))
    norm = torch.linalg.vector_norm(torch.stack([x.norm() for x in gradients]))
    return said | {"predicted": predicted, "loss": loss, "gradient": norm}
