"""Digests and the identities that are made of them.

`digest` is the SHA-256 of bytes as they are stored or sent; `diff_id` that of an uncompressed
layer tar; `chain_id` that of a stack of layers (OCI image spec, config.md, "Layer ChainID").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NewType

from longshore.errors import CorruptData

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def parse_digest(text: object) -> Digest:
    """Accept a well-formed SHA-256 digest, and nothing else.

    Raises:
        CorruptData: it is not one. Other algorithms count as that: no engine writes any.
    """
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise CorruptData(f"not a SHA-256 digest: {str(text)[:80]!r}")
    return Digest(text)


def is_digest(text: str) -> bool:
    """Tell whether a text is a well-formed SHA-256 digest."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> Digest:
    """Compute the digest of bytes in hand."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def hex_of(digest: Digest) -> str:
    """Return the 64 hex digits of a digest."""
    return digest.removeprefix("sha256:")


def short(digest: str) -> str:
    """Abbreviate a digest for people, as `docker images` does: 12 hex digits."""
    return digest.removeprefix("sha256:")[:12]


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Compute the chain_id of each prefix of a stack of layers, base first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
