"""An image's history as people read it: what a step did, and which layer it made."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from longshore.core.digests import Digest
from longshore.core.documents import printable
from longshore.core.images import Step

_MAX_TEXT = 2000
_NO_COMMAND = "(no command)"
# The shell of an image may be another; then its name stays, and tells what ran.
_SHELL = re.compile(r"(?:RUN )?(?:\|\d+ .*?)?(/bin/sh -c )(?P<what>.*)", re.DOTALL)
_NOP = re.compile(r"#\(nop\)\s+")
_BUILDKIT = " # buildkit"
# Steps that make a layer, empty or not; all others only change the config.
_MAKES_LAYER = ("RUN ", "COPY ", "ADD ", "WORKDIR ")


def command_of(step: Step) -> str:
    """Write a step as its Dockerfile has it, whichever builder noted it down.

    Build arguments, which builders note before the command, are left out.
    """
    text = step.created_by.strip()
    if not text:
        return _line(step.comment) or _NO_COMMAND
    text = text.removesuffix(_BUILDKIT)
    if shell := _SHELL.fullmatch(text):
        what = shell["what"]
        nop = _NOP.match(what)
        text = what[nop.end() :] if nop else f"RUN {what}"
    return _line(text) or _NO_COMMAND


def created_at(step: Step) -> datetime | None:
    """Read when a step was done; `None` if it does not say."""
    try:
        created = datetime.fromisoformat(step.created)
        return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter at the ends of the calendar
        return None


def layers_of(
    steps: Sequence[Step], diff_ids: Sequence[Digest], *, hints: Collection[int] = ()
) -> tuple[Digest | None, ...]:
    """Tell which layer each step made; all `None` if that cannot be told.

    A config says which steps made none. An engine only says how many bytes a step added, so a
    step that made an empty layer looks as if it had made none.

    Args:
        hints: steps that are known to have made a layer, by their index.
    """
    known = {index for index, step in enumerate(steps) if not step.empty_layer}
    likely = {i for i, step in enumerate(steps) if command_of(step).startswith(_MAKES_LAYER)}
    for makers in (known, known | set(hints), known | set(hints) | likely):
        if len(makers) == len(diff_ids):
            layers = iter(diff_ids)
            return tuple(next(layers) if i in makers else None for i in range(len(steps)))
    return (None,) * len(steps)


def _line(text: str) -> str:
    return printable(" ".join(text[:_MAX_TEXT].split()))
