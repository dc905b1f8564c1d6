"""Which keys a store accepts: a last guard against a path that leads out of the store's root.

Keys come from `core.keys`, so a key that is refused here is a bug and not a user's mistake.
"""

from __future__ import annotations

import re

_SEGMENT = re.compile(
    r"[A-Za-z0-9._~-]{1,255}"
)  # 255 bytes: NAME_MAX, and the limit of many stores


def is_key(text: str) -> bool:
    """Tell whether `text` could be the key of one of longshore's objects."""
    return all(
        _SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in text.split("/")
    )


def check_key(key: str) -> None:
    """Refuse what no store may be asked for.

    Raises:
        ValueError: `key` is no key.
    """
    if not is_key(key):
        raise ValueError(f"not a store key: {key!r}")


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that is neither empty nor a key and a slash.

    Raises:
        ValueError: `prefix` is no prefix.
    """
    if prefix and not (prefix.endswith("/") and is_key(prefix[:-1])):
        raise ValueError(f"not a store prefix: {prefix!r}")


def check_part_number(number: int) -> None:
    """Refuse a part number that S3 does not know.

    Raises:
        ValueError: `number` is not 1 to 10,000.
    """
    if not 1 <= number <= 10_000:
        raise ValueError(f"not a part number: {number}")
