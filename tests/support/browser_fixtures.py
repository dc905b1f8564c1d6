"""A real browser, for the sidecar's page: Chromium, started once for each file of tests.

`scripts/browser` installs it. Playwright's own event loop lives as long as the browser does, so
that tests which use both must be plain functions; what they look at runs in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, sync_playwright
from tests.support.loop_thread import InThread
from tests.support.page_app import PageApp

# Read now: the tests themselves see no variables of the host.
_BROWSER = os.environ.get("LONGSHORE_CHROMIUM") or "chromium"
_REQUIRED = os.environ.get("LONGSHORE_REQUIRE_ENGINES") == "1"
_WHY_NOT = os.environ.get("LONGSHORE_NO_BROWSER", "")
_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium without a window; where there is none, its tests are skipped."""
    path = shutil.which(_BROWSER)
    if path is None:
        _give_up(_WHY_NOT or "scripts/browser installs it")
    # Chromium's sandbox does not run as root.
    arguments = [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=path, args=arguments)
        except Error as error:
            _give_up(str(error).splitlines()[0])
        yield started
        started.close()


def _give_up(reason: str) -> None:
    text = f"no Chromium could be started ({reason})"
    if _REQUIRED:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


class Beside(InThread):
    """A page's application that is served in a thread, with an event loop of its own."""

    def __init__(self, app: PageApp) -> None:
        super().__init__(app.served())
        self.app = app
