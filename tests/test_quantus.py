"""Metrics of maps equal those of Quantus on the same maps."""

import numpy as np
import pytest

from iamt_jax.evaluation import faithfulness

quantus = pytest.importorskip("quantus", reason="pip install quantus to compare with it")


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    regions = np.zeros((12, 16, 16), bool)
    for i, (top, left) in enumerate(rng.integers(0, 10, (12, 2))):
        regions[i, top : top + 6, left : left + 6] = True
    return rng.random((12, 16, 16)) + 0.1 * regions * rng.random((12, 1, 1)), regions


def ask(metric, maps, regions):
    images, labels = np.zeros((len(maps), 3, 16, 16)), np.zeros(len(maps), int)
    return metric(
        model=None,
        x_batch=images,
        y_batch=labels,
        a_batch=maps[:, None],
        s_batch=regions[:, None].astype(float),
        channel_first=True,
    )


def test_energy_is_attribution_localisation(maps):
    metric = quantus.AttributionLocalisation(abs=False, normalise=False, disable_warnings=True)
    np.testing.assert_allclose(faithfulness.energy_inside(*maps), ask(metric, *maps), rtol=1e-5)


def test_pointing_is_the_pointing_game(maps):
    metric = quantus.PointingGame(abs=False, normalise=False, disable_warnings=True)
    found = np.asarray(faithfulness.pointing(*maps))
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(found, ask(metric, *maps))
