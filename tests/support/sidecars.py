"""Sidecars for tests: one in a thread, whose jobs run in threads; and processes that do as told."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from aiohttp import web
from tests.support.loop_thread import LoopThread, all_accepted

from longshore.config_values import Listen
from longshore.service.api import add_api
from longshore.service.claiming import claim
from longshore.service.jobs import Jobs
from longshore.service.listening import listen_at, listen_on
from longshore.service.process import Forks
from longshore.service.task import Event, Outcome, Perform, Task

T = TypeVar("T")
NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)


def outcome(command: str = "import", code: int = 0, **document: Any) -> Outcome:
    """What a run came to, with a document as all commands write it."""
    common = {"schema": 1, "command": command, "ok": not code, "exit_code": code}
    return Outcome(code, "done", {**common, "error": None, "warnings": [], **document})


class StubProcess:
    """A process that tells what the test tells it to."""

    def __init__(self, task: Task, loop: asyncio.AbstractEventLoop) -> None:
        self.task = task
        self.outcome: Outcome | None = None
        self.signals: list[str] = []
        self._loop = loop
        self._told: asyncio.Queue[Event | None] = asyncio.Queue()
        self._code = 0

    def tell(self, event: Event | None) -> None:
        """Tell something, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._told.put_nowait, event)

    def end(self, found: Outcome | None, code: int = 0) -> None:
        """End with what it came to."""
        self.outcome = found
        self._code = code
        self.tell(None)

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._told.get()) is not None:
            yield event

    def stop(self) -> None:
        self.signals.append("stop")

    def kill(self) -> None:
        self.signals.append("kill")
        self.end(None, -9)

    async def close(self) -> int:
        return self._code


class StubForks:
    """Starts processes that do as they are told, or at once what `does` says."""

    def __init__(self, does: Callable[[StubProcess], None] = lambda _: None) -> None:
        self.started: list[StubProcess] = []
        self.loop = asyncio.get_running_loop()
        self._does = does

    def prepare(self) -> None:
        """Have none ready."""

    def start(self, task: Task) -> StubProcess:
        process = StubProcess(task, self.loop)
        self.started.append(process)
        self._does(process)
        return process


def jobs_with(forks: StubForks) -> Jobs:
    """A queue whose ids are numbers."""
    numbers = itertools.count(1)
    return Jobs(cast(Forks, forks), now=lambda: NOW, make_id=lambda: f"{next(numbers):04}")


@dataclass
class Life:
    """What a sidecar tells of itself, as the test sets it."""

    ready: bool = True
    ending: bool = False
    reason: str = "2 of 2 services were imported"
    flags: Mapping[str, Any] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def settled(self) -> None:
        if not self.ready and not self.ending:
            await self.changed.wait()


class ThreadedSidecar:
    """The API of a sidecar on a unix socket and a port, in a thread with a loop of its own.

    Args:
        perform: does each job, in a thread.
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._thread = LoopThread()
        self._folder = tempfile.TemporaryDirectory(prefix="ls-")  # names of sockets are short
        self.socket = Path(self._folder.name) / "s.sock"
        self.life = Life()
        self.port = 0
        self.forks: StubForks
        self.jobs: Jobs

    def __enter__(self) -> Self:
        self._thread.__enter__()
        self.run(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run(self.close())
        self._thread.__exit__(kind, error, trace)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove its folder; for those that were never opened."""
        self._folder.cleanup()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the sidecar's loop."""
        return self._thread.run(work)

    async def _open(self) -> None:
        self.forks = StubForks(self._start)
        self.jobs = jobs_with(self.forks)
        app = web.Application()
        add_api(app, self.jobs, self.life)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        self._claimed = claim(self.socket)
        await listen_at(self._runner, self._claimed)
        self.port = await listen_on(self._runner, Listen("127.0.0.1", 0))

    async def close(self) -> None:
        """Be gone; the file of the socket stays, as if it had been killed."""
        await all_accepted()
        await self._runner.cleanup()
        self._claimed.lock.close()

    def _start(self, process: StubProcess) -> None:
        def run() -> None:
            process.end(self._perform(process.task, process.tell))

        threading.Thread(target=run, daemon=True).start()
