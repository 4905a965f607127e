"""A browser for tests: Debian's Chromium, or Playwright's own (`playwright install chromium`).

Without one a test is skipped; with IAMT_BROWSER=required it fails instead.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

SCHEMES = ["light", "dark"]
PHONE = {"width": 375, "height": 800}


def required():
    """Whether a test may not be skipped."""
    return os.environ.get("IAMT_BROWSER") == "required"


def absent(reason):
    """Something that the test needs is not installed."""
    if required():
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def chromium():
    """A browser without a window."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("Playwright is not installed: pip install -e '.[test]'")
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = shutil.which("chromium") or (own if Path(own).exists() else None)
        if path is None:
            absent("no Chromium: apt-get install chromium, or playwright install chromium")
        # Chromium's sandbox does not start for root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
