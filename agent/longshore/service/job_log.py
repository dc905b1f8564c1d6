"""What the log says of jobs: what was asked for, what happens, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from longshore.service.jobs import Job
from longshore.service.log import REQUEST, Level, Log, Value
from longshore.service.task import Event, Line
from longshore.wording import count, period, size

_LEVELS: Mapping[str, Level] = {"warning": "warning", "error": "error", "stopped": "warning"}
_LEVELS_OF_STATES: Mapping[str, Level] = {"failed": "error", "cancelled": "warning"}
_MOST_NAMES = 20


class JobLog:
    """Writes down what jobs do: `heard` is a listener of `Jobs`.

    Progress is not written down, but for what a job itself says of it once a minute.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._asked_by: dict[str, str] = {}

    def heard(self, job: Job, event: Event | None) -> None:
        """Write down what happened to a job."""
        if isinstance(event, Line):
            self._say(job, _LEVELS.get(event.word, "info"), event.text, {}, event.trace)
        elif event is not None:
            return
        elif job.has_ended:
            self._say_end(job)
            self._asked_by.pop(job.id, None)
        elif job.state == "running":
            self._say(job, "info", f"started: {_asked(job)}", _task(job))
        elif request := REQUEST.get():
            # Only now is it known: whatever starts the job may be about another request.
            self._asked_by[job.id] = request

    def _say_end(self, job: Job) -> None:
        outcome = job.outcome
        took = None if job.started is None or job.ended is None else job.ended - job.started
        text: str = job.state
        if took is not None:
            text += f" in {period(took)}"
        if outcome is not None:
            if outcome.exit_code:
                text += f", exit code {outcome.exit_code}"
            if said := figures(job.task.command, outcome.document):
                text += f": {said}"
        if job.reason and not (outcome and outcome.document.get("error")):
            text += f": {job.reason}"  # else it has been said
        fields: dict[str, Value] = {
            "state": job.state,
            "reason": job.reason or None,
            "seconds": None if took is None else took / timedelta(seconds=1),
            "exit_code": None if outcome is None else outcome.exit_code,
            "memory_bytes": None if outcome is None else outcome.memory_bytes,
            **(_figures_json(outcome.document) if outcome else {}),
        }
        self._say(job, _LEVELS_OF_STATES.get(job.state, "info"), text, fields)

    def _say(
        self, job: Job, level: Level, text: str, fields: Mapping[str, Value], trace: str = ""
    ) -> None:
        known: dict[str, Value] = {
            "job": job.id,
            "command": job.task.command,
            # Named even if there was none: what runs by chance in the midst of another request
            # is not that one's.
            "request": self._asked_by.get(job.id),
        }
        self._log.say(level, text, {**known, **fields}, trace)


def figures(command: str, document: Mapping[str, Any]) -> str:
    """Put what a job did into a few words."""
    parts = [*document.get("services", ()), *document.get("caches", ())]
    match command:
        case "import" if "services" in document:
            outcomes = [part["outcome"] for part in parts]
            said = [count(outcomes.count("hit"), "hit")]
            if missed := outcomes.count("miss"):
                said.append(count(missed, "miss", "misses"))
            if failed := outcomes.count("failed"):
                said.append(f"{failed} failed")
            return f"{', '.join(said)}; {size(document['downloaded_bytes'])} downloaded"
        case "export" if "services" in document:
            weight = document["image_bytes"] + sum(c["size_bytes"] for c in document["caches"])
            unchanged = sum(part["unchanged"] for part in parts)
            return (
                f"{len(parts)} exported, {unchanged} of them unchanged;"
                f" {size(document['uploaded_bytes'])} of {size(weight)} uploaded"
            )
        case "flush" if "targets" in document:
            hidden = sum(t["entries"] for t in document["targets"] if t["flushed_by"])
            return f"{count(hidden, 'entry', 'entries')} hidden"
    return ""


def _figures_json(document: Mapping[str, Any]) -> dict[str, Value]:
    names = ("downloaded_bytes", "uploaded_bytes", "image_bytes")
    found: dict[str, Value] = {name: document[name] for name in names if name in document}
    traffic = document.get("traffic", {})
    return found | {name: traffic[name] for name in ("requests", "retries") if name in traffic}


def _asked(job: Job) -> str:
    names = job.task.names
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    what = ", ".join(names[:_MOST_NAMES]) + more if names else "all services"
    return f"{what}, in the background" if job.task.background else what


def _task(job: Job) -> dict[str, Value]:
    return {"services": " ".join(job.task.names) or None, "background": job.task.background}
