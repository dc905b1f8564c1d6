"""Which ranges of which packs to read, and in what order, to rebuild blobs.

Chunks that lie next to each other in a pack and follow each other in a stream come in one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge

from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Recipe


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


def _runs(
    stream: Sequence[Chunk], *, max_range_bytes: int, max_gap_bytes: int
) -> list[tuple[float, list[Chunk]]]:
    """Group chunks that follow each other both in the stream and in a pack.

    Each group comes with its pace: the share of the stream's plain bytes that lie before it.
    """
    total = sum(chunk.plain_bytes for chunk in stream) or 1
    runs: list[tuple[float, list[Chunk]]] = []
    before = 0
    for chunk in stream:
        run = runs[-1][1] if runs else None
        if run is not None:
            last = run[-1]
            gap = chunk.offset - (last.offset + last.stored_bytes)
            length = chunk.offset + chunk.stored_bytes - run[0].offset
            near = chunk.pack == last.pack and 0 <= gap <= max_gap_bytes
            if near and length <= max_range_bytes:
                run.append(chunk)
                before += chunk.plain_bytes
                continue
        runs.append((before / total, [chunk]))
        before += chunk.plain_bytes
    return runs
