"""Names of objects: what `docs/format.md` calls the key layout, in both directions.

Keys are relative to the store's root:

    <project>/scopes/<scope>/entries/<service>/<platform>/<id>
    <project>/scopes/<scope>/recipes/<sha256 of the blob>.<id>
    <project>/scopes/<scope>/packs/<id>
    <project>/gc/<id>.<kind>
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from longshore.core.ids import is_id
from longshore.errors import CorruptData, UsageError

MAX_SEGMENT_BYTES = 200  # file systems stop at 255 bytes; SeaweedFS does, too
MAX_NAME = 1024  # characters; git's names of branches are paths, and file systems stop at 255
_HASH_DIGITS = 32
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._-]|~[0-9A-F]{2})+(?:~~[0-9a-f]{32})?", re.ASCII)
_RECIPE_ID = re.compile(r"[0-9a-f]{64}\.(.{36})", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_ROOT_REFUSED = re.compile(r"[*?${}]")


def segment(name: str) -> str:
    """Write a name as one key segment.

    Raises:
        UsageError: the name is empty, `.` or `..`, absurdly long, or is no valid Unicode.
    """
    if len(name) > MAX_NAME:
        raise UsageError(
            f"{name[:80]!r}… cannot be used as a name: it is longer than {MAX_NAME} characters"
        )
    if name in ("", ".", ".."):
        raise UsageError(f"{name!r} cannot be used as a name of a project, scope or service")
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name!r} is not valid Unicode, so it cannot be used as a name") from None
    written = _UNSAFE.sub(lambda match: b"~%02X" % match[0][0], raw).decode()
    if len(written) <= MAX_SEGMENT_BYTES:
        return written
    kept = written[: MAX_SEGMENT_BYTES - 2 - _HASH_DIGITS]
    kept = re.sub(r"~[0-9A-F]?$", "", kept)  # never half an escape
    return f"{kept}~~{hashlib.sha256(raw).hexdigest()[:_HASH_DIGITS]}"


def name_of(written: str) -> str:
    """Read a segment back as a name for people; one that was cut ends in `…`.

    Raises:
        CorruptData: it is not a segment.
    """
    if not is_segment(written):
        raise CorruptData(f"not a key segment: {written[:80]!r}")
    head, cut, _ = written.partition("~~")
    raw = re.sub(rb"~([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), head.encode())
    return raw.decode(errors="replace") + ("…" if cut else "")


def is_bucket(name: str) -> bool:
    """Tell whether a bucket can have a name, on AWS or on servers that allow more."""
    return _BUCKET.fullmatch(name) is not None


def check_root(root: str) -> str:
    """Accept a root as it is given, if policies can name it.

    Raises:
        UsageError: it holds a character with a meaning in IAM policies.
    """
    if _ROOT_REFUSED.search(root):
        raise UsageError(f"the store prefix {root!r} may not hold any of * ? $ {{ }}")
    return root


class Ref(NamedTuple):
    """One object that a document names: a pair of scope and id, never a key.

    The id of a pack is a UUIDv7, that of a recipe `<sha256 of the blob>.<UUIDv7>`.
    """

    scope: str
    id: str

    @property
    def is_recipe(self) -> bool:
        """Tell a recipe from a pack by the form of its id."""
        return "." in self.id

    def key(self, project: str) -> str:
        """Return the key of the object."""
        folder = "recipes" if self.is_recipe else "packs"
        return f"{scope_prefix(project, self.scope)}{folder}/{self.id}"


def parse_ref(scope: object, identifier: object) -> Ref:
    """Accept a reference that a document holds.

    Raises:
        CorruptData: the scope is no name, or the id is none of a recipe or a pack.
    """
    if not isinstance(scope, str) or not isinstance(identifier, str):
        raise CorruptData("a reference is not a pair of scope and id")
    try:
        segment(scope)
    except UsageError as error:
        raise CorruptData(f"a reference names no scope: {error}") from None
    if not is_stored_id(identifier):
        raise CorruptData(f"a reference has no valid id: {identifier[:120]!r}")
    return Ref(scope, identifier)


def is_stored_id(identifier: str) -> bool:
    """Tell whether a text is the id of a pack or of a recipe."""
    recipe = _RECIPE_ID.fullmatch(identifier)
    return is_id(recipe[1] if recipe else identifier)


class EntryKey(NamedTuple):
    """What the key of an entry says, in segments as they are written."""

    scope: str
    service: str
    platform: str
    id: str


def scopes_prefix(project: str) -> str:
    """Return the prefix of all scopes of a project."""
    return f"{segment(project)}/scopes/"


def scope_prefix(project: str, scope: str) -> str:
    """Return the prefix of one scope, which is what credentials are limited to."""
    return f"{scopes_prefix(project)}{segment(scope)}/"


def entries_prefix(
    project: str, scope: str, service: str | None = None, platform: str | None = None
) -> str:
    """Return the prefix of the entries of a scope, or of one service in it, or of one platform."""
    prefix = f"{scope_prefix(project, scope)}entries/"
    for part in (service, platform):
        if part is None:
            break
        prefix += f"{segment(part)}/"
    return prefix


def entry_key(project: str, scope: str, service: str, platform: str, identifier: str) -> str:
    """Return the key of one entry."""
    return f"{entries_prefix(project, scope, service, platform)}{identifier}"


def parse_entry_key(key: str) -> EntryKey | None:
    """Read the key of an entry; `None` for keys of any other form."""
    parts = key.split("/")
    if len(parts) != 7 or parts[1] != "scopes" or parts[3] != "entries" or not is_id(parts[6]):
        return None
    if not all(is_segment(part) for part in (parts[2], parts[4], parts[5])):
        return None
    return EntryKey(scope=parts[2], service=parts[4], platform=parts[5], id=parts[6])


def is_segment(written: str) -> bool:
    """Tell whether a text can be a key segment that longshore wrote."""
    return written not in (".", "..") and _SEGMENT.fullmatch(written) is not None
