"""Jobs: what was asked for, in which order it is done, and what came of it.

One job at a time moves data, so that the memory budget holds and services do not take the network
from each other; flushes, which move none, run at once. Imports go first, because a build waits for
them, and what nobody waits for goes last.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct, field

from longshore.service.process import Forks, TaskProcess
from longshore.service.task import Event, Line, Outcome, Progress, Task

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "superseded"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "superseded"})
_MOVING = ("import", "export")
_KEPT = 100  # jobs that ended
MAX_QUEUED = 100  # more at once are a mistake of whoever asks
_KEPT_LINES = 1000  # of each job; an import of hundreds of services says less


class Job(Struct):
    """One thing to do.

    Attributes:
        outcome: what it came to, when it has ended; `None` if it did not run, or crashed.
        reason: why it did not succeed, in one line.
    """

    id: str
    task: Task
    created: datetime
    state: State = "queued"
    started: datetime | None = None
    ended: datetime | None = None
    lines: deque[tuple[int, Line]] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    progress: Progress | None = None
    outcome: Outcome | None = None
    reason: str = ""
    stopping: bool = False
    """Whether it was told to end."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def rank(self) -> int:
        """Whose turn it is: the lowest goes first."""
        if self.task.command == "import":
            return 0
        return 2 if self.task.background else 1

    def hear(self, event: Event) -> None:
        """Take in what its process tells."""
        if isinstance(event, Line):
            self.lines.append((next(self._numbers), event))
        else:
            self.progress = event
        self.touch()

    def touch(self) -> None:
        """Wake up whoever follows it."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, Line | Progress], None]:
        """Tell the lines behind number `after`, and progress as it changes, until it has ended.

        Progress carries the number of the line before it.
        """
        shown: Progress | None = None
        while True:
            changed = self._changed
            for number, line in list(self.lines):
                if number > after:
                    after = number
                    yield number, line
            if self.progress is not None and self.progress is not shown:
                shown = self.progress
                yield after, shown
            if self._changed is changed:
                if self.has_ended:
                    return
                await changed.wait()

    async def wait(self) -> None:
        """Wait until it has ended."""
        while not self.has_ended:
            await self._changed.wait()


Listener = Callable[[Job, Event | None], None]
"""Hears of each event of each job; of a change of its state with `None`."""


class Jobs:
    """The queue, and who works it off.

    Args:
        now: the time, for people.
        make_id: makes ids whose order is that of time.
    """

    def __init__(
        self, forks: Forks, *, now: Callable[[], datetime], make_id: Callable[[], str]
    ) -> None:
        self._forks = forks
        self._now = now
        self._make_id = make_id
        self._jobs: dict[str, Job] = {}
        self._processes: dict[str, TaskProcess] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._moving: Job | None = None
        self.listeners: list[Listener] = []
        self.closed = False
        """Whether no more work is taken from outside."""

    @property
    def all(self) -> tuple[Job, ...]:
        """All jobs that are known, the oldest first."""
        return tuple(self._jobs.values())

    @property
    def queued(self) -> tuple[Job, ...]:
        """The jobs that wait, in the order in which they will run."""
        waiting = (job for job in self._jobs.values() if job.state == "queued")
        return tuple(sorted(waiting, key=lambda job: (job.rank, job.id)))

    def get(self, identifier: str) -> Job | None:
        """Look up a job."""
        return self._jobs.get(identifier)

    def submit(self, task: Task) -> Job:
        """Take in a task; a background export that waits for the same services is replaced."""
        job = Job(self._make_id(), task, self._now())
        if task.command == "export":
            for other in superseded(task, self.queued):
                other.reason = f"job {job.id} takes its place"
                self._end(other, "superseded")
        self._jobs[job.id] = job
        self._tell(job, None)
        self._forget()
        self._go_on()
        return job

    def cancel(self, job: Job) -> None:
        """End a job that waits or runs, which then cleans up; the second time it ends at once."""
        if job.state == "queued":
            job.reason = "it was cancelled before it ran"
            self._end(job, "cancelled")
            self._go_on()
        elif job.state == "running":
            job.stopping = True
            if job.id in self._processes:  # else it is stopped as soon as it is there
                self._processes[job.id].stop()

    async def ask(self, task: Task) -> Outcome | None:
        """Run a task that only looks, beside all others; `None` if its process crashed."""
        process = await asyncio.to_thread(self._forks.start, task)
        try:
            async for _ in process.events():
                pass
            return process.outcome
        except BaseException:
            process.kill()
            raise
        finally:
            await asyncio.shield(process.close())
            self._prepare()

    async def finish(self) -> None:
        """Wait until everything that was taken in has come to its end."""
        while waiting := [job for job in self.all if not job.has_ended]:
            await waiting[0].wait()

    async def abort(self, grace: timedelta = timedelta(seconds=10)) -> None:
        """End everything: what runs may clean up for so long."""
        for job in (*self.queued, *self.all):  # nothing that waits begins because another ends
            self.cancel(job)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                await self.finish()
        while self._running:  # one that is being started has no process yet
            for process in self._processes.values():
                process.kill()
            await asyncio.wait(self._running, timeout=0.1)

    def _go_on(self) -> None:
        for job in self.queued:
            moves = job.task.command in _MOVING
            if moves and self._moving is not None:
                continue
            if moves:
                self._moving = job
            job.state, job.started = "running", self._now()
            self._tell(job, None)
            self._spawn(self._run(job), f"job {job.id}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        running = asyncio.create_task(work, name=name)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _run(self, job: Job) -> None:
        code = 0
        try:
            process = await asyncio.to_thread(self._forks.start, job.task)
            self._processes[job.id] = process
            if job.stopping:
                process.stop()
            async for event in process.events():
                job.hear(event)
                self._tell(job, event)
            job.outcome = process.outcome
            code = await process.close()
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            job.reason = f"its process could not be started: {why}"
        finally:
            self._processes.pop(job.id, None)
            if self._moving is job:
                self._moving = None
            self._end(job, _state(job, code))
            self._go_on()
            self._prepare()

    def _prepare(self) -> None:
        if not self.closed and not self.queued:
            self._spawn(self._have_one_ready(), "prepare")

    async def _have_one_ready(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # whoever needs one will hear of it
            await asyncio.to_thread(self._forks.prepare)

    def _end(self, job: Job, state: State) -> None:
        job.state, job.ended = state, self._now()
        job.touch()
        self._tell(job, None)

    def _tell(self, job: Job, event: Event | None) -> None:
        for listener in self.listeners:
            listener(job, event)

    def _forget(self) -> None:
        ended = [job for job in self._jobs.values() if job.has_ended]
        for job in ended[: max(0, len(ended) - _KEPT)]:
            del self._jobs[job.id]


def superseded(task: Task, queued: tuple[Job, ...]) -> list[Job]:
    """Say which exports need not run any more if `task` is run: those that nobody waits for."""
    return [
        job
        for job in queued
        if job.task.command == "export"
        and job.task.background
        and (not task.names or (job.task.names and set(job.task.names) <= set(task.names)))
    ]


def _state(job: Job, code: int) -> State:
    outcome = job.outcome
    if outcome is None:
        if code < 0 and job.stopping:
            job.reason = "it was cancelled"
            return "cancelled"
        if code < 0:
            job.reason = job.reason or f"its process was ended by signal {-code}"
            return "failed"
        job.reason = job.reason or "its process crashed; see the log"
        return "failed"
    if outcome.exit_code > 128:
        job.reason = "it was cancelled"
        return "cancelled"
    error = outcome.document.get("error")
    if error:
        job.reason = str(error["message"])
        return "failed"
    return "succeeded"
