"""Which blobs to rebuild to see whether they are sound, and what to read for that.

Recipes are written by whoever may write a scope, so one may name a chunk a million times. What
occurs often is read once and kept; what would still be read or joined many times over is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from blake3 import blake3
from msgspec import Struct
from msgspec.structs import replace

from longshore.core.gc_documents import ObjectName
from longshore.core.recipe import Chunk, Recipe

_READ_TIMES = 4
_READ_BYTES = 64 << 20
_JOIN_TIMES = 8
_JOIN_BYTES = 64 << 30


class RebuildPlan(Struct, frozen=True):
    """How to rebuild one blob.

    Attributes:
        kept: chunks that occur several times: read once, before the others.
        rest: the recipe without them.
        too_repetitive: rebuilding would take far more work than what is stored is worth; its
            chunks can be looked at one by one.
    """

    kept: tuple[Chunk, ...]
    rest: Recipe
    too_repetitive: bool


def plan_rebuild(recipe: Recipe, *, keep_bytes: int) -> RebuildPlan:
    """Plan the work on one blob.

    Args:
        keep_bytes: what the chunks that are kept may weigh in plain.
    """
    counts = Counter(chunk for stream in recipe.streams for chunk in stream)
    often = [chunk for chunk, count in counts.items() if count > 1]
    often.sort(key=lambda chunk: (-counts[chunk] * chunk.stored_bytes, chunk.offset))
    kept: list[Chunk] = []
    for chunk in often:
        if chunk.plain_bytes <= keep_bytes:
            keep_bytes -= chunk.plain_bytes
            kept.append(chunk)
    gone = frozenset(kept)
    rest = replace(
        recipe,
        streams=tuple(
            tuple(chunk for chunk in stream if chunk not in gone) for stream in recipe.streams
        ),
    )
    stored = sum(chunk.stored_bytes for chunk in counts)
    plain = sum(chunk.plain_bytes for chunk in counts)
    return RebuildPlan(
        tuple(kept),
        rest,
        rest.stored_bytes > _READ_TIMES * stored + _READ_BYTES
        or recipe.size_bytes > _JOIN_TIMES * plain + _JOIN_BYTES,
    )


def choose_share(
    weights: Mapping[ObjectName, int], share: float, seed: bytes
) -> tuple[ObjectName, ...]:
    """Choose recipes at random until they weigh a share of all: all of them if it is 1.

    Args:
        seed: another one makes another choice.
    """
    if share >= 1:
        return tuple(sorted(weights))
    order = sorted(weights, key=lambda name: blake3(seed + name.encode()).digest())
    left = share * sum(weights.values())
    chosen: list[ObjectName] = []
    for name in order:
        if left <= 0:
            break
        chosen.append(name)
        left -= weights[name]
    return tuple(sorted(chosen))
