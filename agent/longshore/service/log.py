"""The sidecar's log: a line for each thing that happens, for people or as JSON for programs.

A line is one line whatever is in it, and is never long enough for a container's log to split it.
Secrets do not get in.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, Self, TextIO

from longshore.config_secrets import hider
from longshore.surroundings import World
from longshore.wording import clean

Level = Literal["info", "warning", "error"]
Form = Literal["text", "json"]
Value = str | int | float | bool | None

REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""The id of the HTTP request that is being answered."""

# Docker's log drivers split what is longer than 16 KiB, and half an object is none.
LONGEST = 16 << 10
_LONGEST_MESSAGE = 6000
_LONGEST_TRACE = 7000
_LONGEST_VALUE = 300
_SHORT = 8  # of an id on a terminal: its end, as ids of one day begin alike
_YELLOW, _RED, _DIM, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
_COLOURS: Mapping[Level, str] = {"warning": _YELLOW, "error": _RED}


class Log:
    """Writes lines to a stream, from whichever thread.

    What cannot be written is lost: a full disk or a reader that has gone must not end the sidecar.

    Args:
        now: the time.
        hide: takes secrets out of a text.
        terminal: the stream is one, so ids are short.
        verbose: say more: each request, and tracebacks in text.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        form: Form,
        now: Callable[[], datetime],
        hide: Callable[[str], str] = str,
        colour: bool = False,
        terminal: bool = False,
        verbose: bool = False,
    ) -> None:
        self.verbose = verbose
        self._stream = stream
        self._form = form
        self._now = now
        self._hide = hide
        self._colour = colour
        self._terminal = terminal
        self._writing = threading.RLock()

    @classmethod
    def of(cls, world: World, *, form: Form, now: Callable[[], datetime], verbose: bool) -> Self:
        """Make the log of a process: on standard error, coloured if that is a terminal."""
        environment = world.environment
        terminal = world.stderr.isatty()
        dumb = environment.get("TERM", "") == "dumb"
        return cls(
            world.stderr,
            form=form,
            now=now,
            hide=hider(environment),
            colour=terminal and not dumb and not environment.get("NO_COLOR"),
            terminal=terminal,
            verbose=verbose,
        )

    def line(self, message: str, /, **fields: Value) -> None:
        """Say what has happened."""
        self.say("info", message, fields)

    def caution(self, message: str, /, **fields: Value) -> None:
        """Say what went wrong without harm."""
        self.say("warning", message, fields)

    def fail(self, message: str, /, *, trace: str = "", **fields: Value) -> None:
        """Say what failed.

        Args:
            trace: how it came about, in many lines.
        """
        self.say("error", message, fields, trace)

    def say(self, level: Level, message: str, fields: Mapping[str, Value], trace: str = "") -> None:
        """Write a line.

        Args:
            fields: for programs. Text shows `command` and `job`, or `request`, and leaves the rest
                to the message. What is `None` is left out.
        """
        now = self._now().astimezone(UTC)
        asked = {"request": REQUEST.get(), **fields}
        known = {name: value for name, value in asked.items() if value is not None}
        if self._form == "json":
            self._write(self._json(now, level, message, known, trace))
        else:
            self._write(self._text(now, level, message, known, trace))

    def _json(
        self, now: datetime, level: Level, message: str, fields: Mapping[str, Value], trace: str
    ) -> str:
        time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"time": time, "level": level, "message": self._bounded(message, _LONGEST_MESSAGE)}
        more = {clean(name): self._plain(value) for name, value in fields.items()}
        if trace:
            lines = (clean(self._hide(line)) for line in trace.rstrip().splitlines())
            more["traceback"] = _last("\n".join(lines), _LONGEST_TRACE)
        line = json.dumps({**head, **more, **head}, ensure_ascii=True)
        return f"{line if len(line) < LONGEST else json.dumps(head)}\n"

    def _text(
        self, now: datetime, level: Level, message: str, fields: Mapping[str, Value], trace: str
    ) -> str:
        time = f"{_DIM}{now:%H:%M:%S}{_PLAIN}" if self._colour else f"{now:%H:%M:%S}"
        about = self._about(fields)
        head = f"{time} {about}: " if about else f"{time} "
        word = "" if level == "info" else f"{level}: "
        if self._colour and word:
            word = f"{_COLOURS[level]}{word.rstrip()}{_PLAIN} "
        lines = [f"{head}{word}{self._bounded(message, _LONGEST_MESSAGE)}"]
        if trace and self.verbose:
            kept = _last(trace.rstrip(), _LONGEST_TRACE).splitlines()
            lines += [f"{head}| {self._bounded(line, _LONGEST_MESSAGE)}" for line in kept]
        return "".join(f"{line}\n" for line in lines)

    def _about(self, fields: Mapping[str, Value]) -> str:
        for name, what in (("job", fields.get("command", "job")), ("request", "request")):
            if name in fields:
                identifier = self._bounded(str(fields[name]), _LONGEST_VALUE)
                return f"{what} {identifier[-_SHORT:] if self._terminal else identifier}"
        return ""

    def _plain(self, value: Value) -> Value:
        """Bring a value into a form that JSON has."""
        if isinstance(value, float):
            return round(value, 3) if math.isfinite(value) else None
        if isinstance(value, str):
            return self._bounded(value, _LONGEST_VALUE)
        return value

    def _bounded(self, text: str, most: int) -> str:
        """Make one line of a text, without secrets, and no longer than `most` bytes as JSON."""
        # Secrets go first: what is escaped or cut would not be known any more.
        text = clean(self._hide(text))
        return text if _weight(text) <= most else _first(text, most - 6) + "…"

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with contextlib.suppress(OSError, ValueError), self._writing:
            self._stream.write(text)
            self._stream.flush()


def _weight(text: str) -> int:
    """Tell how many bytes a text takes in JSON that is all ASCII."""
    return len(json.dumps(text)) - 2


def _first(text: str, most: int) -> str:
    """Keep as much of the beginning as takes no more than so many bytes."""
    text = text[:most]
    while _weight(text) > most:
        text = text[: len(text) * 9 // 10]
    return text


def _last(text: str, most: int) -> str:
    """Keep as much of the end as takes no more than so many bytes: an exception's name is there."""
    return _first(text[::-1], most)[::-1]
