"""The queue of jobs: whose turn it is, what is replaced, what is cancelled, what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.support.sidecars import StubForks, StubProcess, jobs_with, outcome

from longshore.service.jobs import Job, Jobs
from longshore.service.task import Line, Progress, Task

IMPORT, EXPORT, FLUSH = Task("import"), Task("export"), Task("flush")


def background(*names: str) -> Task:
    return Task("export", names, background=True)


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not found():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)


async def started(forks: StubForks, number: int) -> StubProcess:
    await until(lambda: len(forks.started) >= number)
    return forks.started[number - 1]


@pytest.fixture
async def forks() -> StubForks:
    return StubForks()


@pytest.fixture
async def jobs(forks: StubForks) -> Jobs:
    return jobs_with(forks)


async def test_imports_go_first_and_what_nobody_waits_for_goes_last(
    forks: StubForks, jobs: Jobs
) -> None:
    first = jobs.submit(EXPORT)
    for task in (EXPORT, background("web"), IMPORT):
        jobs.submit(task)

    assert [job.task for job in jobs.queued] == [IMPORT, EXPORT, background("web")]
    order = []
    for number in range(1, 5):
        process = await started(forks, number)
        order.append(process.task)
        process.end(outcome(process.task.command))
    await jobs.finish()
    assert order == [EXPORT, IMPORT, EXPORT, background("web")]
    assert first.state == "succeeded"


async def test_one_job_moves_data_and_a_flush_does_not_wait_for_it(
    forks: StubForks, jobs: Jobs
) -> None:
    moving, waiting, flush = jobs.submit(IMPORT), jobs.submit(EXPORT), jobs.submit(FLUSH)

    await started(forks, 2)
    assert {process.task.command for process in forks.started} == {"import", "flush"}
    assert (moving.state, waiting.state, flush.state) == ("running", "queued", "running")
    for process in list(forks.started):
        process.end(outcome())
    (await started(forks, 3)).end(outcome())
    await jobs.finish()


async def test_a_background_export_that_waits_is_replaced_by_one_of_as_many_services(
    forks: StubForks, jobs: Jobs
) -> None:
    jobs.submit(IMPORT)
    web, both = jobs.submit(background("web")), jobs.submit(background("web", "api"))
    asked = jobs.submit(Task("export", ("web",)))
    other = jobs.submit(background("db"))

    assert (web.state, web.reason) == ("superseded", f"job {both.id} takes its place")
    assert {both.state, asked.state, other.state} == {"queued"}
    everything = jobs.submit(EXPORT)
    assert (both.state, other.state) == ("superseded", "superseded")
    assert asked.state == everything.state == "queued"
    await jobs.abort(timedelta())


async def test_a_running_export_is_not_replaced(forks: StubForks, jobs: Jobs) -> None:
    running = jobs.submit(background("web"))
    await started(forks, 1)

    later = jobs.submit(background("web"))
    assert (running.state, later.state) == ("running", "queued")
    await jobs.abort(timedelta())


async def test_a_job_that_waits_is_cancelled_and_never_runs(forks: StubForks, jobs: Jobs) -> None:
    running, waiting = jobs.submit(IMPORT), jobs.submit(EXPORT)

    jobs.cancel(waiting)
    assert (waiting.state, waiting.reason) == ("cancelled", "it was cancelled before it ran")
    (await started(forks, 1)).end(outcome())
    await jobs.finish()
    assert (running.state, len(forks.started)) == ("succeeded", 1)


async def test_a_job_that_runs_is_told_to_end_and_the_next_one_begins(
    forks: StubForks, jobs: Jobs
) -> None:
    running, waiting = jobs.submit(IMPORT), jobs.submit(EXPORT)
    process = await started(forks, 1)
    await until(lambda: bool(jobs._processes))

    jobs.cancel(running)
    assert process.signals == ["stop"]
    assert running.state == "running"
    process.end(outcome(code=143))
    (await started(forks, 2)).end(outcome())
    await jobs.finish()
    assert (running.state, running.reason) == ("cancelled", "it was cancelled")
    assert waiting.state == "succeeded"


async def test_a_job_whose_process_is_being_started_can_be_cancelled(
    forks: StubForks, jobs: Jobs
) -> None:
    job = jobs.submit(IMPORT)
    jobs.cancel(job)  # its process is not there yet

    process = await started(forks, 1)
    await until(lambda: bool(process.signals))
    assert process.signals == ["stop"]
    process.end(None, -15)
    await jobs.finish()
    assert job.state == "cancelled"


async def test_a_job_whose_process_dies_says_so(forks: StubForks, jobs: Jobs) -> None:
    crashed, killed = jobs.submit(IMPORT), jobs.submit(EXPORT)

    (await started(forks, 1)).end(None, 1)
    (await started(forks, 2)).end(None, -9)
    await jobs.finish()
    assert (crashed.state, crashed.reason) == ("failed", "its process crashed; see the log")
    assert (killed.state, killed.reason) == ("failed", "its process was ended by signal 9")


async def test_a_process_that_cannot_be_started_is_a_failure_and_not_the_end(jobs: Jobs) -> None:
    def refuse(_: Task) -> StubProcess:
        raise OSError(12, "Cannot allocate memory")

    jobs._forks.start = refuse  # type: ignore[assignment, method-assign]
    job = jobs.submit(IMPORT)
    await jobs.finish()
    assert job.reason == "its process could not be started: Cannot allocate memory"
    assert jobs.submit(EXPORT).state == "running"
    await jobs.finish()


async def test_who_follows_a_job_hears_all_lines_once_and_the_newest_progress(
    forks: StubForks, jobs: Jobs
) -> None:
    job = jobs.submit(IMPORT)
    process = await started(forks, 1)
    progress = [Progress("downloading", done, 10, 0.1) for done in (1, 5, 10)]
    process.tell(Line("one"))
    for event in progress:
        process.tell(event)
    process.tell(Line("two", "warning"))
    await until(lambda: len(job.lines) == 2)

    following = asyncio.create_task(hear(job))
    later = asyncio.create_task(hear(job, after=1))
    process.tell(Line("three"))
    process.end(outcome())
    assert await following == [
        *((1, Line("one")), (2, Line("two", "warning"))),
        *((2, progress[2]), (3, Line("three"))),
    ]
    assert [number for number, _ in await later] == [2, 2, 3]
    assert await hear(job) == [(1, Line("one")), (2, Line("two", "warning")), (3, Line("three")),
                               (3, progress[2])]  # fmt: skip


async def hear(job: Job, after: int = 0) -> list[tuple[int, Line | Progress]]:
    async with asyncio.timeout(10):
        return [heard async for heard in job.follow(after)]


async def test_the_last_hundred_jobs_that_ended_are_kept() -> None:
    forks = StubForks(lambda process: process.end(outcome()))
    jobs = jobs_with(forks)

    for _ in range(103):
        jobs.submit(FLUSH)
        await jobs.finish()
    last = jobs.submit(FLUSH)
    await jobs.finish()
    assert len(jobs.all) == 101
    assert (jobs.get("0001"), jobs.get(last.id)) == (None, last)


async def test_an_abort_ends_what_runs_and_starts_nothing_that_waits(
    forks: StubForks, jobs: Jobs
) -> None:
    running, waiting = jobs.submit(IMPORT), jobs.submit(EXPORT)
    process = await started(forks, 1)
    await until(lambda: bool(jobs._processes))

    await jobs.abort(timedelta(seconds=0.01))
    assert process.signals == ["stop", "kill"]
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    assert len(forks.started) == 1


async def test_whoever_asks_for_a_document_waits_for_no_job(forks: StubForks, jobs: Jobs) -> None:
    jobs.submit(IMPORT)
    asked = asyncio.create_task(jobs.ask(Task("list")))
    await started(forks, 2)

    process = next(process for process in forks.started if process.task.command == "list")
    process.end(outcome("list"))
    found = await asked
    assert found is not None
    assert found.document["command"] == "list"
    assert [job.task.command for job in jobs.all] == ["import"]
    await jobs.abort(timedelta())
