"""Run a coroutine to its end: with a time limit, and stopped by signals in good order."""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from longshore.errors import TimedOut
from longshore.wording import exact

# Each load and save has a thread that waits for the engine, and none of them may keep another
# service's chunks from being decompressed; threads are made when they are needed.
THREADS = 32
SIGNALS = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


class Interrupted(Exception):
    """A signal ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(work: Coroutine[Any, Any, T], *, timeout: timedelta | None, command: str) -> T:
    """Run `work`, and clean up after it.

    The first signal cancels it, so that it aborts what it has begun; a second one ends the process
    at once. Threads are not waited for: one that hangs must not hold up the end.

    Args:
        timeout: `None` if `work` bounds its own parts.

    Raises:
        Interrupted: a signal came.
        TimedOut: it took too long.
        LongshoreError: what `work` raised; the most severe one of a group.
    """
    # Not before they are needed: whoever hands its work to a sidecar runs nothing.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from longshore.ops.tasks import single

    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "longshore"))
    task = loop.create_task(bounded(work, timeout, command) if timeout else work)
    caught: list[int] = []

    def stop(number: int) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(number)
        task.cancel()

    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)
        return loop.run_until_complete(task)
    except BaseException as error:
        if caught:
            raise Interrupted(caught[0]) from error
        if isinstance(error, BaseExceptionGroup):
            raise single(error) from error
        raise
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        left = asyncio.all_tasks(loop)
        for one in left:
            one.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=5))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def bounded(work: Coroutine[Any, Any, T], timeout: timedelta, command: str) -> T:
    """Wait for `work` as long as it may take.

    Raises:
        TimedOut: it took longer, and was cancelled.
    """
    import asyncio

    try:
        async with asyncio.timeout(timeout.total_seconds()) as limit:
            return await work
    except BaseException as error:
        if limit.expired():
            raise TimedOut(
                f"{command} did not end within {exact(timeout)};"
                " if it needs longer, raise --timeout"
            ) from error
        raise
