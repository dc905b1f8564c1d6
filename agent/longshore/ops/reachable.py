"""What the live entries of the scopes that a build may read make reachable.

Only what a live entry reaches is ever reused: that a key exists proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from longshore.core.digests import Digest
from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.core.entry import Entry, decode_entry
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
from longshore.errors import CorruptData, LongshoreError, NotCached, UnsupportedFormat
from longshore.ops.report import Report
from longshore.ops.tasks import for_each, side_by_side
from longshore.store.contract import ObjectInfo, Store

MAX_AGE_OF_BASIS = timedelta(hours=12)
"""Half of what prune waits before it deletes; see `docs/format.md`, "Basis"."""
_RECIPES_AT_ONCE = 16
MAX_KNOWN_CHUNKS = 150_000  # about 80 GB of layers, and 50 MB of memory


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that was listed, not read yet."""

    key: EntryKey
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class Reading:
    """Which part of a store a build may read.

    Args:
        scopes: the build's own, then its fallback scopes, in the order in which they are asked.
        any_scope: documents may refer to any scope: for looking at what others wrote, never for
            loading it or building on it.
    """

    store: Store
    project: str
    scopes: tuple[str, ...]
    any_scope: bool = False

    async def newest(self, scope: str, service: str | None = None) -> list[FoundEntry]:
        """List the newest entry of each service and platform of a scope, by the greatest id."""
        newest: dict[tuple[str, str], FoundEntry] = {}
        async for info in self.store.list(entries_prefix(self.project, scope, service)):
            key = parse_entry_key(info.key)
            if key is None:
                continue
            place = (key.service, key.platform)
            if place not in newest or newest[place].key.id < key.id:
                newest[place] = FoundEntry(key, info)
        return [newest[place] for place in sorted(newest)]

    async def read_entry(self, found: FoundEntry) -> Entry:
        """Read and check an entry.

        Raises:
            NotCached: it is too old for what it relies on, or from a newer longshore.
            CorruptData: it is damaged, or refers to what this build must not read.
        """
        url = self.store.url(found.info.key)
        stored = await self.store.get(found.info.key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
        try:
            entry = decode_entry(unseal(stored.data).payload, self.project, found.key)
            self._check_scopes(entry.refs)
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{url}: {error}") from error
        except CorruptData as error:
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

    def _check_scopes(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            if ref.scope not in self.scopes and not self.any_scope:
                raise CorruptData(
                    f"it refers to the scope {ref.scope!r}, which this build does not read"
                    f" (it reads {', '.join(self.scopes)})"
                )


@dataclass(slots=True)
class Reachable:
    """What an export may refer to instead of uploading it."""

    newest: dict[tuple[str, str], Entry] = field(default_factory=dict)
    """By scope and service, for the engine's platform."""
    newest_ids: dict[str, str] = field(default_factory=dict)
    """The greatest entry id of the own scope by service, whether it could be read or not."""
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
            if scope == reading.scopes[0]:
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
            entries[found] = await reading.read_entry(found)
        except (CorruptData, NotCached) as error:
            report.warn(error)

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
