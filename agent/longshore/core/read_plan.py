"""Which ranges of which packs to read, and in what order, to rebuild blobs.

A stream is read in segments. Chunks of a segment that lie next to each other in a pack come in one
request, though others may stand between them in the stream: in a layer of which a part was stored
before, new chunks and old ones take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain

from msgspec import Struct

from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Recipe

# Measured: what a chunk takes in a recipe and in a plan, and what each read of a plan adds.
_CHUNK_BYTES = 460
_READ_BYTES = 360
_OPEN_RUNS = 4  # of a pack that a chunk may join: as many as tell old from new, and old from older


class RangeRead(Struct, frozen=True):
    """One ranged request."""

    pack: Ref
    start: int
    length: int


class PlannedChunk(Struct, frozen=True):
    """A chunk, and where in which read it will be found."""

    chunk: Chunk
    read: int
    at: int


Segment = tuple[PlannedChunk, ...]
"""Chunks that follow each other in a stream. Their reads are of no other segment's, and together no
longer than one may be, so whoever goes on to the next one can let all of them go."""


class BlobPlan(Struct, frozen=True):
    """A blob to rebuild, with the segments of each of its streams."""

    recipe: Recipe
    streams: tuple[tuple[Segment, ...], ...]


class ReadPlan(Struct, frozen=True):
    """All reads for a sequence of blobs, in the order in which they will be needed."""

    reads: tuple[RangeRead, ...]
    blobs: tuple[BlobPlan, ...]

    @property
    def read_bytes(self) -> int:
        """What will be downloaded."""
        return sum(read.length for read in self.reads)


def plan_reads(recipes: Sequence[Recipe], *, max_range_bytes: int, max_gap_bytes: int) -> ReadPlan:
    """Plan the reads for blobs that will be rebuilt one after the other.

    The two streams of a tar are read at the same pace, in proportion to their lengths.

    Args:
        max_range_bytes: no read gets longer, unless a single chunk is.
        max_gap_bytes: neighbours may be so far apart; what lies between is read for nothing.
    """
    reads: list[RangeRead] = []
    blobs: list[BlobPlan] = []
    for recipe in recipes:
        streams = [
            list(_segments(stream, max_range_bytes=max_range_bytes, max_gap_bytes=max_gap_bytes))
            for stream in recipe.streams
        ]
        # By pace through their stream; of two at the same, headers first.
        for run in merge(*map(_runs, streams), key=lambda run: run.pace):
            run.number = len(reads)
            reads.append(RangeRead(run.pack, run.start, run.end - run.start))
        planned = (tuple(segment.planned() for segment in segments) for segments in streams)
        blobs.append(BlobPlan(recipe, tuple(planned)))
    return ReadPlan(tuple(reads), tuple(blobs))


def group_chunks(
    chunks: Iterable[Chunk], *, max_range_bytes: int, max_gap_bytes: int
) -> list[list[Chunk]]:
    """Group distinct chunks of one pack, by where they lie, for one read each.

    Args:
        max_range_bytes: no read gets longer, unless a single chunk is.
        max_gap_bytes: neighbours may be so far apart; what lies between is read for nothing.
    """
    groups: list[list[Chunk]] = []
    end = 0
    for chunk in sorted(chunks, key=lambda chunk: (chunk.offset, chunk.stored_bytes, chunk.id)):
        last = max(end, chunk.offset + chunk.stored_bytes)
        near = groups and chunk.offset - end <= max_gap_bytes
        if near and last - groups[-1][0].offset <= max_range_bytes:
            groups[-1].append(chunk)
            end = last
        else:
            groups.append([chunk])
            end = chunk.offset + chunk.stored_bytes
    return groups


def weigh(recipe: Recipe, *, max_range_bytes: int, max_gap_bytes: int) -> int:
    """Tell about how much memory a recipe and its plan take, without planning.

    It is not the layer's size that costs, but the number of its chunks, and of the reads that they
    need; whoever made the recipe chose both.
    """
    chunks = sum(map(len, recipe.streams))
    runs = sum(
        len(segment.runs)
        for stream in recipe.streams
        for segment in _segments(
            stream, max_range_bytes=max_range_bytes, max_gap_bytes=max_gap_bytes
        )
    )
    return chunks * _CHUNK_BYTES + runs * _READ_BYTES


def _segments(
    stream: Sequence[Chunk], *, max_range_bytes: int, max_gap_bytes: int
) -> Iterator[_Segment]:
    total = sum(chunk.plain_bytes for chunk in stream) or 1
    segment = _Segment(max_range_bytes, max_gap_bytes)
    before = 0
    for chunk in stream:
        pace = before / total
        if not segment.take(chunk, pace):
            yield segment
            segment = _Segment(max_range_bytes, max_gap_bytes)
            segment.take(chunk, pace)
        before += chunk.plain_bytes
    if segment.runs:
        yield segment


def _runs(segments: Iterable[_Segment]) -> Iterable[_Run]:
    """List the runs of segments, in the order in which they will be needed."""
    return chain.from_iterable(segment.runs for segment in segments)


class _Segment:
    """Runs that are needed together, and what they are needed for."""

    def __init__(self, max_range_bytes: int, max_gap_bytes: int) -> None:
        self._left = max_range_bytes
        self._max_gap_bytes = max_gap_bytes
        self._open: dict[Ref, deque[_Run]] = {}
        self.runs: list[_Run] = []
        self._chunks: list[tuple[Chunk, _Run]] = []

    def take(self, chunk: Chunk, pace: float) -> bool:
        """Take a chunk in, unless there is no room for it; tell whether it did.

        Args:
            pace: the share of the stream's plain bytes that lies before it.
        """
        near = self._open.get(chunk.pack)
        if near is None:
            near = self._open[chunk.pack] = deque(maxlen=_OPEN_RUNS)
        for run in near:
            added = run.take(chunk, self._left, self._max_gap_bytes)
            if added is not None:
                self._left -= added
                self._chunks.append((chunk, run))
                return True
        if self.runs and chunk.stored_bytes > self._left:
            return False
        self._left -= chunk.stored_bytes
        run = _Run(chunk.pack, chunk.offset, chunk.offset + chunk.stored_bytes, pace)
        near.appendleft(run)
        self.runs.append(run)
        self._chunks.append((chunk, run))
        return True

    def planned(self) -> Segment:
        """Say where its chunks will be found, once its runs have their numbers."""
        return tuple(
            PlannedChunk(chunk, run.number, chunk.offset - run.start) for chunk, run in self._chunks
        )


class _Run(Struct, eq=False):
    """A range of a pack that grows as chunks join it.

    Attributes:
        pace: the share of the stream's plain bytes that lies before it.
        wasted: bytes of the range that no chunk needs.
        number: of its read.
    """

    pack: Ref
    start: int
    end: int
    pace: float
    wasted: int = 0
    number: int = 0

    def take(self, chunk: Chunk, left_bytes: int, max_gap_bytes: int) -> int | None:
        """Take a chunk in, if that costs little; tell by how much it grew, or `None`.

        A chunk that the range holds costs nothing, such as the zeros of a sparse file, each of
        which is the same chunk. A gap is read for nothing, and never more than half of the range,
        or recipes could be made that read thousands of times what they need.
        """
        if chunk.offset < self.start:
            return None
        end = chunk.offset + chunk.stored_bytes
        if end <= self.end:
            return 0
        added = end - self.end
        gap = max(chunk.offset - self.end, 0)
        wasted = self.wasted + gap
        if gap > max_gap_bytes or added > left_bytes or 2 * wasted > end - self.start:
            return None
        self.end, self.wasted = end, wasted
        return added
