"""What a page's form sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

MAX_BYTES = 64 << 10
_MAX_FIELDS = 2000


class Form:
    """The fields of a form; nothing is there twice unless it may be.

    Raises:
        ValueError: it is no form, or too large.
    """

    def __init__(self, body: bytes) -> None:
        if len(body) > MAX_BYTES:
            raise ValueError("the form is too large")
        self._fields: Mapping[str, Sequence[str]] = parse_qs(
            body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )

    def one(self, name: str) -> str:
        """Return a field; empty if it was not sent."""
        return (self._fields.get(name) or [""])[0]

    def all(self, name: str) -> tuple[str, ...]:
        """Return what was sent under a name, without what is empty or repeated."""
        return tuple(dict.fromkeys(value for value in self._fields.get(name, ()) if value))
