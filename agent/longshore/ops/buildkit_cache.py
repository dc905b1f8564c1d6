"""Keep the cache directories of BuildKit: what makes a build warm where loaded images do not.

A directory is stored like an image: its small documents in the entry, its blobs by recipes. Only
what its current index leads to is kept, so that nothing grows but what builds use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Literal

from msgspec import Struct

from longshore.core.archive import blob_name
from longshore.core.digests import Digest
from longshore.core.entry import Blob, Entry, cache_name
from longshore.core.export_plan import EntryContents
from longshore.core.layout import walk
from longshore.core.recipe import Recipe
from longshore.core.service import Service
from longshore.core.sorting import ArchiveSorter
from longshore.engine.cache_directory import CacheContents, CacheDirectory
from longshore.engine.contract import ImageStore
from longshore.errors import CorruptData, LongshoreError, NotBuilt, NotCached
from longshore.ops.lookup import Hit, find_entry
from longshore.ops.publishing import Publisher
from longshore.ops.reachable import Reachable, Reading, reach_others
from longshore.ops.rebuilding import build_archive
from longshore.ops.recipes import recipes_for
from longshore.ops.report import Report
from longshore.ops.saving import cut_archive
from longshore.ops.streams import one_ahead


class ExportedCache(Struct, frozen=True):
    """What became of the cache directory of one service."""

    service: str
    directory: str
    entry: str
    unchanged: bool
    blobs: int
    new_blobs: int
    size_bytes: int


class ImportedCache(Struct, frozen=True):
    """What became of the cache directory of one service.

    Attributes:
        served: it was not written: the build that follows fetches what it wants of it.
    """

    service: str
    directory: str
    outcome: Literal["hit", "miss", "failed"]
    reason: str = ""
    scope: str | None = None
    entry: str | None = None
    age: timedelta | None = None
    blobs: int = 0
    blobs_fetched: int = 0
    served: bool = False


async def read_caches(
    services: Sequence[Service], image_store: ImageStore, report: Report
) -> list[tuple[Service, CacheDirectory, CacheContents]]:
    """Read the cache directories of services; what is not there or damaged is reported, left out.

    Raises:
        EngineError: a directory cannot be read.
    """
    caches: list[tuple[Service, CacheDirectory, CacheContents]] = []
    for service in services:
        if service.buildkit_cache is None:
            continue
        directory = CacheDirectory(service.buildkit_cache)
        try:
            contents = await directory.read()
        except CorruptData as error:
            text = f"{service.name}: {error}; remove {service.buildkit_cache} and build again"
            report.warn(CorruptData(text))
            continue
        if contents is None:
            text = (
                f"{service.name}: there is no BuildKit cache in {service.buildkit_cache};"
                f" build with what `longshore cache-from {service.name}` prints"
            )
            if image_store == "containerd":
                report.warn(NotBuilt(text))
            else:  # where the engine's own BuildKit writes none
                report.line(text)
        else:
            caches.append((service, directory, contents))
    return caches


async def export_cache(
    publisher: Publisher,
    reading: Reading,
    service: Service,
    directory: CacheDirectory,
    contents: CacheContents,
    reachable: Reachable,
    report: Report,
) -> ExportedCache:
    """Store what the scopes lack of a cache directory, and publish its entry.

    Raises:
        EngineError: the directory cannot be read, or a blob is not what its name says.
        StoreError: the store failed.
    """
    name = cache_name(service.name)
    blobs = list(contents.tree.blobs)
    missing = [blob for blob in blobs if blob not in reachable.blobs]
    if missing:
        await reach_others(reading, reachable, report)
        missing = [blob for blob in blobs if blob not in reachable.blobs]
    if missing:
        sorter = ArchiveSorter(
            blobs=frozenset(missing), documents=frozenset(), known=reachable.chunks.keys()
        )
        await publisher.store_blobs(
            cut_archive(directory.save(missing), sorter, report),
            reachable,
            total_bytes=sum(contents.tree.blobs[blob].size for blob in missing),
        )
    described = _describe(contents, reachable)
    earlier = reachable.newest.get((reading.scopes[0], name))
    entry = await publisher.publish(
        "buildkit-cache", name, described, reachable, new_blobs=len(missing)
    )
    return ExportedCache(
        service=service.name,
        directory=service.buildkit_cache or "",
        entry=entry.id,
        unchanged=earlier is not None and earlier.index == entry.index,
        blobs=len(blobs),
        new_blobs=len(missing),
        size_bytes=sum(blob.size for blob in entry.blobs),
    )


def _describe(contents: CacheContents, reachable: Reachable) -> EntryContents:
    needed = {digest: reachable.blobs[digest] for digest in contents.tree.blobs}
    numbers = {ref: n for n, ref in enumerate(dict.fromkeys(ref for ref, _ in needed.values()))}
    return EntryContents(
        documents=contents.documents,
        media_types=contents.tree.documents,
        images=(),
        blobs=tuple(
            Blob(digest, recipe.size_bytes, contents.tree.blobs[digest].media_type, numbers[ref])
            for digest, (ref, recipe) in needed.items()
        ),
        refs=tuple(numbers),
        index=contents.index,
    )


async def import_cache(
    reading: Reading,
    service: Service,
    platform: str,
    *,
    window_bytes: int,
    fetched: Callable[[int], None],
    report: Report,
) -> ImportedCache:
    """Write the newest cached directory of a service; blobs that it has are not fetched.

    What is wrong is reported, and is a miss; the directory then is as it was.
    """
    try:
        hit = await find_cache(reading, service, platform, report)
        blobs_fetched = await write_cache(
            reading, service, hit.entry, window_bytes=window_bytes, fetched=fetched
        )
    except LongshoreError as error:
        return missed_cache(service, error, report)
    return hit_cache(service, hit, blobs_fetched=blobs_fetched)


async def find_cache(reading: Reading, service: Service, platform: str, report: Report) -> Hit:
    """Find the newest cached directory of a service, and make sure that it has no holes.

    Raises:
        NotCached: there is none.
        CorruptData: it cannot be used.
    """
    hit = await find_entry(reading, cache_name(service.name), platform, "buildkit-cache")
    if hit is None:
        raise NotCached(f"no cached BuildKit cache for {service.name}")
    for passed in hit.passed:
        report.line(f"{service.name}: {passed}")
    reading.room.take(hit.entry.held_bytes)
    _check_whole(hit.entry)
    return hit


async def write_cache(
    reading: Reading,
    service: Service,
    entry: Entry,
    *,
    window_bytes: int,
    fetched: Callable[[int], None],
) -> int:
    """Write a cached directory, and return how many blobs were fetched for it.

    Raises:
        LongshoreError: it cannot be fetched or written; the directory then is as it was.
    """
    assert service.buildkit_cache is not None, "only what has a directory is looked up"
    assert entry.index is not None  # checked when the entry was read
    directory = CacheDirectory(service.buildkit_cache)
    wanted = lacking(entry, await directory.sizes())
    recipes = await recipes_for(reading, entry, wanted)
    documents = {d: data for d, data in entry.documents.items() if d != entry.index}
    await fetch_blobs(
        reading,
        directory,
        recipes.values(),
        window_bytes=window_bytes,
        fetched=fetched,
        documents=documents,
        index=entry.documents[entry.index],
    )
    return len(wanted)


async def fetch_blobs(
    reading: Reading,
    directory: CacheDirectory,
    recipes: Collection[Recipe],
    *,
    window_bytes: int,
    fetched: Callable[[int], None],
    documents: Mapping[Digest, bytes] | None = None,
    index: bytes | None = None,
) -> None:
    """Write blobs into a directory, and documents beside them; the index last, if one is given.

    Raises:
        LongshoreError: they cannot be fetched or written; the directory then is as it was.
    """
    archive = build_archive(
        reading.store,
        reading.project,
        files=[(blob_name(digest), data) for digest, data in (documents or {}).items()],
        recipes=list(recipes),
        window_bytes=window_bytes,
        fetched=fetched,
    )
    async with contextlib.aclosing(one_ahead(archive)) as blocks:
        await directory.load(blocks, index)


def hit_cache(
    service: Service, hit: Hit, *, blobs_fetched: int = 0, served: bool = False
) -> ImportedCache:
    """Say what was found of a cache."""
    return ImportedCache(
        service=service.name,
        directory=service.buildkit_cache or "",
        outcome="hit",
        scope=hit.entry.scope,
        entry=hit.entry.id,
        age=hit.age,
        blobs=len(hit.entry.blobs),
        blobs_fetched=blobs_fetched,
        served=served,
    )


def missed_cache(service: Service, error: LongshoreError, report: Report) -> ImportedCache:
    """Report why a cache cannot be had."""
    text = str(error)
    report.warn(error, text if service.name in text else f"{service.name}: {text}")
    missed = isinstance(error, CorruptData | NotCached)
    path = service.buildkit_cache or ""
    return ImportedCache(service.name, path, "miss" if missed else "failed", text)


def lacking(entry: Entry, present: dict[Digest, int]) -> Collection[Digest]:
    """List the blobs of a cached directory that another one does not have."""
    return [
        Digest(blob.digest)
        for blob in entry.blobs
        if present.get(Digest(blob.digest)) != blob.size and blob.digest not in entry.documents
    ]


def _check_whole(entry: Entry) -> None:
    """Refuse a cache with holes: a build that is given one that cannot be read fails.

    Raises:
        CorruptData: its index leads to what the entry does not hold, or cannot be read.
    """
    assert entry.index is not None  # checked when the entry was read
    tree = walk([entry.index], entry.documents)
    lost = tree.absent.union(tree.blobs).difference(Digest(blob.digest) for blob in entry.blobs)
    if lost:
        raise CorruptData(f"the cached BuildKit cache lacks {min(lost)}, to which its index leads")
