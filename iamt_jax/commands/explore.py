"""`python -m iamt_jax explore`: a local page to play with a trained network."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import check_range, parse
from iamt_jax.config import LARGEST_SEED
from iamt_jax.errors import InputError

GRADIO = 6
"""Major version of Gradio whose interface the page is written to."""

LARGEST_PORT = 65535


@dataclass(frozen=True)
class ExploreArguments:
    """Opens a page of this machine's: drop a photograph, add noise, move n and beta, and see
    probabilities, the tone curve and masks. Needs pip install 'iamt-jax[explore]'."""

    workdir: Path = tyro.MISSING
    """Folder that training wrote."""
    host: str = "127.0.0.1"
    """Address to serve on. Any other than this machine's own lets others use the page, without a
    password."""
    port: int | None = None
    """Port to serve on; by default the first free one from 7860."""
    browser: bool = True
    """Open the page in a browser, where there is a screen."""
    seed: int = 0
    """Seed of the noise."""


def run(arguments: Sequence[str]) -> int:
    """Flags in, exit status out; serves the page until Ctrl-C.

    Raises:
      InputError: bad flags, no Gradio, no run, or a port that cannot be had.
    """
    chosen = parse(ExploreArguments, arguments, "-m iamt_jax explore")
    if chosen.port is not None:
        check_range("port", chosen.port, 1, LARGEST_PORT)
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
    ):
        page = _page(chosen)
        named = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        address = f"http://{named}:{listener.getsockname()[1]}"

        def ready() -> None:
            print(f"exploring {chosen.workdir} at {address} (Ctrl-C ends it)", flush=True)
            if chosen.browser:
                serving.open_browser(address)

        with contextlib.suppress(KeyboardInterrupt):  # The way to end it.
            serving.serve(page, listener, chosen.host, ready)
    return 0


def _check_gradio() -> None:
    """Raises InputError without a Gradio that fits."""
    install = "run pip install 'iamt-jax[explore]'"
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"explore: Gradio is not installed, and the page needs it; {install}"
        ) from None
    if version.split(".")[0] != str(GRADIO):
        raise InputError(f"explore: found Gradio {version}, expected {GRADIO}.x; {install}")


def _page(chosen: ExploreArguments):
    """The page, with its programs compiled."""
    xla_setup.prepare()
    xla_setup.start()

    from iamt_jax.explorer.view import View
    from iamt_jax.inference.classifier import load

    classifier = load(chosen.workdir)
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
    )
