"""From what jobs came to, to what the watcher need not export again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from longshore.core.digests import Digest
from longshore.service.jobs import Job
from longshore.service.task import Event
from longshore.service.watching import Watcher


def settle_with(watcher: Watcher, job: Job, event: Event | None) -> None:
    """Tell the watcher what became of a job; a listener of `Jobs`."""
    if event is not None or not job.has_ended or job.state == "superseded":
        return
    document = job.outcome.document if job.outcome else {}
    if job.task.command in ("import", "export"):
        watcher.settle(images_of(document))
    if job.task.command == "export" and job.state != "succeeded":
        watcher.failed(job.task.names)


def images_of(document: Mapping[str, Any]) -> Iterator[Digest]:
    """List the images that the document of an import or an export says are cached."""
    for service in document.get("services", ()):
        for image in service["images"]:
            # An export describes each image, an import names it.
            yield Digest(image["id"] if isinstance(image, Mapping) else image)
