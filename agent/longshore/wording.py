"""How figures and foreign texts are put for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from unicodedata import category

_MARKS = frozenset({"Mn", "Me"})  # they take no place of their own
_MAX_MARKS = 4  # on one letter; languages need three at most


def clean(text: str) -> str:
    """Keep what could steer a terminal out of a text.

    Those are control, format and separator characters, and marks that pile up on one letter until
    they cover the lines above.
    """
    if text.isascii() and text.isprintable():
        return text
    written = []
    marks = 0
    for character in text:
        marks = marks + 1 if category(character) in _MARKS else 0
        shown = character.isprintable() and marks <= _MAX_MARKS
        written.append(character if shown else f"\\x{ord(character):02x}")
    return "".join(written)


def size(size_bytes: float) -> str:
    """Write bytes as people do: `12 B`, `3.4 MB`."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def period(duration: timedelta) -> str:
    """Write a duration with the precision that matters: `0.4 s`, `5 min`, `3 days`."""
    seconds = duration.total_seconds()
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 86400:.0f} days"


def age(duration: timedelta) -> str:
    """Write how old something is."""
    return f"{period(duration)} old" if duration >= timedelta(seconds=1) else "just stored"


def exact(duration: timedelta) -> str:
    """Write a duration as it is given to an option: `1h30m`, `1.5s`."""
    left = duration.total_seconds()
    text = ""
    for unit, seconds in (("h", 3600), ("m", 60)):
        whole, left = divmod(left, seconds)
        text += f"{whole:.0f}{unit}" if whole else ""
    return text + (f"{left:g}s" if left or not text else "")


def exact_size(size_bytes: int) -> str:
    """Write bytes as they are given to an option, losing none: `256MiB`, `50GB`."""
    for unit, factor in (("GiB", 1 << 30), ("GB", 1000**3), ("MiB", 1 << 20), ("MB", 1000**2)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number of things: `1 layer`, `2 layers`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def ranges(numbers: Sequence[int]) -> str:
    """Write sorted numbers in short: `1-4, 7`."""
    parts: list[str] = []
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            first, last = numbers[start], numbers[index - 1]
            parts.append(f"{first}" if first == last else f"{first}-{last}")
            start = index
    return ", ".join(parts)


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: int = 0) -> str:
    """Put rows side by side: each column as wide as its widest cell, the last one ragged.

    Args:
        right: columns that are flushed right.
    """
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(" " * indent + "  ".join(cells).rstrip())
    return "\n".join(lines)
