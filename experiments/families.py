"""Degradations of ImageNet-C: the network as it is, and under the calibrated transformation.

    PYTHONPATH=. python experiments/families.py --workdir W --out OUT

All see the same degraded images. `--rivals` adds the tone curve of the grid of noise.py with the
best accuracy on validation for each family and severity, BatchNorm's statistics re-estimated on
batches of degraded images, and scikit-image told the degradation (classical.py); `--ceiling` adds a
network trained with degraded images (degraded_copies.py). `--leave-out` makes the recogniser forget
each family while it is measured, as if calibration had never seen it. `--mixtures` adds the
calibrated mixtures of two families. OUT/families.json is written after each score, so that a
stopped run can be resumed; it keeps the scores of other weights, calibrations or images apart.
OUT/families-W.md has a row for each family and what was won back, and OUT/recognised-W.md the
shares of the kinds that the images of each family are near to.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import baselines
import classical
import jax
import jax.numpy as jnp
import numpy as np
from bench import BATCH, Results, Split, batched, load_all, read_split, result_name, run, score
from flax import nnx
from jaxtyping import Array
from noise import BETA_VALUES, N_VALUES

from iamt_jax.degradation.noise import degradation_keys
from iamt_jax.degradation.severities import FAMILIES, SEVERITIES
from iamt_jax.errors import InputError
from iamt_jax.inference.classifier import Classifier
from iamt_jax.progress import progress_bar
from iamt_jax.robust.recogniser import Recogniser, recognise
from iamt_jax.robust.states import STATES, ImageState, to_state
from iamt_jax.robust.treatment import ToneCurve, Transformation, Treatment
from iamt_jax.xla_setup import prepare

CLEAN = "clean"
NOISES = tuple(name for name in FAMILIES if name.endswith("_noise"))
METRICS = ("accuracy", "average_precision")
MIXTURES = {state.kind: state for state in STATES if len(state.steps) > 1}
RETRAINED = "retrained"
TUNED_ON = 32
"""Training photographs that scikit-image's parameters are chosen on."""


@dataclass(frozen=True)
class Arguments:
    """Network and families."""

    workdir: Path
    """Workdir of a calibrated run."""
    out: Path = Path("robustness")
    """Folder for results and table."""
    split: str = "test"
    """Split on which they are compared."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Degradations."""
    severities: tuple[int, ...] = SEVERITIES
    """Their severities."""
    images: int | None = None
    """At most this many images of the split."""
    rivals: bool = False
    """Measure the rivals, too."""
    ceiling: Path | None = None
    """Workdir of a run on the same data, trained with degraded images."""
    leave_out: bool = False
    """Let the recogniser forget the family that is measured."""
    mixtures: bool = False
    """Measure the calibrated mixtures, too. Not with --rivals: scikit-image's methods expect a
    single degradation."""


def main(arguments: Arguments) -> None:
    """Compares and writes the tables."""
    prepare()
    if arguments.mixtures and arguments.rivals:
        raise InputError("--mixtures and --rivals: measure them in two runs")
    (trained,) = load_all((arguments.workdir,))
    split = read_split(trained, arguments.split, arguments.images)
    results = Results(arguments.out / "families.json")
    find = jax.jit(_near_states)
    ways = _ways(trained, arguments)
    seen = f"{'left out' if arguments.leave_out else 'auto'}: states"
    names = dict.fromkeys((*ways, seen), result_name(trained, split))
    if arguments.ceiling is not None:
        (retrained,) = load_all((arguments.ceiling,))
        ways[RETRAINED] = lambda case: answered(retrained, case.images)
        names[RETRAINED] = result_name(retrained, split)
    steps = [(CLEAN, 0)]
    steps += [(family, s) for family in arguments.families for s in arguments.severities]
    steps += [(kind, 0) for kind in MIXTURES if arguments.mixtures]
    found, kinds = {}, defaultdict(Counter)
    for family, severity in progress_bar(steps, unit="level", desc="families"):
        key = {
            way: f"{name}/{arguments.split}/{family}/{severity}/{way}"
            for way, name in names.items()
        }
        if results.missing(list(key.values())):
            case = Case(family, severity, split, degraded(split, family, severity))
            for way, answer in ways.items():
                results.once(
                    key[way],
                    lambda answer=answer, case=case: score(
                        answer(case), split.labels, trained.run.majority
                    ),
                )
            states, known = np.zeros(len(case.images), int), trained.transformation
            if known.recogniser is not None:
                known = _known(trained, family, arguments.leave_out)
                states = batched(lambda x, known=known: find(x, known.recogniser), case.images)
            counts = Counter(STATES[state].kind for state in states.tolist())
            results.once(key[seen], lambda counts=counts: dict(counts))
        found[family, severity] = {
            way: 100 * np.array([results.scores[key[way]][metric] for metric in METRICS])
            for way in ways
        }
        kinds[family] += Counter(results.scores[key[seen]])
    last = f"{arguments.workdir.name}{'-left-out' if arguments.leave_out else ''}.md"
    text = table(found, list(ways))
    (arguments.out / f"families-{last}").write_text(text)
    (arguments.out / f"recognised-{last}").write_text(recognised(kinds))
    print(text)


@dataclass(frozen=True)
class Case:
    """One family at one severity."""

    family: str
    severity: int
    split: Split
    images: np.ndarray
    """Degraded."""


_Way = Callable[[Case], np.ndarray]
"""Logits for the images of a case."""


def answered(
    trained: Classifier, images: np.ndarray, treatment: Treatment = ToneCurve()
) -> np.ndarray:
    """Logits of a network."""
    return batched(lambda x: trained.predictor.predict(x, treatment).logits, images)


def _ways(trained: Classifier, arguments: Arguments) -> dict[str, _Way]:
    """Name -> method."""

    def identity(case: Case) -> np.ndarray:
        return answered(trained, case.images)

    def automatic(case: Case) -> np.ndarray:
        return answered(trained, case.images, _known(trained, case.family, arguments.leave_out))

    ways = {"identity": identity, "left out" if arguments.leave_out else "auto": automatic}
    if arguments.rivals:
        ways |= _rivals(trained, arguments)
    return ways


def _rivals(trained: Classifier, arguments: Arguments) -> dict[str, _Way]:
    predictor = trained.predictor
    validation = read_split(trained, "validation", arguments.images)
    tuned_on = read_split(trained, "train", TUNED_ON)
    parts = nnx.split(predictor.network(), nnx.Param, nnx.BatchStat)
    pairs = [(i, j) for i in range(len(N_VALUES)) for j in range(len(BETA_VALUES))]

    def plane(images: np.ndarray) -> np.ndarray:
        return batched(
            lambda x: np.moveaxis(predictor.sweep(x, N_VALUES, BETA_VALUES), 2, 0), images
        )

    def curve(case: Case) -> np.ndarray:
        found = plane(degraded(validation, case.family, case.severity))
        accuracies = [
            score(found[:, i, j], validation.labels, trained.run.majority)["accuracy"]
            for i, j in pairs
        ]
        i, j = pairs[int(np.argmax(accuracies))]
        return plane(case.images)[:, i, j]

    def statistics(case: Case) -> np.ndarray:
        return batched(lambda x: baselines.reestimated_logits(*parts, x), case.images)

    def classically(case: Case) -> np.ndarray:
        images = case.images
        if case.family != CLEAN:
            step = case.family, case.severity
            clean = tuned_on.pictures.astype(np.float32) / 255
            method = classical.choose(clean, *step, degradation_keys(tuned_on.names, *step, 0))
            keys = degradation_keys(case.split.names, *step, 0)
            kernels = classical.blur_kernels(images.shape, *step, keys)
            images = classical.restore_classically(images, method, kernels)
        return answered(trained, images)

    return {"best tone curve": curve, "statistics": statistics, "scikit-image": classically}


def _near_states(images: Array, recogniser: Recogniser) -> Array:
    """The states that images are near to; 0 also for those that are near to none, though some of
    them are restored."""
    found = recognise(images, recogniser)
    return jnp.where(found.near, found.state, 0)


def _known(trained: Classifier, family: str, is_left_out: bool) -> Transformation:
    """The calibration; without the family if it is left out."""
    known = trained.transformation
    return trained.predictor.placed(forgetting(known, family)) if is_left_out else known


def forgetting(transformation: Transformation, family: str) -> Transformation:
    """The transformation, whose recogniser never answers with a state that contains the family."""
    if transformation.recogniser is None:
        return transformation
    offset = np.array(transformation.recogniser.offset)
    for index, state in enumerate(STATES):
        if family == state.kind or any(step == family for step, _ in state.steps):
            offset[index] = np.inf
    return transformation._replace(recogniser=transformation.recogniser._replace(offset=offset))


def table(found: dict[tuple[str, int], dict[str, np.ndarray]], ways: list[str]) -> str:
    """Means of each family over its severities, the worst change of accuracy, and the share of the
    lost average precision that was won back."""
    clean = found[CLEAN, 0]["identity"]
    families = dict.fromkeys(family for family, _ in found if family != CLEAN)
    cells = {
        family: np.array(
            [[scores[way] for way in ways] for (f, _), scores in found.items() if f == family]
        )
        for family in families
    }
    cells["mean without noise"] = np.concatenate(
        [cells[family] for family in families if family not in {*NOISES, *MIXTURES}]
        or [np.zeros((0, len(ways), 2))]
    )
    rows = [
        f"| family | {' | '.join(ways)} | worst change of accuracy | AP won back |",
        f"|{' --- |' * (len(ways) + 3)}",
        "| clean | "
        + " | ".join("{:.2f} / {:.2f}".format(*found[CLEAN, 0][w]) for w in ways)
        + " | | |",
    ]
    for family, values in cells.items():
        if not len(values):
            continue
        mean = values.mean(0)
        change = (values[:, 1, 0] - values[:, 0, 0]).min()
        back = (mean[1, 1] - mean[0, 1]) / max(1e-9, clean[1] - mean[0, 1])
        shown = " | ".join(f"{accuracy:.2f} / {ap:.2f}" for accuracy, ap in mean)
        rows.append(f"| {family} | {shown} | {change:+.2f} | {100 * back:.0f} % |")
    return "\n".join(rows) + "\n"


def recognised(kinds: dict[str, Counter]) -> str:
    """For each family, what its images were taken for, in per cent."""
    rows = ["| images | recognised as |", "| --- | --- |"]
    for family, counts in kinds.items():
        total = counts.total()
        shown = [f"{kind} {100 * n / total:.1f}" for kind, n in counts.most_common(4)]
        rows.append(f"| {family} | {', '.join(shown)} |")
    return "\n".join(rows) + "\n"


def degraded(split: Split, family: str, severity: int) -> np.ndarray:
    """Degrades the images of the split, keyed by their names."""
    clean = split.pictures.astype(np.float32) / 255
    if family == CLEAN:
        return clean
    state = MIXTURES.get(family, ImageState(family, ((family, severity),)))
    return np.concatenate(
        [
            to_state(clean[start : start + BATCH], state, split.names[start : start + BATCH], 0)
            for start in range(0, len(clean), BATCH)
        ]
    )


if __name__ == "__main__":
    run(main, Arguments)
