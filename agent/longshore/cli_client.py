"""The command line as a sidecar's client: hand the work over, follow it, show what it came to."""

from __future__ import annotations

import os
import stat
import time
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from longshore.cli_agreement import DECLINED, ask, require_somebody
from longshore.cli_given import OTHER, foreign_flags, told
from longshore.cli_handed import DECLINED_TEXT, NOBODY
from longshore.cli_job import (
    LENIENT,
    Finished,
    Job,
    Shown,
    document_of,
    say_stopped,
    settings_for,
    show,
)
from longshore.cli_running import Interrupted
from longshore.cli_sidecar import Lost, Sidecar
from longshore.cli_stopping import Stopping
from longshore.config import Settings
from longshore.config_layers import Flags
from longshore.errors import LongshoreError, SidecarUnavailable, TimedOut, UsageError
from longshore.progress import LineReport, make_report
from longshore.service.task import OPTIONS
from longshore.surroundings import World
from longshore.wording import clean, exact

_JOBS = "/api/v1/jobs"
_OWN_WORDS = timedelta(seconds=5)  # for a job to say itself that its time is over
_LOST_AT_MOST = 3  # times in a row without any event
_YELLOW = "\x1b[33m"
_COLOURS = {"error": "\x1b[31m"}


class NotTaken(Exception):
    """The sidecar does not do it, so it is done here; says why."""


def hand_over(world: World, flags: Flags, command: str, names: list[str]) -> int | None:
    """Have the sidecar do the work of a command.

    Returns:
        The exit code; `None` if it is to be done here.
    """
    try:
        settings = settings_for(world, flags, command)
    except UsageError:
        return None  # whoever does it here says so
    report = make_report(world, quiet=settings.quiet)
    sidecar = find(world, settings, report)
    if sidecar is None:
        return None
    client = _Client(world, settings, report, sidecar, command)
    try:
        given = told(settings, world, command)
    except UsageError:
        return None
    try:
        if foreign := foreign_flags(flags, command):
            raise NotTaken(f"takes no --{foreign[0]} from others")
        with report, Stopping() as stopping:
            finished = client.run(client.task(names, given), stopping)
    except NotTaken as reason:
        report.line(f"the sidecar at {sidecar.path} {reason}, so this runs here")
        return None
    except Interrupted as stopped:
        return say_stopped(report, stopped, command)
    except LongshoreError as error:
        finished = client.failed(error)
    return show(world, settings, report, finished)


def find(world: World, settings: Settings, report: LineReport) -> Sidecar | None:
    """Find the sidecar; `None` if there is none, or it is not to be asked."""
    if not settings.sidecar:
        return None
    path = world.directory / settings.socket
    source = settings.sources.get("socket")
    if source is None and not _is_socket(path):
        return None
    trusted = frozenset({0, os.geteuid()})
    sidecar = Sidecar(path, trusted if source is None else None)
    owner = sidecar.owner()
    if owner is None and source is not None:
        report.say("warning", f"{source}: no sidecar answers at {path}, so this runs here")
        return None
    if owner is None:
        if settings.verbose:
            report.line(f"no sidecar answers at {path}, so this runs here")
        return None
    if source is None and owner not in trusted:
        # Whoever was told nothing must not believe what any user of the machine put there.
        report.say(
            "warning",
            f"the sidecar at {path} is that of user {owner}, so this runs here;"
            " name it with --socket if it is to be trusted",
        )
        return None
    return sidecar


class _Client:
    """One command, and the sidecar that works for it."""

    def __init__(
        self, world: World, settings: Settings, report: LineReport, sidecar: Sidecar, command: str
    ) -> None:
        self._world = world
        self._settings = settings
        self._report = report
        self._sidecar = sidecar
        self._command = command
        self._end = time.monotonic() + (settings.timeout + _OWN_WORDS).total_seconds()
        self._shown = False
        """Whether what it finds was said already."""
        self._step = _Step(report)

    def task(self, names: list[str], given: dict[str, Any]) -> dict[str, Any]:
        """Write the task that a sidecar is to be given."""
        settings = self._settings
        names = [*names, *settings.service] if self._command == "flush" else list(names)
        if not names and "services" not in given:
            names = [image.partition("=")[0].strip() for image in given.get("image", ())]
        options: dict[str, Any] = {
            "timeout": exact(settings.timeout),
            "verbose": settings.verbose,
            "strict": settings.strict,
            "dry-run": settings.dry_run,
        }
        for name in ("level", "parents", "scope", "whole"):
            if name in settings.sources:
                options[name] = getattr(settings, name)
        if "max-image-size" in settings.sources:
            options["max-image-size"] = str(settings.max_image_bytes)
        return {
            "command": self._command,
            "services": names,
            "options": {k: v for k, v in options.items() if k in OPTIONS[self._command]},
            "terminal": self._world.stdout.isatty(),
            "given": given,
        }

    def run(self, task: dict[str, Any], stopping: Stopping) -> Finished:
        """Have a task done.

        Raises:
            NotTaken: it was not taken in, and nothing was done.
            LongshoreError: it was taken in, and did not come to its end.
            Interrupted: a signal came; the sidecar was told.
        """
        settings = self._settings
        if self._command != "flush":
            return _finished(self._do(task, stopping))
        if settings.now:
            raise NotTaken("deletes nothing")
        if settings.dry_run or settings.yes:
            return _finished(self._do(task, stopping))
        require_somebody(Job(self._world, settings, self._report), NOBODY)
        look = {**task, "options": {**task["options"], "dry-run": True}}
        plan = _finished(self._do(look, stopping))
        document = {**plan.document, "dry_run": False}
        if plan.code or not document.get("targets"):
            return Finished(plan.code, plan.shown, document)
        lines = plan.shown.text.splitlines()[:-1]  # the last one says that nothing was done
        if not ask(self._world, lines):
            shown = Shown(DECLINED_TEXT, {}, DECLINED)
            return Finished(DECLINED, shown, {**document, "exit_code": DECLINED, "agreed": False})
        self._shown = True
        return _finished(self._do(task, stopping))

    def failed(self, error: LongshoreError) -> Finished:
        """Say what kept the work from being done; a cache makes no build fail."""
        lenient = self._command in LENIENT and not self._settings.strict
        code = 0 if lenient and not isinstance(error, UsageError) else error.exit_code
        if code:
            self._report.fail(error)
        else:
            self._report.say("warning", str(error))
        document = document_of(self._command, {}, self._report, error, code)
        return Finished(code, Shown("", {}), document)

    def _do(self, task: dict[str, Any], stopping: Stopping) -> dict[str, Any]:
        try:
            with stopping.later():  # a job must not be taken in without our knowing which
                status, job = self._sidecar.ask("POST", _JOBS, task)
        except Lost as error:
            # Nobody knows whether it was taken in; then it must not be done twice.
            raise SidecarUnavailable(
                f"the sidecar at {self._sidecar.path} did not answer ({error}); run it again"
            ) from error
        if status == 503:
            raise NotTaken("is ending")
        if status != 202:
            said = job.get("error", {}).get("message", f"status {status}")
            raise NotTaken(f"did not take it ({clean(str(said))})")
        place = f"{_JOBS}/{job['id']}"
        try:
            stopping.now()
            ended = self._follow(place, stopping)
        except BaseException:
            with suppress(Lost), stopping.later():
                self._sidecar.ask("DELETE", place, seconds=5)
            raise
        if message := _other_settings(ended):
            raise NotTaken(message)
        if ended.get("result") is None or ended["state"] in ("cancelled", "superseded"):
            raise SidecarUnavailable(
                f"the sidecar did not do it: its job {ended['id']} {_came_to(ended)}; run it again"
            )
        return ended

    def _follow(self, place: str, stopping: Stopping) -> dict[str, Any]:
        """Say what a job says, until it has ended."""
        after, lost = "0", 0
        while True:
            left = self._end - time.monotonic()
            try:
                events = self._sidecar.events(
                    f"{place}/events", after, seconds=left, opening=stopping.when_whole
                )
                with closing(events):
                    for number, name, event in events:
                        after, lost = number or after, 0
                        if name == "ended":
                            return event
                        self._hear(name, event)
            except TimeoutError as error:
                raise TimedOut(
                    f"{self._command} did not end within {exact(self._settings.timeout)};"
                    " if it needs longer, raise --timeout"
                ) from error
            except Lost as error:
                lost += 1
                if lost == _LOST_AT_MOST or self._sidecar.owner() is None:
                    raise SidecarUnavailable(
                        f"the sidecar at {self._sidecar.path} ended while it worked on this;"
                        " what was cached before is as it was; run it again"
                    ) from error

    def _hear(self, name: str, event: dict[str, Any]) -> None:
        if name == "progress":
            self._step.hear(event)
        elif name == "line" and event["word"]:
            word = event["word"]
            self._report.say(word, event["text"], _COLOURS.get(word, _YELLOW))
        elif name == "line" and not self._shown:
            self._report.line(event["text"])


class _Step:
    """The long step that a job is at, shown as if it was done here."""

    def __init__(self, report: LineReport) -> None:
        self._report = report
        self._what = ""
        self._done = 0

    def hear(self, progress: dict[str, Any]) -> None:
        """Take in how far it is; what is to be said at its end comes as a line."""
        if progress["ended"]:
            self._report.close()
            self._what = ""
            return
        if progress["what"] != self._what or progress["done_bytes"] < self._done:
            self._what, self._done = progress["what"], 0
            self._report.begin(self._what, progress["total_bytes"])
        self._report.advance(progress["done_bytes"] - self._done)
        self._done = progress["done_bytes"]


def _finished(ended: dict[str, Any]) -> Finished:
    result = cast(dict[str, Any], ended["result"])
    return Finished(int(ended["exit_code"]), Shown(ended["text"], {}), result)


def _other_settings(ended: dict[str, Any]) -> str | None:
    """Say for what the sidecar is, if that is not what was asked for."""
    error = (ended.get("result") or {}).get("error") or {}
    if error.get("error") != "OtherSettings":
        return None
    return f"is for another {str(error['message']).removeprefix(OTHER)}"


def _came_to(ended: dict[str, Any]) -> str:
    how = {"cancelled": "was cancelled", "superseded": "was superseded"}
    return f"{how.get(ended['state'], 'failed')} ({clean(str(ended['reason']))})"


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
