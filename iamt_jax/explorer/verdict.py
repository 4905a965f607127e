"""Effect of damage and treatment on the answers: counts, and sentences in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from iamt_jax.explorer.damage import damage_name, damage_subject, damage_title, is_damaging
from iamt_jax.explorer.view import Picture, Settings, ViewResult
from iamt_jax.metrics.classification import HALF


class Verdict(NamedTuple):
    """The answers to the clean, the damaged and the treated picture, judged."""

    answers: Bool[np.ndarray, "3 attribute"]
    """True is yes; the pictures are in the order of `ViewResult.probabilities`."""
    labels: list[bool | None]
    """True label of each attribute; None is unknown."""
    bad: Bool[np.ndarray, "3 attribute"]
    """Answers that differ from the true labels or, for a picture without labels, from the answers
    to the clean picture."""

    @property
    def is_labelled(self) -> bool:
        """True if the picture has true labels."""
        return any(label is not None for label in self.labels)

    @property
    def flipped(self) -> list[int]:
        """Number of answers that differ from those to the clean picture."""
        return (self.answers != self.answers[0]).sum(1).tolist()

    def count(self, picture: int) -> str:
        """Number of bad answers to one of the pictures, such as "3 wrong"."""
        kind = "wrong" if self.is_labelled else "flipped"
        return f"{self.bad[picture].sum()} {kind}"


def judged(names: Sequence[str], result: ViewResult, picture: Picture) -> Verdict:
    """Judges the answers by the picture's labels, or by those to the clean picture."""
    answers = result.probabilities > HALF
    labels = [picture.labels.get(name) for name in names]
    if picture.labels:
        bad = np.array(
            [
                [label is not None and bool(answer) != label for answer, label in pairs]
                for pairs in (list(zip(row, labels, strict=True)) for row in answers)
            ]
        )
    else:
        bad = answers != answers[0]
    return Verdict(answers, labels, bad)


def sentences(verdict: Verdict, result: ViewResult, settings: Settings) -> list[str]:
    """Says what damage and treatment did: how many answers they flipped and, for a picture with
    labels, how many are wrong."""
    _, damaged, now = verdict.flipped
    total = f"of {len(verdict.labels)} answers"
    by = treatment_name(result)
    is_damaged = is_damaging(settings.damage)
    if is_damaged:
        said = f"{damage_subject(settings.damage)} flipped {damaged} {total}"
        if by:
            said += f"; after {by} {now} {'is' if now == 1 else 'are'}"
            said += f"{' still' if 0 < now <= damaged else ''} flipped"
    elif by:
        said = f"No noise; {by} flipped {now} {total}"
    else:
        said = "No noise and no treatment: nothing is flipped"
    if not verdict.is_labelled:
        return [said + "."]
    clean, damaged, now = verdict.bad.sum(1).tolist()
    wrong = f"Wrong answers: {clean} on the clean picture"
    wrong += f", {damaged} under {damage_name(settings.damage)}" if is_damaged else ""
    wrong += f", {now} after {by}" if by else ""
    return [said + ".", wrong + "."]


def picture_titles(result: ViewResult, settings: Settings) -> tuple[str, str, str]:
    """Titles of the clean, the damaged and the treated picture."""
    if result.chosen:
        treated = "after auto"
    elif result.is_own:
        treated = "not treated"
    else:
        treated = f"n {result.curve.n:g}, β {result.curve.beta:.2f}"
    return "clean", damage_title(settings.damage), treated


def treatment_name(result: ViewResult) -> str | None:
    """Name of the treatment in a sentence; None for the network's own curve."""
    if result.chosen:
        return "auto"
    return None if result.is_own else "the tone curve"
