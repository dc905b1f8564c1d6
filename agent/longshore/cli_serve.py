"""What `serve` does: put a sidecar together from its parts, and let it live."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

from aiohttp import web

from longshore.cli_job import settings_for
from longshore.cli_task import PRELOADED, perform_task
from longshore.config_layers import Flags
from longshore.core.ids import new_id
from longshore.errors import LongshoreError
from longshore.progress import make_report
from longshore.service.api import add_api
from longshore.service.jobs import Jobs
from longshore.service.process import Forks
from longshore.service.sidecar import Plan, Sidecar
from longshore.surroundings import World


def serve(world: World, flags: Flags) -> int:
    """Be a sidecar until a signal comes, and return the exit code."""
    report = make_report(world, quiet=False)
    try:
        settings = settings_for(world, flags, "serve")
        forks = Forks(perform_task, preload=PRELOADED)
        jobs = Jobs(forks, now=_now, make_id=lambda: new_id(_now(), os.urandom(10)))
        plan = Plan(
            flags=flags,
            socket=world.directory / settings.socket,
            listen=settings.listen,
            warm_up=settings.import_,
            ready_timeout=settings.ready_timeout,
            shutdown_timeout=settings.shutdown_timeout,
        )

        def app(sidecar: Sidecar) -> web.Application:
            made = web.Application()
            add_api(made, jobs, sidecar)
            return made

        sidecar = Sidecar(plan, jobs, warm=forks.warm, app=app, watch=None, say=report.line)
        return asyncio.run(sidecar.run())
    except LongshoreError as error:
        report.fail(error)
        return error.exit_code


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - for people, and to tell jobs apart
