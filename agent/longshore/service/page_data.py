"""What the page tells of the store, asked for seldom: a reload within seconds costs nothing.

`show` is asked once for each service, until the list of entries changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from msgspec import Struct, field

from longshore.service.jobs import Job, Listener
from longshore.service.task import Command, Event, Outcome, Task

FRESH = timedelta(seconds=5)
ANSWER = timedelta(seconds=15)  # an S3 server that is asked again and again takes longer
SHOW = timedelta(seconds=5)  # for all services; those that are left come with the next reload
_AT_ONCE = 2
_SHOWN_AT_MOST = 500


class Queue(Protocol):
    """What the page needs of `Jobs`."""

    listeners: list[Listener]
    closed: bool

    @property
    def all(self) -> tuple[Job, ...]:
        """All jobs that are known, the oldest first."""

    @property
    def queued(self) -> tuple[Job, ...]:
        """The jobs that wait, in the order in which they will run."""

    def get(self, identifier: str) -> Job | None:
        """Look up a job."""

    def submit(self, task: Task) -> Job:
        """Take in a task."""

    def cancel(self, job: Job) -> None:
        """End a job."""

    async def ask(self, task: Task) -> Outcome | None:
        """Run a task that only looks."""


class Key(Struct, frozen=True):
    """What `show` is asked about."""

    service: str
    platform: str


class Answer(Struct, frozen=True):
    """The document of a command.

    Attributes:
        problem: why there is nothing in it, in one line.
        kind: of the problem, as `errors.py` has them; empty if it is none of these.
    """

    document: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    kind: str = ""


class Facts(Struct, frozen=True):
    """What the page shows, but for jobs.

    Attributes:
        shown: of each service whose turn it was; the others will be there later.
    """

    config: Answer
    listing: Answer
    shown: Mapping[Key, Answer]


class Look:
    """Asks, and remembers for a while.

    Args:
        flags: what `serve` was given, by the names of options.
        clock: a clock of seconds that never goes back.
        worth_showing: names from a listing what `show` may tell more about.
    """

    def __init__(
        self,
        jobs: Queue,
        *,
        flags: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
        worth_showing: Callable[[Mapping[str, Any]], tuple[Key, ...]],
    ) -> None:
        self._jobs = jobs
        self._flags = flags
        self._clock = clock
        self._worth_showing = worth_showing
        self._one_at_a_time = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._facts: Facts | None = None
        self._asked = 0.0
        self._listed: object = None
        self._shown: dict[Key, Answer] = {}
        self.changes = 0
        """How often something happened that may have changed what the store holds."""
        jobs.listeners.append(self.hear)

    def hear(self, job: Job, event: Event | None) -> None:
        """Forget what was asked when a job has ended."""
        if event is None and job.has_ended:
            self.changes += 1
            self._asked = float("-inf")

    async def facts(self) -> Facts:
        """Tell what there is, as it was a few seconds ago."""
        async with self._one_at_a_time:
            if self._facts is None or self._clock() - self._asked > FRESH.total_seconds():
                await self._ask_all()
            assert self._facts is not None
            return self._facts

    async def _ask_all(self) -> None:
        before = self.changes
        async with asyncio.TaskGroup() as group:
            config = group.create_task(self._ask("config"))
            listing = group.create_task(self._ask("list", all_scopes=False))
        entries = _unaged(listing.result().document)
        if entries != self._listed:
            self._listed, self._shown = entries, {}
        await self._show_more(self._worth_showing(listing.result().document))
        self._facts = Facts(config.result(), listing.result(), dict(self._shown))
        self._shown = {key: answer for key, answer in self._shown.items() if not answer.problem}
        # What changed meanwhile may not be in it: it is shown this once.
        self._asked = self._clock() if before == self.changes else float("-inf")

    async def _show_more(self, keys: tuple[Key, ...]) -> None:
        missing = [key for key in keys[:_SHOWN_AT_MOST] if key not in self._shown]

        async def one(key: Key) -> None:
            answer = await self._ask("show", (key.service,), platform=key.platform)
            self._shown[key] = answer

        try:
            async with asyncio.timeout(SHOW.total_seconds()), asyncio.TaskGroup() as group:
                for key in missing:
                    group.create_task(one(key))
        except TimeoutError:
            pass  # what came is kept

    async def _ask(self, command: Command, names: tuple[str, ...] = (), **own: Any) -> Answer:
        flags = {**self._flags(), **{name.replace("_", "-"): value for name, value in own.items()}}
        try:
            async with self._slots, asyncio.timeout(ANSWER.total_seconds()):
                outcome = await self._jobs.ask(Task(command, names, flags))
        except TimeoutError:
            limit = f"{ANSWER.total_seconds():.0f}"
            return Answer(problem=f"`longshore {command}` has come to no end within {limit} s")
        except OSError as error:
            reason = error.strerror or error
            return Answer(problem=f"`longshore {command}` could not be started: {reason}")
        if outcome is None:
            return Answer(problem=f"`longshore {command}` crashed; see the sidecar's log")
        if problem := outcome.document.get("error"):
            return Answer(outcome.document, str(problem["message"]), str(problem["error"]))
        return Answer(outcome.document)


def _unaged(listing: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Leave out of a list of entries what changes by itself."""
    entries = listing.get("entries") or []
    return [{k: v for k, v in entry.items() if k != "age_seconds"} for entry in entries]
