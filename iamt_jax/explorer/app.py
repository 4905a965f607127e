"""The page: its controls and their event handlers, in Gradio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from iamt_jax.degradation.severities import SEVERITIES
from iamt_jax.errors import InputError
from iamt_jax.explorer import drawing
from iamt_jax.explorer.address import N_VALUES, PageState, restored
from iamt_jax.explorer.calibrating import Calibrating
from iamt_jax.explorer.damage import (
    KINDS,
    LARGEST_SIGMA,
    NOISE_ENTRY,
    damage_of,
    kind_name,
    kind_of,
    strengths,
)
from iamt_jax.explorer.snapshot import snapshot_png
from iamt_jax.explorer.view import Picture, View
from iamt_jax.inference.predictor import Noise
from iamt_jax.report.overlays import data_uri

EXAMPLES = 6
"""Number of rendered faces offered."""

UPLOAD_MB = 20
"""Largest file that may be uploaded."""

_INVITATION = (
    "A rendered face. Click on another, or drop a photograph "
    f"({UPLOAD_MB} MB at most): its centred square is used."
)

_CURVE_HELP = (
    "n is the contrast of the masks: above 1, open places open further and closed ones close. "
    "β takes away features where a mask is closed: at 0 all of them count, at 1 only what the "
    "mask lets through."
)

_CALIBRATION_HELP = (
    "auto needs a calibration of this network. It is made once, from up to 5,000 training images "
    "without their labels, in some minutes, and stored beside the network."
)

_CALIBRATED = "The network is calibrated: tick auto."

_SECONDS = 0.5
"""Time between two reports of the calibration's progress."""

_SET_ADDRESS = """(parameters) => {
  const address = new URL(location);
  // A page has one of the two.
  for (const name of ["noise", "severity"])
    if (!(name in parameters)) address.searchParams.delete(name);
  for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
  history.replaceState(history.state, "", address);
}"""

_SAVE = """(picture) => {
  if (!picture) return;
  const link = Object.assign(document.createElement("a"), picture);
  document.body.append(link);
  link.click();
  link.remove();
}"""


class Page:
    """The controls and their event handlers; all visitors share one view.

    Args:
      view: the network.
      title: of the network.
      calibrate: writes a calibration into the workdir; raises InputError if it cannot.
    """

    def __init__(self, view: View, title: str, calibrate: Callable[[], None]):
        self._view, self._title = view, title
        self._faces = view.examples(EXAMPLES)
        self._calibrating = Calibrating(lambda: (calibrate(), view.use_calibration()))
        names = view.attributes
        first = "Smiling" if "Smiling" in names else names[0]
        self._first = PageState(0, first, Noise(), 1.0, view.own_beta, False)
        # No usage statistics, whatever the environment variables are.
        with gr.Blocks(title="iamt_jax explorer", analytics_enabled=False) as self.blocks:
            gr.HTML(f"<h1>Explorer</h1>{drawing.note_html(title)}", elem_classes="head")
            self._compared = gr.HTML(elem_id="compared")
            with gr.Row(elem_classes="columns"):
                with gr.Column(scale=1, min_width=280):
                    self._build_inputs()
                    self._curve = gr.HTML(elem_id="curve")
                with gr.Column(scale=2, min_width=280):
                    self._maps = gr.HTML(elem_id="maps")
                    self._order = gr.Radio(
                        list(drawing.ORDERS),
                        value=drawing.ORDERS[0],
                        label="sorted by",
                        elem_id="order",
                    )
                    self._table = gr.HTML(elem_id="table")
            self._address = gr.JSON(visible=False)
            self._saved = gr.JSON(visible=False)
            self._shown = [self._compared, self._maps, self._table, self._curve, self._address]
            first = self._draw(self._faces[0], self._first)
            for part, drawn in zip(self._shown, first, strict=True):
                part.value = drawn
            self._connect()

    def close(self) -> None:
        """Abandons a running calibration; the command ends."""
        self._calibrating.abandon()

    def _build_inputs(self) -> None:
        self._picture = gr.State(self._faces[0])
        self._gallery = gr.Gallery(
            [face.pixels for face in self._faces],
            label="Rendered faces",
            show_label=False,
            columns=EXAMPLES,
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="examples",
        )
        self._file = gr.File(
            label="Photograph",
            show_label=False,
            file_types=["image"],
            height=124,
            elem_id="file",
        )
        self._status = gr.HTML(drawing.note_html(_INVITATION), elem_id="status")
        with gr.Group(elem_id="controls"):
            self._build_controls()
        gr.HTML(drawing.note_html(_CURVE_HELP), elem_id="curve-help")
        missing = not self._view.is_calibrated
        self._calibration = gr.HTML(
            drawing.note_html(_CALIBRATION_HELP), elem_id="calibration", visible=missing
        )
        self._calibrate = gr.Button("Calibrate", elem_id="calibrate", visible=missing)
        self._save = gr.Button("Save as PNG", elem_id="save")

    def _build_controls(self) -> None:
        view, last = self._view, len(N_VALUES) - 1
        self._attribute = gr.Dropdown(
            [(name.replace("_", " "), name) for name in view.attributes],
            value=self._first.attribute,
            label="attribute",
            filterable=True,
            elem_id="attribute",
        )
        self._damage = gr.Dropdown(
            [(kind_name(kind), kind) for kind in KINDS],
            value=NOISE_ENTRY,
            label="damage",
            filterable=True,
            elem_id="damage",
        )
        sigma, severity = strengths(self._first.damage)
        self._sigma = gr.Slider(
            *(0, LARGEST_SIGMA, sigma),
            step=0.01,
            label="noise (sigma)",
            elem_id="sigma",
            buttons=[],
        )
        self._severity = gr.Slider(
            *(SEVERITIES[0], SEVERITIES[-1], severity),
            step=1,
            label="severity",
            visible=False,
            elem_id="severity",
            buttons=[],
        )
        self._auto = gr.Checkbox(
            label="auto: recognise the degradation and undo it",
            interactive=view.is_calibrated,
            elem_id="auto",
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

    def _connect(self) -> None:
        controls = [
            *(self._attribute, self._damage, self._sigma, self._severity),
            *(self._n, self._beta, self._auto, self._order),
        ]
        seen = [self._picture, *controls]
        # While one update is running, only the latest further change is queued.
        options: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "always_last",
        }
        once = options | {"trigger_mode": "once"}
        steps = [_n_html(n) for n in N_VALUES]
        self._n.input(None, self._n, self._said_n, js=f"(i) => {steps}[i]")
        self._auto.input(
            lambda auto: [gr.update(interactive=not auto)] * 2,
            self._auto,
            [self._n, self._beta],
            **options,
        )
        self._damage.input(
            lambda kind: [gr.update(visible=x) for x in _sliders_shown(kind)],
            self._damage,
            [self._sigma, self._severity],
            **options,
        )
        answers = [self._picture, self._status, *self._shown]
        calibration = [self._calibration, self._calibrate, self._auto]
        drawn = [
            gr.on([x.input for x in controls], self.moved, seen, self._shown, **options),
            self._file.upload(
                self.uploaded, [self._file, *controls], [self._file, *answers], **options
            ),
            self._gallery.select(self.example, controls, answers, **options),
            self.blocks.load(self.opened, None, [*controls, self._said_n, *answers], **options),
        ]
        for event in drawn:
            event.then(None, self._address, None, js=_SET_ADDRESS)
        drawn[-1].then(self.followed, None, calibration, **options)
        self._calibrate.click(self.calibrated, None, calibration, **once)
        self._save.click(self.saved, seen, self._saved, **once).then(
            None, self._saved, None, js=_SAVE
        )

    def opened(self, request: gr.Request) -> tuple:
        """Returns the page's content for the parameters of its address."""
        state = restored(
            request.query_params,
            self._first,
            self._view.attributes,
            len(self._faces),
            self._view.is_calibrated,
        )
        note = _INVITATION
        if state.face is None:
            note, state = "The photograph was not kept; drop it again.", state._replace(face=0)
        face, curve = self._faces[state.face], {"interactive": not state.auto}
        kind = kind_of(state.damage)
        sliders = [
            gr.update(value=value, visible=shown)
            for value, shown in zip(strengths(state.damage), _sliders_shown(kind), strict=True)
        ]
        return (
            state.attribute,
            kind,
            *sliders,
            gr.update(value=N_VALUES.index(state.n), **curve),
            gr.update(value=state.beta, **curve),
            gr.update(value=state.auto, interactive=self._view.is_calibrated),
            state.order,
            _n_html(state.n),
            face,
            drawing.note_html(note),
            *self._draw(face, state),
        )

    def moved(self, picture: Picture, *controls: Any) -> tuple:
        """Returns the page's content after a control was changed."""
        return self._draw(picture, self._state(picture, *controls))

    def uploaded(self, path: str, *controls: Any) -> tuple:
        """Returns the page's content for an uploaded file, and deletes the file."""
        name = os.path.basename(path)
        data = Path(path).read_bytes()
        Path(path).unlink()
        try:
            picture = self._view.picture(data, name)
        except InputError as error:
            unchanged = [gr.skip()] * len(self._shown)
            return None, gr.skip(), drawing.error_html(str(error)), *unchanged
        return None, picture, drawing.note_html(name), *self.moved(picture, *controls)

    def example(self, event: gr.SelectData, *controls: Any) -> tuple:
        """Returns the page's content for a rendered face."""
        face = self._faces[event.index]
        note = drawing.note_html(f"Rendered face {face.face + 1}")
        return face, note, *self.moved(face, *controls)

    def saved(self, picture: Picture, *controls: Any) -> dict[str, str]:
        """Returns the link to a PNG of what the page shows: `href` and `download`."""
        state = self._state(picture, *controls)
        png = snapshot_png(
            self._view.attributes,
            self._view.compute(picture.pixels, state.settings),
            state.settings,
            picture,
            state.order,
            self._title,
        )
        return {"href": data_uri(png, "png"), "download": f"explorer-{state.attribute}.png"}

    def calibrated(self) -> Iterator[tuple]:
        """Starts a calibration, unless one is running, and yields its progress."""
        self._calibrating.start()
        yield from self._progress()

    def followed(self) -> Iterator[tuple]:
        """Yields the progress of a calibration that another visitor started, if there is one."""
        if self._calibrating.is_running:
            yield from self._progress()
        else:
            missing = gr.update(visible=not self._view.is_calibrated)
            yield missing, missing, gr.skip()

    def _progress(self) -> Iterator[tuple]:
        job = self._calibrating
        while job.is_running:
            words = drawing.progress_html(f"Calibrating: {job.stage}", job.done)
            yield words, gr.update(interactive=False), gr.skip()
            job.wait(_SECONDS)
        if job.problem:
            line = drawing.error_html(f"Not calibrated: {job.problem}")
            yield line, gr.update(interactive=True), gr.skip()
        else:
            done = drawing.note_html(_CALIBRATED)
            yield done, gr.update(visible=False), gr.update(interactive=True)

    def _state(
        self,
        picture: Picture,
        attribute: str,
        kind: str,
        sigma: float,
        severity: float,
        n: int,
        beta: float,
        auto: bool,
        order: drawing.Order,
    ) -> PageState:
        """The controls' values as a state."""
        damage = damage_of(kind, sigma, int(severity))
        return PageState(picture.face, attribute, damage, N_VALUES[int(n)], beta, auto, order)

    def _draw(self, picture: Picture, state: PageState) -> tuple:
        """The HTML of the page's parts, and the parameters of its address."""
        names, settings = self._view.attributes, state.settings
        result = self._view.compute(picture.pixels, settings)
        return (
            drawing.compared_html(names, result, settings, picture),
            drawing.maps_html(result, settings),
            drawing.table_html(names, result, settings, picture, state.order),
            drawing.curve_html(result, settings),
            state.parameters(),
        )


def _n_html(n: float) -> str:
    return f"n <b>{n:g}</b>"


def _sliders_shown(kind: str) -> tuple[bool, bool]:
    """Visibility of the sliders of sigma and of severity for a kind of damage."""
    return kind == NOISE_ENTRY, kind != NOISE_ENTRY
