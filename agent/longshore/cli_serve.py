"""What `serve` does: put a sidecar together from its parts, and let it live."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohttp import web
from msgspec import Struct

from longshore import __version__
from longshore.cli_job import settings_for
from longshore.cli_running import Interrupted, run
from longshore.cli_task import perform_task
from longshore.config import Settings
from longshore.config_layers import Flags
from longshore.core.ids import new_id
from longshore.core.service import Service
from longshore.errors import LongshoreError
from longshore.ops.report import Report
from longshore.progress import make_report
from longshore.service.access import Access
from longshore.service.api import add_api
from longshore.service.job_log import JobLog
from longshore.service.jobs import Jobs
from longshore.service.log import Log
from longshore.service.metrics import Metrics
from longshore.service.page import add_page
from longshore.service.page_render import STATIC, login_form
from longshore.service.process import Forks
from longshore.service.python_logging import libraries_heard, to_log
from longshore.service.request_log import log_requests
from longshore.service.settling import settle_with
from longshore.service.sidecar import STOPPED, Plan, Sidecar
from longshore.service.task import Task
from longshore.service.token import token_of
from longshore.service.watching import Watcher
from longshore.surroundings import World, survey
from longshore.wiring import bound_allocator


def serve(world: World, flags: Flags) -> int:
    """Be a sidecar until a signal comes, and return the exit code."""
    bound_allocator()
    report = make_report(world, quiet=False)
    try:
        settings = settings_for(world, flags, "serve")
    except LongshoreError as error:
        report.fail(error)
        return error.exit_code
    log = Log.of(world, form=settings.log_format, now=_now, verbose=settings.verbose)
    with libraries_heard(to_log(log), verbose=settings.verbose):
        try:
            # Not `asyncio.run`: that waits for threads, and one may ask an engine that is silent.
            return run(_live(_Parts(world, flags, settings, log)), timeout=None, command="serve")
        except Interrupted as stopped:  # before the sidecar heard signals itself
            return STOPPED + stopped.number
        except LongshoreError as error:
            log.fail(str(error))
            return error.exit_code


class _Parts(Struct, frozen=True):
    """What a sidecar is made of."""

    world: World
    flags: Flags
    settings: Settings
    log: Log

    @property
    def socket(self) -> Path:
        return self.world.directory / self.settings.socket


async def _live(parts: _Parts) -> int:
    settings = parts.settings
    plan = Plan(
        flags=parts.flags,
        socket=parts.socket,
        listen=settings.listen,
        warm_up=settings.import_,
        ready_timeout=settings.ready_timeout,
        shutdown_timeout=settings.shutdown_timeout,
    )
    forks = Forks(perform_task, preload=["longshore.cli_preloaded"])
    jobs = Jobs(forks, now=_now, make_id=_new_id)
    metrics = Metrics(lambda: jobs.all, version=__version__)
    jobs.listeners += [JobLog(parts.log).heard, metrics.heard]
    async with AsyncExitStack() as open_things:
        watcher = _watcher(parts, jobs, metrics, open_things) if settings.export else None
        sidecar = Sidecar(
            plan,
            jobs,
            warm=forks.prepare,
            app=partial(_app, parts, jobs, metrics),
            watch=watcher,
            say=parts.log.line,
            fail=parts.log.fail,
        )
        return await sidecar.run()


def _app(parts: _Parts, jobs: Jobs, metrics: Metrics, sidecar: Sidecar) -> web.Application:
    """Make what answers requests; who may ask is decided first, and written down before that."""
    listen = parts.settings.listen
    token: str | None = None
    if listen is not None:
        token, file = token_of(parts.settings.token, parts.world.directory, parts.socket)
        if file is not None:
            parts.log.line(f"the token for {listen} is in {file}")

    async def show_metrics(request: web.Request) -> web.Response:
        metrics.ready = sidecar.ready
        body, kind = metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    app = web.Application()
    add_api(app, jobs, sidecar)
    app.router.add_get("/metrics", show_metrics)
    add_page(app, jobs, flags=lambda: sidecar.flags, now=_now, clock=time.monotonic)
    Access(
        token,
        key=os.urandom(32),
        hosts=[listen.host] if listen else [],
        static=STATIC,
        form=login_form,
        clock=time.monotonic,
    ).add_to(app)
    log_requests(app, parts.log, make_id=_new_id)
    return app


def _watcher(parts: _Parts, jobs: Jobs, metrics: Metrics, open_things: AsyncExitStack) -> Watcher:
    async def services() -> Sequence[Service]:
        if not metrics.engine_version:  # the engine has answered a moment ago
            metrics.engine_version = (await engine.info()).version
        return (await asyncio.to_thread(survey, parts.settings, parts.world)).services

    def want(names: Sequence[str]) -> None:
        jobs.submit(Task("export", tuple(names), parts.flags, background=True))

    engine = parts.world.open_engine()
    open_things.push_async_callback(engine.close)
    watcher = Watcher(
        engine,
        services,
        want,
        report=_LogReport(parts.log),
        clock=time.monotonic,
        sleep=asyncio.sleep,
    )
    jobs.listeners.append(partial(settle_with, watcher))
    return watcher


class _LogReport(Report):
    """Say what the watcher says in the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def line(self, text: str) -> None:
        self._log.line(text)

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        self._log.caution(text or str(error))


def _new_id() -> str:
    return new_id(_now(), os.urandom(10))


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - for people, and to tell jobs apart
