"""Work on a block while the next one is on its way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TypeVar

from longshore.ops.tasks import give_up

T = TypeVar("T")


async def one_ahead(blocks: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Pass blocks on, with the next one being made meanwhile; closes `blocks` in the end."""
    async with contextlib.aclosing(blocks):
        ahead = asyncio.ensure_future(anext(blocks, None))
        try:
            while (block := await ahead) is not None:
                ahead = asyncio.ensure_future(anext(blocks, None))
                yield block
        finally:
            await give_up([ahead])
