"""What all documents have in common: JSON in one zstd frame, a format number, references."""

from __future__ import annotations

import base64
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from longshore.core import codec
from longshore.core.keys import Ref, parse_ref
from longshore.errors import CorruptData, StoreError, UnsupportedFormat

FORMAT = 1
FEATURES: frozenset[str] = frozenset()
"""Names that a document's `requires` may hold and this version knows; format 1 defines none."""

MAX_DOCUMENT_BYTES = 16 << 20  # of JSON; a recipe of 1 GB has about 0.1 MB
MAX_STORED_DOCUMENT_BYTES = 16 << 20
MAX_VALUES = 640_000  # of a document; the recipe of a layer of 50 GB has 600,000
MAX_TEXT = 2000
_LEVEL = 9  # documents are small, and read more often than written

T = TypeVar("T", bound=Struct)


class Header(Struct, frozen=True):
    """The fields that a reader looks at before it trusts the rest of a document."""

    format: int
    requires: list[str] = []
    refs: list[tuple[str, str]] = []


def encode(document: Struct) -> bytes:
    """Write a document as JSON in one zstd frame.

    Raises:
        StoreError: it is larger than readers accept.
    """
    plain = msgspec.json.encode(document)
    values = count_values(plain)
    if len(plain) > MAX_DOCUMENT_BYTES or values > MAX_VALUES:
        raise StoreError(
            f"a document of {len(plain):,} bytes and {values:,} values would be needed, and readers"
            f" accept {MAX_DOCUMENT_BYTES:,} and {MAX_VALUES:,}; an image or a layer is too large"
            " to be cached"
        )
    # Without it, a flipped bit may read as another tag, or as another version's document.
    return codec.compress(plain, _LEVEL, checksum=True)


def decode(stored: bytes, kind: type[T]) -> T:
    """Read a document.

    Raises:
        UnsupportedFormat: a newer longshore wrote it.
        CorruptData: it is damaged, or not of this kind.
    """
    plain = _open(stored)
    header = _decode(plain, Header)
    if header.format > FORMAT or not FEATURES.issuperset(header.requires):
        unknown = ", ".join(sorted(set(header.requires) - FEATURES))
        needs = printable(unknown[:80]) or f"format {str(header.format)[:20]}"
        raise UnsupportedFormat(f"written by a newer longshore (it needs {needs}); update this one")
    if header.format != FORMAT:
        raise CorruptData(f"no document format {str(header.format)[:20]} was ever written")
    del header  # its references come again
    document: T = _decode(plain, kind)
    return document


class Peek(Struct, frozen=True):
    """What every version can tell of a document of any version.

    Attributes:
        kind: of an entry; empty if the document says none.
    """

    refs: tuple[Ref, ...]
    kind: str


class _Peek(Header, frozen=True):
    kind: str = ""


def peek(stored: bytes) -> Peek:
    """Read only what a document refers to, whatever version wrote it.

    Raises:
        CorruptData: it is damaged, or of no format that was ever written.
    """
    found = _decode(_open(stored), _Peek)
    if found.format < FORMAT:
        raise CorruptData(f"no document format {found.format} was ever written")
    return Peek(read_refs(found.refs), found.kind)


def read_refs(pairs: list[tuple[str, str]]) -> tuple[Ref, ...]:
    """Validate a document's references.

    Raises:
        CorruptData: one of them is not a pair of a scope and an id.
    """
    return tuple(parse_ref(scope, identifier) for scope, identifier in pairs)


def write_refs(refs: tuple[Ref, ...]) -> list[tuple[str, str]]:
    """Write references as a document holds them."""
    return [(ref.scope, ref.id) for ref in refs]


def count_values(plain: bytes) -> int:
    """Count what may become an object when some JSON is parsed: what commas and brackets begin.

    Two bytes of JSON can become an object of 72 bytes, so their number is bounded before they are
    parsed. Commas within texts count, too.
    """
    return plain.count(b",") + plain.count(b"[") + plain.count(b"{")


def printable(text: str) -> str:
    """Keep control characters of foreign text away from terminals, and it short."""
    kept = text[:MAX_TEXT]
    return kept if kept.isprintable() else "".join(c if c.isprintable() else "�" for c in kept)


def to_base64(data: bytes) -> str:
    """Write bytes as JSON can hold them."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """Read bytes from JSON.

    Raises:
        CorruptData: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise CorruptData("a document holds text that is not base64") from None


def _open(stored: bytes) -> bytes:
    plain = codec.decompress(stored, limit_bytes=MAX_DOCUMENT_BYTES)
    if count_values(plain) > MAX_VALUES:
        raise CorruptData(f"a document holds more than the {MAX_VALUES:,} values allowed")
    return plain


def _decode(plain: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(plain, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"not a valid document ({str(error)[:200]})") from error
