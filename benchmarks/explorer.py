"""Time that the explorer's server takes for one update, on this machine.

    python benchmarks/explorer.py --workdir W [--json PATH]

An update is the response to a moved slider: noise, probabilities of all attributes with and
without the tone curve, the explanation of one attribute, and their drawing, for one picture. The
time of Gradio and the browser is not included. `ratio_vs_prediction` is the ratio to computing the
probabilities alone; `compiled` counts programs that were compiled after the warm-up.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import measure
import numpy as np
import tyro

from iamt_jax.explorer import drawing
from iamt_jax.explorer.view import Settings, View
from iamt_jax.inference.classifier import load
from iamt_jax.inference.predictor import Noise
from iamt_jax.robust.treatment import ToneCurve
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    workdir: Path
    """A run; a calibrated one is also timed under `auto`."""
    repeats: int = 50
    """Updates of each."""
    json: Path | None = None
    """File to which the figures are written."""


def compare(arguments: Arguments) -> dict[str, Any]:
    """Times updates and a bare prediction in turn; every update has other settings."""
    classifier = load(arguments.workdir)
    view = View(classifier)
    view.warm_up()
    face = view.examples(1)[0]
    images = np.repeat(face.pixels[None], classifier.predictor.devices, 0)
    settings = (
        Settings(name, Noise(sigma), ToneCurve(n, beta))
        for name, sigma, n, beta in zip(
            itertools.cycle(view.attributes),
            itertools.cycle(np.linspace(0, 0.5, 51)),
            itertools.cycle((0.5, 1.0, 2.0, 4.0)),
            itertools.cycle(np.linspace(0, 1, 21)),
            strict=False,
        )
    )

    def compute(auto: bool = False):
        chosen = next(settings)
        chosen = chosen._replace(curve=None) if auto else chosen
        return chosen, view.compute(face.pixels, chosen)

    def update(auto: bool = False) -> None:
        chosen, result = compute(auto)
        drawing.compared_html(view.attributes, result, chosen, face)
        drawing.maps_html(result, chosen)
        drawing.table_html(view.attributes, result, chosen, face)
        drawing.curve_html(result, chosen)

    ways = {
        "update": update,
        "update_without_drawing": lambda: compute()[1].probabilities,
        "prediction": lambda: classifier.predictor.predict(images, ToneCurve(2.0, 0.5)).logits,
    }
    if view.is_calibrated:
        ways["update_auto"] = lambda: update(auto=True)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    ways["prediction"]()
    compiled.clear()
    times = measure.take_turns(ways, arguments.repeats)
    return {
        "ms": {name: 1e3 * seconds for name, seconds in times.items()},
        "ratio_vs_prediction": {
            name: seconds / times["prediction"]
            for name, seconds in times.items()
            if name != "prediction"
        },
        "compiled": len(compiled),
    }


def main(arguments: Arguments) -> None:
    """Prints and writes the figures."""
    prepare()
    measure.report(arguments, compare(arguments), arguments.json)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
