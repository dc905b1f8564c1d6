"""Jobs that do what a test says, and a cache that is made of documents."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from longshore.service.jobs import Job, Listener, State
from longshore.service.task import Event, Outcome, Task

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
_MB = 1_000_000


def error_document(kind: str, message: str, exit_code: int = 6) -> dict[str, Any]:
    """Write what a command that failed writes."""
    return {"error": {"error": kind, "message": message, "exit_code": exit_code}, "warnings": []}


@dataclass
class Cached:
    """An entry, and what `list` and `show` say of it."""

    service: str
    scope: str = "main"
    platform: str = "linux-amd64"
    kind: str | None = "image"
    age: timedelta = timedelta(hours=2)
    layers: tuple[tuple[str, int, str, tuple[str, ...]], ...] = ()
    """Of each: diff, megabytes, command, services that have it as well."""
    uploaded_bytes: int = 12_400_000
    seconds: float = 31.2
    tags: tuple[str, ...] = ()
    branch: str | None = "main"
    revision: str | None = "4f1c2a9be7d0"
    job_url: str | None = "https://ci.example.com/builds/4711"
    older: int = 0
    problem: str | None = None

    @property
    def id(self) -> str:
        return f"{self.scope}/{self.service}/{self.platform}"

    @property
    def row(self) -> dict[str, Any]:
        plain = self.kind == "image"
        return {
            "scope": self.scope,
            "service": self.service,
            "platform": self.platform,
            "id": self.id,
            "kind": self.kind,
            "stored_at": (NOW - self.age).isoformat().replace("+00:00", "Z"),
            "age_seconds": self.age.total_seconds(),
            "image_bytes": self._bytes if plain else None,
            "stored_bytes": self._bytes // 3 if plain else None,
            "images": 1,
            "layers": len(self.layers),
            "tags": list(self.tags),
            "revision": self.revision if plain else None,
            "branch": self.branch if plain else None,
            "job_url": self.job_url if plain else None,
            "older": self.older,
            "problem": self.problem,
        }

    @property
    def entry(self) -> dict[str, Any]:
        layers = [
            {
                "diff_id": f"sha256:{diff}",
                "digest": f"sha256:{diff}",
                "size_bytes": megabytes * _MB,
                "stored_bytes": megabytes * _MB // 3,
                "method": "tar",
                "chunks": megabytes,
                "recipe_scope": self.scope,
                "packs": [],
                "shared_with": list(shared),
                "problem": None,
            }
            for diff, megabytes, _, shared in self.layers
        ]
        steps = [
            {"command": command, "created_at": None, "diff_id": f"sha256:{diff}", "size_bytes": 1}
            for diff, _, command, _ in self.layers
        ]
        return {
            **{name: value for name, value in self.row.items() if name != "older"},
            "uploaded_bytes": self.uploaded_bytes,
            "export_seconds": self.seconds,
            "images": [{"id": "sha256:1", "steps": steps}],
            "layers": layers,
        }

    @property
    def _bytes(self) -> int:
        return sum(megabytes for _, megabytes, _, _ in self.layers) * _MB


@dataclass
class FakeCache:
    """What the commands that only look say."""

    entries: list[Cached] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    project: str = "shop"
    scope: str | None = "pr:17"
    fallback: list[str] = field(default_factory=lambda: ["main"])
    error: dict[str, Any] | None = None
    """The document of every one of them, if it is set."""
    show_errors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, task: Task) -> dict[str, Any]:
        """Say what a command says."""
        if self.error is not None:
            return self.error
        place = {
            "error": None,
            "warnings": [],
            "store": "s3://acme-cache/longshore",
            "project": self.project,
            "scope": self.scope,
            "fallback": self.fallback,
        }
        if task.command == "list":
            return {**place, "entries": [one.row for one in self.entries]}
        if task.command == "config":
            values = {
                "store": "s3://acme-cache/longshore",
                "project": self.project,
                "scope": self.scope,
                "fallback": self.fallback,
                "image": self.images,
            }
            options = [{"name": n, "value": v, "source": "x"} for n, v in values.items()]
            return {"error": None, "warnings": [], "options": options}
        (name,) = task.names
        if name in self.show_errors:
            return self.show_errors[name]
        for one in self.entries:
            wanted = (name, task.flags["platform"])
            if (one.service, one.platform) == wanted and one.kind not in (None, "flushed"):
                return {**place, "entry": one.entry}
        return error_document("NotCached", f"no cached image for {name}", 3)


class FakeJobs:
    """The queue of a sidecar whose jobs do nothing by themselves."""

    def __init__(self, cache: FakeCache) -> None:
        self.cache = cache
        self.listeners: list[Listener] = []
        self.closed = False
        self.now: Callable[[], datetime] = lambda: NOW
        self.asked: list[Task] = []
        self.crashes = False
        self._jobs: dict[str, Job] = {}
        self._numbers = itertools.count(1)

    @property
    def all(self) -> tuple[Job, ...]:
        return tuple(self._jobs.values())

    @property
    def queued(self) -> tuple[Job, ...]:
        return tuple(job for job in self.all if job.state == "queued")

    @property
    def tasks(self) -> list[Task]:
        """What was submitted."""
        return [job.task for job in self.all]

    def get(self, identifier: str) -> Job | None:
        return self._jobs.get(identifier)

    def submit(self, task: Task) -> Job:
        job = Job(f"job{next(self._numbers)}", task, self.now())
        self._jobs[job.id] = job
        self.change(job, "queued")
        return job

    def change(self, job: Job, state: State) -> None:
        """Have a job change its state."""
        job.state = state
        if state == "running":
            job.started = self.now()
        if job.has_ended:
            job.ended = self.now()
        job.touch()
        for listener in list(self.listeners):
            listener(job, None)

    def run(self, task: Task, *events: Event) -> Job:
        """Start a job that tells something."""
        job = self.submit(task)
        self.change(job, "running")
        for event in events:
            job.hear(event)
        return job

    def end(self, job: Job, document: Mapping[str, Any], state: State = "succeeded") -> None:
        """Have a job come to its end."""
        job.outcome = Outcome(0, "", document)
        self.change(job, state)

    def cancel(self, job: Job) -> None:
        job.reason = "it was cancelled"
        self.change(job, "cancelled")

    async def ask(self, task: Task) -> Outcome | None:
        self.asked.append(task)
        return None if self.crashes else Outcome(0, "", self.cache.answer(task))
