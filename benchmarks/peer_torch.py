"""The network and its losses in plain PyTorch, with the same weights.

It uses channels_last throughout; on a GPU also torch.compile, TF32 as XLA does, and autocast where
our compute type is bfloat16. Nothing else is tuned, and autograd keeps all masks for the backward
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iamt_jax.config import GROUPS, MISSING, Config
from iamt_jax.model.extractor import STATISTICS_MOMENTUM
from iamt_jax.model.network import Tree

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cuda":
    torch.set_float32_matmul_precision("high")  # TF32, as in XLA; convolutions have it anyway.


def compiled(function: Callable) -> Callable:
    """Compiles a function by torch.compile if there is a GPU."""
    return torch.compile(function) if DEVICE == "cuda" else function


def computing(dtype: str) -> torch.autocast:
    """Autocast to bfloat16, or nothing."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16")


@contextmanager
def exactly() -> Iterator[None]:
    """Context in which float32 matrix products have full precision on a GPU, too."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def tensor(x: np.ndarray) -> Tensor:
    """Copies a JAX or NumPy array, which may be donated later."""
    return torch.from_numpy(np.array(x)).to(DEVICE)


def tone_curve(mask: Tensor, n: Tensor, beta: Tensor) -> Tensor:
    """Eq. 7 and 8."""
    tail = (2 * torch.minimum(mask, 1 - mask)) ** n / 2
    return (1 + beta) * torch.where(mask < 0.5, tail, 1 - tail) - beta


def pool(
    features: Tensor, kernel: Tensor, bias: Tensor, n: Tensor | None = None, beta=None
) -> tuple[Tensor, Tensor]:
    """Pooled features and mask sums of features (batch, position, channel), by a kernel
    (attribute, out, in); n and beta have three axes, (batch, attribute, channel). n is 1 without
    one, beta 0."""
    masks = F.linear(features, kernel.flatten(0, 1), bias.flatten()).sigmoid()
    masks, features = masks.unflatten(-1, bias.shape), features[:, :, None]
    curve = masks
    if n is not None:
        curve = tone_curve(masks, n[:, None], beta[:, None])
    elif beta is not None:
        curve = (1 + beta[:, None]) * masks - beta[:, None]
    # Faster than the mean of (1 + curve) * features, in which autograd keeps one array more.
    return features.mean(1) + (curve * features).mean(1), masks.sum((1, 3), dtype=torch.float32)


def pooling(inputs: list[np.ndarray], dtype: str, forward_only: bool) -> Callable:
    """A way to run `pool` on the inputs of benchmarks/pooling.py, with its results' shapes."""
    features, kernel, bias, *curve = map(tensor, inputs)
    features = features.to(getattr(torch, dtype)).flatten(1, 2)
    leaves = [features, kernel.mT.contiguous(), bias, *curve]

    run = compiled(pool)

    def forward():
        with computing(dtype):
            return run(*leaves)

    def both():
        loss = sum(x.float().square().sum() for x in forward())
        to_features, to_kernel, *others = torch.autograd.grad(loss, leaves)
        return to_features, to_kernel.mT, *others

    if forward_only:
        return torch.no_grad()(forward)
    for leaf in leaves:
        leaf.requires_grad_()
    return both


def with_weights(module: nn.Module, **weights: Tensor) -> nn.Module:
    """The module with these weights in the place of its own."""
    for name, weight in weights.items():
        assert getattr(module, name).shape == weight.shape
        getattr(module, name).data = weight.contiguous()
    return module.to(DEVICE)


def convolution(params: Tree, shuffle: int = 1, **settings) -> nn.Conv2d:
    """Kernels are HWIO there and OIHW here. `shuffle` is the block of a depth-to-space that
    follows: its channels vary fastest there, and slowest in `pixel_shuffle`."""

    def ordered(x):
        return x.unflatten(0, (shuffle**2, -1)).transpose(0, 1).flatten(0, 1)

    weights = {"weight": ordered(tensor(params["kernel"]).permute(3, 2, 0, 1))}
    if "bias" in params:
        weights["bias"] = ordered(tensor(params["bias"]))
    outputs, inputs, *size = weights["weight"].shape
    conv = nn.Conv2d(inputs, outputs, size, bias="bias" in params, **settings)
    return with_weights(conv, **weights)


def checkerboard(features: Tensor) -> Tensor:
    """Every other position of features (batch, channel, height, width), a colour an image."""
    pairs = features.unflatten(3, (-1, 2))
    colour = torch.randint(2, (len(features), 1), device=features.device)
    odd = (torch.arange(features.shape[2], device=features.device) + colour) % 2 == 1
    chosen = torch.where(odd[:, None, :, None], pairs[..., 1], pairs[..., 0])
    return chosen.contiguous(memory_format=torch.channels_last)


class ConvNorm(nn.Module):
    """A 3x3 convolution without bias, and its normalisation; dilation 0 makes it 1x1."""

    def __init__(self, params: Tree, statistics: Tree, stride: int = 1, dilation: int = 1):
        super().__init__()
        # "SAME" of an even size with stride 2 pads one row, and that at the end.
        self.pad = (0, 1, 0, 1) if stride == 2 else None
        padding = 0 if self.pad else dilation
        settings = {"stride": stride, "dilation": dilation or 1, "padding": padding}
        self.conv = convolution(params["conv"], **settings)
        scale, bias = (tensor(params["norm"][name]) for name in ("scale", "bias"))
        weights = {"weight": scale, "bias": bias}
        if statistics:
            norm = nn.BatchNorm2d(len(bias), eps=1e-5, momentum=1 - STATISTICS_MOMENTUM)
            weights["running_mean"] = tensor(statistics["norm"]["mean"])
            weights["running_var"] = tensor(statistics["norm"]["var"])
        else:
            norm = nn.GroupNorm(GROUPS, len(bias), eps=1e-6)
        self.norm = with_weights(norm, **weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.pad(x, self.pad) if self.pad else x))


class Block(nn.Module):
    """A residual block of two convolutions of one dilation."""

    def __init__(self, params: Tree, statistics: Tree, dilation: int):
        super().__init__()
        for name in ("first", "second"):
            part = ConvNorm(params[name], statistics.get(name, {}), dilation=dilation)
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Peer(nn.Module):
    """The whole network, in training mode as `IAMT.__call__`, and its loss (Eq. 6)."""

    def __init__(self, config: Config, params: Tree, statistics: Tree):
        super().__init__()
        self.config, layers = config, []
        front, seen = params["extractor"], statistics.get("extractor", {})
        for i, blocks in enumerate(config.model.blocks):
            name = f"down{i}"
            layers += [ConvNorm(front[name], seen.get(name, {}), stride=2), nn.ReLU()]
            names = [f"block{i}_{j}" for j in range(blocks)]
            layers += [Block(front[name], seen.get(name, {}), 1) for name in names]
        for i, dilation in enumerate(config.model.dilations):
            name = f"context{i}"
            layers.append(Block(front[name], seen.get(name, {}), dilation))
        self.extractor = nn.Sequential(*layers)
        heads = params["heads"]["stacked"]
        self.kernel = nn.Parameter(tensor(heads["mask"]["kernel"]).mT.contiguous())
        self.bias = nn.Parameter(tensor(heads["mask"]["bias"]))
        self.weights = nn.Parameter(tensor(heads["classifier"]["kernel"])[..., 0])
        self.offset = nn.Parameter(tensor(heads["classifier"]["bias"])[:, 0])
        multilabel = params.get("multilabel")
        if multilabel:
            kernel, bias = tensor(multilabel["kernel"]).mT, tensor(multilabel["bias"])
            linear = nn.Linear(*kernel.shape[::-1])
            self.multilabel = with_weights(linear, weight=kernel, bias=bias)
        painter, tile = params.get("reconstructor"), 2 ** (len(config.model.widths) - 1)
        if painter:
            widen = convolution(painter["widen"], 2)
            paint = convolution(painter["paint"], tile, padding=1)
            shuffle = nn.PixelShuffle
            self.reconstructor = nn.Sequential(widen, shuffle(2), nn.ReLU(), paint, shuffle(tile))
        self.to(memory_format=torch.channels_last)

    def heads(self, features: Tensor, n: Tensor | None = None, beta=None) -> tuple[Tensor, Tensor]:
        """Logits and mask sums."""
        flat = features.permute(0, 2, 3, 1).flatten(1, 2)  # no copy in channels_last
        pooled, mask_l1 = pool(flat, self.kernel, self.bias, n, beta)
        return (pooled * self.weights).sum(-1) + self.offset, mask_l1

    def features(self, images: Tensor) -> Tensor:
        """Features of float images (batch, 3, height, width) in [0, 1], without mirror image."""
        x = (images - 0.5) * 4
        if self.config.model.coordinates:
            sides = (torch.linspace(-1, 1, side, device=x.device) for side in x.shape[2:])
            place = torch.stack(torch.meshgrid(*sides, indexing="ij")).to(x.dtype)
            x = torch.cat([x, place.expand(len(x), -1, -1, -1)], dim=1)
        return self.extractor(x.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Float images (batch, 3, height, width) in [0, 1] -> outputs by their names there."""
        model = self.config.model
        features = self.features(images)
        kept = F.dropout2d(features, model.dropout, self.training)
        beta, share = None, model.curve_share
        if share:
            draw = torch.rand(len(kept), 1, 1, device=kept.device, dtype=kept.dtype)
            beta = (draw < share).to(kept.dtype)
        looked_at = checkerboard(kept) if model.checkerboard else kept
        logits, mask_l1 = self.heads(looked_at, beta=beta)
        mask_l1 = mask_l1 * (2 if model.checkerboard else 1)
        outputs = {"logits": logits, "mask_l1": mask_l1}
        if hasattr(self, "multilabel"):
            outputs["multilabel"] = self.multilabel(kept.mean((2, 3)))
        if hasattr(self, "reconstructor"):
            outputs["reconstruction"] = 0.5 + self.reconstructor(features)
        return outputs

    def predict(self, images: Tensor, n: Tensor, beta: Tensor) -> Tensor:
        """Logits at inference (Eq. 9), of float images."""
        features = self.features(images)
        if self.config.model.mirror:
            features = (features + self.features(images.flip(3)).flip(3)) / 2
        return self.heads(features, n, beta)[0]

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 6 and the outputs that it is of."""
        outputs, settings, target = self(images), self.config.loss, labels.float()

        def cross_entropy(logits):
            each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
            return torch.where(labels == MISSING, 0, each).sum() / len(labels)

        total = settings.binary * cross_entropy(outputs["logits"])
        if "multilabel" in outputs:
            total = total + settings.multilabel * cross_entropy(outputs["multilabel"])
        if "reconstruction" in outputs:
            error = F.mse_loss(outputs["reconstruction"].float(), images, reduction="sum")
            size = images.numel() if settings.reconstruction_reduction == "mean" else len(images)
            total = total + settings.reconstruction * error / size
        mask_l1 = outputs["mask_l1"].sum(1).mean()
        if settings.mask_l1_reduction == "mean":
            stride = 2 ** len(self.config.model.widths)
            positions = images.shape[2] * images.shape[3] // stride**2
            mask_l1 = mask_l1 / (positions * self.bias.numel())
        return total + settings.mask_l1 * mask_l1, outputs


def pixels(images: np.ndarray) -> Tensor:
    """uint8 images (batch, height, width, 3) -> float in [0, 1], channels first by strides only."""
    return tensor(images).permute(0, 3, 1, 2) / 255
