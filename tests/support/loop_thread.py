"""An event loop in a thread, for tests of what has an event loop of its own, or none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_LIMIT_SECONDS = 60


async def all_accepted() -> None:
    """Let the loop take up what clients have connected to; to be called before a server is closed.

    Between its accepting a connection and its making a transport of it lies a turn of the loop. If
    the server is closed meanwhile, the socket is left to the garbage collector (CPython 3.11,
    `Server._attach`).
    """
    for _ in range(4):
        await asyncio.sleep(0)


class LoopThread:
    """An event loop that runs in a thread; no task and no connection outlives it.

    What is left over is closed here. The garbage collector would find it in the middle of another
    test, and have that one fail.
    """

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        self._began.result(_LIMIT_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop, end = self._began.result()
        loop.call_soon_threadsafe(end.set)
        self._thread.join(_LIMIT_SECONDS)
        assert not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread, and return what it returns."""
        loop, _ = self._began.result()
        return asyncio.run_coroutine_threadsafe(work, loop).result(_LIMIT_SECONDS)

    def do(self, action: Callable[[], T]) -> T:
        """Call a function in the thread, and return what it returns."""

        async def call() -> T:
            return action()

        return self.run(call())

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._until_the_end())

    async def _until_the_end(self) -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        self._began.set_result((loop, end))
        await end.wait()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        for transport in list(loop._transports.values()):  # type: ignore[attr-defined]
            transport.abort()  # `close` would wait for a peer that does not read
        await asyncio.sleep(0)  # closed in the loop's next turn


class InThread(LoopThread):
    """An event loop in a thread, in which something is served meanwhile."""

    def __init__(self, served: AbstractAsyncContextManager[object]) -> None:
        super().__init__()
        self._served = served

    def __enter__(self) -> Self:
        super().__enter__()
        self.run(self._served.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.run(self._served.__aexit__(kind, error, trace))
        finally:
            super().__exit__(kind, error, trace)
