"""Prints, as JSON, by how much each public function's answers for many images and attributes differ
from those for one at a time: python tests/many_at_once.py

JAX starts before this package is imported, as in a notebook, so that XLA's own settings apply. The
network is as large as the preset `faces`: small arrays are computed without XLA's fusions.
"""

import json
import os
import pathlib

import jax

FLAGS = os.environ.get("XLA_FLAGS", "")
jax.devices()

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402

import iamt_jax  # noqa: E402
from iamt_jax.config import PRESETS, Config  # noqa: E402
from iamt_jax.evaluation import faithfulness  # noqa: E402
from iamt_jax.evaluation.mask_statistics import analyse, batch_sums  # noqa: E402
from iamt_jax.inference.predictor import Predictor  # noqa: E402
from iamt_jax.model.network import build  # noqa: E402
from iamt_jax.robust.denoiser import fit_prior  # noqa: E402
from iamt_jax.robust.noise_level import Levels  # noqa: E402
from iamt_jax.robust.recogniser import WIDEST, Recogniser, describe  # noqa: E402
from iamt_jax.robust.restorer import Basis, Inverse, Restorer, restore  # noqa: E402
from iamt_jax.robust.states import FIRST_RESTORED, STATES  # noqa: E402
from iamt_jax.robust.treatment import Transformation  # noqa: E402
from iamt_jax.runs.run_file import Run  # noqa: E402

CONFIG: Config = PRESETS["faces"]
ATTRIBUTES = tuple("abcdef")
CHOSEN = ("b", "d", "e", "f")
IMAGES = 8


def made_classifier() -> iamt_jax.Classifier:
    """An untrained network, as `iamt_jax.load` gives a trained one."""
    definition, params, statistics = build(CONFIG.model, len(ATTRIBUTES))
    run = Run(CONFIG, ATTRIBUTES, (False,) * len(ATTRIBUTES))
    return iamt_jax.Classifier(pathlib.Path("W"), run, 0, Predictor(definition, params, statistics))


def made_transformation(images: np.ndarray) -> Transformation:
    """All parts, with tables that need no calibration; about half of the images are restored."""
    sigma = np.array([0.0, 0.2], np.float32)
    levels = Levels(sigma, np.stack([sigma, sigma]), np.float32(0.01))
    shape = (4, len(ATTRIBUTES), CONFIG.model.widths[-1])
    beta = np.random.default_rng(3).random(shape).astype(np.float32)
    prior = fit_prior([images, 1 - images])
    return Transformation(levels, prior, beta, *made_restorer(images))


def made_restorer(images: np.ndarray) -> tuple[Recogniser, Restorer]:
    """One state is known; about half of the images are near to it, and about half of all look clean
    when they are restored."""
    rng = np.random.default_rng(4)
    described = np.asarray(describe(images))
    features, states, rank = described.shape[1], len(STATES), 2
    restored = states - FIRST_RESTORED
    mean = np.zeros((states, features), np.float32)
    mean[FIRST_RESTORED] = described.mean(0)
    offset = np.full(states, np.inf, np.float32)
    offset[FIRST_RESTORED] = 0
    squares = np.square(described - described.mean(0))
    distance = np.stack([squares[:, :WIDEST].sum(1), squares.sum(1)], 1)
    middle = slice(len(images) // 2 - 1, len(images) // 2 + 1)
    limit = np.tile(np.sort(distance, axis=0)[middle].mean(0), (states, 1))
    whitening = np.broadcast_to(np.eye(features, dtype=np.float32), (states, features, features))
    margin = np.zeros((states, states), np.float32)
    shape = images.shape[1:]
    components, _ = np.linalg.qr(rng.normal(size=(images[0].size, rank)))
    basis = Basis(images.mean(0), np.float32(components))
    inverses = Inverse(
        *(
            rng.normal(0.5, 0.1, (restored, *one)).astype(np.float32)
            for one in (shape, (rank,), (rank, rank), (2, shape[0], shape[1] // 2 + 1, 3))
        )
    )
    one = jax.tree.map(lambda x: np.repeat(x[:1], len(images), 0), inverses)
    result = np.asarray(describe(restore(images, basis, one)))
    clean_limit = np.full(states, np.sort(np.square(result).sum(1))[middle].mean(), np.float32)
    recogniser = Recogniser(mean, whitening, offset, margin, np.float32(limit), clean_limit)
    sigma = np.zeros(restored, np.float32)
    beta = rng.random((restored, len(ATTRIBUTES), CONFIG.model.widths[-1])).astype(np.float32)
    return recogniser, Restorer(basis, inverses, sigma, beta)


def comparisons():
    """Yields name, answers for many, and the same put together from one at a time."""
    rng = np.random.default_rng(0)
    side = CONFIG.data.size
    images = rng.random((IMAGES, side, side, 3)).astype(np.float32)
    classifier = made_classifier()
    indices = np.array([ATTRIBUTES.index(name) for name in CHOSEN])
    yield from comparisons_of_classifier(classifier, images, rng)
    yield from comparisons_of_modules(classifier.network, jnp.asarray(images), indices)
    yield from comparisons_of_predictor(classifier.predictor, images, indices, rng)


def comparisons_of_classifier(classifier, images, rng):
    each = range(IMAGES)
    yield "predict", classifier(images), [classifier(images[i]) for i in each]
    n, beta = (rng.random((IMAGES, len(ATTRIBUTES), 1)).astype(np.float32) for _ in "nb")
    yield (
        "predict, a curve an image",
        classifier.logits(images, n=4 * n, beta=beta),
        [classifier.logits(images[i], n=4 * n[i], beta=beta[i]) for i in each],
    )
    n_values, beta_values = np.float32([0.5, 1, 4]), np.float32([0, 0.5, 1])
    yield (
        "sweep",
        classifier.sweep(images, n_values, beta_values),
        np.stack(
            [
                np.stack([classifier(images, n=n, beta=beta) for beta in beta_values.tolist()])
                for n in n_values.tolist()
            ]
        ),
    )
    masks = classifier.masks(images, CHOSEN)
    yield "masks, by image", masks, [classifier.masks(images[i], CHOSEN) for i in each]
    by_attribute = [classifier.masks(images, [name])[:, 0] for name in CHOSEN]
    yield "masks, by attribute", masks, np.stack(by_attribute, axis=1)

    found = classifier.explain(images, CHOSEN, n=2.0, beta=0.5)
    by_image = [classifier.explain(images[i], CHOSEN, n=2.0, beta=0.5) for i in each]
    by_attribute = [classifier.explain(images, [name], n=2.0, beta=0.5) for name in CHOSEN]
    for part in ("logits", "contributions", "maps", "masks", "summary"):
        many = getattr(found, part)
        yield f"explain: {part}, by image", many, [getattr(one, part) for one in by_image]
        one = np.concatenate([getattr(one, part) for one in by_attribute], axis=1)
        yield f"explain: {part}, by attribute", many, one


def comparisons_of_modules(network, some, indices):
    each, n_values, beta_values = range(IMAGES), np.float32([0.5, 1, 4]), np.float32([0, 0.5, 1])
    explain = nnx.jit(iamt_jax.explain, static_argnames="top")
    many = explain(network, some, indices).summary
    ones = [explain(network, some, indices[k : k + 1]).summary for k in range(len(CHOSEN))]
    yield "iamt_jax.explain", many, np.concatenate(ones, axis=1)
    sweep = nnx.jit(iamt_jax.sweep)
    ones = [sweep(network, some[i : i + 1], n_values, beta_values) for i in each]
    many = sweep(network, some, n_values, beta_values)
    yield "iamt_jax.sweep", many, np.concatenate(ones, axis=2)

    features = jax.jit(lambda x: network.extractor(x))(some)
    ones = jnp.concatenate([jax.jit(network.extractor)(some[i : i + 1]) for i in each])
    yield "extractor", features, ones
    heads = jax.jit(lambda f: network.heads(f, 2.0, 0.5))
    many, ones = heads(features), [heads(features[i : i + 1]) for i in each]
    yield "heads: logits", many.logits, np.concatenate([x.logits for x in ones])
    yield "heads: sums of masks", many.mask_l1, np.concatenate([x.mask_l1 for x in ones])
    reference = nnx.jit(lambda heads, f: heads.reference(f, 2.0, 0.5))
    yield "heads: reference", reference(network.heads, features), many.logits
    split = jax.jit(network.heads.contributions)
    for part, many in enumerate(split(features)):
        ones = [split(features[i : i + 1])[part] for i in each]
        yield f"contributions, part {part}", many, np.concatenate(ones)


def comparisons_of_predictor(predictor, images, indices, rng):
    each = range(IMAGES)
    # Every call of it compiles its programs anew, so one image and one attribute must do.
    maps = faithfulness.draw_maps(predictor, images, indices, seed=0)
    by_image = faithfulness.draw_maps(predictor, images[-1:], indices, seed=0)
    by_attribute = faithfulness.draw_maps(predictor, images, indices[-1:], seed=0)
    for name in ("masks", "gradients", "Grad-CAM", "gradient x input", "mean mask"):
        yield f"drawn: {name}, by image", maps[name][-1:], by_image[name]
        yield f"drawn: {name}, by attribute", maps[name][:, -1:], by_attribute[name]

    sums = predictor.program(lambda network, x, real: batch_sums(network, x, real))
    whole = analyse(iter([sums(images, np.ones(IMAGES, bool))]))
    parts = analyse(sums(images[i : i + 1], np.ones(1, bool)) for i in each)
    for part in whole._fields:
        yield f"analysis: {part}", getattr(whole, part), getattr(parts, part)

    transformation = made_transformation(images)
    noisy = images + 0.1 * rng.standard_normal(images.shape).astype(np.float32)
    parts = {"noise": (noisy, "logits sigma"), "degradations": (images, "logits sigma state")}
    for shown, (some, names) in parts.items():
        many = predictor.predict(some, transformation)
        ones = [predictor.predict(some[i : i + 1], transformation) for i in each]
        for name in names.split():
            one = np.concatenate([getattr(one, name) for one in ones])
            yield f"auto, {shown}: {name}", getattr(many, name), one
    assert 0 < np.count_nonzero(many.state) < IMAGES  # Some are restored.


def main() -> None:
    """Prints name -> largest difference, as a share of the largest value."""
    found = {}
    for name, many, one in comparisons():
        many, one = np.asarray(many, np.float64), np.asarray(one, np.float64)
        found[name] = float(np.abs(many - one).max() / np.abs(one).max())
    print(json.dumps({"flags": FLAGS, "differences": found}))


if __name__ == "__main__":
    main()
