"""The API: jobs and what is cached, as the documents that the commands write with `--json`.

`openapi.py` describes it; `docs/sidecar.md` shows it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

from aiohttp import web

from longshore import __version__
from longshore.errors import UsageError
from longshore.output_json import plain
from longshore.service.jobs import Job, Jobs
from longshore.service.task import Command, Line, Progress, Task

API = "/api/v1"
MAX_BODY_BYTES = 64 << 10
_MAX_SERVICES = 1000
_HEARTBEAT = timedelta(seconds=15)  # comments that keep proxies from closing a silent stream
_ASKED_AT_ONCE = 2

# What whoever asks may set. Where the cache is, and who signs, is the sidecar's alone: its
# credentials must not be sent elsewhere.
OPTIONS: Mapping[str, frozenset[str]] = {
    "import": frozenset({"strict", "timeout", "max-image-size", "whole"}),
    "export": frozenset({"strict", "timeout", "level", "parents"}),
    "flush": frozenset({"timeout", "scope", "dry-run"}),
}


class Life(Protocol):
    """What the API tells of the sidecar itself."""

    @property
    def ready(self) -> bool:
        """Whether builds may go on."""

    @property
    def reason(self) -> str:
        """Why it is ready, or why it is not."""

    @property
    def flags(self) -> Mapping[str, Any]:
        """What `serve` was given, by the names of options."""


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers."""

    jobs: Jobs
    life: Life
    asking: asyncio.Semaphore

    async def healthz(self, _: web.Request) -> web.Response:
        """Say that the sidecar lives."""
        return web.json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """Say whether builds may go on."""
        ready = self.life.ready
        document = {"ready": ready, "reason": self.life.reason}
        return web.json_response(document, status=200 if ready else 503)

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
        everything = request.query.get("all_scopes") in ("1", "true")
        return await self._ask(Task("list", flags={**self.life.flags, "all-scopes": everything}))

    async def entry(self, request: web.Request) -> web.Response:
        """Answer as `longshore show SERVICE --json`."""
        service = request.match_info["service"]
        return await self._ask(Task("show", (service,), self.life.flags))

    async def config(self, _: web.Request) -> web.Response:
        """Answer as `longshore config --json`."""
        return await self._ask(Task("config", flags=self.life.flags))

    async def all_jobs(self, _: web.Request) -> web.Response:
        """List the jobs, the newest first."""
        jobs = [job_json(job) for job in reversed(self.jobs.all)]
        return web.json_response({"schema": 1, "jobs": jobs})

    async def submit(self, request: web.Request) -> web.Response:
        """Take in a job."""
        if self.jobs.closed:
            return refusal(503, "the sidecar is ending, and takes no more work")
        try:
            task = parse_task(await request.read(), self.life.flags)
        except UsageError as error:
            return refusal(400, str(error))
        job = self.jobs.submit(task)
        where = f"{API}/jobs/{job.id}"
        return web.json_response(job_json(job), status=202, headers={"Location": where})

    async def job(self, request: web.Request) -> web.Response:
        """Tell of a job, with its result."""
        job = self._job(request)
        return web.json_response(job_json(job, whole=True)) if job else _no_job()

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job."""
        job = self._job(request)
        if job is None:
            return _no_job()
        if job.has_ended:
            return refusal(409, f"the job has ended already: {job.state}")
        self.jobs.cancel(job)
        return web.json_response(job_json(job), status=202)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Tell what a job does as it does it: server-sent events, until it has ended."""
        job = self._job(request)
        if job is None:
            return _no_job()
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
        return answer

    async def _ask(self, task: Task) -> web.Response:
        async with self.asking:
            outcome = await self.jobs.ask(task)
        if outcome is None:
            return refusal(500, f"{task.command} crashed; see the sidecar's log")
        return web.json_response(outcome.document, status=status_of(outcome.exit_code))

    def _job(self, request: web.Request) -> Job | None:
        return self.jobs.get(request.match_info["id"])


def add_api(app: web.Application, jobs: Jobs, life: Life) -> None:
    """Add the routes of the API to an application."""
    api = Api(jobs, life, asyncio.Semaphore(_ASKED_AT_ONCE))
    app.add_routes(
        [
            web.get("/healthz", api.healthz),
            web.get("/readyz", api.readyz),
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


def parse_task(body: bytes, flags: Mapping[str, Any]) -> Task:
    """Read what is asked for.

    Args:
        flags: of the sidecar; what the body says goes before them.

    Raises:
        UsageError: it is not as `openapi.py` describes it.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no JSON") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
        raise UsageError('the body is no task; write it like {"command": "export"}')
    command = asked["command"]
    if command not in OPTIONS:
        raise UsageError(f"{command[:80]!r} is no job; jobs are {', '.join(OPTIONS)}")
    if unknown := asked.keys() - {"command", "services", "options", "terminal", "given"}:
        raise UsageError(f"{min(unknown)[:80]!r} means nothing in a task")
    services, options = asked.get("services", []), asked.get("options", {})
    given, terminal = asked.get("given", {}), asked.get("terminal", False)
    if (
        not isinstance(services, list)
        or len(services) > _MAX_SERVICES
        or not all(isinstance(name, str) and 0 < len(name) <= 255 for name in services)
    ):
        raise UsageError("`services` is no list of names of services")
    if not isinstance(options, dict) or not isinstance(given, dict):
        raise UsageError("`options` and `given` are no objects")
    if not isinstance(terminal, bool):
        raise UsageError("`terminal` is neither true nor false")
    if foreign := options.keys() - OPTIONS[command]:
        known = ", ".join(sorted(OPTIONS[command]))
        raise UsageError(f"{command} takes no option {min(foreign)[:80]!r}; it takes {known}")
    for name, value in options.items():
        if isinstance(value, dict | list) or value is None or len(str(value)) > 200:
            raise UsageError(f"the option {name!r} is neither a text, nor a number, nor a switch")
    numbers = {k: str(v) for k, v in options.items() if not isinstance(v, bool)}
    own = {"yes": True} if command == "flush" else {}
    return Task(
        cast(Command, command),
        tuple(dict.fromkeys(services)),
        {**flags, **own, **options, **numbers},
        terminal=terminal,
        given=given,
    )


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


def _no_job() -> web.Response:
    return refusal(404, "there is no such job; the list of jobs has those that are known")
