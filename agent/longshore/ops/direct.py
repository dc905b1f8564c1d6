"""Read blobs from the engine's disk, where that can be done: the way around `docker save`.

    plan → read (threads, some blocks ahead) → hash, cut (a thread) → as any other source

What cannot be read, or is not what it has to be, is left to `docker save`: reading directly is
faster, never a reason to fail. Memory is bounded by the blocks that are ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Collection, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from msgspec import Struct, field

from longshore.core.cutting import BlobCutter, Cut
from longshore.core.digests import Digest, chain_ids, parse_digest
from longshore.core.export_plan import EngineImage, SavePlan
from longshore.core.layout import Descriptor, belongs_in_entry, children_of
from longshore.core.layout_sorting import MAX_HELD_BYTES
from longshore.core.sorting import BlobDone, BlobLost, Item, NewChunks
from longshore.engine.disk import (
    BlobOnDisk,
    ContentDisk,
    EngineDisk,
    OverlayDisk,
    Read,
    reading,
)
from longshore.errors import CorruptData, NotOnDisk, kept
from longshore.ops.report import Report
from longshore.ops.streams import one_ahead

READERS = (
    2  # with more threads, what waits for Python's lock grows faster than what waits for disks
)

_PLANNED = 4  # at once: a plan holds the headers of its block, not the contents


class Found(Struct):
    """What the disk has of what is wanted.

    Attributes:
        lost: why something has to come from somewhere else.
    """

    documents: dict[Digest, bytes] = field(default_factory=dict)
    blobs: list[BlobOnDisk] = field(default_factory=list)
    lost: list[NotOnDisk] = field(default_factory=list)

    def close(self) -> None:
        """Close what is open of the blobs, when nobody reads them any more."""
        for blob in self.blobs:
            blob.close()

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """Go on where something is not there."""
        try:
            yield
        except NotOnDisk as error:
            self.lost.append(kept(error))


def find_parts(
    disk: EngineDisk,
    images: Collection[EngineImage],
    plan: SavePlan,
    stored: Container[Digest],
) -> Found:
    """Find on the disk what an export wants of images. Blocks.

    Args:
        stored: digests of blobs that are stored already.
    """
    found = Found()
    if isinstance(disk, OverlayDisk):
        _find_layers(disk, images, plan, found)
    elif isinstance(disk, ContentDisk):
        _find_contents(disk, plan, stored, found)
    return found


def _find_layers(
    disk: OverlayDisk, images: Collection[EngineImage], plan: SavePlan, found: Found
) -> None:
    for digest in plan.documents:
        with found.losing():
            found.documents[digest] = disk.document(digest)
    chains: dict[Digest, Digest] = {}
    for image in images:
        for diff_id, chain_id in zip(image.diff_ids, chain_ids(image.diff_ids), strict=True):
            if diff_id in plan.blobs:
                chains.setdefault(diff_id, chain_id)
    found.blobs = [disk.layer(chain_id, diff_id) for diff_id, chain_id in chains.items()]


def _find_contents(
    disk: ContentDisk, plan: SavePlan, stored: Container[Digest], found: Found
) -> None:
    blobs: dict[Digest, Descriptor] = {}
    for image in plan.images:
        with found.losing():
            blobs |= _follow(disk, image, found.documents)
    found.blobs = [disk.blob(d, blob.size) for d, blob in blobs.items() if d not in stored]


def _follow(
    disk: ContentDisk, image: Digest, documents: dict[Digest, bytes]
) -> dict[Digest, Descriptor]:
    """Read the documents that an image leads to, and list its blobs, as far as all that is there.

    A manifest of which a part is missing is of a platform that was not pulled in full: as in a
    save, it is taken alone.
    """
    blobs: dict[Digest, Descriptor] = {}
    waiting, seen = [image], {image}
    documents[image] = disk.document(image)
    while waiting:
        parent = waiting.pop()
        with reading(f"{parent}, a document of {image}"):
            try:
                children = {parse_digest(c.digest): c for c in children_of(documents[parent])}
            except CorruptData as error:
                raise NotOnDisk(str(error)) from error
        there = {digest for digest in children if disk.has(digest)}
        whole = all(child.is_node or digest in there for digest, child in children.items())
        for digest, child in children.items():
            if digest not in there or not (whole or child.is_node):
                continue
            if not child.is_node and not belongs_in_entry(child.media_type, child.size):
                blobs[digest] = child
            elif digest not in seen:
                seen.add(digest)
                documents[digest] = disk.document(digest)
                if child.is_node:
                    waiting.append(digest)
                if sum(map(len, documents.values())) > MAX_HELD_BYTES:
                    raise NotOnDisk(f"the documents of {image} are too large to be held")
    return blobs


async def cut_blobs(
    found: Found, known: Container[bytes], report: Report
) -> AsyncGenerator[Sequence[Item], None]:
    """Read and cut blobs, one after the other, each compared with its digest.

    What is lost on the way is added to `found.lost`.

    Args:
        known: ids of chunks that are stored already.
    """
    chunks = NewChunks(known)
    cutter = BlobCutter()
    async with contextlib.aclosing(one_ahead(_read_ahead(found.blobs))) as blocks:
        async for blob, block in blocks:
            if isinstance(block, NotOnDisk):
                if not blob.lost:
                    found.lost.append(kept(block))
                    blob.lost = True
            elif block is not None:
                if not blob.lost:
                    cuts = await asyncio.to_thread(cutter.feed, block)
                    report.advance(len(block))
                    yield list(chunks.of(cuts))
            else:
                blob.close()
                end: Item = BlobLost()
                last: list[Cut] = []
                if not blob.lost:
                    last, facts = await asyncio.to_thread(cutter.finish)
                    if facts.digest == blob.digest:
                        end = BlobDone(facts)
                    else:
                        found.lost.append(
                            NotOnDisk(f"layer {blob.digest}: another lies in its place")
                        )
                cutter = BlobCutter()
                yield [*chunks.of(last), end]


_Step = tuple[BlobOnDisk, memoryview | NotOnDisk | None]
_Plan = tuple[BlobOnDisk, Read | NotOnDisk | None]


async def _read_ahead(blobs: Sequence[BlobOnDisk]) -> AsyncGenerator[_Step, None]:
    """Read blobs block by block, some blocks at once. `None` ends each blob."""
    loop = asyncio.get_running_loop()
    steps = _plan(blobs)
    planned: deque[_Plan] = deque()
    waiting: deque[tuple[BlobOnDisk, asyncio.Future[memoryview | NotOnDisk | None]]] = deque()
    # Leaving the pool waits for what is being read, so that it can be closed.
    with ThreadPoolExecutor(READERS, "read") as pool:
        while True:
            while len(waiting) < READERS:
                if not planned:
                    planned.extend(await asyncio.to_thread(_next, steps))
                    if not planned:
                        break
                blob, read = planned.popleft()
                waiting.append((blob, loop.run_in_executor(pool, _read, read)))
            if not waiting:
                return
            blob, future = waiting.popleft()
            yield blob, await future


def _plan(blobs: Sequence[BlobOnDisk]) -> Iterator[_Plan]:
    for blob in blobs:
        try:
            for read in blob.reads():
                if blob.lost:
                    break
                yield blob, read
        except NotOnDisk as error:
            yield blob, error
        yield blob, None


def _next(steps: Iterator[_Plan]) -> list[_Plan]:
    return list(islice(steps, _PLANNED))


def _read(read: Read | NotOnDisk | None) -> memoryview | NotOnDisk | None:
    if read is None or isinstance(read, NotOnDisk):
        return read
    try:
        return read()
    except NotOnDisk as error:
        return error
