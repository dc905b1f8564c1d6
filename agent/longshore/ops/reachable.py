"""What the live entries of the scopes that a build may read make reachable.

Only what a live entry reaches is ever reused: that a key exists proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct, field

from longshore.core.digests import Digest
from longshore.core.entry import Entry, Misplaced, decode_entry
from longshore.core.envelope import unseal
from longshore.core.keys import (
    Ref,
    entries_prefix,
    scope_prefix,
    segment,
)
from longshore.core.recipe import Chunk, Recipe, decode_recipe
from longshore.errors import (
    CorruptData,
    LongshoreError,
    NotCached,
    NotTrusted,
    ObjectMissing,
    ObjectTooLarge,
    TooLarge,
    UnsupportedFormat,
    kept,
)
from longshore.ops.newest import FoundEntry, newest_below
from longshore.ops.recipes import read_recipes
from longshore.ops.report import Report
from longshore.ops.room import READ_AT_ONCE, Room
from longshore.ops.tasks import for_each, side_by_side
from longshore.store.contract import Store

if TYPE_CHECKING:
    from longshore.core.signing import TrustedKeys

MAX_AGE_OF_BASIS = timedelta(hours=12)
"""Half of what prune waits before it deletes; see `docs/format.md`, "Basis"."""
MAX_PASSED_OVER = 16
"""How many entries that do not count a reader with trusted keys reads, to find one that does."""
MAX_KNOWN_CHUNKS = 150_000  # about 80 GB of layers, and 50 MB of memory
MAX_PACKS = 250_000  # 16 TB in full ones; 70 MB of memory
_MAX_OTHERS = 256  # services, besides those that are exported
_MAX_WARNINGS = 10


class CountingEntry(Struct, frozen=True):
    """The entry that counts in a scope: the newest, or the newest that a trusted key signed.

    Attributes:
        passed: what is wrong with the newer ones, which no trusted key signed.
    """

    entry: Entry
    found: FoundEntry
    passed: tuple[NotTrusted, ...]


class Reading(Struct, frozen=True):
    """Which part of a store a build may read.

    Args:
        scopes: the build's own, then its fallback scopes, in the order in which they are asked.
        any_scope: documents may refer to any scope: for looking at what others wrote, never for
            loading it or building on it.
        trusted: only entries that one of these keys signed count; all do without them.
        longest: how long something may be relied on: half of what prune waits.
        room: memory for documents.
        max_image_bytes: what the layers of one service may hold; `None` for no limit.
    """

    store: Store
    project: str
    scopes: tuple[str, ...]
    any_scope: bool = False
    trusted: TrustedKeys | None = None
    longest: timedelta = MAX_AGE_OF_BASIS
    room: Room = field(default_factory=Room)
    max_image_bytes: int | None = None

    async def newest(
        self, scope: str, service: str | None = None, platform: str | None = None
    ) -> list[FoundEntry]:
        """List the newest entry of each service and platform of a scope, by the greatest id.

        Raises:
            TooLarge: there are absurdly many.
        """
        return await self.newest_below(entries_prefix(self.project, scope, service, platform))

    async def newest_below(self, prefix: str, platform: str | None = None) -> list[FoundEntry]:
        """List the newest entry of each service and platform below a prefix.

        Raises:
            TooLarge: there are absurdly many.
        """
        keep_older = MAX_PASSED_OVER if self.trusted else 0
        return await newest_below(self.store, prefix, platform=platform, keep_older=keep_older)

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

        def decode(stored: bytes) -> Entry:
            return decode_entry(self._payload(stored), self.project, found.key)

        try:
            entry, stored_at = await self.room.open(self.store, found.info.key, decode)
            self._check_scopes(entry.refs)
        except NotTrusted as error:
            raise _not_trusted(url, str(error)) from error
        except (ObjectMissing, ObjectTooLarge) as error:
            if self.trusted is None:
                raise  # it names the object
            raise _not_trusted(url, "it cannot be read") from error
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{url}: {error}") from error
        except CorruptData as error:
            if self.trusted is not None and isinstance(error, Misplaced):
                # A signature that is right, of another entry: anybody can copy that.
                raise _not_trusted(url, str(error)) from error
            raise CorruptData(f"{url}: {error}") from error
        if stored_at - entry.basis > self.longest:
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
        try:
            recipe, _ = await self.room.open(
                self.store, key, lambda stored: decode_recipe(stored, ref)
            )
            self._check_scopes(recipe.packs)
        except (ObjectMissing, ObjectTooLarge):
            raise  # which name the object
        except UnsupportedFormat as error:
            raise UnsupportedFormat(f"{self.store.url(key)}: {error}") from error
        except CorruptData as error:
            raise CorruptData(f"{self.store.url(key)}: {error}") from error
        return recipe

    async def pack_sizes(self, scopes: Iterable[str]) -> dict[Ref, int]:
        """List the packs that exist, with their sizes; not all of them, if they are too many.

        What lies in a pack that is not listed is not relied on.
        """
        sizes: dict[Ref, int] = {}

        async def list_packs(scope: str) -> None:
            prefix = f"{scope_prefix(self.project, scope)}packs/"
            async for info in self.store.list(prefix):
                if len(sizes) >= MAX_PACKS:
                    return
                sizes[Ref(scope, info.key.removeprefix(prefix))] = info.size_bytes

        async with side_by_side() as group:
            for scope in scopes:
                group.create_task(list_packs(scope))
        return sizes

    def _payload(self, stored: bytes) -> bytes:
        """Take the payload out of an entry; with trusted keys, only if one of them signed it."""
        if self.trusted is None:
            return unseal(stored).payload
        try:
            return self.trusted.open(stored)
        except CorruptData as error:
            raise NotTrusted("it cannot be read") from error

    def _check_scopes(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            if ref.scope not in self.scopes and not self.any_scope:
                raise CorruptData(
                    f"it refers to the scope {ref.scope[:80]!r}, which this build does not read"
                    f" (it reads {', '.join(self.scopes)})"
                )


def _not_trusted(url: str, reason: str) -> NotTrusted:
    return NotTrusted(
        f"{url} does not count: {reason}; export with a --signing-key that is trusted, or name its"
        " key with --trusted-key"
    )


class Reachable(Struct):
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

    async def newest(scope: str) -> list[FoundEntry]:
        try:
            return await reading.newest(scope)
        except TooLarge as error:
            report.warn(error)
            return []

    listings = await for_each(newest, reading.scopes, at_once=READ_AT_ONCE)
    for scope, listing in zip(reading.scopes, listings, strict=True):
        for found in listing:
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
    if len(others) > _MAX_OTHERS:
        others = sorted(others, key=lambda found: found.key.id)[-_MAX_OTHERS:]
    await _reach(reading, reachable, others, report)


async def _reach(
    reading: Reading, reachable: Reachable, listed: list[FoundEntry], report: Report
) -> None:
    entries: dict[FoundEntry, Entry] = {}
    problems: list[LongshoreError] = []

    async def read(found: FoundEntry) -> None:
        try:
            counting = await reading.read_counting(found)
            reading.room.take(counting.entry.held_bytes)
        except NotTrusted as error:
            report.line(f"{error} (nothing of it is reused)")
            return
        except (CorruptData, NotCached) as error:
            problems.append(kept(error))
            return
        entries[found] = counting.entry
        for passed in counting.passed:
            report.line(f"{passed} (nothing of it is reused)")
        own = found.key.scope == segment(reading.scopes[0])
        if own and reading.trusted is not None:
            reachable.newest_ids[found.key.service] = counting.entry.id

    await for_each(read, listed, at_once=READ_AT_ONCE)
    in_order = [entries[found] for found in listed if found in entries]
    refs = {
        ref: None
        for entry in in_order
        for ref in entry.recipe_refs().values()
        if ref not in reachable.recipes
    }
    recipes = await read_recipes(reading, refs)
    for ref, recipe in recipes.items():
        if isinstance(recipe, Recipe):
            reachable.recipes[ref] = recipe
        else:
            problems.append(recipe)
    for problem in problems[:_MAX_WARNINGS]:
        report.warn(problem)
    if more := problems[_MAX_WARNINGS:]:
        report.warn(type(more[0])(f"{len(more):,} more objects cannot be used"))
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
    ends = recipe.pack_ends()
    broken = {pack for pack, end in ends.items() if reachable.pack_sizes.get(pack, -1) < end}
    if not broken:
        reachable.blobs.setdefault(digest, (ref, recipe))
    for number, pack in enumerate(broken - reachable.broken, len(reachable.broken)):
        key = pack.key(reading.project)
        problem = "is cut short" if pack in reachable.pack_sizes else "is missing"
        if number < _MAX_WARNINGS:
            report.warn(
                CorruptData(f"{reading.store.url(key)} {problem}; what it held is stored anew")
            )
        elif number == _MAX_WARNINGS:
            report.warn(CorruptData("more packs are missing; what they held is stored anew"))
    reachable.broken |= broken
    for stream in recipe.streams:
        for chunk in stream:
            if len(reachable.chunks) >= MAX_KNOWN_CHUNKS:
                return
            if not broken or chunk.pack not in broken:  # nearly always there is nothing to look up
                reachable.chunks.setdefault(chunk.id, chunk)
