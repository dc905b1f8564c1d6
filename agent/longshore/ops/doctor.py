"""Look at everything that an import or export needs, in the order in which a person would.

Each check runs whether or not those before it found something, unless it has nothing left to look
at. Nothing is changed: that the store can be written is tried with a multipart upload of one small
part, which is given up again. It never becomes visible, and needs no right to delete objects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct

from longshore.core.diagnosis import (
    Finding,
    Verdict,
    advice_for,
    in_words,
    judge_clock,
    judge_credentials,
    judge_disk,
)
from longshore.core.documents import MAX_STORED_DOCUMENT_BYTES
from longshore.core.engine_facts import judge_engine
from longshore.core.entry import cache_name
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entries_prefix, parse_entry_key
from longshore.core.service import Service, ServicesFile
from longshore.engine.contract import Engine, EngineInfo
from longshore.engine.disk import EngineDisk
from longshore.errors import LongshoreError, NotOnDisk, StoreError
from longshore.ops.lookup import find_entry
from longshore.ops.reachable import Reading
from longshore.store.contract import Store

__all__ = ["Credentials", "Finding", "Place", "Setup", "Verdict", "examine"]

_PROBE = b"longshore doctor"
_ABORT_SECONDS = 10.0
_CLOCK_STEP = timedelta(seconds=1)  # stores tell whole seconds


class Place(Struct, frozen=True):
    """Where a command would read and write, and who said so.

    Attributes:
        scope_source: for people: an option's name, a CI service, or git.
    """

    project: str
    project_source: str
    scope: str
    scope_source: str
    fallback: tuple[str, ...]
    fallback_source: str


class Credentials(Struct, frozen=True):
    """What is known about the credentials for the store; never they themselves."""

    provider: str
    expires_at: datetime | None


class Setup(Struct, frozen=True):
    """What a command would work with. What cannot be made raises, and becomes a finding.

    Engine and store are the caller's to close.

    Attributes:
        services: the services file, or the services that options name.
        credentials: `None` if the store needs none; its result is `None` if there are none.
        free_bytes: of the engine's disk; its result is `None` if nobody can tell.
        disk: opens the engine's disk, or raises; `None` if it is not to be read.
        clock: this machine's time, aware.
        random: makes so many random bytes.
        timeout: for each check.
    """

    services: Callable[[], ServicesFile | tuple[Service, ...]]
    place: Callable[[], Place]
    engine: Callable[[], Engine]
    store: Callable[[], Store]
    credentials: Callable[[], Awaitable[Credentials | None]] | None
    free_bytes: Callable[[], Awaitable[int | None]] | None
    clock: Callable[[], datetime]
    random: Callable[[int], bytes]
    timeout: timedelta
    disk: Callable[[EngineInfo], EngineDisk | None] | None = None


async def examine(setup: Setup) -> list[Finding]:
    """Examine services file, scopes, engine, credentials, store, clock, rights, and what is cached.

    Failures are findings; nothing of longshore's own errors is raised.
    """
    return await _Examination(setup).run()


Check = Callable[[], AsyncGenerator[Finding, None]]


class _Examination:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._findings: list[Finding] = []
        self._services: tuple[Service, ...] = ()
        self._place: Place | None = None
        self._engine: Engine | None = None
        self._info: EngineInfo | None = None
        self._store: Store | None = None

    async def run(self) -> list[Finding]:
        await self._check("services file", self._check_services)
        await self._check("scopes", self._check_place)
        await self._check("engine", self._check_engine)
        for service in self._services:
            await self._check(f"image of {service.name}", partial(self._check_image, service))
        await self._check("engine's disk", self._check_disk)
        await self._check("direct reading", self._check_direct)
        await self._check("credentials", self._check_credentials)
        await self._check("store", self._check_store)
        await self._check("clock", self._check_clock)
        if self._place is not None and self._store is not None:
            place = self._place
            for scope in dict.fromkeys((place.scope, *place.fallback)):
                await self._check(f"read {scope}", partial(self._check_reading, scope))
            await self._check(f"write {place.scope}", self._check_writing)
            for service in self._services:
                await self._check(f"cache of {service.name}", partial(self._check_cached, service))
        return self._findings

    async def _check(self, subject: str, check: Check) -> None:
        try:
            async with (
                asyncio.timeout(self._setup.timeout.total_seconds()),
                contextlib.aclosing(check()) as findings,
            ):
                async for finding in findings:
                    self._findings.append(finding)
        except TimeoutError:
            seconds = self._setup.timeout.total_seconds()
            self._findings.append(
                Finding(
                    subject,
                    "problem",
                    f"no answer within {seconds:g} s",
                    "check the network, and what listens at that address",
                )
            )
        except LongshoreError as error:
            self._findings.append(Finding(subject, "problem", str(error), advice_for(error)))

    async def _check_services(self) -> AsyncGenerator[Finding, None]:
        found = self._setup.services()
        subject = "services file"
        if not isinstance(found, ServicesFile):
            self._services = found
            names = ", ".join(service.name for service in found)
            yield Finding(subject, "ok", f"none is read; options name {names}")
            return
        self._services = found.services
        text = f"{found.path} ({found.kind})"
        if found.services:
            names = ", ".join(service.name for service in found.services)
            yield Finding(subject, "ok", f"{text} caches {names}")
        else:
            key = "cached: true" if found.kind == "codeship" else "x-longshore: {cached: true}"
            yield Finding(
                subject,
                "problem",
                f"{text} caches no service; it has {', '.join(found.uncached) or 'none at all'}",
                f"give the services to cache `{key}`",
            )
        if found.unset_variables:
            yield Finding(
                subject,
                "warning",
                f"{text} uses variables that are not set: {', '.join(found.unset_variables)}",
                "set them as they are in the build, or images are looked for by other names",
            )

    async def _check_place(self) -> AsyncGenerator[Finding, None]:
        place = self._place = self._setup.place()
        yield Finding("project", "ok", f"{place.project} (from {place.project_source})")
        yield Finding("scope", "ok", f"{place.scope} (from {place.scope_source})")
        if place.fallback:
            names = ", ".join(place.fallback)
            yield Finding("fallback", "ok", f"{names} (from {place.fallback_source})")
        else:
            yield Finding(
                "fallback",
                "ok",
                "none: only what this scope holds is read",
                "name the default branch with --fallback, if this is not it",
            )

    async def _check_engine(self) -> AsyncGenerator[Finding, None]:
        engine = self._setup.engine()
        info = await engine.info()
        self._engine, self._info = engine, info
        yield Finding(
            "engine",
            "ok",
            f"Docker {info.version} at {info.address}, API {info.api_version}, {info.platform}",
        )
        for finding in judge_engine(
            info.version,
            info.image_store,
            info.storage_driver,
            without_buildkit_cache=[s.name for s in self._services if s.buildkit_cache is None],
        ):
            yield finding

    async def _check_image(self, service: Service) -> AsyncGenerator[Finding, None]:
        if self._engine is None:
            return
        for reference in service.images:
            name = reference.familiar
            image = await self._engine.inspect(name)
            if image is None:
                yield Finding(
                    f"image of {service.name}",
                    "warning",
                    f"the engine has no image {name}",
                    "build it before the export; before an import it need not be there",
                )
            else:
                yield Finding(f"image of {service.name}", "ok", f"the engine has {name}")

    async def _check_disk(self) -> AsyncGenerator[Finding, None]:
        if self._setup.free_bytes is not None and self._engine is not None:
            free_bytes = await self._setup.free_bytes()
            if free_bytes is not None:
                yield judge_disk(free_bytes)

    async def _check_direct(self) -> AsyncGenerator[Finding, None]:
        if self._setup.disk is None or self._info is None:
            return
        subject = "direct reading"
        try:
            disk = await asyncio.to_thread(self._setup.disk, self._info)
        except NotOnDisk as error:
            yield Finding(
                subject,
                "ok",
                f"not possible, so exports use docker save: {error}",
                "mount the engine's data root read-only, and name it with --data-root",
            )
            return
        if disk is not None:
            disk.close()
            yield Finding(subject, "ok", f"exports read layers from {disk.path}")

    async def _check_credentials(self) -> AsyncGenerator[Finding, None]:
        if self._setup.credentials is not None:
            found = await self._setup.credentials()
            yield judge_credentials(
                found.provider if found else None,
                found.expires_at if found else None,
                self._setup.clock(),
            )

    async def _check_store(self) -> AsyncGenerator[Finding, None]:
        store = self._setup.store()
        await store.now()  # any answer tells the time, a refusal, too
        self._store = store
        yield Finding("store", "ok", f"{store.url()} answers")

    async def _check_clock(self) -> AsyncGenerator[Finding, None]:
        if self._store is None:
            return
        before = self._setup.clock()
        there = await self._store.now()
        after = self._setup.clock()
        yield judge_clock(before + (after - before) / 2 - there, (after - before) / 2 + _CLOCK_STEP)

    async def _check_reading(self, scope: str) -> AsyncGenerator[Finding, None]:
        assert self._place is not None
        assert self._store is not None
        prefix = entries_prefix(self._place.project, scope)
        async for info in self._store.list(prefix):
            if parse_entry_key(info.key) is None:
                continue
            await self._store.get(info.key, limit_bytes=MAX_STORED_DOCUMENT_BYTES)
            yield Finding(f"read {scope}", "ok", "its entries can be listed and read")
            return
        yield Finding(f"read {scope}", "ok", "it can be listed, and holds nothing yet")

    async def _check_writing(self) -> AsyncGenerator[Finding, None]:
        assert self._place is not None
        assert self._store is not None
        store, scope = self._store, self._place.scope
        identifier = new_id(await store.now(), self._setup.random(10))
        upload = await store.create_upload(Ref(scope, identifier).key(self._place.project))
        refused: LongshoreError | None = None
        try:
            await store.upload_part(upload, 1, 0, _PROBE)
        finally:
            try:
                async with asyncio.timeout(_ABORT_SECONDS):
                    await asyncio.shield(store.abort_upload(upload))
            except (StoreError, TimeoutError) as error:
                refused = StoreError(str(error) or "giving up an upload took too long")
        if refused is None:
            yield Finding(f"write {scope}", "ok", "an upload can be begun, and given up")
        else:
            yield Finding(
                f"write {scope}",
                "warning",
                f"an upload can be begun, but not given up: {refused}",
                "allow s3:AbortMultipartUpload, or let a lifecycle rule of the bucket remove"
                " incomplete uploads",
            )

    async def _check_cached(self, service: Service) -> AsyncGenerator[Finding, None]:
        assert self._place is not None
        assert self._store is not None
        if self._info is None:
            return  # without an engine, nobody knows for which platform
        place, subject = self._place, f"cache of {service.name}"
        reading = Reading(self._store, place.project, (place.scope, *place.fallback))
        platform, what = self._info.platform, "image" if service.keeps_image else "BuildKit cache"
        if service.keeps_image:
            hit = await find_entry(reading, service.name, platform)
        else:
            hit = await find_entry(reading, cache_name(service.name), platform, "buildkit-cache")
        if hit is None:
            yield Finding(
                subject,
                "warning",
                f"no cached {what} for {service.name} on {platform}",
                "export after the next build",
            )
            return
        origin = hit.entry.source.branch or hit.entry.source.revision
        built = f", built from {origin}" if origin else ""
        yield Finding(subject, "ok", f"found in {hit.entry.scope}, {in_words(hit.age)} old{built}")
