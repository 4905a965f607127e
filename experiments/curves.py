"""Tables and figures of scores over the noise."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

TITLES = {
    "plane/1/0": "n 1, beta 0",
    "identity": "the network's own tone curve",
    "curve": "tone curve of the grid with the best accuracy",
    "ranking": "tone curve of the grid with the best AP",
    "auto": "ours, sigma estimated",
    "known": "ours, sigma known",
    "fixed": "ours, fixed at 0.2",
    "refit": "temperature and threshold",
    "statistics": "re-estimated statistics",
    "tent": "TENT",
    "wavelet": "wavelet, then network",
    "nlm": "non-local means, then network",
    "tv": "total variation, then network",
    "multilabel": "multi-label head alone",
    "retrained": "retrained with noise",
}
"""Rival -> its name in tables and legends."""

UNDRAWN = ("known", "fixed", "refit", "tent")
"""Rivals whose curves would hide another's, or say no more than the table."""

PAIRS = ((1, 0), (0.25, 0.5), (0.25, 1), (1, 0.5), (1, 1), (4, 0.5), (4, 1))
"""Pairs (n, beta) of Fig. 5; the first leaves the masks as they are."""


def collect(scores, split, kind, sigmas, networks, rival, metric) -> np.ndarray | None:
    """Scores of one rival in percent, (network, sigma); None if it was not run."""
    keys = [[f"{split}/{kind}/{s:g}/{name}/{rival}" for s in sigmas] for name in networks]
    if not keys or any(key not in scores for row in keys for key in row):
        return None
    return 100 * np.array([[scores[key][metric] for key in row] for row in keys], float)


def table(scores, split, kind, sigmas, seeds, retrained) -> str:
    """Markdown table: a row for each rival, accuracy / AP for each sigma; mean over seeds, and the
    spread of the accuracy."""
    rows = ["| rival | " + " | ".join(f"σ {s:g}" for s in sigmas) + " |"]
    rows.append("|" + " --- |" * (len(sigmas) + 1))
    for rival, title in TITLES.items():
        networks = retrained if rival == "retrained" else seeds
        accuracy = collect(scores, split, kind, sigmas, networks, rival, "accuracy")
        if accuracy is None:
            continue
        precision = collect(scores, split, kind, sigmas, networks, rival, "average_precision")
        spread = accuracy.std(0)
        cells = [
            f"{a:.2f} ± {d:.2f} / {p:.2f}" if len(accuracy) > 1 else f"{a:.2f} / {p:.2f}"
            for a, d, p in zip(accuracy.mean(0), spread, precision.mean(0), strict=True)
        ]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def draw(scores, split, kind, sigmas, seeds, retrained, majority: float, out: Path) -> None:
    """Draws accuracy and average precision over sigma, and the grid of tone curves; `majority` is
    the accuracy of always predicting the majority class, percent."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    metrics = ("accuracy", "average_precision")
    drawn = [rival for rival in TITLES if rival not in UNDRAWN]
    for axis, metric in zip(axes, metrics, strict=True):
        for i, rival in enumerate(drawn):
            networks = retrained if rival == "retrained" else seeds
            values = collect(scores, split, kind, sigmas, networks, rival, metric)
            if values is None:
                continue
            width, colour = (3, "black") if rival == "auto" else (1.4, plt.cm.tab10(i % 10))
            dash = "--" if rival in ("plane/1/0", "identity", "curve", "ranking") else "-"
            style = {"lw": width, "color": colour, "ls": dash}
            axis.plot(sigmas, values.mean(0), label=TITLES[rival], **style)
            axis.fill_between(sigmas, values.min(0), values.max(0), color=colour, alpha=0.1)
        axis.set_xlabel("sigma of the noise")
        axis.set_ylabel(f"{metric.replace('_', ' ')}, %")
        axis.grid(alpha=0.3)
    axes[0].axhline(majority, color="grey", ls=":", label="majority class")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(out / f"{split}-{kind}.png", dpi=110)
    plt.close(figure)
    _draw_pairs(scores, split, kind, sigmas, seeds, out)
    _draw_plane(scores, split, kind, sigmas, seeds, out)


def _draw_pairs(scores, split, kind, sigmas, seeds, out: Path) -> None:
    """Draws Fig. 5: accuracy and average precision of some pairs (n, beta) over sigma."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    metrics = ("accuracy", "average_precision")
    for axis, metric in zip(axes, metrics, strict=True):
        for i, (n, beta) in enumerate(PAIRS):
            rival = f"plane/{n:g}/{beta:g}"
            values = collect(scores, split, kind, sigmas, seeds, rival, metric)
            if values is not None:
                width = 2.5 if (n, beta) == (1, 0) else 1.3
                style = {"color": plt.cm.tab10(i), "lw": width}
                axis.plot(sigmas, values.mean(0), label=f"n {n:g}, beta {beta:g}", **style)
        axis.set_xlabel("sigma of the noise")
        axis.set_ylabel(f"{metric.replace('_', ' ')}, %")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out / f"{split}-{kind}-pairs.png", dpi=90)
    plt.close(figure)


def _draw_plane(scores, split, kind, sigmas, seeds, out: Path) -> None:
    """Draws the accuracy of every pair (n, beta), one panel for each sigma."""
    points = {tuple(key.split("/")[-2:]) for key in scores if "/plane/" in key}
    if not points:
        return
    ns, betas = (sorted({p[i] for p in points}, key=float) for i in (0, 1))
    shown = [s for s in sigmas if s in np.quantile(sigmas, (0, 0.34, 0.67, 1), method="nearest")]
    figure, axes = plt.subplots(1, len(shown), figsize=(3.4 * len(shown), 2.8), squeeze=False)
    for axis, sigma in zip(axes[0], shown, strict=True):
        plane = np.array(
            [
                [
                    collect(
                        scores, split, kind, [sigma], seeds, f"plane/{n}/{b}", "accuracy"
                    ).mean()
                    for b in betas
                ]
                for n in ns
            ]
        )
        picture = axis.imshow(plane, origin="lower", cmap="cividis")
        axis.set_xticks(range(len(betas)), betas, fontsize=7)
        axis.set_yticks(range(len(ns)), ns)
        axis.set(xlabel="beta", ylabel="n", title=f"accuracy, %, sigma {sigma:g}")
        figure.colorbar(picture, ax=axis, shrink=0.8)
    figure.tight_layout()
    figure.savefig(out / f"{split}-{kind}-plane.png", dpi=110)
    plt.close(figure)
