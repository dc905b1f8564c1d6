"""Telling what is going on, on standard error: lines, and on a terminal a bar for long work."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Self, TextIO

from longshore.config_secrets import hider
from longshore.errors import LongshoreError, NotCached
from longshore.ops.report import Report
from longshore.surroundings import World
from longshore.wording import clean, period, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEARTBEAT_SECONDS = 60.0  # a CI service takes a job that is silent for minutes to be stuck
_MAX_LINE = 4000
_YELLOW, _RED, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[0m"


class Warned(NamedTuple):
    """Something that went wrong without ending the work."""

    error: LongshoreError
    text: str


class LineReport(Report):
    """Say each step in a line; long ones again when they end, and once a minute meanwhile.

    Args:
        hide: takes secrets out of a text.
        clock: a clock of seconds that never goes back.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool,
        colour: bool,
        hide: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.warnings: list[Warned] = []
        self._stream = stream
        self._quiet = quiet
        self._colour = colour
        self._hide = hide
        self._clock = clock
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._began = 0.0
        self._said = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self, text: str) -> None:
        """Say what has been done or found."""
        if not self._quiet:
            self._write(one_line(self._hide(text)))

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        """Say what went wrong, and keep it; a plain miss is no reason for a warning."""
        said = str(error) if text is None else text
        self.warnings.append(Warned(error, said))
        if type(error) is NotCached:
            self.line(said)
        else:
            self.say("warning", said, _YELLOW)

    def fail(self, error: LongshoreError) -> None:
        """Say what ended the work."""
        self.say("error", str(error), _RED)

    def say(self, word: str, text: str, colour: str = _YELLOW) -> None:
        """Say something that is never held back."""
        prefix = f"{colour}{word}:{_PLAIN}" if self._colour else f"{word}:"
        self._write(f"{prefix} {one_line(self._hide(text))}")

    def begin(self, what: str, total_bytes: int | None) -> None:
        """Begin a long step."""
        self._what, self._total, self._done = what, total_bytes, 0
        self._began = self._said = self._clock()

    def advance(self, done_bytes: int) -> None:
        """Tell progress of the long step."""
        self._done += done_bytes
        now = self._clock()
        if now - self._said >= HEARTBEAT_SECONDS:
            self._said = now
            self.line(f"{self._what}: {self._amount()} so far{self._rate(now)}")

    def end(self) -> None:
        """End the long step."""
        if not self._done:
            return
        now = self._clock()
        took = period(timedelta(seconds=now - self._began))
        self.line(f"{self._what}: {size(self._done)} in {took}{self._rate(now)}")

    def close(self) -> None:
        """Take away what is not to stay on the screen."""

    def _amount(self) -> str:
        done = size(self._done)
        return f"{done} of {size(self._total)}" if self._total else done

    def _rate(self, now: float) -> str:
        seconds = now - self._began
        return f" ({size(self._done / seconds)}/s)" if seconds > 0.1 and self._done else ""

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


class BarReport(LineReport):
    """Show long steps as a bar with bytes, rate and time left; lines stand above it."""

    def __init__(
        self, stream: TextIO, *, quiet: bool, colour: bool, hide: Callable[[str], str] = str
    ) -> None:
        super().__init__(stream, quiet=quiet, colour=colour, hide=hide)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, what: str, total_bytes: int | None) -> None:
        """Begin a long step."""
        super().begin(what, total_bytes)
        if self._quiet:
            return
        self.close()
        self._progress = _make_bar(self._stream, colour=self._colour)
        self._task = self._progress.add_task(clean(what), total=total_bytes or None)
        self._progress.start()

    def advance(self, done_bytes: int) -> None:
        """Tell progress of the long step."""
        self._done += done_bytes
        if self._progress is not None and self._task is not None:
            # The total is an estimate; a bar that runs over would say more than 100 %.
            shown = min(self._done, self._total) if self._total else self._done
            self._progress.update(self._task, completed=shown)

    def end(self) -> None:
        """End the long step."""
        self.close()
        super().end()

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None

    def _write(self, text: str) -> None:
        if self._progress is None:
            super()._write(text)
            return
        from rich.text import Text

        # As text, so that nothing in it is taken for markup.
        self._progress.console.print(Text.from_ansi(text), soft_wrap=True)


def one_line(text: str) -> str:
    """Clean a text, and cut what is longer than anything that there is to say."""
    return clean(text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]}…")


def make_report(world: World, *, quiet: bool) -> LineReport:
    """Choose how to report, by where standard error goes."""
    dumb = world.environment.get("TERM", "") == "dumb"
    terminal = world.stderr.isatty() and not dumb
    # https://no-color.org: set and not empty
    colour = terminal and not world.environment.get("NO_COLOR")
    hide = hider(world.environment)
    if terminal and not world.environment.get("CI"):
        return BarReport(world.stderr, quiet=quiet, colour=colour, hide=hide)
    return LineReport(world.stderr, quiet=quiet, colour=colour, hide=hide)


def _make_bar(stream: TextIO, *, colour: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(
        file=stream,
        force_terminal=True,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
    )
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        expand=True,
    )
