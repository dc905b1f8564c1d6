"""What is in the cache, one line an entry; `showing.py` tells everything about one of them.

Nothing here reads packs. Documents of other scopes are looked at, too, and never used for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from longshore.core.documents import printable
from longshore.core.entry import Entry, Kind
from longshore.core.keys import Ref, name_of, scopes_prefix, segment
from longshore.errors import AccessDenied, CorruptData, LongshoreError, NotCached, NotTrusted
from longshore.ops.reachable import FoundEntry, Reading
from longshore.ops.tasks import for_each

_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """The newest entry of one service and platform in one scope.

    Attributes:
        service: empty, as `platform` and `id`, if the whole scope could not be listed.
        kind: `None` if the entry could not be read, like all that only it can tell.
        stored_at: the store's time.
        image_bytes: its distinct layers, as the engine keeps them.
        stored_bytes: their chunks, as stored; `None` if a recipe could not be read. What several
            layers or entries share counts for each.
        tags: of the service image.
        older: further entries of this scope, service and platform.
        problem: why the entry, or what it needs, could not be read.
    """

    scope: str
    service: str
    platform: str
    id: str
    kind: Kind | None = None
    stored_at: datetime | None = None
    age: timedelta | None = None
    image_bytes: int | None = None
    stored_bytes: int | None = None
    images: int = 0
    layers: int = 0
    tags: tuple[str, ...] = ()
    revision: str | None = None
    branch: str | None = None
    job_url: str | None = None
    older: int = 0
    problem: str | None = None


async def list_entries(
    reading: Reading, *, all_scopes: bool, platform: str | None
) -> list[ListedEntry]:
    """List the newest entry of every scope, service and platform.

    Own and fallback scopes come first, in their order. What cannot be read is listed with its
    problem: a damaged entry, one of a newer longshore, a scope of others that is refused. With
    trusted keys, an entry that none of them signed is listed so, and then the one that counts.

    Args:
        all_scopes: list whatever scopes there are, not only those that a build would read.
        platform: list entries for this one only, as keys write it.

    Raises:
        StoreError: the store failed, or refuses a scope that a build would read.
    """
    looking = replace(reading, any_scope=True)
    found = await for_each(
        lambda scope: _list_scope(looking, scope, platform),
        [segment(scope) for scope in reading.scopes],
        at_once=_READ_AT_ONCE,
    )
    refused: list[ListedEntry] = []
    if all_scopes:
        found += await _list_others(looking, platform, refused)
    now = await reading.store.now()

    async def read(one: FoundEntry) -> list[tuple[ListedEntry, frozenset[Ref]]]:
        return await _read(looking, one, now)

    rows = await for_each(read, [one for scope in found for one in scope], at_once=_READ_AT_ONCE)
    listed = [row for found_rows in rows for row in found_rows]
    refs = list({ref for _, needed in listed for ref in needed})
    weights = await for_each(lambda ref: _weigh(looking, ref), refs, at_once=_READ_AT_ONCE)
    known = dict(zip(refs, weights, strict=True))
    return [*(_with_weight(entry, needed, known) for entry, needed in listed), *refused]


async def _list_others(
    reading: Reading, platform: str | None, refused: list[ListedEntry]
) -> list[list[FoundEntry]]:
    own = {segment(scope) for scope in reading.scopes}
    folders: list[str] = []
    try:
        folders += [
            folder
            async for folder in reading.store.list_folders(scopes_prefix(reading.project))
            if folder not in own and _name(folder) is not None
        ]
    except AccessDenied as error:
        refused.append(ListedEntry("", "", "", "", problem=f"other scopes: {error}"))

    async def one(folder: str) -> list[FoundEntry]:
        try:
            return await _list_scope(reading, folder, platform)
        except AccessDenied as error:
            refused.append(ListedEntry(_name(folder) or "", "", "", "", problem=str(error)))
            return []

    return await for_each(one, sorted(folders), at_once=_READ_AT_ONCE)


async def _list_scope(reading: Reading, folder: str, platform: str | None) -> list[FoundEntry]:
    prefix = f"{scopes_prefix(reading.project)}{folder}/entries/"
    return await reading.newest_below(prefix, platform)


async def _read(
    reading: Reading, found: FoundEntry, now: datetime
) -> list[tuple[ListedEntry, frozenset[Ref]]]:
    """Read an entry, and the one that counts if this one is not trusted.

    Returns also the recipes that each needs, whose weight is not known yet.
    """
    listed = _unread(found, now)
    try:
        return [_with_contents(listed, await reading.read_entry(found))]
    except NotTrusted as error:
        first = (replace(listed, problem=str(error)), frozenset[Ref]())
    except (CorruptData, NotCached, AccessDenied) as error:
        return [(replace(listed, problem=str(error)), frozenset())]
    for number, older in enumerate(found.older, 1):
        listed = replace(_unread(older, now), older=found.count_older - number)
        try:
            return [first, _with_contents(listed, await reading.read_entry(older))]
        except NotTrusted:
            continue
        except (CorruptData, NotCached, AccessDenied) as error:
            return [first, (replace(listed, problem=str(error)), frozenset())]
    return [first]


def _unread(found: FoundEntry, now: datetime) -> ListedEntry:
    key = found.key
    return ListedEntry(
        scope=_name(key.scope) or key.scope,
        service=_name(key.service) or key.service,
        platform=_name(key.platform) or key.platform,
        id=key.id,
        stored_at=found.info.modified_at,
        age=max(now - found.info.modified_at, timedelta()),
        older=found.count_older,
    )


def _with_contents(listed: ListedEntry, entry: Entry) -> tuple[ListedEntry, frozenset[Ref]]:
    listed = replace(
        listed,
        scope=printable(entry.scope),
        service=printable(entry.service),
        kind=entry.kind,
        image_bytes=sum(blob.size for blob in entry.blobs),
        images=len(entry.images),
        layers=len(entry.blobs),
        tags=tuple(entry.images[0].tags) if entry.images else (),
        revision=entry.source.revision or None,
        branch=entry.source.branch or None,
        job_url=entry.source.job_url or None,
    )
    return listed, frozenset(entry.recipe_refs().values())


async def _weigh(reading: Reading, ref: Ref) -> int | LongshoreError:
    try:
        return (await reading.read_recipe(ref)).stored_bytes
    except (CorruptData, NotCached, AccessDenied) as error:
        return error


def _with_weight(
    listed: ListedEntry, refs: frozenset[Ref], weights: Mapping[Ref, int | LongshoreError]
) -> ListedEntry:
    total = 0
    for ref in sorted(refs):
        weight = weights[ref]
        if isinstance(weight, LongshoreError):
            return replace(listed, problem=str(weight))
        total += weight
    return listed if listed.kind is None else replace(listed, stored_bytes=total)


def _name(written: str) -> str | None:
    """Read a key's segment as a name; `None` if longshore did not write it."""
    try:
        return printable(name_of(written))
    except CorruptData:
        return None
