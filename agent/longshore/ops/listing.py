"""What is in the cache, one line an entry; `showing.py` tells everything about one of them.

Nothing here reads packs. Documents of other scopes are looked at, too, and never used for more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from longshore.core.documents import printable
from longshore.core.entry import Entry, Kind
from longshore.core.keys import Ref, name_of, scopes_prefix, segment
from longshore.errors import (
    AccessDenied,
    CorruptData,
    LongshoreError,
    NotCached,
    NotTrusted,
    TooLarge,
    kept,
)
from longshore.ops.newest import FoundEntry
from longshore.ops.reachable import Reading
from longshore.ops.room import READ_AT_ONCE
from longshore.ops.tasks import for_each

# Whoever may write a scope decides how much there is to list; see `docs/cli.md`.
MAX_SCOPES = 10_000
MAX_LISTED = 10_000  # entries of others
MAX_WEIGHED = 50_000  # recipes
MAX_TAGS = 30  # of one entry


class ListedEntry(Struct, frozen=True):
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
    refused: list[ListedEntry] = []

    async def own(scope: str) -> list[FoundEntry]:
        try:
            return await _list_scope(looking, segment(scope), platform)
        except TooLarge as error:
            refused.append(_refused(scope, error))
            return []

    scopes = await for_each(own, reading.scopes, at_once=READ_AT_ONCE)
    if all_scopes:
        scopes += await _list_others(looking, platform, refused)
    found = [one for scope in scopes for one in scope]
    if more := found[MAX_LISTED:]:
        refused.append(_refused("", TooLarge(f"{len(more):,} further entries are not listed")))
    now = await reading.store.now()
    weights: dict[Ref, int | LongshoreError] = {}

    async def read(one: FoundEntry) -> list[ListedEntry]:
        rows = await _read(looking, one, now)
        return [await _with_weight(looking, listed, needed, weights) for listed, needed in rows]

    listed = await for_each(read, found[:MAX_LISTED], at_once=READ_AT_ONCE)
    return [*(row for rows in listed for row in rows), *refused]


async def _list_others(
    reading: Reading, platform: str | None, refused: list[ListedEntry]
) -> list[list[FoundEntry]]:
    own = {segment(scope) for scope in reading.scopes}
    folders: list[str] = []
    try:
        async for folder in reading.store.list_folders(scopes_prefix(reading.project)):
            if folder not in own and _name(folder) is not None:
                folders.append(folder)
            if len(folders) > MAX_SCOPES:
                text = f"more than {MAX_SCOPES:,} scopes; the others are not listed"
                refused.append(_refused("", TooLarge(text)))
                break
    except AccessDenied as error:
        refused.append(ListedEntry("", "", "", "", problem=f"other scopes: {error}"))
    left = MAX_LISTED

    async def one(folder: str) -> list[FoundEntry]:
        nonlocal left
        try:
            found = await _list_scope(reading, folder, platform)
        except (AccessDenied, TooLarge) as error:
            refused.append(_refused(_name(folder) or "", error))
            return []
        kept, left = found[: max(left, 0)], left - len(found)
        if len(kept) < len(found):
            text = f"{len(found) - len(kept):,} further entries are not listed"
            refused.append(_refused(_name(folder) or "", TooLarge(text)))
        return kept

    return await for_each(one, sorted(folders)[:MAX_SCOPES], at_once=READ_AT_ONCE)


def _refused(scope: str, error: LongshoreError) -> ListedEntry:
    return ListedEntry(scope, "", "", "", problem=str(error))


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
        tags=tuple(entry.images[0].tags[:MAX_TAGS]) if entry.images else (),
        revision=entry.source.revision or None,
        branch=entry.source.branch or None,
        job_url=entry.source.job_url or None,
    )
    return listed, frozenset(entry.recipe_refs().values())


async def _weigh(reading: Reading, ref: Ref) -> int | LongshoreError:
    try:
        return (await reading.read_recipe(ref)).stored_bytes
    except (CorruptData, NotCached, AccessDenied) as error:
        return kept(error)


async def _with_weight(
    reading: Reading,
    listed: ListedEntry,
    refs: frozenset[Ref],
    weights: dict[Ref, int | LongshoreError],
) -> ListedEntry:
    """Add up what an entry's recipes weigh, reading those that no other entry needed yet."""
    if listed.kind is None:
        return listed
    total = 0
    for ref in sorted(refs):
        if ref not in weights:
            if len(weights) >= MAX_WEIGHED:
                return listed
            weights[ref] = await _weigh(reading, ref)
        weight = weights[ref]
        if isinstance(weight, LongshoreError):
            return replace(listed, problem=str(weight))
        total += weight
    return replace(listed, stored_bytes=total)


def _name(written: str) -> str | None:
    """Read a key's segment as a name; `None` if longshore did not write it."""
    try:
        return printable(name_of(written))
    except CorruptData:
        return None
