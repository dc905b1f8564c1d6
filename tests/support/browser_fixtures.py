"""A real browser, for the sidecar's page: Chromium, started once for each file of tests.

`scripts/browser` installs it. Playwright's own event loop lives as long as the browser does, so
that tests which use both must be plain functions; what they look at runs in a thread.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import pytest
from playwright.sync_api import Browser, Error, sync_playwright
from tests.support.page_app import PageApp

T = TypeVar("T")

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


class Beside:
    """A page's application that is served in a thread, with an event loop of its own."""

    def __init__(self, app: PageApp) -> None:
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Beside:
        self._thread.start()
        self._ready.result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def do(self, action: Callable[[], T]) -> T:
        """Call a function in the application's thread, and return what it does."""

        async def call() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self.app.served():
            self._ready.set_result(None)
            await self._end.wait()
