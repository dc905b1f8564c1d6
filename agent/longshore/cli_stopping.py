"""Signals, for work that blocks: raised where it can be interrupted, held back elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from longshore.cli_running import SIGNALS, Interrupted


class Stopping:
    """While it is open, the first signal raises `Interrupted`; a second one ends the process."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._held = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def later(self) -> Generator[None, None, None]:
        """Hold a signal back while something must not be interrupted; `now` raises it."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    @contextmanager
    def when_whole(self) -> Generator[None, None, None]:
        """Hold a signal back while something is made of several parts, and raise it then.

        Raises:
            Interrupted: a signal came.
        """
        with self.later():
            yield
        self.now()

    def now(self) -> None:
        """Raise what was held back.

        Raises:
            Interrupted: a signal came.
        """
        if self._came is not None:
            raise Interrupted(self._came)

    def _come(self, number: int, _: FrameType | None) -> None:
        if self._came is not None:
            os._exit(128 + number)
        self._came = number
        if not self._held:
            raise Interrupted(number)
