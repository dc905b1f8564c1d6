"""What `flush` does with a job: show what it hides, ask, hide it; and delete it, if told so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from longshore import wiring
from longshore.cli_agreement import DECLINED, agree
from longshore.cli_handed import DECLINED_TEXT, NOBODY
from longshore.cli_job import Job, Shown
from longshore.core.entry import Entry
from longshore.core.keys import segment
from longshore.errors import AccessDenied, UsageError
from longshore.ops.flush import FlushPlan, plan_flush
from longshore.ops.flush import flush as write_flushed
from longshore.ops.pruner import PruneResult, prune_project
from longshore.output_flush import flushed_text, nothing_text, plan_lines, target_json
from longshore.output_prune import NOTHING_DONE, plan_json, prune_text


async def flush(job: Job, names: list[str]) -> Shown:
    """Have the next imports of services find nothing, in one scope or in all."""
    settings = job.settings
    if settings.now and not settings.force:
        raise UsageError(
            "--now deletes what an import or export that runs may need; say --force if nothing"
            " uses the project meanwhile"
        )
    services = tuple(dict.fromkeys((*names, *settings.service)))
    plan = await _plan(job, services)
    if not plan.targets:
        return Shown(nothing_text(services, settings.scope), _document(job, plan))
    lines = plan_lines(plan, now=settings.now)
    if settings.dry_run:
        return Shown("\n".join([*lines, NOTHING_DONE]), _document(job, plan))
    agreed = await agree(
        job,
        lines,
        nobody=NOBODY,
    )
    if not agreed:
        return Shown(DECLINED_TEXT, _document(job, plan, agreed=False), DECLINED)
    if settings.trusted_key and settings.signing_key is None:
        job.report.say(
            "warning",
            "the flush is not signed, so whoever trusts keys passes over it; give --signing-key",
        )
    written = await write_flushed(
        job.store, job.project.name, plan, wiring.flush_settings(job.keys), job.report
    )
    text = flushed_text(written)
    document = _document(job, plan, agreed=True, written=written)
    if settings.now and written:
        swept = await _sweep(job, written)
        now = await job.store.now()
        text += f"\n{prune_text(swept, now=now, grace=timedelta(), every=settings.verbose)}"
        document["swept"] = plan_json(swept, now)
    return Shown(text, document)


async def _plan(job: Job, services: Sequence[str]) -> FlushPlan:
    scope, project = job.settings.scope, job.project.name
    try:
        return await plan_flush(job.store, project, scope=scope, services=services or None)
    except AccessDenied as error:
        if scope is not None:
            raise
        raise AccessDenied(
            f"the credentials may not list the scopes of {project}; name one with --scope ({error})"
        ) from error


async def _sweep(job: Job, written: Sequence[Entry]) -> PruneResult:
    """Remove what the flush hides, and delete all that nothing refers to."""
    settings = wiring.sweep_now_settings(map(_place, written))
    return await prune_project(job.store, job.project.name, settings, job.report)


def _place(entry: Entry) -> tuple[str, str, str]:
    return segment(entry.scope), segment(entry.service), segment(entry.platform)


def _document(
    job: Job,
    plan: FlushPlan,
    *,
    agreed: bool | None = None,
    written: Sequence[Entry] = (),
) -> dict[str, Any]:
    ids = {_place(entry): entry.id for entry in written}
    return {
        "store": job.store.url(),
        "project": job.project.name,
        "scope": job.settings.scope,
        "dry_run": job.settings.dry_run,
        "agreed": agreed,
        "targets": [target_json(target, plan, ids) for target in plan.targets],
        "swept": None,
    }
