"""What the page shows of jobs, and of the exports that came to an end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from longshore.output_json import plain
from longshore.service.jobs import Job, State
from longshore.service.page_data import Facts
from longshore.service.page_view import short
from longshore.service.task import Progress
from longshore.wording import count, period, size

_WORDS: Mapping[State, str] = {
    "queued": "waits",
    "running": "runs",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "superseded": "replaced",
}
_LINES = 200
_NAMED = 4
_ENDED = 10
_BARS = 12


class LineView(Struct, frozen=True):
    """Something that a job said."""

    word: str
    text: str


class JobView(Struct, frozen=True):
    """A job.

    Attributes:
        when: when it began, or ended.
        percent: how far its long step is; `None` if that cannot be told, or it has none.
        after: the number of the last line, from which on a browser wants to hear more.
        result: what it came to, or why it did not.
    """

    id: str
    title: str
    state: State
    word: str
    when: str
    at: str
    percent: float | None
    progress: str
    lines: Sequence[LineView]
    after: int
    result: str


class ExportView(Struct, frozen=True):
    """An export that came to its end: a bar of the chart.

    Attributes:
        image, uploaded: how long the bars are, of 100.
    """

    when: str
    at: str
    services: str
    image_size: str
    uploaded_size: str
    share: str
    seconds: str
    image: float
    uploaded: float


class JobsView(Struct, frozen=True):
    """All jobs, those that run first."""

    active: Sequence[JobView]
    ended: Sequence[JobView]
    signature: str


def jobs_view(jobs: Sequence[Job], queued: Sequence[Job], now: datetime) -> JobsView:
    """Choose what is shown of the jobs."""
    running = [job for job in jobs if job.state == "running"]
    ended = [job for job in reversed(jobs) if job.has_ended]
    return JobsView(
        [_job(job, now) for job in (*running, *queued)],
        [_job(job, now) for job in ended[:_ENDED]],
        signature(jobs),
    )


def signature(jobs: Sequence[Job]) -> str:
    """Write in short which jobs there are and how they stand; it changes when these change."""
    text = " ".join(f"{job.id}={job.state}" for job in jobs)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def title_of(command: str, names: Sequence[str]) -> str:
    """Say what a job does: `Export web, api`."""
    if not names:
        return f"{command.capitalize()} all services"
    named = ", ".join(short(name) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{command.capitalize()} {named}{more}"


def export_views(jobs: Sequence[Job], facts: Facts, now: datetime) -> list[ExportView]:
    """Put the last exports side by side, the newest first."""
    exports = sorted(_exports(jobs, facts), key=lambda one: one.at, reverse=True)[:_BARS]
    largest = max((max(one.image_bytes, one.uploaded_bytes) for one in exports), default=0)
    return [_bar(one, largest, now) for one in exports]


class _Export(Struct, frozen=True):
    at: datetime
    services: tuple[str, ...]
    image_bytes: int
    uploaded_bytes: int
    seconds: float


def _exports(jobs: Sequence[Job], facts: Facts) -> Iterator[_Export]:
    told: set[str] = set()
    for job in jobs:
        document = job.outcome.document if job.outcome else {}
        if job.task.command != "export" or job.ended is None or "uploaded_bytes" not in document:
            continue
        services = document["services"]
        if not services:
            continue
        told |= {str(service["entry"]) for service in services}
        yield _Export(
            job.ended,
            tuple(service["service"] for service in services),
            document["image_bytes"],
            document["uploaded_bytes"],
            document["seconds"],
        )
    yield from _exports_of_entries(facts, told)


def _exports_of_entries(facts: Facts, told: set[str]) -> Iterator[_Export]:
    """Tell exports by what they wrote; what one wrote has the same figures."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for answer in facts.shown.values():
        entry = answer.document.get("entry")
        if entry and entry["kind"] == "image" and entry["id"] not in told:
            figures = entry["scope"], entry["uploaded_bytes"], entry["export_seconds"]
            groups.setdefault(figures, []).append(entry)
    for (_, uploaded_bytes, seconds), entries in groups.items():
        layers = {la["diff_id"]: la["size_bytes"] for entry in entries for la in entry["layers"]}
        yield _Export(
            max(datetime.fromisoformat(entry["stored_at"]) for entry in entries),
            tuple(sorted(entry["service"] for entry in entries)),
            sum(layers.values()),
            uploaded_bytes,
            seconds,
        )


def _bar(one: _Export, largest: int, now: datetime) -> ExportView:
    def length(size_bytes: int) -> float:
        # A bar that is there can be seen.
        return max(0.6, round(100 * size_bytes / largest, 2)) if size_bytes and largest else 0

    share = one.uploaded_bytes / one.image_bytes if one.image_bytes else 0
    return ExportView(
        when=_ago(one.at, now),
        at=plain(one.at),
        services=title_of("", one.services).strip() if one.services else "",
        image_size=size(one.image_bytes),
        uploaded_size=size(one.uploaded_bytes),
        share=f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %",
        seconds=period(timedelta(seconds=one.seconds)),
        image=length(one.image_bytes),
        uploaded=length(one.uploaded_bytes),
    )


def _job(job: Job, now: datetime) -> JobView:
    at = job.ended or job.started or job.created
    lines = list(job.lines)
    percent, progress = progress_text(job.progress)
    return JobView(
        id=job.id,
        title=title_of(job.task.command, job.task.names),
        state=job.state,
        word=_WORDS[job.state],
        when=_ago(at, now),
        at=plain(at),
        percent=percent,
        progress=progress,
        lines=[LineView(line.word, short(line.text)) for _, line in lines[-_LINES:]],
        after=lines[-1][0] if lines else 0,
        result=short(job.reason) or _result(job),
    )


def progress_text(progress: Progress | None) -> tuple[float | None, str]:
    """Say how far a long step is, in percent and in words, as `page.js` does."""
    if progress is None or progress.ended:
        return None, ""
    done = f"{progress.what} {size(progress.done_bytes)}"
    if not progress.total_bytes:
        return None, done
    percent = min(100.0, round(100 * progress.done_bytes / progress.total_bytes, 1))
    return percent, f"{done} of {size(progress.total_bytes)}"


def _result(job: Job) -> str:
    """Sum up what a job came to."""
    document = job.outcome.document if job.outcome else {}
    if "uploaded_bytes" in document:
        return f"{size(document['uploaded_bytes'])} uploaded of {size(document['image_bytes'])}"
    if "downloaded_bytes" in document:
        outcomes = [service["outcome"] for service in document["services"]]
        hits, misses = outcomes.count("hit"), len(outcomes) - outcomes.count("hit")
        found = f"{count(hits, 'hit')}, {count(misses, 'miss', 'misses')}"
        return f"{found}, {size(document['downloaded_bytes'])} downloaded"
    if "targets" in document:
        return f"{count(len(document['targets']), 'service')} flushed"
    return ""


def _ago(at: datetime, now: datetime) -> str:
    seconds = (now - at).total_seconds()
    return f"{period(timedelta(seconds=seconds))} ago" if seconds >= 1 else "just now"
