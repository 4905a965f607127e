"""The page: controls, and what each of them changes. Gradio is known here and in `serving`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from iamt_jax.errors import InputError
from iamt_jax.explorer import drawing
from iamt_jax.explorer.view import Settings, View

N_VALUES = (
    *(0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1),
    *(1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10),
)
"""Powers that the slider steps through."""

EXAMPLES = 6
"""Rendered faces to begin with."""

UPLOAD_MB = 20
"""Largest file that may be uploaded."""

LARGEST_SIGMA = 0.5

FIRST_NOTE = "A rendered face. Drop a photograph above: its centred square is taken."

Square = UInt8[np.ndarray, "size size 3"]


class Page:
    """The controls and their handlers, over one view that all visitors share."""

    def __init__(self, view: View, title: str):
        self._view = view
        self._faces = view.examples(EXAMPLES)
        names = view.attributes
        self._first = "Smiling" if "Smiling" in names else names[0]
        # No usage statistics, whatever the environment says.
        with gr.Blocks(title="iamt_jax explorer", analytics_enabled=False) as self.blocks:
            gr.HTML(f"<h1>Explorer</h1>{drawing.note(title)}", elem_classes="head")
            with gr.Row():
                with gr.Column(scale=1, min_width=280):
                    self._build_inputs()
                    self._curve = gr.HTML(elem_id="curve")
                with gr.Column(scale=2, min_width=280):
                    self._pictures = gr.HTML(elem_id="pictures")
                    self._order = gr.Radio(
                        list(drawing.ORDERS),
                        value=drawing.ORDERS[0],
                        label="sorted by",
                        elem_id="order",
                    )
                    self._table = gr.HTML(elem_id="table")
            shown = [self._pictures, self._table, self._curve]
            first = self._drawn(self._faces[0], Settings(self._first), drawing.ORDERS[0])
            for part, drawn in zip(shown, first, strict=True):
                part.value = drawn
            self._connect(shown)

    def _build_inputs(self) -> None:
        view = self._view
        self._picture = gr.State(self._faces[0])
        self._file = gr.File(
            label=f"Photograph, {UPLOAD_MB} MB at most",
            file_types=["image"],
            height=140,
            elem_id="file",
        )
        self._gallery = gr.Gallery(
            list(self._faces),
            label="Rendered faces",
            show_label=False,
            columns=EXAMPLES,
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="examples",
        )
        self._status = gr.HTML(drawing.note(FIRST_NOTE))
        with gr.Group(elem_id="controls"):
            self._build_controls()
        if view.no_auto:
            gr.HTML(drawing.note(f"No auto: {view.no_auto}"), elem_id="no-auto")

    def _build_controls(self) -> None:
        view, last = self._view, len(N_VALUES) - 1
        self._sigma = gr.Slider(
            0, LARGEST_SIGMA, 0, step=0.01, label="noise (sigma)", elem_id="sigma", buttons=[]
        )
        self._said_n = gr.HTML(_said_n(1), elem_id="said-n")
        self._n = gr.Slider(
            *(0, last, N_VALUES.index(1)),
            step=1,
            label="n",
            show_label=False,
            elem_id="n",
            buttons=[],
        )
        self._beta = gr.Slider(0, 1, 0, step=0.01, label="β", elem_id="beta", buttons=[])
        self._auto = gr.Checkbox(
            label="auto: estimate the noise and choose the treatment",
            interactive=view.no_auto is None,
            elem_id="auto",
        )
        self._attribute = gr.Dropdown(
            [(name.replace("_", " "), name) for name in view.attributes],
            value=self._first,
            label="masks of",
            filterable=True,
            elem_id="attribute",
        )

    def _connect(self, shown: list[gr.HTML]) -> None:
        controls = [self._sigma, self._n, self._beta, self._auto, self._attribute, self._order]
        # While an answer is under way only the last of further movements waits.
        options: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "always_last",
        }
        moved = [control.input for control in controls]
        gr.on(moved, self.moved, [self._picture, *controls], shown, **options)
        steps = [_said_n(n) for n in N_VALUES]
        self._n.input(None, self._n, self._said_n, js=f"(i) => {steps}[i]")
        self._auto.input(
            lambda auto: [gr.update(interactive=not auto)] * 2,
            self._auto,
            [self._n, self._beta],
            **options,
        )
        answers = [self._picture, self._status, *shown]
        self._file.upload(self.uploaded, [self._file, *controls], [self._file, *answers], **options)
        self._gallery.select(self.example, controls, answers, **options)

    def moved(self, picture: Square, *controls: Any) -> tuple[str, str, str]:
        """What is shown after a control was moved."""
        return self._drawn(picture, *_settings(*controls))

    def uploaded(self, path: str, *controls: Any) -> tuple:
        """What is shown after a file was dropped; it does not stay on the disk."""
        name = os.path.basename(path)
        data = Path(path).read_bytes()
        Path(path).unlink()
        try:
            picture = self._view.picture(data, name)
        except InputError as error:
            return None, gr.skip(), drawing.problem(str(error)), *[gr.skip()] * 3
        drawn = self._drawn(picture, *_settings(*controls))
        return None, picture, drawing.note(name), *drawn

    def example(self, event: gr.SelectData, *controls: Any) -> tuple:
        """What is shown after a rendered face was chosen."""
        face = self._faces[event.index]
        drawn = self._drawn(face, *_settings(*controls))
        return face, drawing.note(f"Rendered face {event.index + 1}"), *drawn

    def _drawn(
        self, picture: Square, settings: Settings, order: drawing.Order
    ) -> tuple[str, str, str]:
        seen = self._view.see(picture, settings)
        return (
            drawing.pictures(seen, settings),
            drawing.table(self._view.attributes, seen, order),
            drawing.curve(seen, settings),
        )


def _settings(
    sigma: float, n: int, beta: float, auto: bool, attribute: str, order: drawing.Order
) -> tuple[Settings, drawing.Order]:
    """What the controls say."""
    return Settings(attribute, sigma, N_VALUES[int(n)], beta, auto), order


def _said_n(n: float) -> str:
    return f"n <b>{n:g}</b>"
