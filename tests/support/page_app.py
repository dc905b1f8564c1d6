"""A small sidecar: the page and who may see it, with jobs that a test controls."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web
from tests.support.loop_thread import all_accepted

from longshore.service.access import Access
from longshore.service.page import add_page
from longshore.service.page_data import Queue
from longshore.service.page_render import STATIC, login_form
from longshore.service.task import Line

TOKEN = "correct-horse-battery-staple-0815"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class PageApp:
    """The application, and where it listens."""

    jobs: Queue
    now: Callable[[], datetime]
    flags: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def build(self) -> web.Application:
        """Make the application."""
        app = web.Application()
        add_page(app, self.jobs, flags=lambda: self.flags, now=self.now, clock=self.clock)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._health)
        app.router.add_get("/api/v1/jobs/{id}/events", self._events)
        access = Access(TOKEN, key=b"k" * 32, static=STATIC, form=login_form, clock=self.clock)
        access.add_to(app)
        return app

    @asynccontextmanager
    async def served(self, *, unix: str | None = None) -> AsyncGenerator[PageApp, None]:
        """Listen on a free port of the loopback interface, and on a unix socket if one is named."""
        runner = web.AppRunner(self.build(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            if unix:
                await web.UnixSite(runner, unix).start()
            yield self
        finally:
            await all_accepted()
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Tell a job's events as the API does."""
        job = self.jobs.get(request.match_info["id"])
        assert job is not None
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        try:
            async for number, event in job.follow():
                name = "line" if isinstance(event, Line) else "progress"
                await answer.write(_event(name, event._asdict(), number))
            ended = {"id": job.id, "state": job.state, "reason": job.reason}
            await answer.write(_event("ended", ended))
        except ConnectionError:
            pass
        return answer


def _event(name: str, document: dict[str, Any], number: int | None = None) -> bytes:
    numbered = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{numbered}data: {json.dumps(document)}\n\n".encode()
