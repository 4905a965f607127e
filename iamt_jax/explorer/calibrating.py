"""The calibration that the page's button starts: one thread, whose progress all visitors see."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable

from iamt_jax import xla_setup
from iamt_jax.errors import InputError
from iamt_jax.progress import progress_reports

_NAMES = {
    "rendering faces": "rendering the training images",
    "checking": "checking the training images",
    "calibrating": "finding the tone curves",
}
"""Description of a progress bar -> words for the page."""


class Calibrating:
    """Calibrates a network in the background.

    Args:
      calibrate: makes the calibration and puts it to use; raises InputError if it cannot.
    """

    def __init__(self, calibrate: Callable[[], None]):
        self._calibrate = calibrate
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_abandoned = False
        self.stage, self.done = "", 0.0
        """Name of the current stage, and the share of it that is done, from 0 to 1."""
        self.problem: str | None = None
        """Why the last calibration failed, in one line."""

    @property
    def is_running(self) -> bool:
        """True until the calibration has ended, well or not."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Starts a calibration; does nothing while one is running."""
        with self._lock:
            if self.is_running:
                return
            self._report("reading the training images", 0)
            self.problem = None
            # Ctrl-C waits for no more than its workers' states, some seconds; the file is written
            # whole or not at all.
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Waits until the calibration has ended, or for some seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def abandon(self) -> None:
        """Keeps quiet about a running calibration, which fails when the command ends."""
        self._is_abandoned = True

    def _run(self) -> None:
        try:
            with xla_setup.default_numbers(), progress_reports(self._report):
                self._calibrate()
        except InputError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"{error.filename}: cannot be used ({error.strerror})"
        except Exception:
            self.problem = "an unexpected error; the terminal of the explorer has its details"
            if not self._is_abandoned:
                traceback.print_exc(file=sys.stderr)

    def _report(self, stage: str, done: float) -> None:
        self.stage, self.done = _NAMES.get(stage, stage), done
