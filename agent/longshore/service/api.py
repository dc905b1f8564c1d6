"""The API: jobs and what is cached, as the documents that the commands write with `--json`.

`openapi.py` describes it; `docs/sidecar.md` shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from aiohttp import web
from msgspec import Struct

from longshore import __version__
from longshore.config_sidecar import ASK_TIMEOUT
from longshore.errors import UsageError
from longshore.output_json import plain
from longshore.service.asked import MAX_BODY_BYTES, WAIT_PATTERN, is_name, parse_task
from longshore.service.jobs import MAX_QUEUED, Job, Jobs
from longshore.service.openapi import describe
from longshore.service.task import Line, Progress, Task
from longshore.wording import exact

API = "/api/v1"
_HEARTBEAT = timedelta(seconds=15)  # comments that keep proxies from closing a silent stream
_ASKED_AT_ONCE = 2


class Life(Protocol):
    """What the API tells of the sidecar itself."""

    @property
    def ready(self) -> bool:
        """Whether builds may go on."""

    @property
    def reason(self) -> str:
        """Why it is ready, or why it is not."""

    @property
    def ending(self) -> bool:
        """Whether no more work is taken."""

    async def settled(self) -> None:
        """Wait until builds may go on, or never will."""

    @property
    def flags(self) -> Mapping[str, Any]:
        """What `serve` was given, by the names of options."""


class Api(Struct, frozen=True):
    """The handlers."""

    jobs: Jobs
    life: Life
    asking: asyncio.Semaphore

    async def healthz(self, _: web.Request) -> web.Response:
        """Say that the sidecar lives."""
        return web.json_response({"alive": True})

    async def readyz(self, request: web.Request) -> web.Response:
        """Say whether builds may go on; with `wait` when that is known, or after so long."""
        seconds = request.query.get("wait", "0")
        if not re.fullmatch(WAIT_PATTERN, seconds, re.ASCII):
            return refusal(400, "`wait` is no number of seconds, up to 60")
        if int(seconds):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(int(seconds)):
                    await self.life.settled()
        ready = self.life.ready
        document = {"ready": ready, "ending": self.life.ending, "reason": self.life.reason}
        return web.json_response(document, status=200 if ready else 503)

    async def openapi(self, _: web.Request) -> web.Response:
        """Describe the API."""
        return web.json_response(describe())

    async def about(self, _: web.Request) -> web.Response:
        """Say what this is."""
        return web.json_response(
            {
                "schema": 1,
                "version": __version__,
                "ready": self.life.ready,
                "reason": self.life.reason,
                "queued": len(self.jobs.queued),
            }
        )

    async def entries(self, request: web.Request) -> web.Response:
        """Answer as `longshore list --json`."""
        everything = request.query.get("all_scopes", "false")
        if everything not in ("true", "false"):
            return refusal(400, "`all_scopes` is neither true nor false")
        return await self._ask(Task("list", flags={"all-scopes": everything == "true"}))

    async def entry(self, request: web.Request) -> web.Response:
        """Answer as `longshore show SERVICE --json`."""
        service = request.match_info["service"]
        if not is_name(service):
            return refusal(404, "there is no such service")
        return await self._ask(Task("show", (service,)))

    async def config(self, _: web.Request) -> web.Response:
        """Answer as `longshore config --json`."""
        return await self._ask(Task("config"))

    async def all_jobs(self, _: web.Request) -> web.Response:
        """List the jobs, the newest first."""
        jobs = [job_json(job) for job in reversed(self.jobs.all)]
        return web.json_response({"schema": 1, "jobs": jobs})

    async def submit(self, request: web.Request) -> web.Response:
        """Take in a job."""
        if self.jobs.closed:
            return refusal(503, "the sidecar is ending, and takes no more work")
        if len(self.jobs.queued) >= MAX_QUEUED:
            return refusal(429, f"{MAX_QUEUED} jobs wait already; try again when some have ended")
        if request.content_type != "application/json":
            return refusal(415, "a task is `application/json`")
        body = await _read(request)
        if body is None:
            return refusal(413, f"a task has {MAX_BODY_BYTES} bytes at most")
        try:
            task = parse_task(body, self.life.flags)
        except UsageError as error:
            return refusal(400, str(error))
        job = self.jobs.submit(task)
        where = f"{API}/jobs/{job.id}"
        return web.json_response(job_json(job), status=202, headers={"Location": where})

    async def job(self, request: web.Request) -> web.Response:
        """Tell of a job, with its result."""
        job = self._job(request)
        return web.json_response(job_json(job, whole=True)) if job else no_job()

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job."""
        job = self._job(request)
        if job is None:
            return no_job()
        if job.has_ended:
            return refusal(409, f"the job has ended already: {job.state}")
        self.jobs.cancel(job)
        return web.json_response(job_json(job), status=202)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Tell what a job does as it does it: server-sent events, until it has ended."""
        job = self._job(request)
        if job is None:
            return no_job()
        last = request.headers.get("Last-Event-ID", "0")
        after = int(last) if re.fullmatch(r"[0-9]{1,9}", last, re.ASCII) else 0
        answer = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await answer.prepare(request)
        events = job.follow(after)
        coming = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                await asyncio.wait([coming], timeout=_HEARTBEAT.total_seconds())
                if not coming.done():
                    await answer.write(b": still here\n\n")
                    continue
                found = coming.result()
                if found is None:
                    break
                await answer.write(event_text(*found))
                coming = asyncio.ensure_future(anext(events, None))
            await answer.write(_event("ended", job_json(job, whole=True)))
        except ConnectionError:
            pass  # whoever listened has gone
        finally:
            coming.cancel()
            await asyncio.wait([coming])
            await events.aclose()
        return answer

    async def _ask(self, task: Task) -> web.Response:
        """Run a task that only looks; the time that it may take is not that of an import."""
        flags = {**self.life.flags, "timeout": exact(ASK_TIMEOUT), **task.flags}
        async with self.asking:
            outcome = await self.jobs.ask(task._replace(flags=flags))
        if outcome is None:
            return refusal(500, f"{task.command} crashed; see the sidecar's log")
        return web.json_response(outcome.document, status=status_of(outcome.exit_code))

    def _job(self, request: web.Request) -> Job | None:
        return self.jobs.get(request.match_info["id"])


def add_api(app: web.Application, jobs: Jobs, life: Life) -> None:
    """Add the routes of the API to an application."""
    api = Api(jobs, life, asyncio.Semaphore(_ASKED_AT_ONCE))
    app.middlewares.append(errors_as_json)
    app.add_routes(
        [
            web.get("/healthz", api.healthz),
            web.get("/readyz", api.readyz),
            web.get("/openapi.json", api.openapi),
            web.get(API, api.about),
            web.get(f"{API}/config", api.config),
            web.get(f"{API}/entries", api.entries),
            web.get(f"{API}/entries/{{service}}", api.entry),
            web.get(f"{API}/jobs", api.all_jobs),
            web.post(f"{API}/jobs", api.submit),
            web.get(f"{API}/jobs/{{id}}", api.job),
            web.delete(f"{API}/jobs/{{id}}", api.cancel),
            web.get(f"{API}/jobs/{{id}}/events", api.events),
        ]
    )


@web.middleware
async def errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Write what aiohttp refuses as all other refusals."""
    try:
        return await handler(request)
    except web.HTTPClientError as error:
        answer = refusal(error.status, error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


def job_json(job: Job, *, whole: bool = False) -> dict[str, Any]:
    """Describe a job.

    Args:
        whole: with its lines, and with what it came to.
    """
    document: dict[str, Any] = {
        "id": job.id,
        "command": job.task.command,
        "services": list(job.task.names),
        "background": job.task.background,
        "state": job.state,
        "reason": job.reason,
        "created": plain(job.created),
        "started": plain(job.started),
        "ended": plain(job.ended),
        "progress": plain(job.progress),
        "exit_code": job.outcome.exit_code if job.outcome else None,
    }
    if whole:
        document["lines"] = [{"word": line.word, "text": line.text} for _, line in job.lines]
        document["text"] = job.outcome.text if job.outcome else ""
        document["result"] = job.outcome.document if job.outcome else None
    return document


def event_text(number: int, event: Line | Progress) -> bytes:
    """Write an event of a job as a server-sent one."""
    if isinstance(event, Line):
        return _event("line", {"word": event.word, "text": event.text}, number)
    return _event("progress", plain(event), number)


def _event(name: str, document: Mapping[str, Any], number: int | None = None) -> bytes:
    numbered = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{numbered}data: {json.dumps(document)}\n\n".encode()


def status_of(exit_code: int) -> int:
    """Tell the status of an answer by what its command came to."""
    return {0: 200, 2: 400, 3: 404}.get(exit_code, 502)


def refusal(status: int, message: str) -> web.Response:
    """Answer that something was not done, and why."""
    return web.json_response({"schema": 1, "error": {"message": message}}, status=status)


async def _read(request: web.Request) -> bytes | None:
    """Read a body; `None` if it is longer than any task."""
    body = bytearray()
    async for block in request.content.iter_chunked(MAX_BODY_BYTES):
        body += block
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def no_job() -> web.Response:
    return refusal(404, "there is no such job; the list of jobs has those that are known")
