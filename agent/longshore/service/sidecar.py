"""The life of a sidecar: warm the engine, watch it, export what was built, end in good order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from msgspec import Struct

from longshore.config_values import Listen
from longshore.errors import OtherSettings, TimedOut
from longshore.service.claiming import claim
from longshore.service.jobs import Job, Jobs
from longshore.service.listening import listen_at, listen_on
from longshore.service.task import Task
from longshore.wording import exact

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOPPED = 128
_LAST_ANSWERS = 0.2  # seconds for requests that are being answered when the sidecar ends


class Plan(Struct, frozen=True):
    """What a sidecar is to do.

    Args:
        flags: what `serve` was given, by the names of options.
        warm_up: import when it starts.
    """

    flags: Mapping[str, Any]
    socket: Path
    listen: Listen | None
    warm_up: bool
    ready_timeout: timedelta
    shutdown_timeout: timedelta


class Watch(Protocol):
    """What finds out that something was built."""

    async def run(self) -> None:
        """Watch, until cancelled."""

    async def hurry(self) -> tuple[str, ...]:
        """Ask at once for what would have been asked for in a while."""

    def held(self) -> AbstractContextManager[None]:
        """Ask for nothing meanwhile, as an import brings images."""


class Sidecar:
    """A sidecar.

    Args:
        warm: gets ready what processes of jobs are forked from; blocks.
        app: makes what answers requests.
        watch: finds out what was built; `None` if nobody wants to know.
        say: writes a line to the log.
        fail: writes there what went wrong.
    """

    def __init__(
        self,
        plan: Plan,
        jobs: Jobs,
        *,
        warm: Callable[[], None],
        app: Callable[[Sidecar], web.Application],
        watch: Watch | None,
        say: Callable[[str], None],
        fail: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._jobs = jobs
        self._warm = warm
        self._app = app
        self._watch = watch
        self._say = say
        self._fail = fail
        self._ready = False
        self._reason = "it is starting"
        self._settled = asyncio.Event()
        self._signals: asyncio.Queue[int] = asyncio.Queue()

    @property
    def ready(self) -> bool:
        """Whether builds may go on."""
        return self._ready and not self._jobs.closed

    @property
    def reason(self) -> str:
        """Why it is ready, or why it is not."""
        return "it is ending" if self._jobs.closed else self._reason

    @property
    def ending(self) -> bool:
        """Whether no more work is taken."""
        return self._jobs.closed

    async def settled(self) -> None:
        """Wait until builds may go on, or never will."""
        await self._settled.wait()

    @property
    def flags(self) -> Mapping[str, Any]:
        """What `serve` was given, by the names of options."""
        return self._plan.flags

    async def run(self) -> int:
        """Live until a signal comes, and return the exit code.

        It is 0 if all that was to be exported is; the code of what kept the last export of a
        service from it; that of `TimedOut` if the time to end in was too short; and 128 and the
        signal's number if a second signal came.

        Raises:
            UsageError: it cannot listen where it was told to.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        try:
            async with AsyncExitStack() as open_things:
                return await self._live(open_things)
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def _live(self, open_things: AsyncExitStack) -> int:
        # Before anything is written beside it: a token there is of the sidecar that has the place.
        claimed = await asyncio.to_thread(claim, self._plan.socket)
        open_things.callback(claimed.release)
        runner = web.AppRunner(
            self._app(self),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_LAST_ANSWERS,
        )
        await runner.setup()
        open_things.push_async_callback(runner.cleanup)
        await listen_at(runner, claimed)
        self._say(f"listening at {self._plan.socket}")
        if self._plan.listen is not None:
            port = await listen_on(runner, self._plan.listen)
            self._say(f"listening at http://{self._plan.listen._replace(port=port)}/")
        work = asyncio.create_task(self._work(), name="sidecar")
        signalled = asyncio.create_task(self._signals.get())
        await asyncio.wait([work, signalled], return_when=asyncio.FIRST_COMPLETED)
        if not signalled.done():
            signalled.cancel()
            await work  # it has failed, and says how
        number = signalled.result()
        return await self._finish(number, work)

    async def _work(self) -> None:
        """Do what a sidecar does, for as long as it lives."""
        async with asyncio.TaskGroup() as group:
            if self._watch is not None:
                # From the beginning: a build may not wait for the import, and what is there when
                # the watch begins counts as cached.
                group.create_task(self._watch.run())
            await asyncio.to_thread(self._warm)
            if self._plan.warm_up:
                await self._warm_up(group)
            else:
                self._be_ready("nothing was to be imported")
            await asyncio.Event().wait()

    async def _warm_up(self, group: asyncio.TaskGroup) -> None:
        warming = self._jobs.submit(Task("import", flags=self._plan.flags))
        self._reason = "the import is running"
        if self._watch is not None:
            group.create_task(_hold(self._watch, warming))
        try:
            async with asyncio.timeout(self._plan.ready_timeout.total_seconds()):
                await warming.wait()
        except TimeoutError:
            took = exact(self._plan.ready_timeout)
            self._be_ready(f"the import has taken {took}, and goes on")
        else:
            self._be_ready(_came_to(warming))

    def _be_ready(self, reason: str) -> None:
        self._ready, self._reason = True, reason
        self._settled.set()
        self._say(f"ready: {reason}")

    async def _finish(self, number: int, work: asyncio.Task[None]) -> int:
        """Take no more work, and finish what was taken in, in the time that there is for it."""
        name = signal.Signals(number).name
        self._say(f"{name} came; taking no more work")
        self._jobs.closed = True
        self._settled.set()
        work.cancel()
        await asyncio.wait([work])
        for job in self._jobs.all:
            if not job.has_ended and job.task.command == "import":
                self._jobs.cancel(job)  # the build that it was for has ended
        finishing = asyncio.create_task(self._hurry_and_finish())
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait([finishing, again], return_when=asyncio.FIRST_COMPLETED)
        if not finishing.done():
            finishing.cancel()
            await asyncio.wait([finishing])
            self._say("a second signal came; what runs is cancelled")
            await self._jobs.abort()
            return STOPPED + again.result()
        again.cancel()
        if not finishing.result():
            limit = exact(self._plan.shutdown_timeout)
            self._fail(
                f"not all was exported within {limit}; if it needs longer, raise --shutdown-timeout"
            )
            return TimedOut.exit_code
        return exit_code_of(self._jobs.all)

    async def _hurry_and_finish(self) -> bool:
        """Export what was built last, and tell whether all came to its end in time."""
        try:
            async with asyncio.timeout(self._plan.shutdown_timeout.total_seconds()):
                if self._watch is not None:
                    await self._watch.hurry()
                await self._jobs.finish()
        except TimeoutError:
            await self._jobs.abort()
            return False
        return True


async def _hold(watch: Watch, warming: Job) -> None:
    with watch.held():
        await warming.wait()


def exit_code_of(jobs: Sequence[Job]) -> int:
    """Say whether all that was to be exported is; of each service only the last export counts."""
    failed: dict[str, int] = {}
    for job in jobs:
        if job.task.command != "export" or job.state in ("superseded", "cancelled"):
            continue
        document = job.outcome.document if job.outcome else {"error": {"exit_code": 1}}
        error = document.get("error")
        if error is not None and error.get("error") == OtherSettings.__name__:
            continue  # whoever asked for it does it
        if error is None:
            for service in job.task.names or list(failed):
                failed.pop(service, None)
        else:
            for service in job.task.names or ("",):
                failed[service] = int(error["exit_code"])
    return max(failed.values(), default=0)


def _came_to(warming: Job) -> str:
    if warming.state != "succeeded" or warming.outcome is None:
        return f"the import failed ({warming.reason}), so the build starts cold"
    services = warming.outcome.document.get("services", [])
    hits = sum(service["outcome"] == "hit" for service in services)
    return f"{hits} of {len(services)} services were imported"
