"""For commands that look at one project, or at all of the store: which ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from longshore.cli_job import Job
from longshore.cli_running import bounded
from longshore.errors import LongshoreError, NotCached, UsageError
from longshore.ops.projects import has_project, list_projects
from longshore.wording import clean

R = TypeVar("R")


async def each_project(
    job: Job, work: Callable[[str], Awaitable[R]], *, what: str, limit: timedelta
) -> list[tuple[str, R | LongshoreError]]:
    """Work on the project, or on all of them one after the other.

    What fails in one of many is reported, and the others go on.

    Args:
        what: the work's name, for people: `prune`.
        limit: how long each project may take, unless `--timeout` says so.

    Raises:
        NotCached: there is nothing of the one project.
        LongshoreError: the work on the one project failed.
    """
    if not job.settings.all_projects:
        name = job.project.name
        if not await has_project(job.store, name):
            raise NotCached(
                f"nothing is stored for the project {name} in {job.store.url()}; is that its name?"
            )
        return [(name, await _bounded(job, name, work, what, limit))]
    if job.settings.sources.get("project") == "--project":
        raise UsageError("--project names one project, and --all-projects is for all; say one")
    found = await list_projects(job.store)
    for folder in found.unnamed:
        job.report.warn(
            UsageError(
                f"{job.store.url(folder)} has a name that is cut, so it is left out;"
                f" {what} it by itself, with --project and its whole name"
            )
        )
    done: list[tuple[str, R | LongshoreError]] = []
    for name in found.names:
        try:
            done.append((name, await _bounded(job, name, work, what, limit)))
        except LongshoreError as error:
            job.report.warn(error, f"{name}: {error}")
            done.append((name, error))
    return done


async def _bounded(
    job: Job, name: str, work: Callable[[str], Awaitable[R]], what: str, limit: timedelta
) -> R:
    settings = job.settings
    longest = settings.timeout if "timeout" in settings.sources else limit

    async def one() -> R:
        return await work(name)

    return await bounded(one(), longest, f"{what} of {clean(name)}")
