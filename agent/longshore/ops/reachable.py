"""What the live entries of the scopes that a build may read make reachable.

Only what a live entry reaches is ever reused: that a key exists proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from longshore.core.digests import Digest
from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.core.entry import Entry, Misplaced, decode_entry
from longshore.core.envelope import unseal
from longshore.core.keys import (
    EntryKey,
    Ref,
    entries_prefix,
    entry_key,
    parse_entry_key,
    scope_prefix,
    segment,
)
from longshore.core.recipe import Chunk, Recipe, decode_recipe
from longshore.errors import (
    CorruptData,
    LongshoreError,
    NotCached,
    NotTrusted,
    UnsupportedFormat,
)
from longshore.ops.report import Report
from longshore.ops.tasks import for_each, side_by_side
from longshore.store.contract import ObjectInfo, Store

if TYPE_CHECKING:
    from longshore.core.signing import TrustedKeys

MAX_AGE_OF_BASIS = timedelta(hours=12)
"""Half of what prune waits before it deletes; see `docs/format.md`, "Basis"."""
MAX_PASSED_OVER = 16
"""How many entries that do not count a reader with trusted keys reads, to find one that does."""
_RECIPES_AT_ONCE = 16
MAX_KNOWN_CHUNKS = 150_000  # about 80 GB of layers, and 50 MB of memory


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that was listed, not read yet.

    Attributes:
        older: those of the same scope, service and platform before it, the newest first; no more
            than a reader with trusted keys may go through, and none for others.
        count_older: how many there are.
    """

    key: EntryKey
    info: ObjectInfo
    older: tuple[FoundEntry, ...] = ()
    count_older: int = 0


@dataclass(frozen=True, slots=True)
class CountingEntry:
    """The entry that counts in a scope: the newest, or the newest that a trusted key signed.

    Attributes:
        passed: what is wrong with the newer ones, which no trusted key signed.
    """

    entry: Entry
    found: FoundEntry
    passed: tuple[NotTrusted, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Which part of a store a build may read.

    Args:
        scopes: the build's own, then its fallback scopes, in the order in which they are asked.
        any_scope: documents may refer to any scope: for looking at what others wrote, never for
            loading it or building on it.
        trusted: only entries that one of these keys signed count; all do without them.
    """

    store: Store
    project: str
    scopes: tuple[str, ...]
    any_scope: bool = False
    trusted: TrustedKeys | None = None

    async def newest(self, scope: str, service: str | None = None) -> list[FoundEntry]:
        """List the newest entry of each service and platform of a scope, by the greatest id."""
        return await self.newest_below(entries_prefix(self.project, scope, service))

    async def newest_below(self, prefix: str, platform: str | None = None) -> list[FoundEntry]:
        """List the newest entry of each service and platform below a prefix."""
        places: dict[tuple[str, str], list[FoundEntry]] = {}
        kept = 1 + (MAX_PASSED_OVER if self.trusted else 0)
        counts: dict[tuple[str, str], int] = {}
        async for info in self.store.list(prefix):
            key = parse_entry_key(info.key)
            if key is None or (platform and key.platform != segment(platform)):
                continue
            place = (key.service, key.platform)
            counts[place] = counts.get(place, 0) + 1
            found = places.setdefault(place, [])
            found.append(FoundEntry(key, info))
            found.sort(key=lambda one: one.key.id, reverse=True)
            del found[kept:]
        return [
            replace(newest, older=tuple(older), count_older=counts[place] - 1)
            for place, (newest, *older) in sorted(places.items())
        ]

    async def read_counting(self, found: FoundEntry) -> CountingEntry:
        """Read the entry that counts, of one that was found and those before it.

        Raises:
            NotTrusted: no trusted key signed any of those that may be read.
            NotCached: it is too old for what it relies on, or from a newer longshore.
            CorruptData: it is damaged, or refers to what this build must not read.
        """
        passed: list[NotTrusted] = []
        for one in (found, *found.older):
            try:
                return CountingEntry(await self.read_entry(one), one, tuple(passed))
            except NotTrusted as error:
                passed.append(error)
        raise passed[0]

    async def read_entry(self, found: FoundEntry) -> Entry:
        """Read and check an entry.

        Raises:
            NotTrusted: there are trusted keys, and none of them signed it.
            NotCached: it is too old for what it relies on, or from a newer longshore.
            CorruptData: it is damaged, or refers to what this build must not read.
        """
        url = self.store.url(found.info.key)
        try:
            stored = await self.store.get(found.info.key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
            payload = self._open(url, stored.data)
        except NotTrusted as error:
            raise _not_trusted(url, str(error)) from error
        except CorruptData as error:
            if self.trusted is None:
                raise
            raise _not_trusted(url, "it cannot be read") from error
        try:
            entry = decode_entry(payload, self.project, found.key)
            self._check_scopes(entry.refs)
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{url}: {error}") from error
        except CorruptData as error:
            if self.trusted is not None and isinstance(error, Misplaced):
                # A signature that is right, of another entry: anybody can copy that.
                raise _not_trusted(url, str(error)) from error
            raise CorruptData(f"{url}: {error}") from error
        if stored.modified_at - entry.basis > MAX_AGE_OF_BASIS:
            raise NotCached(
                f"{url} was published more than 12 hours after its export began, so parts of it"
                " may be gone; export again"
            )
        return entry

    async def read_recipe(self, ref: Ref) -> Recipe:
        """Read and check a recipe.

        Raises:
            UnsupportedFormat: a newer longshore wrote it.
            CorruptData: it is missing, damaged, or refers to what this build must not read.
        """
        key = ref.key(self.project)
        stored = await self.store.get(key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
        try:
            recipe = await asyncio.to_thread(decode_recipe, stored.data, ref)
            self._check_scopes(recipe.packs)
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{self.store.url(key)}: {error}") from error
        except CorruptData as error:
            raise CorruptData(f"{self.store.url(key)}: {error}") from error
        return recipe

    async def read_recipes(self, refs: Collection[Ref]) -> dict[Ref, Recipe | LongshoreError]:
        """Read recipes side by side; those that cannot be used come as their error."""
        found: dict[Ref, Recipe | LongshoreError] = {}

        async def read(ref: Ref) -> None:
            try:
                found[ref] = await self.read_recipe(ref)
            except (CorruptData, NotCached) as error:
                found[ref] = error

        async with side_by_side() as group:
            for ref in refs:
                group.create_task(read(ref))
        return found

    async def recipes_for(self, entry: Entry, blobs: Iterable[Digest]) -> dict[Digest, Recipe]:
        """Read the recipes of blobs of an entry; all of them are needed.

        Raises:
            UnsupportedFormat: a newer longshore wrote one.
            CorruptData: one is missing, damaged, or not kept by the entry.
        """
        wanted, refs = list(blobs), entry.recipe_refs()
        if lacking := [blob for blob in wanted if blob not in refs]:
            key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
            raise CorruptData(f"{self.store.url(key)} does not keep the layer {lacking[0]}")
        recipes = await for_each(
            self.read_recipe, [refs[blob] for blob in wanted], at_once=_RECIPES_AT_ONCE
        )
        return dict(zip(wanted, recipes, strict=True))

    async def pack_sizes(self, scopes: Iterable[str]) -> dict[Ref, int]:
        """List the packs that exist, with their sizes."""
        sizes: dict[Ref, int] = {}

        async def list_packs(scope: str) -> None:
            prefix = f"{scope_prefix(self.project, scope)}packs/"
            async for info in self.store.list(prefix):
                sizes[Ref(scope, info.key.removeprefix(prefix))] = info.size_bytes

        async with side_by_side() as group:
            for scope in scopes:
                group.create_task(list_packs(scope))
        return sizes

    def _open(self, url: str, stored: bytes) -> bytes:
        """Take the payload out of an entry; with trusted keys, only if one of them signed it."""
        if self.trusted is not None:
            return self.trusted.open(stored)
        try:
            return unseal(stored).payload
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{url}: {error}") from error
        except CorruptData as error:
            raise CorruptData(f"{url}: {error}") from error

    def _check_scopes(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            if ref.scope not in self.scopes and not self.any_scope:
                raise CorruptData(
                    f"it refers to the scope {ref.scope!r}, which this build does not read"
                    f" (it reads {', '.join(self.scopes)})"
                )


def _not_trusted(url: str, reason: str) -> NotTrusted:
    return NotTrusted(
        f"{url} does not count: {reason}; export with a --signing-key that is trusted, or name its"
        " key with --trusted-key"
    )


@dataclass(slots=True)
class Reachable:
    """What an export may refer to instead of uploading it."""

    newest: dict[tuple[str, str], Entry] = field(default_factory=dict)
    """By scope and service, for the engine's platform."""
    newest_ids: dict[str, str] = field(default_factory=dict)
    """The greatest entry id of the own scope by service, whether it could be read or not; of those
    that count, if there are trusted keys."""
    documents: dict[Digest, bytes] = field(default_factory=dict)
    blobs: dict[Digest, tuple[Ref, Recipe]] = field(default_factory=dict)
    """Layers that can be rebuilt from what is there."""
    chunks: dict[bytes, Chunk] = field(default_factory=dict)
    recipes: dict[Ref, Recipe] = field(default_factory=dict)
    pack_sizes: dict[Ref, int] = field(default_factory=dict)
    broken: set[Ref] = field(default_factory=set)
    others: list[FoundEntry] = field(default_factory=list)
    """Entries of services that were not asked for, not read yet."""


async def find_reachable(
    reading: Reading, services: Collection[str], platform: str, report: Report
) -> Reachable:
    """Read what the newest entries of some services make reachable, in all scopes.

    What is damaged is reported and left out, so that it is uploaded anew.
    """
    reachable = Reachable()
    wanted = {segment(service) for service in services}
    listed: list[FoundEntry] = []
    async with side_by_side() as group:
        listings = [group.create_task(reading.newest(scope)) for scope in reading.scopes]
    for scope, listing in zip(reading.scopes, listings, strict=True):
        for found in listing.result():
            if found.key.platform != segment(platform):
                continue
            if scope == reading.scopes[0] and reading.trusted is None:
                reachable.newest_ids[found.key.service] = found.key.id
            listed.append(found)
    # After the entries: a pack that one of them needs was stored before it.
    reachable.pack_sizes = await reading.pack_sizes(reading.scopes)
    reachable.others = [found for found in listed if found.key.service not in wanted]
    await _reach(reading, reachable, [f for f in listed if f.key.service in wanted], report)
    return reachable


async def reach_others(reading: Reading, reachable: Reachable, report: Report) -> None:
    """Add what the project's other services make reachable: they may share layers and chunks."""
    others, reachable.others = reachable.others, []
    await _reach(reading, reachable, others, report)


async def _reach(
    reading: Reading, reachable: Reachable, listed: list[FoundEntry], report: Report
) -> None:
    entries: dict[FoundEntry, Entry] = {}

    async def read(found: FoundEntry) -> None:
        try:
            counting = await reading.read_counting(found)
        except NotTrusted as error:
            report.line(f"{error} (nothing of it is reused)")
            return
        except (CorruptData, NotCached) as error:
            report.warn(error)
            return
        entries[found] = counting.entry
        for passed in counting.passed:
            report.line(f"{passed} (nothing of it is reused)")
        own = found.key.scope == segment(reading.scopes[0])
        if own and reading.trusted is not None:
            reachable.newest_ids[found.key.service] = counting.entry.id

    async with side_by_side() as group:
        for found in listed:
            group.create_task(read(found))
    in_order = [entries[found] for found in listed if found in entries]
    refs = {
        ref: None
        for entry in in_order
        for ref in entry.recipe_refs().values()
        if ref not in reachable.recipes
    }
    recipes = await reading.read_recipes(refs)
    for ref, recipe in recipes.items():
        if isinstance(recipe, Recipe):
            reachable.recipes[ref] = recipe
        else:
            report.warn(recipe)
    for entry in in_order:
        reachable.newest[entry.scope, entry.service] = entry
        reachable.documents.update(entry.documents)
        for digest, ref in entry.recipe_refs().items():
            if ref in reachable.recipes:
                _add_recipe(reading, reachable, digest, ref, report)


def _add_recipe(
    reading: Reading, reachable: Reachable, digest: Digest, ref: Ref, report: Report
) -> None:
    recipe = reachable.recipes[ref]
    ends: dict[Ref, int] = {}
    for stream in recipe.streams:
        for chunk in stream:
            end = chunk.offset + chunk.stored_bytes
            ends[chunk.pack] = max(ends.get(chunk.pack, 0), end)
    broken = {pack for pack, end in ends.items() if reachable.pack_sizes.get(pack, -1) < end}
    if not broken:
        reachable.blobs.setdefault(digest, (ref, recipe))
    for pack in broken - reachable.broken:
        key = pack.key(reading.project)
        problem = "is cut short" if pack in reachable.pack_sizes else "is missing"
        report.warn(CorruptData(f"{reading.store.url(key)} {problem}; what it held is stored anew"))
    reachable.broken |= broken
    for stream in recipe.streams:
        for chunk in stream:
            if len(reachable.chunks) >= MAX_KNOWN_CHUNKS:
                return
            if chunk.pack not in broken:
                reachable.chunks.setdefault(chunk.id, chunk)
