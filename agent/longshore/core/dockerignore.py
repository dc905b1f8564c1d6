"""Tell which files of a build context a `.dockerignore` may leave out.

Only what is certainly sent matters here, so patterns are taken to match more than they do.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

_MAX_PATTERNS = 1000
_MAX_STARS = 6  # more of them, and matching could take long


def read_ignored(data: bytes) -> re.Pattern[str]:
    """Return a pattern that matches every path that may be left out, and perhaps more."""
    parts: list[str] = []
    for line in data.decode("utf-8", "replace").removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith(("#", "!")):  # what is let in again may be out, too
            continue
        parts.append(_translate(pattern))
    if len(parts) > _MAX_PATTERNS:
        return EVERYTHING
    return _all_of(parts)


def _translate(pattern: str) -> str:
    if "\\" in pattern or "[" in pattern or pattern.count("*") > _MAX_STARS:
        return ".*"
    clean = posixpath.normpath(pattern).lstrip("/")
    if clean.startswith("..") or clean in ("", "."):
        return ".*"
    text = ""
    for piece in re.split(r"(\*\*/|\*+|\?)", clean):
        if piece == "**/":
            text += "(?:.*/)?"
        elif piece.startswith("**"):
            text += ".*"
        elif piece == "*":
            text += "[^/]*"
        elif piece == "?":
            text += "[^/]"
        else:
            text += re.escape(piece)
    return text


def _all_of(parts: Sequence[str]) -> re.Pattern[str]:
    if not parts:
        return NOTHING
    return re.compile(f"(?:{'|'.join(parts)})(?:/.*)?", re.DOTALL)


EVERYTHING = re.compile(r".*", re.DOTALL)
NOTHING = re.compile(r"(?!)")
