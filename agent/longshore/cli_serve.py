"""What `serve` does: put a sidecar together from its parts, and let it live."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from aiohttp import web

from longshore.cli_job import settings_for
from longshore.cli_task import PRELOADED, perform_task
from longshore.config import Settings
from longshore.config_layers import Flags
from longshore.core.ids import new_id
from longshore.core.service import Service
from longshore.errors import LongshoreError
from longshore.progress import LineReport, make_report
from longshore.service.api import add_api
from longshore.service.jobs import Jobs
from longshore.service.process import Forks
from longshore.service.settling import settle_with
from longshore.service.sidecar import Plan, Sidecar
from longshore.service.task import Task
from longshore.service.watching import Watcher
from longshore.surroundings import World, survey


def serve(world: World, flags: Flags) -> int:
    """Be a sidecar until a signal comes, and return the exit code."""
    report = make_report(world, quiet=False)
    try:
        settings = settings_for(world, flags, "serve")
        return asyncio.run(_live(world, flags, settings, report))
    except LongshoreError as error:
        report.fail(error)
        return error.exit_code


async def _live(world: World, flags: Flags, settings: Settings, report: LineReport) -> int:
    plan = Plan(
        flags=flags,
        socket=world.directory / settings.socket,
        listen=settings.listen,
        warm_up=settings.import_,
        ready_timeout=settings.ready_timeout,
        shutdown_timeout=settings.shutdown_timeout,
    )
    forks = Forks(perform_task, preload=PRELOADED)
    jobs = Jobs(forks, now=_now, make_id=lambda: new_id(_now(), os.urandom(10)))

    def app(sidecar: Sidecar) -> web.Application:
        made = web.Application()
        add_api(made, jobs, sidecar)
        return made

    async with AsyncExitStack() as open_things:
        watcher: Watcher | None = None
        if settings.export:
            watcher = _watcher(world, flags, settings, jobs, report, open_things)
            jobs.listeners.append(partial(settle_with, watcher))
        sidecar = Sidecar(plan, jobs, warm=forks.warm, app=app, watch=watcher, say=report.line)
        return await sidecar.run()


def _watcher(
    world: World,
    flags: Flags,
    settings: Settings,
    jobs: Jobs,
    report: LineReport,
    open_things: AsyncExitStack,
) -> Watcher:
    async def services() -> Sequence[Service]:
        return (await asyncio.to_thread(survey, settings, world)).services

    def want(names: Sequence[str]) -> None:
        jobs.submit(Task("export", tuple(names), flags, background=True))

    engine = world.open_engine()
    open_things.push_async_callback(engine.close)
    return Watcher(engine, services, want, report=report, clock=time.monotonic, sleep=asyncio.sleep)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - for people, and to tell jobs apart
