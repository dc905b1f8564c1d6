"""A command as a task of the sidecar's: run in a process of its own, and heard from afar."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Literal, cast

from longshore.cli_given import require_same
from longshore.cli_handed import HANDED_OVER, work_of
from longshore.cli_job import (
    SIGNALLED,
    UNCHANGED,
    Finished,
    Job,
    Shown,
    Work,
    document_of,
    perform,
    settings_for,
)
from longshore.cli_running import Interrupted
from longshore.config import MIN_MEMORY_BYTES, Settings
from longshore.config_secrets import hider
from longshore.errors import LongshoreError, OtherSettings
from longshore.output_json import to_text
from longshore.progress import LineReport, one_line
from longshore.service.process import peak_memory_bytes
from longshore.service.task import Line, Outcome, Progress, Task, Tell
from longshore.surroundings import World

_SIDECAR_BYTES = 64 << 20
"""What its other processes take: measured 45 MiB, and 20 that are counted for a task otherwise."""
_SECONDS_BETWEEN = 0.1  # reports of progress: a bar moves no smoother for anybody


class TellingReport(LineReport):
    """Say each step to whoever listens to the task.

    Args:
        clock: a clock of seconds that never goes back.
    """

    def __init__(
        self, tell: Tell, *, hide: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(io.StringIO(), quiet=False, colour=False, hide=hide, clock=clock)
        self._tell = tell
        self._told = 0.0

    def begin(self, what: str, total_bytes: int | None) -> None:
        """Begin a long step."""
        super().begin(what, total_bytes)
        self._tell_progress()

    def advance(self, done_bytes: int) -> None:
        """Tell progress of the long step; how often is bounded."""
        self._done += done_bytes
        if self._clock() - self._told >= _SECONDS_BETWEEN:
            self._tell_progress()

    def end(self) -> None:
        """End the long step."""
        self._tell_progress(ended=True)
        super().end()

    def say(self, word: str, text: str, colour: str = "") -> None:
        """Say something that went wrong."""
        kind = cast(Literal["warning", "error", "stopped"], word)
        self._tell(Line(one_line(self._hide(text)), kind))

    def _write(self, text: str) -> None:
        self._tell(Line(text))

    def _tell_progress(self, *, ended: bool = False) -> None:
        self._told = self._clock()
        seconds = round(self._told - self._began, 3)
        self._tell(Progress(self._what, self._done, self._total, seconds, ended=ended))


def perform_task(task: Task, tell: Tell) -> Outcome:
    """Run a command as the command line does, in the process's own surroundings."""
    from longshore.wiring import bound_allocator, real_world

    bound_allocator()
    return perform_in(real_world(), task, tell)


def perform_in(world: World, task: Task, tell: Tell) -> Outcome:
    """Run a command in `world`."""
    world = world._replace(stdout=_Text(task.terminal), stderr=_Text(False), stdin=None)
    hide = hider(world.environment)
    report = TellingReport(tell, hide=hide)
    try:
        settings = _beside_the_sidecar(settings_for(world, task.flags, task.command), task)
        job = Job(world, settings, report)
        if task.given:
            from longshore.cli_work import effective

            require_same(task.given, effective(job), settings, world, task.command)
        finished = perform(job, task.command, _work(task))
    except LongshoreError as error:  # what is set is wrong
        if not isinstance(error, OtherSettings):  # whoever asked says it
            report.fail(error)
        finished = _nothing(task, report, error, error.exit_code)
    except Interrupted as stopped:
        report.say("stopped", f"it was cancelled; {UNCHANGED}")
        finished = _nothing(task, report, None, SIGNALLED + stopped.number)
    return Outcome(
        exit_code=finished.code,
        text=hide(finished.shown.text),
        document=json.loads(hide(to_text(finished.document))),
        memory_bytes=peak_memory_bytes(),
    )


def _nothing(task: Task, report: LineReport, error: LongshoreError | None, code: int) -> Finished:
    """Make the result of what did not come to one."""
    document = document_of(task.command, {"ok": False}, report, error, code)
    return Finished(code, Shown("", {}), document)


def _beside_the_sidecar(settings: Settings, task: Task) -> Settings:
    """Leave an import less memory, as the sidecar takes some; an export reads nothing ahead."""
    if task.command != "import":
        return settings
    left = max(settings.memory_bytes - _SIDECAR_BYTES, MIN_MEMORY_BYTES)
    return settings._replace(memory_bytes=left)


def _work(task: Task) -> Work:
    names = list(task.names)
    if task.command in HANDED_OVER:
        return work_of(task.command, names)

    async def work(job: Job) -> Shown:
        from longshore import cli_work

        if task.command == "list":
            return await cli_work.list_(job)
        if task.command == "show":
            return await cli_work.show(job, names[0])
        return await cli_work.config(job)

    return work


class _Text(io.StringIO):
    """A stream that nobody reads, and that may stand for a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal
