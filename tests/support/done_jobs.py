"""Jobs that were done for real, in this process, and as the sidecar hears of them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from tests.cli.conftest import Shell, Stream

from longshore.cli_task import perform_in
from longshore.service.jobs import Job, Listener, State, _state
from longshore.service.task import Event, Outcome, Task
from longshore.surroundings import World
from longshore.wiring import open_store

BEGAN = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
_NUMBERS = itertools.count(1)


def waiting(task: Task) -> Job:
    return Job(f"0192f0a1-0000-7000-8000-{next(_NUMBERS):012}", task, BEGAN)


def world_of(shell: Shell) -> World:
    return World(
        environment=shell.environment,
        directory=shell.directory,
        stdout=Stream(),
        stderr=Stream(),
        width=80,
        open_store=lambda *given: shell.wrap(open_store(*given)),
        open_engine=lambda: shell.engine,
        open_sts=shell._open_sts,
    )


def do(shell: Shell, task: Task, *listeners: Listener, seconds: float = 2.0) -> Job:
    """Do a task as `Jobs` would, and say that it took so long."""
    job = waiting(task)

    def tell(event: Event | None) -> None:
        for listener in listeners:
            listener(job, event)

    tell(None)
    job.state, job.started = "running", BEGAN
    tell(None)
    job.outcome = perform_in(world_of(shell), task, tell)
    end(job, _state(job, 0), *listeners, seconds=seconds)
    return job


def end(job: Job, state: State, *listeners: Listener, seconds: float = 2.0) -> None:
    job.state, job.ended = state, BEGAN + timedelta(seconds=seconds)
    for listener in listeners:
        listener(job, None)


def came_to(job: Job) -> Outcome:
    assert job.outcome is not None
    return job.outcome
