"""The page: what is cached, what runs, and the buttons. It works without scripts as well.

Who may see it is decided by `access.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from aiohttp import web
from msgspec import Struct

from longshore import __version__
from longshore.service.forms import Form
from longshore.service.page_data import Look, Queue
from longshore.service.page_jobs import export_views, jobs_view, signature, title_of
from longshore.service.page_render import STATIC, render
from longshore.service.page_view import cache_view, short, worth_showing
from longshore.service.task import Task

_LONGEST_NAME = 255
_ENDING = "The sidecar is ending, and takes no more work."


class _Refused(Exception):
    """What somebody asked for is not done; the message is a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Page(Struct, frozen=True):
    """The handlers."""

    jobs: Queue
    look: Look
    flags: Callable[[], Mapping[str, Any]]
    now: Callable[[], datetime]

    async def show(self, request: web.Request) -> web.Response:
        """Show everything."""
        facts = await self.look.facts()
        now = self.now()
        text = render(
            "page",
            cache=cache_view(facts),
            jobs=jobs_view(self.jobs.all, self.jobs.queued, now),
            exports=export_views(self.jobs.all, facts, now),
            ending=self.jobs.closed,
            may_leave=any(name.startswith("longshore-") for name in request.cookies),
            version=__version__,
        )
        return _html(text)

    async def changes(self, _: web.Request) -> web.Response:
        """Answer with a text that changes when there is something new to be seen."""
        return web.Response(text=signature(self.jobs.all))

    async def start(self, request: web.Request) -> web.Response:
        """Start an import or export."""
        form = await _form(request)
        command = form.one("command")
        if command not in ("import", "export"):
            raise _Refused(400, "That is nothing that can be started here.")
        kind = cast(Literal["import", "export"], command)
        return self._submit(Task(kind, _names(form), self.flags()))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job."""
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            raise _Refused(404, "There is no such job any more.")
        if not job.has_ended:
            self.jobs.cancel(job)
        return _see("/")

    async def confirm(self, request: web.Request) -> web.Response:
        """Ask before a flush."""
        form = Form(request.query_string.encode())
        cache = cache_view(await self.look.facts())
        if not cache.scope:
            raise _Refused(409, "Which scope is the sidecar's own is not known now.")
        names = _names(form)
        text = render("flush", cache=cache, names=names, title=title_of("flush", names))
        return _html(text)

    async def flush(self, request: web.Request) -> web.Response:
        """Flush services in the sidecar's own scope, which has to be the one that was shown."""
        form = await _form(request)
        scope = cache_view(await self.look.facts()).scope
        if form.one("confirm") != "yes":
            raise _Refused(400, "Nobody confirmed the flush.")
        if not scope or form.one("scope") != scope:
            shown = short(scope) or "not known now"
            raise _Refused(409, f"The sidecar's own scope is {shown}; look again before you flush.")
        flags = {**self.flags(), "scope": scope, "yes": True}
        return self._submit(Task("flush", _names(form), flags))

    def _submit(self, task: Task) -> web.Response:
        if self.jobs.closed:
            raise _Refused(503, _ENDING)
        return _see(f"/#job-{self.jobs.submit(task).id}")


def add_page(
    app: web.Application,
    jobs: Queue,
    *,
    flags: Callable[[], Mapping[str, Any]],
    now: Callable[[], datetime],
    clock: Callable[[], float],
) -> None:
    """Add the page to an application.

    Args:
        flags: what `serve` was given, by the names of options.
        now: the time, for people.
        clock: a clock of seconds that never goes back.
    """
    look = Look(jobs, flags=flags, clock=clock, worth_showing=worth_showing)
    page = Page(jobs, look, flags, now)
    app.add_routes(
        [
            web.get("/", _refusing(page.show)),
            web.get("/changes", page.changes),
            web.post("/jobs", _refusing(page.start)),
            web.post("/jobs/{id}/cancel", _refusing(page.cancel)),
            web.get("/flush", _refusing(page.confirm)),
            web.post("/flush", _refusing(page.flush)),
            *(web.get(path, _sending(file)) for path, file in STATIC.items()),
        ]
    )


Handler = Callable[[web.Request], Any]


def _refusing(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except _Refused as refused:
            return _html(render("message", message=str(refused)), refused.status)
        return response

    return answer


def _sending(file: Path) -> Handler:
    async def answer(_: web.Request) -> web.FileResponse:
        # Asked for each time, and sent if it has changed: a new version has a new look at once.
        return web.FileResponse(file, headers={"Cache-Control": "no-cache"})

    return answer


async def _form(request: web.Request) -> Form:
    try:
        return Form(await request.read())
    except ValueError as error:
        raise _Refused(400, "The form could not be read.") from error


def _names(form: Form) -> tuple[str, ...]:
    names = form.all("service")
    if any(len(name) > _LONGEST_NAME for name in names):
        raise _Refused(400, "A name of a service is not that long.")
    return names


def _html(text: str, status: int = 200) -> web.Response:
    # A name may hold what UTF-8 cannot; that is no reason to show nothing.
    body = text.encode(errors="replace")
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")


def _see(where: str) -> web.Response:
    return web.Response(status=303, headers={"Location": where})
