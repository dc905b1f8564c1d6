"""Which ranges of which packs to read, and in what order, to rebuild blobs.

Chunks that lie next to each other in a pack and follow each other in a stream come in one request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import merge

from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Recipe

# Measured: what a chunk takes in a recipe and in a plan, and what each read of a plan adds.
_CHUNK_BYTES = 460
_READ_BYTES = 360


@dataclass(frozen=True, slots=True)
class RangeRead:
    """One ranged request."""

    pack: Ref
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk, and where in which read it will be found."""

    chunk: Chunk
    read: int
    at: int


@dataclass(frozen=True, slots=True)
class BlobPlan:
    """A blob to rebuild, with the place of each of its chunks."""

    recipe: Recipe
    streams: tuple[tuple[PlannedChunk, ...], ...]


@dataclass(frozen=True, slots=True)
class ReadPlan:
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
        runs = [
            _runs(stream, max_range_bytes=max_range_bytes, max_gap_bytes=max_gap_bytes)
            for stream in recipe.streams
        ]
        # By pace through their stream; of two at the same, headers first.
        order = merge(
            *(
                [(pace, number, index) for index, (pace, _) in enumerate(stream)]
                for number, stream in enumerate(runs)
            )
        )
        numbers: dict[tuple[int, int], int] = {}
        for _, number, index in order:
            run = runs[number][index][1]
            numbers[number, index] = len(reads)
            end = max(chunk.offset + chunk.stored_bytes for chunk in run)
            reads.append(RangeRead(run[0].pack, run[0].offset, end - run[0].offset))
        blobs.append(
            BlobPlan(
                recipe,
                tuple(
                    tuple(
                        PlannedChunk(chunk, numbers[number, index], chunk.offset - run[0].offset)
                        for index, (_, run) in enumerate(stream)
                        for chunk in run
                    )
                    for number, stream in enumerate(runs)
                ),
            )
        )
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
    runs = chunks = 0
    for stream in recipe.streams:
        growing = _Run.none()
        for chunk in stream:
            if not growing.take(chunk, max_range_bytes, max_gap_bytes):
                growing = _Run.begun(chunk)
                runs += 1
        chunks += len(stream)
    return chunks * _CHUNK_BYTES + runs * _READ_BYTES


def _runs(
    stream: Sequence[Chunk], *, max_range_bytes: int, max_gap_bytes: int
) -> list[tuple[float, list[Chunk]]]:
    """Group chunks that follow each other both in the stream and in a pack.

    Each group comes with its pace: the share of the stream's plain bytes that lie before it.
    """
    total = sum(chunk.plain_bytes for chunk in stream) or 1
    runs: list[tuple[float, list[Chunk]]] = []
    growing = _Run.none()
    before = 0
    for chunk in stream:
        if growing.take(chunk, max_range_bytes, max_gap_bytes):
            runs[-1][1].append(chunk)
        else:
            growing = _Run.begun(chunk)
            runs.append((before / total, [chunk]))
        before += chunk.plain_bytes
    return runs


@dataclass(slots=True)
class _Run:
    """A range of a pack that grows as chunks join it."""

    pack: Ref | None
    start: int
    end: int
    wasted: int
    """Bytes of the range that no chunk needs."""

    @classmethod
    def none(cls) -> _Run:
        return cls(None, 0, 0, 0)

    @classmethod
    def begun(cls, chunk: Chunk) -> _Run:
        return cls(chunk.pack, chunk.offset, chunk.offset + chunk.stored_bytes, 0)

    def take(self, chunk: Chunk, max_range_bytes: int, max_gap_bytes: int) -> bool:
        """Take a chunk in, if that costs little; tell whether it did.

        A chunk that the range holds costs nothing, such as the zeros of a sparse file, each of
        which is the same chunk. A gap is read for nothing, and never more than half of the range,
        or recipes could be made that read thousands of times what they need.
        """
        if chunk.pack != self.pack or chunk.offset < self.start:
            return False
        end = chunk.offset + chunk.stored_bytes
        if end <= self.end:
            return True
        gap = chunk.offset - self.end
        wasted = self.wasted + max(gap, 0)
        length = end - self.start
        if gap > max_gap_bytes or length > max_range_bytes or 2 * wasted > length:
            return False
        self.end, self.wasted = end, wasted
        return True
