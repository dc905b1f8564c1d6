"""Ids of objects: UUIDv7 (RFC 9562, section 5.7), whose text sorts by time.

The greatest id is the newest. An id's time is taken from the store's clock, and never lies before
one that was seen, so that a clock that is slow cannot hide a new entry behind an old one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UUID7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
_MAX_MILLISECONDS = (1 << 48) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_id(text: str) -> bool:
    """Tell whether a text is a UUIDv7 in canonical form."""
    return _UUID7.fullmatch(text) is not None


def new_id(now: datetime, random: bytes, *, after: str | None = None) -> str:
    """Make an id that carries max(`now`, the time of `after` + 1 ms).

    Args:
        random: 10 bytes, of which 74 bits are used.
        after: the newest id seen.
    """
    milliseconds = (now - _EPOCH) // timedelta(milliseconds=1)  # floats would round
    if after is not None:
        milliseconds = max(milliseconds, _milliseconds(after) + 1)
    milliseconds = min(max(milliseconds, 0), _MAX_MILLISECONDS)
    noise = int.from_bytes(random[:10], "big")
    value = milliseconds << 80 | 0x7 << 76 | (noise >> 64 & 0xFFF) << 64 | 0b10 << 62
    digits = f"{value | noise & ((1 << 62) - 1):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def time_of(identifier: str) -> datetime:
    """Read the time that an id carries; a hint for people, never a base of decisions.

    Times that `datetime` cannot hold come out as its maximum.
    """
    try:
        return datetime.fromtimestamp(_milliseconds(identifier) / 1000, UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def _milliseconds(identifier: str) -> int:
    return int(identifier.replace("-", ""), 16) >> 80
