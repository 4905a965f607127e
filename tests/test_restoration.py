"""What is recognised in an image, and undone: spectra, recogniser, restorer, treatment."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from iamt_jax.robust import restorer as restoring
from iamt_jax.robust.noise_level import Levels
from iamt_jax.robust.recogniser import (
    CLEAN_KEPT,
    GAIN_LOST,
    LARGE_GAIN,
    LEFT_KEPT,
    WIDEST,
    Outcome,
    Recogniser,
    clean_distance,
    describe,
    fit_recogniser,
    recognise,
)
from iamt_jax.robust.restorer import (
    LEFT,
    Basis,
    Restorer,
    clean_sample,
    fit_basis,
    fit_state,
    restore,
)
from iamt_jax.robust.spectrum import inverse, spectrum
from iamt_jax.robust.states import (
    CLEAN,
    FIRST_RESTORED,
    MIXTURES,
    NOISE,
    NONE,
    RESTORED,
    STATES,
    ImageState,
    to_state,
)
from iamt_jax.robust.treatment import Transformation, treat
from iamt_jax.synthetic import render, sample_attributes, sample_nuisance

SIDE = 32
IMAGES = 160


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return render(sample_attributes(rng, IMAGES), sample_nuisance(rng, IMAGES), SIDE)


@pytest.fixture(scope="module")
def faces(pictures):
    return pictures.astype(np.float32) / 255


@pytest.fixture(scope="module")
def basis(pictures):
    return fit_basis(pictures)


def names(images):
    return [str(i) for i in range(len(images))]


def degraded(faces, state):
    return np.array(to_state(jnp.asarray(faces), state, names(faces), 0))


def of(kind, severity=None):
    return next(
        state for state in STATES if state.kind == kind and severity in (None, state.steps[0][1])
    )


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 16, 24, 1), (3, 9, 15, 2)])
def test_spectra_are_those_of_numpy(shape):
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    found = spectrum(images)
    expected = np.fft.rfft2(images, axes=(1, 2)) / np.sqrt(shape[1] * shape[2])
    np.testing.assert_allclose(found.real, expected.real, atol=1e-5)
    np.testing.assert_allclose(found.imag, expected.imag, atol=1e-5)
    np.testing.assert_allclose(inverse(found, shape[2]), images, atol=1e-5)


def test_a_gain_of_a_shift_moves_the_image():
    image = np.random.default_rng(2).normal(size=(1, 16, 16, 1)).astype(np.float32)
    phase = np.exp(-2j * np.pi * np.fft.fftfreq(16) * 3)[None, :, None, None]
    found = spectrum(image).times(phase.real.astype(np.float32), phase.imag.astype(np.float32))
    np.testing.assert_allclose(inverse(found, 16), np.roll(image, 3, 1), atol=1e-5)


def test_states_begin_with_none_and_noise_and_have_no_doubles():
    assert STATES[0] == ImageState(NONE) and CLEAN == (0, 1)
    assert len({state.description for state in STATES}) == len(set(STATES)) == len(STATES)
    kinds = [state.kind for state in STATES]
    assert set(kinds[2:FIRST_RESTORED]) == {NOISE}
    assert not {NONE, NOISE} & set(kinds[FIRST_RESTORED:])
    assert set(RESTORED) <= set(kinds) and len(set(kinds)) == len(RESTORED) + len(MIXTURES) + 2
    # What a kind has in common is learnt from the middle severity.
    assert all(STATES[kinds.index(family)].steps == ((family, 3),) for family in RESTORED)


@pytest.mark.parametrize(
    "state", [of(NOISE), of("jpeg_compression"), of("motion_blur"), STATES[-1]], ids=str
)
def test_a_state_is_reached_in_the_same_way_alone_and_among_others(faces, state):
    some = faces[:8]
    whole = degraded(some, state)
    assert whole.min() >= 0 and whole.max() <= 1 and np.abs(whole - some).max() > 0.01
    np.testing.assert_array_equal(whole, degraded(some, state))
    if state.angles is None:  # Directions are spread over the batch.
        np.testing.assert_allclose(whole[:1], degraded(some[:1], state), atol=1e-6)


def test_a_description_does_not_depend_on_the_batch(faces):
    whole = np.asarray(describe(faces[:6]))
    assert np.isfinite(whole).all()
    each = np.concatenate([describe(faces[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(whole, each, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("image", [0.0, 0.5, 1.0])
def test_a_flat_image_has_a_description(image):
    flat = np.full((1, SIDE, SIDE, 3), image, np.float32)
    assert np.isfinite(np.asarray(describe(flat))).all()


@pytest.fixture(scope="module")
def known(faces):
    """A recogniser that has forgotten all states but four, and their indices."""
    chosen = [0, *(STATES.index(of(kind, 3)) for kind in ("gaussian_blur", "contrast", "pixelate"))]
    described = [np.asarray(describe(degraded(faces, STATES[i]))) for i in chosen]
    few = fit_recogniser(described, described[0])
    place, offset = np.zeros(len(STATES), int), np.full(len(STATES), np.inf, np.float32)
    place[chosen], offset[chosen] = range(len(chosen)), few.offset
    margin = np.zeros((len(STATES), len(STATES)), np.float32)
    margin[:, 0] = few.margin[place, 0]
    limits = few.limit[place], few.clean_limit[place]
    return Recogniser(few.mean[place], few.whitening[place], offset, margin, *limits), chosen


def near_states(images, recogniser):
    """The states that images are near to, 0 for the others."""
    state, near = recognise(images, recogniser)
    return np.where(near, state, 0)


def test_states_are_recognised(faces, known):
    recogniser, chosen = known
    for index in chosen:
        found = near_states(degraded(faces, STATES[index]), recogniser)
        assert np.mean(found == index) > 0.95, STATES[index]
    clean = near_states(faces, recogniser)
    assert np.mean(clean == 0) >= CLEAN_KEPT - 1 / len(faces)


def test_a_margin_decides_only_between_two_states(faces, known):
    recogniser, (_, blur, contrast, _) = known
    margin = np.array(recogniser.margin)
    margin[blur, 0] = 1e9
    strict = recogniser._replace(margin=margin)
    for index, expected in ((blur, 0), (contrast, contrast)):
        found = near_states(degraded(faces, STATES[index]), strict)
        assert np.mean(found == expected) > 0.95


def test_the_margins_keep_clean_images(faces, known):
    """Also where a state is hardly different from clean images."""
    described = np.asarray(describe(faces))
    near = fit_recogniser([described[::2], described[1::2]], described)
    assert near.margin[1, 0] > 0
    assert np.mean(near_states(faces, near) == 0) >= CLEAN_KEPT - 1 / len(faces)


def test_the_margins_keep_images_of_a_state_that_is_left_alone(faces):
    """Images of a state stay out of one that is hardly different only if they are to be left
    alone."""
    described = np.asarray(describe(faces))
    blurred = np.asarray(describe(degraded(faces, of("gaussian_blur"))))
    descriptions = [blurred, described, described[::2]]
    taken = []
    for left in ((), (1,)):
        fitted = fit_recogniser(descriptions, blurred, left)
        found = near_states(faces, fitted)
        taken.append(np.mean(found == 2))
        np.testing.assert_array_equal(fitted.margin[:, 1] > 0, [False, False, bool(left)])
    assert taken[1] <= 1 - LEFT_KEPT + 1 / len(faces) < taken[0]


def test_black_and_white_images_are_not_taken_for_faded_ones(faces):
    """A state of their own keeps them, and leaves faded images to theirs."""
    white = degraded(faces, STATES[1])
    np.testing.assert_array_equal(white, np.repeat(white[..., :1], 3, 3))
    faded = degraded(faces, of("saturate", 2))
    described = [np.asarray(describe(images)) for images in (faces, white, faded)]
    clean = np.concatenate([described[0], described[1][:8]])
    found = {}
    for states, clean_states in (((0, 2), (0,)), ((0, 1, 2), (0, 1))):
        few = fit_recogniser([described[i] for i in states], clean, (), clean_states)
        kinds = [near_states(images, few) for images in (white[:8], faded)]
        found[len(states)] = [np.mean(kind == len(states) - 1) for kind in kinds]
    assert found[3][0] == 0 and found[3][1] > 0.9
    # Without it, a margin that keeps them keeps faded images as well.
    assert found[2][0] == 0 and found[2][1] < 0.1


def test_unknown_images_and_open_noise_are_left_alone(faces, known):
    recogniser, _ = known
    unknown = np.random.default_rng(3).random(faces[:8].shape).astype(np.float32)
    assert not near_states(unknown, recogniser).any()
    blurred = degraded(faces[:8], of("gaussian_blur", 3))
    assert near_states(blurred, recogniser).all()
    blurred[:, 0, 0] = 1.01
    assert not np.asarray(recognise(blurred, recogniser).state).any()


def test_fewer_images_are_near_to_a_state_that_gains_little(faces):
    blurred = degraded(faces, of("gaussian_blur"))
    described = [np.asarray(describe(images)) for images in (faces, blurred)]
    gains = (0.3, 0.02, 0.001)
    shares = []
    for gain in gains:
        fitted = fit_recogniser(described, described[0], (), (0,), {1: Outcome(gain, described[0])})
        shares.append(np.mean(near_states(blurred, fitted) == 1))
        limit = np.max(clean_distance(faces, fitted)) if gain >= LARGE_GAIN else -1
        np.testing.assert_allclose(fitted.clean_limit, [-1, limit], rtol=1e-3)
    assert shares[0] > shares[1] > shares[2] > 0
    for share, gain in zip(shares, gains, strict=True):  # Some images are beyond both limits.
        lost = min(0.5, GAIN_LOST / gain)
        assert 1 - 2 * lost - 0.02 <= share <= 1 - lost + 0.02, gain


def test_an_image_must_be_near_in_the_widest_directions_as_well(faces, known):
    """Beside the many others they hardly count."""
    recogniser, (_, blur, *_) = known
    spread = 1 / np.linalg.norm(recogniser.whitening[blur], axis=0)
    assert np.all(np.diff(spread) <= 0) and spread[0] > 10 * spread[-1]
    images = degraded(faces[:8], STATES[blur])
    centred = np.asarray(describe(images)) - recogniser.mean[blur]
    squares = np.square(centred @ recogniser.whitening[blur])
    distances = np.stack([squares[:, :WIDEST].sum(1), squares.sum(1)], 1)
    for which in (0, 1):
        limit = np.full_like(recogniser.limit, 1e9)
        limit[:, which] = np.sort(distances[:, which])[3:5].mean()
        near = recognise(images, recogniser._replace(limit=limit)).near
        np.testing.assert_array_equal(near, distances[:, which] <= limit[0, which])
        assert np.sum(near) == 4


def test_the_distance_from_clean_images_is_that_of_numpy(faces, known):
    recogniser, _ = known
    found = clean_distance(faces[:5], recogniser)
    centred = np.asarray(describe(faces[:5]), np.float64) - recogniser.mean[0]
    inverse_covariance = recogniser.whitening[0].astype(np.float64) @ recogniser.whitening[0].T
    expected = np.einsum("if,fg,ig->i", centred, inverse_covariance, centred)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    alone = [float(clean_distance(face[None], recogniser)[0]) for face in faces[:5]]
    np.testing.assert_allclose(found, alone, rtol=1e-4)


def test_the_basis_is_that_of_the_principal_components(pictures, faces, basis):
    found, variance = basis
    both = np.concatenate([faces, faces[:, :, ::-1]]).reshape(2 * IMAGES, -1).astype(np.float64)
    centred = both - both.mean(0)
    expected = np.linalg.svd(centred, compute_uv=False) ** 2 / len(centred)
    rank = found.components.shape[1]
    np.testing.assert_allclose(found.mean.ravel(), both.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.components.T @ found.components, np.eye(rank), atol=1e-4)
    np.testing.assert_allclose(variance[:10], expected[:10], rtol=1e-2)
    inside = found.inside(faces[:3] - found.mean)
    rest = faces[:3] - found.mean - found.joined(inside)
    np.testing.assert_allclose(found.inside(rest), 0, atol=1e-4)


def slow_restore(image, basis, one):
    """The restoration of one image in float64, with NumPy's Fourier transform."""
    components = basis.components.astype(np.float64)
    centred = (image - one.degraded).astype(np.float64).ravel()
    inside = centred @ components
    rest = (centred - components @ inside).reshape(image.shape)
    found = np.fft.rfft2(rest, axes=(0, 1)) * (one.gain[0] + 1j * one.gain[1])
    filtered = np.fft.irfft2(found, s=image.shape[:2], axes=(0, 1))
    estimate = components @ (inside @ one.matrix + one.clean)
    return np.clip(basis.mean + estimate.reshape(image.shape) + filtered, 0, 1)


@pytest.fixture(scope="module")
def inverses(faces, basis):
    found = {}
    for kind in ("gaussian_blur", "contrast"):
        clean = clean_sample(faces[:128], basis[0])
        found[kind] = fit_state([degraded(faces[:128], of(kind, 2))], clean, *basis)
    return found


def test_the_fit_does_not_depend_on_the_batches(faces, basis, inverses):
    images = degraded(faces[:128], of("contrast", 2))
    parts = [images[:50], images[50:60], images[60:]]
    found = fit_state(parts, clean_sample(faces[:128], basis[0]), *basis)
    jax.tree.map(np.testing.assert_array_equal, found, inverses["contrast"])


def repeated(inverse_, count):
    return jax.tree.map(lambda x: np.repeat(x[None], count, 0), inverse_)


@pytest.mark.parametrize("kind", ["gaussian_blur", "contrast"])
def test_images_are_restored_as_by_the_slow_way_and_come_nearer(faces, basis, inverses, kind):
    clean, images = faces[128:], degraded(faces[128:], of(kind, 2))
    restored = np.asarray(restore(images, basis[0], repeated(inverses[kind], len(images))))
    for image, found in list(zip(images, restored, strict=True))[:3]:
        np.testing.assert_allclose(found, slow_restore(image, basis[0], inverses[kind]), atol=1e-4)
    assert np.square(restored - clean).mean() < 0.5 * np.square(images - clean).mean()


def test_each_image_is_restored_from_its_own_state(faces, basis, inverses):
    images = np.concatenate(
        [degraded(faces[:1], of(kind, 2)) for kind in ("gaussian_blur", "contrast")]
    )
    both = jax.tree.map(lambda *x: np.stack(x), *inverses.values())
    together = restore(images, basis[0], both)
    for i, one in enumerate(inverses.values()):
        alone = restore(images[i : i + 1], basis[0], repeated(one, 1))
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)


def test_the_matrix_is_the_best_linear_estimate_of_gaussian_components():
    """For a known operator and noise, it is what the formula of the Gaussian posterior gives."""
    rng = np.random.default_rng(4)
    count, rank, side = 4000, 3, 4
    variance = np.array([4.0, 2.0, 1.0])
    flat, _ = np.linalg.qr(rng.normal(size=(side * side * 3, rank)))
    basis = Basis(np.zeros((side, side, 3), np.float32), flat.astype(np.float32))
    before = rng.normal(size=(count, rank)) * np.sqrt(variance)
    operator = rng.normal(size=(rank, rank))
    after = before @ operator + rng.normal(size=(count, rank)) * 0.3

    def images(inside):
        return (inside @ flat.T).reshape(count, side, side, 3).astype(np.float32)

    clean = clean_sample(images(before), basis)
    found = fit_state([images(after)], clean, basis, variance.astype(np.float32))
    prior = np.diag(variance)
    expected = np.linalg.solve(
        operator.T @ prior @ operator + 0.09 * np.eye(rank), operator.T @ prior
    )
    np.testing.assert_allclose(found.matrix, expected, rtol=0.05, atol=0.05)


@pytest.fixture(scope="module")
def transformation(basis, inverses, known):
    """Blur of severity 2 and 3 is undone; contrast pays for nothing and is left."""
    recogniser, _ = known
    blur = inverses["gaussian_blur"]
    count = len(STATES) - FIRST_RESTORED
    sigma = np.full(count, LEFT, np.float32)
    sigma[STATES.index(of("gaussian_blur", 3)) - FIRST_RESTORED] = 0.0
    beta = np.full((count, 2, 4), 0.25, np.float32)
    levels = Levels(
        np.array([0, 0.2], np.float32), np.array([[0, 0.2]] * 2, np.float32), np.float32(0.01)
    )
    restorer = Restorer(basis[0], repeated(blur, count), sigma, beta)
    return Transformation(levels, None, np.ones((4, 2, 4), np.float32), recogniser, restorer)


def test_only_what_pays_is_undone(faces, transformation):
    clean = faces[:1]
    blurred, grey = (degraded(clean, of(kind, 3)) for kind in ("gaussian_blur", "contrast"))
    images = np.concatenate([clean, blurred, grey])
    treated = treat(images, transformation)
    states = [STATES[i].kind for i in np.asarray(treated.state)]
    assert states == [NONE, "gaussian_blur", NONE]
    np.testing.assert_array_equal(treated.images[0], clean[0])
    np.testing.assert_array_equal(treated.images[2], grey[0])
    assert np.abs(treated.images[1] - blurred[0]).max() > 0.01
    np.testing.assert_array_equal(np.asarray(treated.beta)[:, 0, 0], [1, 0.25, 1])
    assert np.asarray(treated.sigma)[1] == 0


def test_an_unknown_image_is_restored_if_it_then_looks_clean(faces, transformation):
    """A limit of 0 makes every image unknown."""
    blur = STATES.index(of("gaussian_blur", 3))
    images = degraded(faces[:4], STATES[blur])
    known = transformation.recogniser
    looks = clean_distance(treat(images, transformation).images, known)
    for limit, restored in ((-1, 0), (np.sort(looks)[1:3].mean(), 2), (np.max(looks) + 1, 4)):
        clean_limit = np.array(known.clean_limit)
        clean_limit[blur] = limit
        unknown = known._replace(limit=np.zeros_like(known.limit), clean_limit=clean_limit)
        careful = transformation._replace(recogniser=unknown)
        treated = treat(images, careful)
        undone = np.asarray(treated.state) == blur
        alone = [int(treat(image[None], careful).state[0]) for image in images]
        np.testing.assert_array_equal(treated.state, alone)
        assert undone.sum() == restored
        np.testing.assert_array_equal(undone, np.asarray(looks) <= limit)
        np.testing.assert_array_equal(treated.images[~undone], images[~undone])


def test_a_known_sigma_turns_the_recogniser_off(faces, transformation):
    blurred = degraded(faces[:2], of("gaussian_blur", 3))
    treated = treat(blurred, transformation, 0.0)
    assert not np.asarray(treated.state).any()
    np.testing.assert_array_equal(treated.images, blurred)


def test_a_treatment_does_not_depend_on_the_batch(faces, transformation):
    images = np.concatenate([faces[:2], degraded(faces[2:5], of("gaussian_blur", 3))])
    whole = treat(images, transformation)
    for i in range(len(images)):
        alone = treat(images[i : i + 1], transformation)
        np.testing.assert_allclose(whole.images[i], alone.images[0], atol=1e-5)
        assert whole.state[i] == alone.state[0]


def test_few_images_have_few_components(pictures):
    found, variance = fit_basis(pictures[:10])
    assert found.components.shape == (SIDE * SIDE * 3, 10 // restoring.IMAGES_PER_COMPONENT)
    assert (variance > 0).all()


def test_components_need_images_that_states_are_fitted_to(pictures):
    found, _ = fit_basis(pictures, 12)
    assert found.components.shape[1] == 12 // restoring.IMAGES_PER_COMPONENT
    for one, other in zip(fit_basis(pictures, IMAGES)[0], fit_basis(pictures)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_treatment_is_exported_for_any_batch(faces, transformation):
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, SIDE, SIDE, 3), jnp.float32)
    run = jax.jit(lambda images: (lambda x: (x.images, x.state))(treat(images, transformation)))
    exported = jax.export.export(run)(shape)
    images = np.concatenate([faces[:2], degraded(faces[2:5], of("gaussian_blur", 3))])
    expected = treat(images, transformation)
    for count in (1, 5):
        found, state = exported.call(images[:count])
        np.testing.assert_allclose(found, expected.images[:count], atol=1e-5)
        np.testing.assert_array_equal(state, expected.state[:count])
