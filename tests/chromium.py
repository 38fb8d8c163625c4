"""A headless Chromium for tests, or the reason why there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

NEEDED = "LLM_SWEEP_NEED_BROWSER"
"""Environment variable under which a missing browser fails tests instead of skipping them."""
CHOSEN = "LLM_SWEEP_CHROMIUM"
"""Environment variable with the path of a Chromium or Chrome."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of `LLM_SWEEP_CHROMIUM`, of the system, or Playwright's own."""
    found = os.environ.get(CHOSEN) or next(filter(None, map(shutil.which, NAMES)), None)
    flags = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=flags)
        except Error as error:
            if os.environ.get(NEEDED):
                raise
            pytest.skip(f"no Chromium; install one or set {CHOSEN}: {str(error).splitlines()[0]}")
        yield browser
        browser.close()
