"""Explanations: contributions sum to the logit, streaming equals one batch, metrics by hand."""

import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import iamt_jax
from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.data import regions
from iamt_jax.data.batches import evaluation_batches
from iamt_jax.data.dataset import Records
from iamt_jax.errors import InputError
from iamt_jax.evaluation import faithfulness, grid_pointing
from iamt_jax.evaluation.faithfulness import measure_faithfulness, regions_of
from iamt_jax.evaluation.mask_statistics import (
    Spread,
    agreement,
    analyse_split,
    atlas_rows,
    correlation,
    coupled,
    mask_atlas,
    strongest,
)
from iamt_jax.explanation.explain import blurred, coarse, explain, mask_map, summary_map
from iamt_jax.explanation.maps import NETWORK_MAPS
from iamt_jax.robust.treatment import ToneCurve
from iamt_jax.synthetic import LOCAL_ATTRIBUTES, faces, render


@pytest.fixture(scope="module")
def classifier(finished):
    return iamt_jax.load(finished)


def close(actual, expected, tolerance=1e-4):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n, beta", [(1.0, 0.0), (4.0, 0.5), (0.0, 1.0)])
def test_contributions_sum_to_the_logit(classifier, n, beta):
    images = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    chosen = np.array([3, 31])
    run = classifier.predictor.program(functools.partial(explain, top=4))
    found = run(images, chosen, np.float32(n), np.float32(beta))
    logits = np.asarray(classifier.predictor.predict(images, ToneCurve(n, beta)).logits)[:, chosen]
    close(found.logits, logits)
    close(found.contributions.sum(-1) + found.bias, logits)
    close(found.maps.sum((2, 3)) + found.bias, logits)
    size = np.abs(np.take_along_axis(found.contributions, found.channels, axis=-1))
    assert (np.diff(size) <= 0).all()
    np.testing.assert_array_equal(size[..., 0], np.abs(found.contributions).max(-1))
    assert found.summary.shape == (8, 2, 32, 32)


def test_a_network_in_bfloat16_explains_itself(classifier):
    config = dataclasses.replace(classifier.run.config.model, dtype="bfloat16")
    network = iamt_jax.IAMT(config, 3, rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), jnp.float32)
    found = nnx.jit(explain)(network, images, jnp.array([0, 2]))
    close(found.logits, network.predict(images)[:, [0, 2]], 2e-2)
    assert np.isfinite(found.summary).all() and np.any(found.summary)


def test_masks_of_an_explanation_are_the_curved_ones(classifier):
    images = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    run = classifier.predictor.program(functools.partial(explain, top=2))
    found = run(images, np.array([5]), np.float32(2), np.float32(0.5))
    plain = classifier.masks(images, [classifier.attributes[5]])[:, 0]
    chosen = np.take_along_axis(plain, np.asarray(found.channels)[:, 0, None, None], axis=-1)
    tail = (2 * np.minimum(chosen, 1 - chosen)) ** 2 / 2
    curved = 1.5 * np.where(chosen < 0.5, tail, 1 - tail) - 0.5
    close(np.moveaxis(found.masks[:, 0], 1, -1), curved, 1e-5)


def test_the_summary_map_has_the_derivatives_of_the_image_and_of_the_half_blurred_one(classifier):
    network, chosen = classifier.network, jnp.array([3, 31])
    images = jnp.asarray(np.random.default_rng(0).random((4, 32, 32, 3)), jnp.float32)
    found = nnx.jit(explain)(network, images, chosen, 2.0, 0.5)

    def derivative(x):
        one = lambda k: jax.grad(lambda y: jnp.sum(network.predict(y, 2.0, 0.5)[:, k]))(x)  # noqa: E731
        return jnp.stack([one(k) for k in chosen], axis=1)

    points = jnp.stack([derivative(images), derivative(0.5 * images + 0.5 * coarse(images))])
    expected = summary_map(images, points, found.mask_map)
    close(found.summary / jnp.max(jnp.abs(expected)), expected / jnp.max(jnp.abs(expected)))


def test_the_summary_map_equals_numpy():
    rng = np.random.default_rng(0)
    images, gradients = rng.random((1, 40, 40, 3)), rng.normal(size=(2, 1, 1, 40, 40, 3))
    places = rng.random((1, 1, 40, 40))

    def blur(image, deviation):
        """Gaussian blur of (y, x), normalised at the edges."""
        at = np.arange(40)
        weight = np.exp(-((at[:, None] - at) ** 2) / (2 * deviation**2))
        weight /= weight.sum(1, keepdims=True)
        return weight @ image @ weight.T

    hidden = np.stack([blur(images[0, ..., c], 4) for c in range(3)], axis=-1)
    evidence = (gradients[:, 0, 0].mean(0) * (images[0] - hidden)).sum(-1)
    energy = blur((gradients[:, 0, 0] ** 2).mean(0).sum(-1), 40 / 32)
    rise = (places[0, 0] - places.min()) / (places.max() - places.min())
    expected = blur(evidence, 1) * energy / energy.max() * rise**2
    found = summary_map(*(jnp.asarray(x, jnp.float32) for x in (images, gradients, places)))
    close(found[0, 0] / np.abs(expected).max(), expected / np.abs(expected).max())


def test_analyses_equal_numpy_on_stored_masks(classifier, dataset, monkeypatch):
    """Statistics do not depend on the batch size."""
    records = dataset.split("test").first(11)
    monkeypatch.setattr("iamt_jax.evaluation.mask_statistics._BATCH", 1)
    streamed, logits = analyse_split(classifier, records)
    monkeypatch.setattr("iamt_jax.evaluation.mask_statistics._BATCH", 16)
    whole, again = analyse_split(classifier, records)
    batch = next(evaluation_batches(records, classifier.run.config.data.size, 11))
    masks = classifier.masks(batch.images, classifier.attributes).astype(np.float64)
    network = classifier.predictor.network()
    plain, masked = network.heads.contributions(network.extractor(batch.images / np.float32(255)))
    by_evidence = np.moveaxis(np.asarray(masked, np.float64), 1, -1).reshape(-1, masks.shape[1])
    by_channel = masks.reshape(-1, masks.shape[-1])
    by_attribute = np.moveaxis(masks, 1, -1).reshape(-1, masks.shape[1])
    for found in (streamed, whole):
        close(found.features, np.corrcoef(by_channel.T))
        close(found.attributes, np.corrcoef(by_attribute.T))
        close(found.evidence, np.corrcoef(by_evidence.T))
    size = np.abs(np.asarray(plain + masked, np.float64))
    share = (size / size.sum(-1, keepdims=True)).mean(0)
    close(whole.importance, share)
    close(streamed.importance, share)
    close(logits, again, 1e-5)


def test_spreads_merge():
    samples = np.random.default_rng(0).normal(size=(50, 3)) * [1, 2, 0] + [0, 5, 7]

    def spread(x):
        return Spread(len(x), x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0)))

    merged = spread(samples[:7]).merged(spread(samples[7:]))
    np.testing.assert_allclose(merged.product, spread(samples).product, atol=1e-12)
    expected = np.corrcoef(samples[:, :2].T)
    np.testing.assert_allclose(merged.correlation()[:2, :2], expected, atol=1e-12)
    np.testing.assert_array_equal(merged.correlation()[2], 0)  # does not vary


def test_correlations_of_labels_and_who_is_coupled():
    labels = np.array([[0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0], [-1, 1, 1]])
    expected = np.corrcoef(labels[:4].T)
    np.testing.assert_allclose(correlation(labels), expected, atol=1e-12)
    decisions = np.eye(3)
    decisions[0, 1] = decisions[1, 0] = -0.9
    assert coupled(np.eye(3), decisions) == [(0, 1)]
    assert strongest(np.array([[1.0, 0.2, 0.7]]), 0) == [(2, 0.7), (1, 0.2)]


def test_energy_and_pointing():
    maps = jnp.array([[[4.0, -9.0], [1.0, 3.0]], [[2.0, 2.0], [0.0, -1.0]], [[-1.0, 0], [0, 0]]])
    inside = np.array([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[1, 0], [0, 0]]], bool)
    close(faithfulness.energy_inside(maps, inside), [0.5, 0.5, 0])
    close(faithfulness.pointing(maps, inside), [1, 0.5, 0])  # of three greatest none is inside
    close(faithfulness.energy_inside(7 * maps, inside), faithfulness.energy_inside(maps, inside))


def test_deletion_and_insertion_of_a_known_network(monkeypatch):
    """The network says how much of the first pixel it sees; 4 pixels, 4 steps. Areas by hand:
    trapezoids of width 1/4, one from 1 to 0 and flat ones; not the mean of 5 points."""
    monkeypatch.setattr(faithfulness, "STEPS", 4)
    images, hidden = np.ones((2, 2, 2, 3), np.float32), np.zeros((2, 2, 2, 3), np.float32)
    first, last = np.array([[4.0, 3], [2, 1]]), np.array([[1.0, 2], [3, 4]])
    maps = jnp.array([first, last])
    said = lambda x: x[:, 0, 0, 0]  # noqa: E731
    close(faithfulness.deletion(said, images, maps, hidden), [1 / 8, 7 / 8])
    close(faithfulness.insertion(said, images, maps, hidden), [7 / 8, 1 / 8])
    constant = lambda x: jnp.full(len(x), 0.3)  # noqa: E731
    close(faithfulness.deletion(constant, images, maps, hidden), [0.3, 0.3])


def test_spearman_is_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 5, 5))
    expected = [
        spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)
    ]
    close(faithfulness.spearman(first, second), expected, 1e-5)


def test_blurred_images_keep_their_mean():
    images = np.full((1, 16, 16, 3), 0.3, np.float32)
    close(coarse(images), images, 1e-6)
    close(blurred(np.eye(8)[None] * 0 + 2, 0.2), np.full((1, 8, 8), 2), 1e-6)


def test_regions_of_rendered_faces_are_where_the_images_are(classifier, dataset):
    """Regions of the data set itself: same attributes, same nuisance."""
    config = classifier.run.config.data.synthetic
    attributes, nuisance = faces(config.test, config.seed, "test")
    records = dataset.split("test")
    np.testing.assert_array_equal(records.labels == 1, attributes)
    batch = next(evaluation_batches(records, 32, 4))
    rendered = render(attributes[:4], nuisance[:4], 32)
    assert np.abs(rendered.astype(float) - batch.images).mean() < 6  # JPEG
    found, _ = regions_of(classifier, records.first(4), dataset, "test")
    assert set(found) == set(LOCAL_ATTRIBUTES)
    assert all(x.shape == (4, 32, 32) and x.mean() < 0.25 for x in found.values())


LANDMARKS = """1
lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x ... rightmouth_y
a.jpg   69 111  108  111   88  136   71  152  106  152
"""


class OneSize:
    """Grey images of one size."""

    def __init__(self, size):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        self.data = buffer.getvalue()

    def read(self, index):
        return self.data

    def location(self, index):
        return f"{index}.png"


def grey(*names, size=(178, 218), attributes=CELEBA_ATTRIBUTES):
    labels = np.zeros((len(names), len(attributes)), np.int8)
    return Records(tuple(attributes), names, labels, OneSize(size))


def test_boxes_around_landmarks(tmp_path):
    (tmp_path / "Anno").mkdir()
    (tmp_path / regions._LISTS[0]).write_text(LANDMARKS)
    found, source = regions.landmark_regions(str(tmp_path), grey("a.jpg"), 178)
    assert source == "boxes around the landmarks"
    y, x = np.nonzero(found["Mouth_Slightly_Open"][0])
    assert (x.min(), x.max()) == (63, 113)  # corners at 71 and 106, and 0.2 of 39 beyond
    assert (y.min(), y.max()) == (152 - 20 - 16, 152 - 20 + 15)  # cut to a square, 20 above
    assert all(0.005 < x.mean() < 0.25 for x in found.values())
    with pytest.raises(InputError, match="lacks b.jpg"):
        regions.landmark_regions(str(tmp_path), grey("b.jpg"), 64)
    (tmp_path / regions._LISTS[0]).write_text(LANDMARKS + "c.jpg 1 2\n")
    with pytest.raises(InputError, match="line 4: found 2 values"):
        regions.landmark_regions(str(tmp_path), grey("a.jpg"), 64)


@pytest.mark.parametrize("size", [(178, 218), (89, 109)])
def test_mean_landmarks_serve_aligned_photographs_without_a_list(tmp_path, size):
    found, source = regions.landmark_regions(str(tmp_path), grey("a", "b", size=size), 178)
    assert "mean landmarks" in source
    y, x = np.nonzero(found["Mouth_Slightly_Open"][1])
    assert (x.min(), x.max()) == (64, 113)  # corners at 72 and 106, and 0.2 of 39 beyond
    np.testing.assert_array_equal(*found["Eyeglasses"])


def test_other_photographs_without_a_list_have_no_regions(tmp_path):
    assert regions.landmark_regions(str(tmp_path), grey("a", size=(146, 178)), 64) is None
    other = grey("a", attributes=("Smiling", "Cat"))
    assert regions.landmark_regions(str(tmp_path), other, 64) is None


def test_places_by_hand():
    """Two images, two attributes; the second attribute has no region in the second image."""
    maps = np.array([[[[3, 1]], [[0, 1]]], [[[0, 2]], [[5, 5]]]], np.float32)
    inside = np.array([[[[1, 0]], [[1, 0]]], [[[1, 0]], [[0, 0]]]], bool)
    labels = np.array([[1, 0], [0, 1]])
    found = faithfulness.measure_places(maps, inside, labels)
    assert found == {
        "energy_inside": 0.25,
        "energy_inside_present": 0.75,
        "energy_inside_absent": 0,
        "pointing": pytest.approx(1 / 3),
        "pointing_present": 1,
        "pointing_absent": 0,
    }


def test_grids_hold_one_face_with_the_attribute():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (200, 3)).astype(np.int8)
    labels[:, 1] = np.arange(200) < 29  # too few
    decisions = labels == 1
    decisions[:20] = ~decisions[:20]  # wrong answers
    grids = grid_pointing.draw_grids(labels, decisions, seed=0)
    assert [g.attribute for g in grids] == [0, 2]
    for g in grids:
        assert g.rows.shape == (grid_pointing.GRIDS, 4) and g.rows.min() >= 20
        assert all(len(set(row)) == 4 for row in g.rows)
        label = labels[g.rows, g.attribute]
        np.testing.assert_array_equal(label.sum(axis=1), 1)
        np.testing.assert_array_equal(label.argmax(axis=1), g.place)
    again = grid_pointing.draw_grids(labels, decisions, seed=0)
    assert all((a.rows == b.rows).all() for a, b in zip(grids, again, strict=True))


def test_shares_of_a_grid():
    quarters = np.arange(4, dtype=np.float32)[None, :, None, None, None] * np.ones((1, 1, 2, 3, 3))
    whole = grid_pointing.tile(quarters)[..., 0]
    np.testing.assert_array_equal(whole[0, :2], [[0, 0, 0, 1, 1, 1]] * 2)
    np.testing.assert_array_equal(whole[0, 2:], [[2, 2, 2, 3, 3, 3]] * 2)
    four = np.random.default_rng(0).random((2, 4, 2, 3, 3))
    np.testing.assert_array_equal(grid_pointing.untile(grid_pointing.tile(four)), four)
    for place, share in enumerate((0, 1 / 6, 2 / 6, 3 / 6)):
        close(grid_pointing.share_inside(whole, np.array([place])), [share])
    close(grid_pointing.share_inside(-whole, np.array([3])), [grid_pointing.CHANCE])


def test_a_grid_is_seen_as_one_picture(classifier, dataset, monkeypatch):
    """The score of the masked contributions, computed from the classifier's own masks."""
    records, k = dataset.split("train"), classifier.attributes.index("Male")
    monkeypatch.setattr(grid_pointing, "FEWEST_POSITIVES", 10)
    logits = np.where(records.labels == 1, 1.0, -1.0)
    logits[:, np.arange(40) != k] = -1  # no other attribute has a recognised image
    found = grid_pointing.measure_grid_pointing(classifier, records, logits, seed=1)
    assert set(found.grids) == {"Male"} and set(found.scores) == set(NETWORK_MAPS)
    (g,) = grid_pointing.draw_grids(records.labels, logits > 0, seed=1)
    size, shares = classifier.run.config.data.size, []
    network = classifier.predictor.network()
    for row, place in zip(g.rows, g.place, strict=True):
        four = next(evaluation_batches(records.take(row), size, 4)).images
        each = network.extractor(four / np.float32(255))
        top, bottom = np.concatenate(each[:2], axis=1), np.concatenate(each[2:], axis=1)
        features = np.concatenate([top, bottom])[None]
        mask = network.heads.masks(features, np.array([k]))[0]
        weight = network.heads.classifiers(np.array([k]))[0][0]
        added = np.asarray((mask * features * weight).sum(-1))
        map_ = np.asarray(jax.image.resize(added, (1, 2 * size, 2 * size), "bilinear"))
        shares.append(grid_pointing.share_inside(map_, np.array([place]))[0])
    close(found.scores["masked contributions"]["Male"], np.mean(shares))
    assert found.mean("masks") == found.scores["masks"]["Male"]


def test_agreement_of_two_matrices_of_correlations():
    first = np.array([[1, 0.5, 0.1], [0.5, 1, -0.2], [0.1, -0.2, 1]])
    assert agreement(first, 0.3 * first + 0.1) == pytest.approx(1)
    assert agreement(first, -first) == pytest.approx(-1)
    assert agreement(first, np.ones((3, 3))) == 0


def test_everything_is_judged_on_the_same_images(classifier, dataset, monkeypatch):
    monkeypatch.setattr(faithfulness, "STEPS", 2)
    records = dataset.split("test").first(3)
    where, _ = regions_of(classifier, records, dataset, "test")
    judged = measure_faithfulness(
        classifier, records, {k: where[k] for k in ("Bangs", "Smiling")}, 0
    )
    assert set(judged.regions) == {"Bangs", "Smiling"}
    assert {"masks", "gradients", "Grad-CAM", "random"} < set(judged.scores)
    for scores in judged.scores.values():
        assert {"energy_inside", "pointing", "deletion", "insertion"} < set(scores)
        assert all(0 <= value <= 1 for value in scores.values())
    assert set(judged.randomised) == {"heads", "heads and extractor"}


def test_the_atlas_shows_the_channels_that_count_where_the_attribute_is(classifier, dataset):
    records = dataset.split("test")
    found = mask_atlas(classifier, records)
    having = found.images[9][found.labels[9] == 1]
    added = classifier.explain(having, [classifier.attributes[9]]).contributions[:, 0]
    assert found.channels[9, 0] == np.abs(added).mean(axis=0).argmax()
    close(found.contributions[9, : len(having)], added[:, found.channels[9]])
    size = classifier.run.config.data.size
    np.testing.assert_array_equal(found.images[9], records.pictures(found.rows[9], size))
    np.testing.assert_array_equal(found.labels[9], records.labels[found.rows[9], 9])
    masks = classifier.masks(found.images[9], [classifier.attributes[9]])[:, 0]
    close(found.masks[9, :, 1], masks[..., found.channels[9, 1]], 1e-5)
    close(found.logits[9], classifier.logits(found.images[9])[:, 9])


def test_the_atlas_shows_three_images_with_each_attribute_and_three_without():
    labels = np.array(
        [[0, 1, -1], [1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0]]
    )
    found = atlas_rows(labels)
    assert found.tolist() == [[1, 2, 4, 0, 3, 6], [0, 1, 2, 3, 4, 5], [5, 1, 2, 3, 0, 4]]


def test_the_map_of_the_masks_weights_channels_by_what_they_add():
    rng = np.random.default_rng(3)
    mask, features = rng.random((2, 2, 3, 4, 5), np.float32)
    weight = rng.normal(size=5).astype(np.float32)
    found = np.asarray(mask_map(mask, features, weight))

    for i in range(2):
        expected = np.zeros((3, 4))
        for c in range(5):
            masked = weight[c] * mask[i, ..., c] * features[i, ..., c]
            expected += abs(masked.mean()) * mask[i, ..., c]
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)


def test_the_drawn_map_of_the_masks_is_that_of_the_explanation(classifier):
    images = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    chosen = np.array([5, 31])
    drawn = faithfulness.draw_maps(classifier.predictor, images, chosen, seed=0)["masks"]
    names = [classifier.attributes[k] for k in chosen]
    places = classifier.explain(images, names).mask_map
    lowest = places.min(axis=(2, 3), keepdims=True)
    expected = jax.image.resize(places - lowest, drawn.shape, "bilinear")
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
