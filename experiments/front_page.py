"""Draws the README's first picture and its drawing of the idea, from a trained and calibrated
workdir of synthetic faces.

    PYTHONPATH=. python experiments/front_page.py --workdir W --out docs/figures

hero.png shows eight test faces, each with the masks of one attribute that it has and that is
recognised; below, one face clean, noisy and treated, with the answers that each of the three gives.
idea.png shows how an answer is made: features, masks, tone curves (Fig. 3), logits.
"""

from __future__ import annotations

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from bench import run
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from sheets import Arguments, open_rendered

from iamt_jax import tone_curve
from iamt_jax.data.dataset import Records
from iamt_jax.degradation.noise import noise_keys
from iamt_jax.inference.classifier import Classifier
from iamt_jax.inference.predictor import Noise, probability
from iamt_jax.robust.treatment import treat

SHOWN = (
    *("Eyeglasses", "Wearing_Hat", "Smiling", "Goatee"),
    *("Bangs", "Wearing_Earrings", "Narrow_Eyes", "Wearing_Necktie"),
)
"""Attributes with a well-known place in the face."""

SIGMA = 0.2
"""Noise of the second row, standard deviation in [0, 1] pixel units."""

ANSWERS = 6
"""Attributes named beside each picture of the second row: those that noise makes wrong."""

RIGHT, WRONG = "#1a7f37", "#cf222e"


def main(arguments: Arguments) -> None:
    """Draws both pictures."""
    trained, dataset = open_rendered(arguments)
    records = dataset.split("test").first(500)
    images = records.pictures(slice(None), trained.run.config.data.size)
    answers = trained(images)
    hero(trained, records, images, answers)
    plt.savefig(arguments.out / "hero.png", dpi=110)
    idea(trained, records, images, answers)
    plt.savefig(arguments.out / "idea.png", dpi=110)
    print(f"wrote hero.png and idea.png into {arguments.out}")


def hero(
    trained: Classifier,
    records: Records,
    images: UInt8[np.ndarray, "image y x 3"],
    answers: Float[np.ndarray, "image attribute"],
) -> None:
    """Draws faces with their masks, and what noise and its treatment do to one face."""
    figure = plt.figure(figsize=(11, 6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2.1))
    above.suptitle("where the masks of an attribute look, without any gradient", fontsize=11)
    below.suptitle("what noise does to the answers, and a treatment after training", fontsize=11)
    axes = above.subplots(2, len(SHOWN), gridspec_kw={"hspace": 0, "wspace": 0})
    used: list[int] = []
    for column, name in zip(axes.T, SHOWN, strict=True):
        k = trained.attributes.index(name)
        row = face_of(records.labels, answers, k, used)
        used.append(row)
        column[0].imshow(images[row], interpolation="bicubic")
        column[0].set_title(f"{name.replace('_', ' ')}\n{answers[row, k]:.0%}", fontsize=9)
        show_masks(column[1], images[row], trained.explain(images[row], [name]).mask_map[0])
        bare(*column)
    row = most_right(records.labels, answers)
    true = records.labels[row] == 1
    pictures = clean_noisy_treated(trained, images[row], records.names[row])
    missed = ((pictures[1][2] > 0.5) != true).nonzero()[0][:ANSWERS]
    for axis, (title, picture, found) in zip(
        below.subplots(1, 6, width_ratios=(1.5, 1.35) * 3).reshape(3, 2), pictures, strict=True
    ):
        axis[0].imshow(np.clip(picture, 0, 1))
        right = (found > 0.5) == true
        axis[0].set_title(f"{title}: {right.sum()} of {len(true)} right", fontsize=9)
        bare(axis[0])
        write_answers(axis[1], trained.attributes, found, right, missed)


def face_of(
    labels: np.ndarray, answers: Float[np.ndarray, "image attribute"], k: int, used: list[int]
) -> int:
    """The first face, not used yet, that has attribute k and whose answers are all right."""
    right = ((answers > 0.5) == (labels == 1)).mean(axis=1)
    for row in np.flatnonzero((labels[:, k] == 1) & (answers[:, k] > 0.5) & (right > 0.99)):
        if row not in used:
            return int(row)
    return int(np.argmax(answers[:, k]))


def most_right(labels: np.ndarray, answers: Float[np.ndarray, "image attribute"]) -> int:
    """The face with all answers right that has most attributes."""
    right = ((answers > 0.5) == (labels == 1)).mean(axis=1)
    return int(np.argmax(100 * right + (labels == 1).sum(axis=1)))


def clean_noisy_treated(
    trained: Classifier, image: UInt8[np.ndarray, "y x 3"], name: str
) -> list[tuple[str, Float[np.ndarray, "y x 3"], Float[np.ndarray, " attribute"]]]:
    """One face in three states, each with its title and the probabilities of its answers."""
    predictor, transformation = trained.predictor, trained.transformation
    clean = image[None].astype(np.float32) / 255
    keys = noise_keys([name], SIGMA, 0)
    noisy = np.asarray(predictor.degraded(clean, Noise(SIGMA), keys))
    treated = np.asarray(treat(jnp.asarray(noisy), transformation).images)
    bare_answers = [probability(np.asarray(predictor.predict(x).logits))[0] for x in (clean, noisy)]
    robust = probability(np.asarray(predictor.predict(noisy, transformation).logits))[0]
    return [
        ("clean", clean[0], bare_answers[0]),
        (f"noise, σ = {SIGMA:g}", noisy[0], bare_answers[1]),
        ("the same, treated (--auto)", treated[0], robust),
    ]


def write_answers(
    axis: Axes,
    attributes: tuple[str, ...],
    found: Float[np.ndarray, " attribute"],
    right: Bool[np.ndarray, " attribute"],
    rows: np.ndarray,
) -> None:
    """Lists some attributes with their probabilities, green if right and red if wrong."""
    axis.axis("off")
    for i, k in enumerate(rows):
        text = f"{attributes[k].replace('_', ' ')}  {found[k]:.0%}"
        colour = RIGHT if right[k] else WRONG
        axis.text(0, 0.88 - 0.15 * i, text, color=colour, fontsize=8, transform=axis.transAxes)


def idea(
    trained: Classifier,
    records: Records,
    images: UInt8[np.ndarray, "image y x 3"],
    answers: Float[np.ndarray, "image attribute"],
    name: str = "Eyeglasses",
) -> None:
    """Draws image, features, masks of an attribute, tone curves and the logit, from left to
    right."""
    k = trained.attributes.index(name)
    image = images[face_of(records.labels, answers, k, [])]
    found = trained.explain(image, [name], top=3)
    features = trained.network.extractor(jnp.asarray(image[None]) / 255)[0]
    channels = found.channels[0]
    masks = trained.masks(image, [name])[0]

    figure = plt.figure(figsize=(11, 3.6), layout="constrained")
    grid = figure.subplot_mosaic(
        [
            ["image", "f0", "m0", "curve", "p0", "logit"],
            ["image", "f1", "m1", "curve", "p1", "logit"],
            ["image", "f2", "m2", "curve", "p2", "logit"],
        ],
        width_ratios=(2.4, 1, 1, 2.6, 1, 2.2),
    )
    grid["image"].imshow(image)
    grid["image"].set_title("image", fontsize=9)
    for i, channel in enumerate(channels):
        feature, mask = np.asarray(features[..., channel]), masks[..., channel]
        passed = (1 + np.asarray(tone_curve(mask, 1.0, trained.own_beta))) * feature
        for key, picture, limits in (
            ("f", feature, (feature.min(), feature.max())),
            ("m", mask, (0, 1)),
            ("p", passed, (passed.min(), passed.max())),
        ):
            axis = grid[f"{key}{i}"]
            axis.imshow(picture, vmin=limits[0], vmax=limits[1], cmap="viridis")
            axis.set_ylabel(f"channel {channel}" if key == "f" else "", fontsize=7)
    grid["f0"].set_title("1  features f", fontsize=9)
    grid["m0"].set_title("2  masks M", fontsize=9)
    grid["p0"].set_title("4  (1 + g) f", fontsize=9)
    draw_curves(grid["curve"])
    draw_logit(grid["logit"], found.contributions[0], float(found.bias[0]), name)
    bare(*(axis for key, axis in grid.items() if key not in ("curve", "logit")))


def draw_curves(axis: Axes) -> None:
    """Draws tone curves g(M; n, beta) (Fig. 3)."""
    mask = np.linspace(0, 1, 101)
    for n, beta, style in ((1, 0, "-"), (4, 0, "--"), (1, 1, "-."), (4, 0.5, ":")):
        axis.plot(
            mask, tone_curve(mask, float(n), float(beta)), style, label=f"n {n:g}, β {beta:g}"
        )
    axis.set_title("3  tone curve g(M; n, β)", fontsize=9)
    axis.set_xlabel("mask M", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def draw_logit(
    axis: Axes, contributions: Float[np.ndarray, " channel"], bias: float, name: str
) -> None:
    """Draws the logit as the sum of its bias and the contributions of all channels."""
    order = np.argsort(-np.abs(contributions))
    parts = {f"channel {c}": contributions[c] for c in order[:6]}
    rest = len(contributions) - len(parts)
    parts |= {f"{rest} others": contributions[order[6:]].sum(), "bias": bias}
    ends = np.cumsum(list(parts.values()))
    starts = np.concatenate([[0], ends[:-1]])
    colours = [
        "#5e3c99" if end > start else "#e66101" for start, end in zip(starts, ends, strict=True)
    ]
    axis.barh(list(parts), ends - starts, left=starts, color=colours)
    axis.invert_yaxis()
    axis.axvline(ends[-1], color="black", lw=0.8)
    axis.set_title(f"5  logit of {name}: {ends[-1]:.1f}", fontsize=9)
    axis.tick_params(labelsize=7)


def show_masks(
    axis: Axes, image: UInt8[np.ndarray, "y x 3"], places: Float[np.ndarray, "height width"]
) -> None:
    """Lays the map of the masks over a face, from its least value (dark) to its greatest."""
    axis.imshow(image, extent=(0, 1, 0, 1), interpolation="bicubic")
    axis.imshow(places, extent=(0, 1, 0, 1), alpha=0.65, cmap="viridis", interpolation="bicubic")


def bare(*axes: Axes) -> None:
    """Takes the ticks off."""
    for axis in axes:
        axis.set(xticks=[], yticks=[])


if __name__ == "__main__":
    run(main, Arguments)
