"""Run things side by side, and fail with one error, not with a group of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from longshore.errors import LongshoreError

T = TypeVar("T")
R = TypeVar("R")


@contextlib.asynccontextmanager
async def side_by_side() -> AsyncGenerator[asyncio.TaskGroup, None]:
    """Open a task group; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise single(errors) from errors


@contextlib.asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, T]) -> AsyncGenerator[asyncio.Task[T], None]:
    """Begin some work whose result may be needed; if nobody has waited for it, it is given up."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await give_up([task])


async def give_up(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks that nobody waits for any more, and wait until they have ended, however."""
    given_up = list(tasks)
    for task in given_up:
        task.cancel()
    for task in given_up:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def for_each(
    work: Callable[[T], Awaitable[R]], items: Iterable[T], *, at_once: int
) -> list[R]:
    """Work on all items, so many at once, and return the results in the items' order."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    async with side_by_side() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


class Slots:
    """Turns to work, so many at once; something large may take them all."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._free = asyncio.Semaphore(number)
        self._queue = asyncio.Lock()  # so that two large ones do not wait for each other

    @contextlib.asynccontextmanager
    async def take(self, *, all_of_them: bool = False) -> AsyncGenerator[None, None]:
        """Wait for a turn, and have it."""
        taken = 0
        try:
            async with self._queue:
                for _ in range(self._number if all_of_them else 1):
                    await self._free.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._free.release()


def single(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose the error to tell of several: a bug first, else the one with the highest exit code."""
    found = list(_leaves(errors))
    bugs = [error for error in found if not isinstance(error, LongshoreError)]
    known = [error for error in found if isinstance(error, LongshoreError)]
    return bugs[0] if bugs else max(known, key=lambda error: error.exit_code)


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
