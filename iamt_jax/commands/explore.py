"""The command `explore`: a local page to try a trained network."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import Workdir, check_range, check_workdir, parse
from iamt_jax.config import LARGEST_SEED
from iamt_jax.errors import InputError

_GRADIO = 6
"""Major version of Gradio that the page is written for."""

_LARGEST_PORT = 65535


@dataclass(frozen=True)
class ExploreArguments:
    """Serves a local page that shows the network's probabilities, tone curve and masks.

    Takes any photograph, noise or another degradation, n and beta. Needs
    pip install 'iamt-jax[explore]'.
    """

    workdir: Workdir = tyro.MISSING
    """Folder that training wrote."""
    host: str = "127.0.0.1"
    """Address to serve on. On any other than this machine's own, others can use the page; there is
    no password."""
    port: int | None = None
    """Port to serve on; by default the first free one from 7860."""
    browser: bool = True
    """Open the page in a browser, where there is a screen."""
    seed: int = 0
    """Seed of the noise and of the degradations."""


def run_explore(arguments: Sequence[str]) -> int:
    """Runs the command, which serves the page until Ctrl-C; returns the exit status."""
    chosen = parse(ExploreArguments, arguments, "-m iamt_jax explore")
    if chosen.port is not None:
        check_range("port", chosen.port, 1, _LARGEST_PORT)
    check_range("seed", chosen.seed, 0, LARGEST_SEED)
    _check_gradio()

    from iamt_jax.explorer import serving

    if not serving.is_local(chosen.host):
        print(
            f"warning: --host {chosen.host}: whoever reaches this machine can use the page; it "
            "has no password",
            file=sys.stderr,
        )
    with (
        contextlib.closing(serving.bind_port(chosen.host, chosen.port)) as listener,
        serving.gradio_environment(),
        contextlib.closing(_page(chosen)) as page,
    ):
        named = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        address = f"http://{named}:{listener.getsockname()[1]}"

        def ready() -> None:
            print(f"exploring {chosen.workdir} at {address} (Ctrl-C ends it)", flush=True)
            if chosen.browser:
                serving.open_browser(address)

        with contextlib.suppress(KeyboardInterrupt):  # Ends the command.
            serving.serve(page, listener, chosen.host, ready)
    return 0


def _check_gradio() -> None:
    """Raises InputError if the right version of Gradio is not installed."""
    install = "run pip install 'iamt-jax[explore]'"
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"explore: Gradio is not installed, and the page needs it; {install}"
        ) from None
    if version.split(".")[0] != str(_GRADIO):
        raise InputError(f"explore: found Gradio {version}, expected {_GRADIO}.x; {install}")


def _page(chosen: ExploreArguments):
    """Builds the page and compiles its programs."""
    check_workdir(chosen.workdir)
    xla_setup.prepare()
    xla_setup.start_devices()

    from iamt_jax.commands.calibrate import make_calibration
    from iamt_jax.explorer.view import View
    from iamt_jax.inference.classifier import load_workdir

    classifier = load_workdir(chosen.workdir)
    view = View(classifier, chosen.seed)
    print("compiling, once, for all settings: some seconds to a minute", flush=True)
    start = time.perf_counter()
    view.warm_up()
    print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)

    from iamt_jax.explorer.app import Page

    return Page(
        view,
        f"{chosen.workdir}, step {classifier.step:,}, {len(view.attributes)} attributes, "
        f"{view.size} pixels",
        functools.partial(make_calibration, classifier),
    )
