"""What libraries say on their own: it goes where the log goes, and never past it."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from longshore.service.log import Level, Log

Said = Callable[[Level, str, str, str], None]
"""Takes a level, who said it, what, and how it came about."""


def to_log(log: Log) -> Said:
    """Have a log write down what libraries say."""

    def said(level: Level, name: str, text: str, trace: str) -> None:
        log.say(level, f"{name}: {text}", {"logger": name}, trace)

    return said


@contextmanager
def libraries_heard(said: Said, *, verbose: bool = False) -> Iterator[None]:
    """Hear all that libraries, threads and finalizers would write to standard error.

    Args:
        verbose: hear what is said by the way, too.
    """
    root = logging.getLogger()
    before = (root.handlers, root.level, threading.excepthook, sys.unraisablehook)
    root.handlers = [_Heard(said)]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = lambda error: said(
        "error", "threading", *_told(error.exc_value, error.exc_traceback)
    )
    sys.unraisablehook = lambda error: said(
        "error", "python", *_told(error.exc_value, error.exc_traceback)
    )
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers, level, threading.excepthook, sys.unraisablehook = before
        root.setLevel(level)


class _Heard(logging.Handler):
    def __init__(self, said: Said) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # what is said does not fit its arguments; that is no reason to fail
            text = str(record.msg)
        trace = ""
        if record.exc_info and record.exc_info[1] is not None:
            summary, trace = _told(record.exc_info[1], record.exc_info[2])
            text = f"{text}: {summary}"
        level: Level = "info"
        if record.levelno >= logging.WARNING:
            level = "error" if record.levelno >= logging.ERROR else "warning"
        self._said(level, record.name, text.strip(), trace)


def _told(error: BaseException | None, where: TracebackType | None) -> tuple[str, str]:
    if error is None:
        return "an exception of which nothing is known", ""
    trace = "".join(traceback.format_exception(type(error), error, where))
    return f"{type(error).__name__}: {error}", trace
