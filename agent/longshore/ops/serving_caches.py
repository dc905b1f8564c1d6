"""Cache directories that a build fetches itself, blob by blob, while it runs.

Fetched before the build, a directory keeps it waiting, though it may not want all of it. Whatever
is fetched is written into the directory as well, so that BuildKit, which writes its cache there
in the end, finds it and does not write it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping

from longshore.core.cache_index import latest_manifest
from longshore.core.digests import Digest, is_digest
from longshore.core.entry import Entry
from longshore.core.layout import walk
from longshore.core.recipe import Recipe
from longshore.core.service import Service
from longshore.engine.cache_directory import CacheDirectory
from longshore.errors import CorruptData, LongshoreError
from longshore.ops.buildkit_cache import (
    ImportedCache,
    fetch_blobs,
    find_cache,
    hit_cache,
    lacking,
    missed_cache,
    write_cache,
)
from longshore.ops.reachable import Reading
from longshore.ops.recipes import recipes_for
from longshore.ops.report import Report
from longshore.ops.tasks import give_up

AT_ONCE = 2  # blobs: one is unpacked by BuildKit after the other, so the first should come soon


class ServedCache:
    """A cached directory whose blobs come when somebody asks for them.

    Args:
        entry: a cache without holes.
        recipes: of the blobs that the directory lacks.
        index: digest of the index that the directory has now.
        turns: limits how many blobs are fetched at once, of all caches.
        window_bytes: how much may be read ahead for one blob.

    Attributes:
        latest: digest of the manifest that a build begins with.
        documents: media type and content.
        sizes: of the blobs, in bytes.
        blobs_fetched, fetched_bytes: how much so far, as stored.
    """

    def __init__(
        self,
        reading: Reading,
        service: Service,
        entry: Entry,
        recipes: Mapping[Digest, Recipe],
        index: Digest | None,
        turns: asyncio.Semaphore,
        *,
        window_bytes: int,
    ) -> None:
        assert service.buildkit_cache is not None, "only what has a directory is served"
        assert entry.index is not None  # checked when the entry was read
        self.service = service.name
        self.latest = _latest(entry.documents[entry.index])
        kinds = walk([entry.index], entry.documents).documents
        self.documents = {d: (kind, entry.documents[d]) for d, kind in kinds.items()}
        self.sizes = {Digest(blob.digest): blob.size for blob in entry.blobs}
        self.blobs_fetched = self.fetched_bytes = 0
        self._service, self._entry, self._reading = service, entry, reading
        self._recipes = dict(recipes)
        self._index = index
        self._directory = CacheDirectory(service.buildkit_cache)
        self._turns = turns
        self._window_bytes = window_bytes
        self._fetching: dict[Digest, asyncio.Task[None]] = {}

    async def fetch(self, blob: Digest) -> None:
        """Have a blob in the directory. One that failed once is not tried again.

        Raises:
            LongshoreError: it cannot be fetched or written.
        """
        if blob not in self._recipes:
            return  # it is there
        if blob not in self._fetching:
            self._fetching[blob] = asyncio.create_task(self._fetch(self._recipes[blob]))
        # Somebody else may wait for it, too.
        await asyncio.shield(self._fetching[blob])

    async def read(self, blob: Digest) -> AsyncGenerator[bytes, None]:
        """Stream a blob that the directory has.

        Raises:
            CorruptData: it was another one, all of which has been given out by then.
            EngineError: it cannot be read.
        """
        size, sha256 = 0, hashlib.sha256()
        async with contextlib.aclosing(self._directory.read_blob(blob)) as blocks:
            async for block in blocks:
                size += len(block)
                if blob not in self._recipes:  # those that were fetched have been checked
                    sha256.update(block)
                yield block
        known = blob in self._recipes or f"sha256:{sha256.hexdigest()}" == blob
        if not known or size != self.sizes[blob]:
            raise CorruptData(f"{blob} in {self._service.buildkit_cache} is not what its name says")

    async def complete(self, report: Report) -> None:
        """Make sure that an export of the directory loses nothing.

        If the build wrote no cache, the directory has an index that is older than this cache, or
        none. It gets this cache then, as an import writes it.
        """
        try:
            if await self._directory.index() == self._index:
                await write_cache(
                    self._reading,
                    self._service,
                    self._entry,
                    window_bytes=self._window_bytes,
                    fetched=self._count,
                )
        except LongshoreError as error:
            report.warn(error, f"{self.service}: {error}")

    async def close(self) -> None:
        """Stop fetching."""
        await give_up(self._fetching.values())

    async def _fetch(self, recipe: Recipe) -> None:
        async with self._turns:
            await fetch_blobs(
                self._reading,
                self._directory,
                [recipe],
                window_bytes=self._window_bytes,
                fetched=self._count,
            )
        self.blobs_fetched += 1

    def _count(self, size_bytes: int) -> None:
        self.fetched_bytes += size_bytes


async def serve_cache(
    reading: Reading,
    service: Service,
    platform: str,
    turns: asyncio.Semaphore,
    *,
    window_bytes: int,
    serve: Callable[[ServedCache], None],
    report: Report,
) -> ImportedCache:
    """Find the newest cached directory of a service, and hand it to whoever serves it.

    All that says how to fetch its blobs is read now. What is wrong is reported, and is a miss.

    Args:
        turns, window_bytes: see `ServedCache`.
    """
    try:
        hit = await find_cache(reading, service, platform, report)
        directory = CacheDirectory(service.buildkit_cache or "")
        recipes = await recipes_for(reading, hit.entry, lacking(hit.entry, await directory.sizes()))
        served = ServedCache(
            reading,
            service,
            hit.entry,
            recipes,
            await directory.index(),
            turns,
            window_bytes=window_bytes,
        )
    except LongshoreError as error:
        return missed_cache(service, error, report)
    serve(served)
    return hit_cache(service, hit, served=True)


def _latest(index: bytes) -> Digest:
    latest = latest_manifest(index)
    if latest is None or not is_digest(latest):
        raise CorruptData("the index of the cached BuildKit cache names no manifest `latest`")
    return Digest(latest)
