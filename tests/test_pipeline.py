"""Order of training batches; evaluation scores every image once."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iamt_jax.config import TrainConfig
from iamt_jax.data.batches import evaluation_batches, training_batches
from iamt_jax.degradation.noise import gaussian_noise, noise_keys
from iamt_jax.inference.classifier import load
from iamt_jax.inference.predictor import Degradation, Noise
from iamt_jax.robust.treatment import ToneCurve

SIZE = 16
TRAIN = TrainConfig(batch_size=16, seed=5)


@pytest.fixture(scope="module")
def records(dataset):
    return dataset.split("train")


def take(count, *arguments, **keywords):
    return list(itertools.islice(training_batches(*arguments, **keywords), count))


def equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        jax.tree.map(np.testing.assert_array_equal, batch, other)


def differ(batches, others):
    return any((a.images != b.images).any() for a, b in zip(batches, others, strict=True))


def which(batches, records):
    """Row in the records of each image of the batches, which must be as decoded."""
    pictures = records.pictures(slice(None), SIZE)
    place = {picture.tobytes(): i for i, picture in enumerate(pictures)}
    assert len(place) == len(records)
    images = [image for batch in batches for image in batch.images]
    return [place[image.tobytes()] for image in images]


def test_order_depends_on_the_seed_alone(records):
    batches = take(5, records, SIZE, TRAIN)
    longer = dataclasses.replace(TRAIN, steps=7, learning_rate=1.0)
    equal(batches, take(5, records, SIZE, TRAIN))
    equal(batches, take(5, records, SIZE, longer))
    assert differ(batches, take(5, records, SIZE, dataclasses.replace(TRAIN, seed=6)))


def test_every_image_once_an_epoch_reshuffled(records):
    batches = take(8, records, SIZE, TRAIN)
    first, second = which(batches[:4], records), which(batches[4:], records)
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second and first != sorted(first)
    labels = np.concatenate([batch.labels for batch in batches])
    np.testing.assert_array_equal(labels, records.labels[first + second])


def test_shares_of_two_processes_are_the_halves_of_the_whole(records):
    whole = take(5, records, SIZE, TRAIN)
    shares = [take(5, records, SIZE, TRAIN, process=p, processes=2) for p in (0, 1)]
    for p, share in enumerate(shares):
        half = slice(p * 8, p * 8 + 8)
        equal(share, [type(batch)(*(x[half] for x in batch)) for batch in whole])


def test_no_image_is_left_out_where_batches_do_not_divide_the_epoch(records):
    seen = which(take(4 * 6, records, SIZE, TrainConfig(batch_size=24)), records)
    assert np.bincount(seen, minlength=64).tolist() == [9] * 64


@pytest.mark.parametrize("process, processes", [(0, 1), (1, 2)])
def test_the_order_goes_on_from_any_step(records, process, processes):
    place = {"process": process, "processes": processes}
    whole = take(9, records, SIZE, TRAIN, **place)
    equal(take(4, records, SIZE, TRAIN, start=5, **place), whole[5:])


# Evaluation.


@pytest.mark.parametrize("batch_size", [1, 7, 128])
def test_evaluation_visits_every_image_once_and_in_order(records, batch_size):
    pictures = records.pictures(slice(None), SIZE)
    seen = []
    for batch in evaluation_batches(records, SIZE, batch_size):
        assert batch.images.shape == (batch_size, SIZE, SIZE, 3)
        for image, index in zip(batch.images[batch.real], batch.indices[batch.real], strict=True):
            np.testing.assert_array_equal(image, pictures[index])
            seen.append(int(index))
    assert seen == list(range(64))


@pytest.mark.parametrize(
    "does",
    [
        (),
        (ToneCurve(4, 0.5), Noise(0.1)),
        (ToneCurve(), Degradation("elastic_transform", 2)),
        (ToneCurve(), Degradation("spatter", 5)),
    ],
)
def test_logits_do_not_depend_on_the_batch_size(finished, dataset, tiny, does):
    predictor, records = load(finished).predictor, dataset.split("validation")
    logits = [
        np.concatenate(
            [
                a.logits
                for a in predictor.predict_batches(records, tiny.data.size, batch_size, *does)
            ]
        )
        for batch_size in (1, 7, 128)
    ]
    assert logits[0].shape == (16, 40)
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], rtol=1e-5, atol=1e-6)


# Noise.


def test_noise_depends_on_name_sigma_and_seed():
    names = ["a.jpg", "b.jpg"]
    data = {
        tuple(map(tuple, np.asarray(jax.random.key_data(noise_keys(n, sigma, seed)))))
        for n in (names, names[::-1])
        for sigma in (0.1, 0.2)
        for seed in (0, 1)
    }
    assert len(data) == 8


def test_noise_does_not_depend_on_batch_or_order():
    names = [f"{i}.jpg" for i in range(6)]
    images = np.random.default_rng(0).random((6, 8, 8, 3), np.float32)

    def noisy(rows):
        keys = noise_keys([names[i] for i in rows], 0.2, 0)
        return np.asarray(gaussian_noise(jnp.asarray(images[rows]), 0.2, keys))

    whole = noisy([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(noisy([4, 1]), whole[[4, 1]])
    # 1,152 draws: the deviation is 0.2 within 0.2 / sqrt(2 * 1152), three times that is 0.0125.
    assert abs((whole - images).std() - 0.2) < 0.0125
