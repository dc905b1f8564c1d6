"""One run of a command: settings, parts, errors and exit codes, the same way for all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from longshore.cli_running import Interrupted, run
from longshore.config import Settings, load_settings
from longshore.config_file import ConfigFile, read_config_file
from longshore.config_layers import Flags, variable
from longshore.config_options import CONFIG
from longshore.config_secrets import hider
from longshore.errors import LongshoreError, UsageError
from longshore.output_json import problem_json, to_text
from longshore.progress import LineReport, make_report
from longshore.surroundings import Project, World, survey

if TYPE_CHECKING:
    from longshore.engine.contract import Engine
    from longshore.ops.reachable import Reading
    from longshore.signing_keys import Keys
    from longshore.store.contract import Store
    from longshore.store.metrics import StoreMetrics

SIGNALLED = 128
LENIENT = ("export", "import", "build")
# Commands that are not run by a job, but decide what one may do. The file in the working directory
# may come with the job's code, so it has no say here unless it is named.
DECIDING = ("credentials",)
REMOVING = ("prune", "flush", "check")
UNCHANGED = "what was cached before is as it was"
BOUND_THEMSELVES = ("build", "prune", "check", "stats")
"""How long a build takes is not the cache's business; the others have a time for each project."""


class Shown(NamedTuple):
    """The result of a command, for people and for programs."""

    text: str
    document: dict[str, Any]
    exit_code: int = 0
    output: str | None = None
    """The file to write it to; standard output if there is none."""


class Job:
    """What a command works with; parts are made when they are first asked for."""

    def __init__(self, world: World, settings: Settings, report: LineReport) -> None:
        self.world = world
        self.settings = settings
        self.report = report
        self.open = AsyncExitStack()
        self._metrics: StoreMetrics | None = None
        self._project: Project | None = None
        self._store: Store | None = None
        self._engine: Engine | None = None
        self._keys: Keys | None = None

    @property
    def project(self) -> Project:
        """What is cached, and under which names."""
        if self._project is None:
            self._project = survey(self.settings, self.world)
            for note in self._project.notes:
                self.report.line(note)
        return self._project

    @property
    def metrics(self) -> StoreMetrics:
        """What the store was asked for."""
        if self._metrics is None:
            from longshore.store.metrics import StoreMetrics

            self._metrics = StoreMetrics()
        return self._metrics

    @property
    def store(self) -> Store:
        """The store; it is closed with the job."""
        if self._store is None:
            self._store = self.world.open_store(self.settings, self.metrics, self.report)
            self.open.push_async_callback(self._store.close)
        return self._store

    @property
    def engine(self) -> Engine:
        """The engine; it is closed with the job."""
        if self._engine is None:
            self._engine = self.world.open_engine()
            self.open.push_async_callback(self._engine.close)
        return self._engine

    @property
    def keys(self) -> Keys:
        """What entries are signed with, and whose signatures count."""
        if self._keys is None:
            from longshore.signing_keys import read_keys

            self._keys = read_keys(self.settings, self.world.directory)
        return self._keys

    def reading(self, *, any_scope: bool = False, for_export: bool = False) -> Reading:
        """Say which part of the store this build reads.

        Args:
            any_scope: it will do if the build's own scope cannot be told.
            for_export: what is read is to be built on, and not to be loaded.
        """
        from longshore.ops.reachable import Reading
        from longshore.ops.room import Room

        settings = self.settings
        scopes = self.project.scopes if any_scope else self.project.require_scopes()
        return Reading(
            self.store,
            self.project.name,
            scopes,
            trusted=self.keys.trusted,
            room=Room(settings.export_document_bytes if for_export else settings.document_bytes),
            max_image_bytes=settings.max_image_bytes,
        )

    @property
    def full_ids(self) -> bool:
        """Whether ids are written in full: everywhere but on a terminal."""
        return not self.world.stdout.isatty()


Work = Callable[[Job], Awaitable[Shown]]


class Finished(NamedTuple):
    """What a run of a command came to."""

    code: int
    shown: Shown
    document: dict[str, Any]
    """For programs: what `--json` writes."""


def execute(world: World, flags: Flags, command: str, work: Work) -> int:
    """Run a command, show what came of it, and return the exit code.

    Export and import end with 0 whatever happens, unless the usage is wrong or `--strict` is set:
    a cache never makes a build fail. A build ends with what became of the build itself.
    """
    try:
        settings = settings_for(world, flags, command)
    except UsageError as error:
        report = make_report(world, quiet=bool(flags.get("quiet")))
        report.fail(error)
        if bool(flags.get("json")) or flags.get("format") == "json":
            document = document_of(command, {}, report, error, error.exit_code)
            world.stdout.write(hider(world.environment)(to_text(document)))
            world.stdout.flush()
        return error.exit_code
    from longshore.wiring import bound_allocator

    bound_allocator()
    report = make_report(world, quiet=settings.quiet)
    try:
        finished = perform(Job(world, settings, report), command, work)
    except Interrupted as stopped:
        return say_stopped(report, stopped, command)
    return show(world, settings, report, finished)


def settings_for(world: World, flags: Flags, command: str) -> Settings:
    """Read what is set for a command.

    Raises:
        UsageError: something that is set means nothing.
    """
    given = flags.get("config") or variable(world.environment, CONFIG.variable)
    by_itself = command not in DECIDING
    file = read_config_file(world.directory, given) if given or by_itself else ConfigFile()
    return load_settings(flags, world.environment, file.values, file.name)


def perform(job: Job, command: str, work: Work) -> Finished:
    """Do the work of a command; whatever fails is told to the job's report.

    Raises:
        Interrupted: a signal came.
    """
    shown = Shown("", {})
    failure: LongshoreError | None = None
    with job.report as report:
        try:
            timeout = None if command in BOUND_THEMSELVES else job.settings.timeout
            shown = run(_with_parts(job, work), timeout=timeout, command=command)
        except LongshoreError as error:
            failure = error
    code = _exit_code(job, command, shown, failure)
    if failure is not None and code == 0:
        report.say("warning", str(failure))
    elif failure is not None:
        report.fail(failure)
    return Finished(code, shown, document_of(command, shown.document, report, failure, code))


def show(world: World, settings: Settings, report: LineReport, finished: Finished) -> int:
    """Write the result where it is wanted, and return the exit code."""
    shown = finished.shown
    text = f"{shown.text}\n" if shown.text else ""
    if settings.json:
        text = to_text(finished.document)
    text = hider(world.environment)(text)
    try:
        if shown.output is not None:
            _replace_file(world.directory / shown.output, text)
            report.line(f"{shown.output} was written")
        else:
            world.stdout.write(text)
            world.stdout.flush()
    except BrokenPipeError:
        return SIGNALLED + signal.SIGPIPE
    except OSError as error:
        where = f" to {shown.output}" if shown.output else ""
        report.say("error", f"the result cannot be written{where}: {error.strerror or error}")
        return UsageError.exit_code
    return finished.code


def say(job: Job, text: str) -> None:
    """Show a part of the result before the rest of it is there."""
    try:
        job.world.stdout.write(f"{text}\n")
        job.world.stdout.flush()
    except BrokenPipeError as error:
        raise Interrupted(signal.SIGPIPE) from error
    except OSError as error:
        raise UsageError(f"the result cannot be written: {error.strerror or error}") from error


def say_stopped(report: LineReport, stopped: Interrupted, command: str) -> int:
    """Say that a signal ended a command, and return the exit code."""
    if stopped.number != signal.SIGPIPE:  # whoever read has gone, and knows
        report.close()
        name = signal.Signals(stopped.number).name
        rest = "what was done is sound; run it again" if command in REMOVING else UNCHANGED
        report.say("stopped", f"{name} came; {rest}")
    return SIGNALLED + stopped.number


async def _with_parts(job: Job, work: Work) -> Shown:
    async with job.open:
        return await work(job)


def _exit_code(job: Job, command: str, shown: Shown, failure: LongshoreError | None) -> int:
    if isinstance(failure, UsageError):
        return failure.exit_code
    if command in LENIENT and (command == "build" or not job.settings.strict):
        return shown.exit_code
    codes = [warned.error.exit_code for warned in job.report.warnings]
    if failure is not None:
        codes.append(failure.exit_code)
    return max([shown.exit_code, *codes])


def _replace_file(path: Path, text: str) -> None:
    """Write a file such that readers find the old or the new one, and never a part of it."""
    if path.exists() and not path.is_file():
        path.write_text(text)  # a device or a pipe
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def document_of(
    command: str,
    document: dict[str, Any],
    report: LineReport,
    failure: LongshoreError | None,
    code: int,
) -> dict[str, Any]:
    """Make the document of a command: what all have, and its own."""
    return {
        "schema": 1,
        "command": command,
        "ok": failure is None,
        "exit_code": code,
        "error": None if failure is None else problem_json(failure, str(failure)),
        "warnings": [problem_json(warned.error, warned.text) for warned in report.warnings],
        **document,
    }
