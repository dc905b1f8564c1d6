"""Chunks and recipes that need no bytes behind them."""

from __future__ import annotations

from collections.abc import Sequence

from longshore.core.digests import Digest
from longshore.core.keys import Ref
from longshore.core.recipe import Chunk, Recipe

MAIN_PACK = Ref("main", "01a2035e-dbb0-7862-b447-f2c7f272fa2f")
OTHER_PACK = Ref("pr:1", "01a2035e-dbb0-7862-b447-f2c7f272fa30")


def chunk(name: int, offset: int, stored: int, *, plain: int = 10, pack: Ref = MAIN_PACK) -> Chunk:
    return Chunk(name.to_bytes(8, "big").ljust(32, b"-"), plain, pack, offset, stored)


def recipe(chunks: Sequence[Chunk]) -> Recipe:
    size = sum(one.plain_bytes for one in chunks)
    return Recipe(Digest("sha256:" + "0" * 64), size, "raw", (tuple(chunks),))
