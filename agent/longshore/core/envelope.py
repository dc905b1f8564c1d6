"""The envelope of an entry: payload bytes, and room for signatures over them.

magic       8 bytes   "LNGSHR1\\n"
length      4 bytes   big-endian, of the signatures block; 0 if there are none
signatures  JSON      [{"key": …, "algorithm": …, "signature": …}, …]
payload     the rest  a document; not looked at before the signatures have been checked
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from longshore.errors import CorruptData, UnsupportedFormat

MAGIC = b"LNGSHR1\n"
_FAMILY = MAGIC[:6]
MAX_SIGNATURES_BYTES = 16 << 10


class Signature(Struct, frozen=True):
    """One signature over the payload bytes."""

    key: str
    algorithm: str
    signature: str


class Envelope(Struct, frozen=True):
    """Payload bytes and the signatures over them, none of it checked yet."""

    payload: bytes
    signatures: tuple[Signature, ...] = ()


def seal(envelope: Envelope) -> bytes:
    """Write an envelope as it is stored."""
    block = msgspec.json.encode(envelope.signatures) if envelope.signatures else b""
    return MAGIC + len(block).to_bytes(4, "big") + block + envelope.payload


def unseal(stored: bytes) -> Envelope:
    """Take an envelope apart, without a look at its payload.

    Raises:
        UnsupportedFormat: it is an envelope of a newer longshore.
        CorruptData: it is none.
    """
    if stored[: len(MAGIC)] != MAGIC:
        if stored[: len(_FAMILY)] == _FAMILY and stored[7:8] == b"\n" and stored[6:7] > b"1":
            raise UnsupportedFormat("written by a newer longshore (its envelope); update this one")
        raise CorruptData("it does not begin as an entry does")
    start = len(MAGIC) + 4
    length = int.from_bytes(stored[len(MAGIC) : start], "big")
    if len(stored) < start or length > MAX_SIGNATURES_BYTES or start + length > len(stored):
        raise CorruptData("its envelope is cut short")
    signatures: tuple[Signature, ...] = ()
    if length:
        try:
            signatures = msgspec.json.decode(
                stored[start : start + length], type=tuple[Signature, ...]
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptData(f"its signatures cannot be read ({str(error)[:200]})") from error
    return Envelope(stored[start + length :], signatures)
