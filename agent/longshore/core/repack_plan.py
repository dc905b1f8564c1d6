"""Decide which packs are worth rewriting, and rewrite the recipes that name them.

A pack of which little is still referenced costs its whole size. What is left of it goes into a new
pack of the same scope; the old one then has nothing that refers to it, and goes as anything else.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec.structs import replace

from longshore.core.gc_documents import ObjectName, name_of_ref
from longshore.core.recipe import Chunk, Recipe

_STORED_BITS = 21  # a stored chunk is less than 2 MiB


class UsedRanges:
    """The bytes of one pack that live recipes need: 8 bytes of memory for each chunk."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges = array("Q")

    def add(self, chunk: Chunk) -> None:
        """Add where a chunk lies."""
        self._ranges.append(chunk.offset << _STORED_BITS | chunk.stored_bytes)

    @property
    def used_bytes(self) -> int:
        """The bytes that some chunk covers; overlaps count once."""
        used, end = 0, 0
        for packed in sorted(set(self._ranges)):
            offset = packed >> _STORED_BITS
            last = offset + (packed & ((1 << _STORED_BITS) - 1))
            used += max(0, last - max(end, offset))
            end = max(end, last)
        return used


def add_ranges(ranges: dict[ObjectName, UsedRanges], recipe: Recipe) -> frozenset[ObjectName]:
    """Add what a recipe needs of packs. Returns the packs."""
    names = {ref: name_of_ref(ref) for ref in recipe.packs}
    for stream in recipe.streams:
        for chunk in stream:
            ranges.setdefault(names[chunk.pack], UsedRanges()).add(chunk)
    return frozenset(names.values())


def chunks_in(recipe: Recipe, packs: Collection[ObjectName]) -> Iterator[tuple[ObjectName, Chunk]]:
    """Go through the chunks that a recipe needs of some packs, as it describes them; it may lie."""
    names = {ref: name_of_ref(ref) for ref in recipe.packs}
    for stream in recipe.streams:
        for chunk in stream:
            if (name := names[chunk.pack]) in packs:
                yield name, chunk


def choose_packs(
    ranges: Mapping[ObjectName, UsedRanges],
    sizes: Mapping[ObjectName, int],
    spared: Iterable[ObjectName],
    *,
    below: float,
) -> dict[ObjectName, int]:
    """Choose the packs of which less than a share is needed. Returns also the bytes needed.

    Args:
        spared: packs that something refers to whose recipe cannot be rewritten: rewriting them
            would store everything twice.
        below: the share, from 0 (none is chosen) to 1.
    """
    spared = frozenset(spared)
    used = {name: found.used_bytes for name, found in ranges.items() if name not in spared}
    return {name: used[name] for name in sorted(used) if used[name] < below * sizes.get(name, 0)}


def moved(recipe: Recipe, places: Mapping[Chunk, Chunk]) -> Recipe:
    """Rewrite a recipe for chunks that lie elsewhere now: the same blob, from the same chunks."""
    streams = tuple(
        tuple(places.get(chunk, chunk) for chunk in stream) for stream in recipe.streams
    )
    return replace(recipe, streams=streams)
