"""What prune notes down in `gc/`: when a run began, what it saw unreferenced, what restarts clocks.

See `docs/format.md`, "What prune notes down". Only prune, and whatever else removes entries, has
the right to write there; so unlike all other documents these are not written by scopes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, NewType

from msgspec import Struct

from longshore.core import documents
from longshore.core.ids import is_id
from longshore.core.keys import Ref, is_segment, is_stored_id, segment
from longshore.errors import CorruptData

GcKind = Literal["start", "mark", "removed"]

KINDS: tuple[GcKind, ...] = ("start", "mark", "removed")
MAX_NAMES = 60_000
"""Objects in one document; more go into further documents of the same run. About 9 MB of JSON."""

ObjectName = NewType("ObjectName", str)
"""A recipe or pack of a project, `<scope's segment>/<id>`: short, because there are many."""


def name_of_ref(ref: Ref) -> ObjectName:
    """Name the object that a document refers to."""
    return ObjectName(f"{segment(ref.scope)}/{ref.id}")


def is_recipe(name: ObjectName) -> bool:
    """Tell a recipe from a pack."""
    return "." in name.rpartition("/")[2]


def object_key(project: str, name: ObjectName) -> str:
    """Return the key of an object."""
    scope, _, identifier = name.partition("/")
    folder = "recipes" if is_recipe(name) else "packs"
    return f"{segment(project)}/scopes/{scope}/{folder}/{identifier}"


def parse_object_key(key: str) -> ObjectName | None:
    """Read the key of a recipe or pack; `None` for keys of any other form."""
    parts = key.split("/")
    if len(parts) != 5 or parts[1] != "scopes" or not is_segment(parts[2]):
        return None
    if parts[3] not in ("recipes", "packs") or not is_stored_id(parts[4]):
        return None
    name = ObjectName(f"{parts[2]}/{parts[4]}")
    return name if is_recipe(name) == (parts[3] == "recipes") else None


class GcDocument(Struct, frozen=True):
    """One document of `gc/`.

    Attributes:
        run: id of the `start` document of the run that wrote it.
        objects: what was seen unreferenced (`mark`), or whose clock restarts (`removed`).
        everything: the clocks of all objects restart, because it cannot be told of which.
    """

    kind: GcKind
    run: str
    objects: tuple[ObjectName, ...] = ()
    everything: bool = False


class StoredGcDocument(Struct, frozen=True):
    """A document of `gc/`, and its store time."""

    document: GcDocument
    stored_at: datetime


class _Wire(Struct):
    format: int
    requires: list[str]
    kind: str
    run: str
    refs: list[tuple[str, str]] = []
    objects: dict[str, list[str]] = {}
    everything: bool = False


def gc_prefix(project: str) -> str:
    """Return the prefix of what prune notes down about a project."""
    return f"{segment(project)}/gc/"


def gc_key(project: str, identifier: str, kind: GcKind) -> str:
    """Return the key of a document of `gc/`."""
    return f"{gc_prefix(project)}{identifier}.{kind}"


def parse_gc_key(project: str, key: str) -> tuple[str, GcKind] | None:
    """Read the id and the kind from a key; `None` for keys of any other form."""
    identifier, _, kind = key.removeprefix(gc_prefix(project)).partition(".")
    if not is_id(identifier) or kind not in KINDS:
        return None
    return identifier, kind


def encode_gc(document: GcDocument) -> bytes:
    """Write a document as it is stored."""
    by_scope: dict[str, list[str]] = {}
    for name in document.objects:
        scope, _, identifier = name.partition("/")
        by_scope.setdefault(scope, []).append(identifier)
    return documents.encode(
        _Wire(
            format=documents.FORMAT,
            requires=[],
            kind=document.kind,
            run=document.run,
            objects=by_scope,
            everything=document.everything,
        )
    )


def decode_gc(stored: bytes, kind: GcKind) -> GcDocument:
    """Read a document whose key says that it is of this kind.

    Raises:
        UnsupportedFormat: a newer longshore wrote it.
        CorruptData: it is damaged, or of another kind.
    """
    wire = documents.decode(stored, _Wire)
    if wire.kind != kind:
        raise CorruptData(f"it is of the kind {wire.kind[:40]!r}, and its key says {kind}")
    if not is_id(wire.run):
        raise CorruptData("it does not say of which run it is")
    return GcDocument(kind, wire.run, tuple(_names(wire.objects)), wire.everything)


def in_parts(objects: Iterable[ObjectName]) -> Iterator[tuple[ObjectName, ...]]:
    """Cut names into as many as one document may hold; at least one part, which may be empty."""
    rest = tuple(objects)
    yield rest[:MAX_NAMES]
    for start in range(MAX_NAMES, len(rest), MAX_NAMES):
        yield rest[start : start + MAX_NAMES]


def _names(by_scope: Mapping[str, list[str]]) -> Iterator[ObjectName]:
    for scope, identifiers in by_scope.items():
        if not is_segment(scope):
            raise CorruptData(f"it names the scope {scope[:80]!r}, which is none")
        for identifier in identifiers:
            if not is_stored_id(identifier):
                raise CorruptData(f"it names the object {identifier[:120]!r}, which is none")
            yield ObjectName(f"{scope}/{identifier}")
