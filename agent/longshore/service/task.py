"""What goes to and comes from the process of a job: messages, and nothing that does anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Command = Literal["import", "export", "flush", "list", "show", "config"]

# What whoever asks may set. Where the cache is, and who signs, is the sidecar's alone: its
# credentials must not be sent elsewhere.
OPTIONS: Mapping[str, frozenset[str]] = {
    "import": frozenset({"strict", "verbose", "timeout", "max-image-size", "whole"}),
    "export": frozenset({"strict", "verbose", "timeout", "level", "parents"}),
    "flush": frozenset({"verbose", "timeout", "scope", "dry-run"}),
}
# What whoever asks may say that it takes to be set: it is compared, and never used.
GIVEN = frozenset(
    {
        *("store", "endpoint-url", "sse", "kms-key", "sse-customer-key", "signing-key"),
        *("trusted-key", "project", "scope", "fallback", "services", "image"),
    }
)


_NONE: Mapping[str, Any] = {}


class Task(NamedTuple):
    """One run of a command.

    Attributes:
        names: of services; all cached ones if there is none.
        flags: by the names of options, as if they had been typed.
        background: nobody waits for it, so it leaves the processor to all others.
        terminal: the text is for a terminal, with short ids.
        given: what whoever asks takes to be set, by the names of options; if it is not, the task is
            refused, so that nothing goes where nobody wanted it.
    """

    command: Command
    names: tuple[str, ...] = ()
    flags: Mapping[str, Any] = _NONE
    background: bool = False
    terminal: bool = False
    given: Mapping[str, Any] = _NONE


class Line(NamedTuple):
    """Something to be said, in one line.

    Attributes:
        trace: of a bug, how it came about; for the log only.
    """

    text: str
    word: Literal["", "warning", "error", "stopped"] = ""
    trace: str = ""


class Progress(NamedTuple):
    """How far a long step is.

    Attributes:
        what: `downloading`, `unpacking` or `saving`.
        total_bytes: an estimate; `None` if there is none.
        ended: the step is done.
    """

    what: str
    done_bytes: int
    total_bytes: int | None
    seconds: float
    ended: bool = False


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        text: for people, as the command writes it.
        document: for programs, as `--json` writes it.
        memory_bytes: the most that its process held.
    """

    exit_code: int
    text: str
    document: Mapping[str, Any]
    memory_bytes: int = 0


Event = Line | Progress
Tell = Callable[[Event], None]
Perform = Callable[[Task, Tell], Outcome]
"""Runs a task in the process that calls it; it has to be a function of a module, to be found by
name in another process."""
