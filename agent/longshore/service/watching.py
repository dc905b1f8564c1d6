"""Watch the engine, and tell which services have images that the cache lacks.

Events are wake-ups only: what counts is which images the services' names mean when they are looked
up. So it does not matter which events an engine emits, which it drops, and what happened while it
was away. Where none come at all, as from engine 26 with a containerd store when BuildKit builds, a
look now and then finds the images.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from datetime import timedelta

from msgspec import Struct

from longshore.config_sidecar import (
    RECONNECT_BASE,
    RECONNECT_CAP,
    WATCH_LAST_ANSWER,
    WATCH_LONGEST,
    WATCH_LOOK_EVERY,
    WATCH_QUIET,
)
from longshore.core.digests import Digest
from longshore.core.service import Service
from longshore.engine.contract import Engine, EngineImage
from longshore.errors import EngineError, EngineUnavailable, LongshoreError
from longshore.ops.report import Report
from longshore.ops.tasks import side_by_side
from longshore.wording import exact


class Pace(Struct, frozen=True):
    """How long to wait for what."""

    quiet: timedelta = WATCH_QUIET
    """Without a further event, before a look."""
    longest: timedelta = WATCH_LONGEST
    """After the first event, however many follow."""
    look_every: timedelta = WATCH_LOOK_EVERY
    """Without any event."""
    last_answer: timedelta = WATCH_LAST_ANSWER
    """In a hurry, for an answer of the engine."""
    reconnect_base: timedelta = RECONNECT_BASE
    reconnect_cap: timedelta = RECONNECT_CAP


def choose(
    images: Mapping[str, AbstractSet[Digest]],
    settled: AbstractSet[Digest],
    asked: Mapping[str, AbstractSet[Digest]],
) -> dict[str, frozenset[Digest]]:
    """Choose the services to be exported, each with its images that are not settled.

    Args:
        images: what the names of each service mean now.
        settled: what need not be exported.
        asked: for which images the export of a service has been asked for already. It may have been
            left out of one that succeeded: no engine can save an image without layers.
    """
    unsettled = {name: frozenset(ids - settled) for name, ids in images.items()}
    return {name: ids for name, ids in unsettled.items() if not ids <= asked.get(name, frozenset())}


def due_at(first: float, last: float, pace: Pace) -> float:
    """Tell when to look after a burst of events, of which the last one came at `last`."""
    return min(last + pace.quiet.total_seconds(), first + pace.longest.total_seconds())


def reconnect_wait(failures: int, pace: Pace) -> float:
    """Tell how long to wait after so many failures in a row, at least one."""
    doublings = min(failures - 1, 30)  # beyond that the cap counts, and numbers get too large
    return min(pace.reconnect_base * (1 << doublings), pace.reconnect_cap).total_seconds()


class Watcher:
    """Follows the events of an engine while `run` runs.

    An image is *settled* if it was in the engine when the watch began, or if `settle` was told of
    it. A service with another one is wanted, once; again if `failed` was told of it and an event
    came since, if the engine came back since, or if it has a further image. All of this is for one
    event loop.

    Args:
        services: reads the cached services; a checkout may change them at any time.
        want: submits an export of services in the background. It must not wait. Sooner or later
            `settle` or `failed` follows.
        report: is told what goes wrong, each thing once while it lasts.
        clock: seconds of a clock that never jumps.
        sleep: waits for so many of them.
    """

    def __init__(
        self,
        engine: Engine,
        services: Callable[[], Awaitable[Sequence[Service]]],
        want: Callable[[Sequence[str]], None],
        *,
        report: Report,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        pace: Pace | None = None,
    ) -> None:
        self._engine = engine
        self._services = services
        self._want = want
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._pace = pace or Pace()
        self._settled: set[Digest] = set()
        self._asked: dict[str, frozenset[Digest]] = {}
        self._failed: set[str] = set()
        self._connected = self._began = self._in_trouble = False
        self._complaints: frozenset[str] = frozenset()
        self._burst: tuple[float, float] | None = None
        """When the first and the last event came that no look has followed yet."""
        self._patience: timedelta | None = None
        """How long to wait for an answer, if not as long as the engine's own limits allow."""
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        self._holds = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def is_connected(self) -> bool:
        """Whether the engine tells its events at the moment."""
        return self._connected

    @property
    def settled(self) -> frozenset[Digest]:
        """The images that need not be exported."""
        return frozenset(self._settled)

    def settle(self, ids: Iterable[Digest]) -> None:
        """Take images for cached: they were imported or exported."""
        self._settled.update(ids)

    def failed(self, services: Iterable[str]) -> None:
        """Note that the export of services that was asked for failed, or will not take place."""
        self._failed.update(services)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put off looking while an import brings images, which it settles before this ends."""
        self._holds += 1
        self._free.clear()
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._free.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._look()
        async with side_by_side() as group:
            group.create_task(self._follow())
            group.create_task(self._look_now_and_then())
            group.create_task(self._look_when_woken())

    async def hurry(self) -> tuple[str, ...]:
        """Look at once, whatever holds it, and say what was wanted: the machine is about to end.

        What failed before is wanted again. An engine that cannot be asked, or does not answer soon,
        is reported, not raised. If the watch has not begun, it is not asked at all: whatever it has
        would be there as the watch begins.
        """
        if not self._began:
            return ()
        self._patience = self._pace.last_answer
        self._wake()
        return await self._look()

    async def _follow(self) -> None:
        """Keep the connection that events come on."""
        failures = 0
        while True:
            began = self._clock()
            try:
                async with aclosing(self._engine.events()) as events:
                    async for event in events:
                        if event is None:
                            await self._connect()
                        self._wake()
            except EngineError as error:
                self._note_trouble(error)
            finally:
                self._connected = False
            lasted = self._clock() - began > self._pace.reconnect_cap.total_seconds()
            failures = 1 if lasted else failures + 1
            await self._sleep(reconnect_wait(failures, self._pace))

    async def _connect(self) -> None:
        self._connected = True
        self._end_trouble()
        if not self._began:  # it was away until now; what is built from now on is new
            await self._look()

    async def _look_now_and_then(self) -> None:
        while True:
            await self._sleep(self._pace.look_every.total_seconds())
            self._woken.set()

    async def _look_when_woken(self) -> None:
        while True:
            await self._woken.wait()
            while self._burst and (wait := due_at(*self._burst, self._pace) - self._clock()) > 0:
                await self._sleep(wait)
            await self._free.wait()
            await self._look()

    def _wake(self) -> None:
        """Note an event: a look is to follow, and what failed may be tried again."""
        now = self._clock()
        self._burst = (self._burst[0] if self._burst else now, now)
        for name in self._failed:
            self._asked.pop(name, None)
        self._woken.set()

    async def _look(self) -> tuple[str, ...]:
        """Look up the services' images, and want what is to be exported."""
        async with self._looking:
            self._woken.clear()
            self._burst = None
            try:
                if not self._began:
                    self.settle(await self._engine.image_ids())
                    self._began = True
                images = await self._images()
            except EngineError as error:
                self._note_trouble(error)
                return ()
            if self._connected:
                self._end_trouble()
            wanted = choose(images, self._settled, self._asked)
            self._asked |= wanted
            self._failed -= wanted.keys()  # what failed was the export before
            if wanted:
                self._report.line(f"new images of {', '.join(wanted)}: to be exported")
                self._want(tuple(wanted))
            return tuple(wanted)

    async def _images(self) -> dict[str, frozenset[Digest]]:
        """Look up what the names of all services mean; what cannot be read is left out.

        Raises:
            EngineUnavailable: nothing can be looked up.
        """
        images: dict[str, frozenset[Digest]] = {}
        errors: list[LongshoreError] = []
        try:
            services = await self._services()
        except LongshoreError as error:
            errors.append(error)
            services = ()
        for service in services:
            try:
                found = [await self._inspect(image.familiar) for image in service.images]
            except EngineUnavailable:
                raise
            except EngineError as error:
                errors.append(error)
            else:
                images[service.name] = frozenset(image.id for image in found if image)
        self._note_errors(errors)
        return images

    async def _inspect(self, name: str) -> EngineImage | None:
        if self._patience is None:
            return await self._engine.inspect(name)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                return await self._engine.inspect(name)
        except TimeoutError as error:
            raise EngineUnavailable(
                f"the Docker engine has not answered for {exact(self._patience)};"
                " what was built since the last look is not exported"
            ) from error

    def _note_errors(self, errors: Sequence[LongshoreError]) -> None:
        """Report what the look before did not."""
        for error in errors:
            if str(error) not in self._complaints:
                self._report.warn(error)
        self._complaints = frozenset(str(error) for error in errors)

    def _note_trouble(self, error: EngineError) -> None:
        """Report that the engine is away, or refuses to tell events, but only once."""
        if not self._in_trouble:
            every = self._pace.look_every.total_seconds()
            then = f"; until it tells its events again, images are looked up every {every:g} s"
            self._report.warn(error, f"{error}{'' if self._patience else then}")
        self._in_trouble = True

    def _end_trouble(self) -> None:
        if self._in_trouble:
            self._report.line("the Docker engine tells its events again")
        self._in_trouble = False
