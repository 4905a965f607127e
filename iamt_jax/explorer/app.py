"""The page: its controls and their event handlers, in Gradio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr

from iamt_jax.errors import InputError
from iamt_jax.explorer import drawing
from iamt_jax.explorer.view import Settings, Square, View
from iamt_jax.robust.treatment import ToneCurve

N_VALUES = (
    *(0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1),
    *(1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10),
)
"""Values of n on the slider."""

EXAMPLES = 6
"""Number of rendered faces offered."""

UPLOAD_MB = 20
"""Largest file that may be uploaded."""

LARGEST_SIGMA = 0.5
"""End of the noise slider, [0, 1] pixel units."""

FIRST_NOTE = "A rendered face. Drop a photograph above: its centred square is used."


class Page:
    """The controls and their event handlers; all visitors share one view."""

    def __init__(self, view: View, title: str):
        self._view = view
        self._faces = view.examples(EXAMPLES)
        names = view.attributes
        self._first = "Smiling" if "Smiling" in names else names[0]
        # No usage statistics, whatever the environment variables are.
        with gr.Blocks(title="iamt_jax explorer", analytics_enabled=False) as self.blocks:
            gr.HTML(f"<h1>Explorer</h1>{drawing.note_html(title)}", elem_classes="head")
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
            first = self._draw(
                self._faces[0],
                Settings(self._first, curve=ToneCurve(1.0, view.own_beta)),
                drawing.ORDERS[0],
            )
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
        self._status = gr.HTML(drawing.note_html(FIRST_NOTE))
        with gr.Group(elem_id="controls"):
            self._build_controls()
        if view.no_auto:
            gr.HTML(drawing.note_html(f"No auto: {view.no_auto}"), elem_id="no-auto")

    def _build_controls(self) -> None:
        view, last = self._view, len(N_VALUES) - 1
        self._sigma = gr.Slider(
            0, LARGEST_SIGMA, 0, step=0.01, label="noise (sigma)", elem_id="sigma", buttons=[]
        )
        self._said_n = gr.HTML(_n_html(1), elem_id="said-n")
        self._n = gr.Slider(
            *(0, last, N_VALUES.index(1)),
            step=1,
            label="n",
            show_label=False,
            elem_id="n",
            buttons=[],
        )
        self._beta = gr.Slider(
            0, 1, view.own_beta, step=0.01, label="β", elem_id="beta", buttons=[]
        )
        self._auto = gr.Checkbox(
            label="auto: estimate the noise and apply the calibration",
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
        # While one update is running, only the latest further change is queued.
        options: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "always_last",
        }
        moved = [control.input for control in controls]
        gr.on(moved, self.moved, [self._picture, *controls], shown, **options)
        steps = [_n_html(n) for n in N_VALUES]
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
        """Returns the page's HTML after a control was changed."""
        return self._draw(picture, *_settings(*controls))

    def uploaded(self, path: str, *controls: Any) -> tuple:
        """Returns the page's content for an uploaded file, and deletes the file."""
        name = os.path.basename(path)
        data = Path(path).read_bytes()
        Path(path).unlink()
        try:
            picture = self._view.picture(data, name)
        except InputError as error:
            return None, gr.skip(), drawing.error_html(str(error)), *[gr.skip()] * 3
        drawn = self._draw(picture, *_settings(*controls))
        return None, picture, drawing.note_html(name), *drawn

    def example(self, event: gr.SelectData, *controls: Any) -> tuple:
        """Returns the page's content for a rendered face."""
        face = self._faces[event.index]
        drawn = self._draw(face, *_settings(*controls))
        return face, drawing.note_html(f"Rendered face {event.index + 1}"), *drawn

    def _draw(
        self, picture: Square, settings: Settings, order: drawing.Order
    ) -> tuple[str, str, str]:
        result = self._view.compute(picture, settings)
        return (
            drawing.pictures_html(result, settings),
            drawing.table_html(self._view.attributes, result, order),
            drawing.curve_html(result, settings),
        )


def _settings(
    sigma: float, n: int, beta: float, auto: bool, attribute: str, order: drawing.Order
) -> tuple[Settings, drawing.Order]:
    """The controls' values as settings, and the order of the table."""
    curve = None if auto else ToneCurve(N_VALUES[int(n)], beta)
    return Settings(attribute, sigma, curve), order


def _n_html(n: float) -> str:
    return f"n <b>{n:g}</b>"
