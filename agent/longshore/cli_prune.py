"""What `prune` does with a job: one project, or all; what fails in one does not stop the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from longshore import wiring
from longshore.cli_job import Job, Shown
from longshore.cli_projects import each_project
from longshore.config import GRACE, PRUNE_TIMEOUT, Settings
from longshore.errors import LongshoreError, UsageError
from longshore.ops.inventory import list_scopes
from longshore.ops.pruner import PruneResult, PruneSettings, prune_project
from longshore.output_json import problem_json
from longshore.output_prune import NOTHING_DONE, plan_json, prune_text, total_text
from longshore.wording import clean, exact

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


async def prune(job: Job) -> Shown:
    """Prune one project, or all of the store."""
    settings = job.settings
    _check(job, settings)
    branches = None
    if settings.branches_from is not None:
        from longshore.surroundings_git import read_branches

        branches = await asyncio.to_thread(read_branches, settings.branches_from, job.world)
        job.report.line(f"{len(branches)} scopes exist, says {settings.branches_from}")
    wanted = wiring.prune_settings(settings, dry_run=settings.dry_run, branches=branches)
    if branches is not None and not settings.force:
        await _check_branches(job, job.project.name, wanted)

    async def one(name: str) -> PruneResult:
        result = await prune_project(job.store, name, wanted, job.report)
        if result.dry_run:
            for reason in result.plan.blocked:
                job.report.warn(reason)
        return result

    done = await each_project(job, one, what="prune", limit=PRUNE_TIMEOUT)
    texts: list[str] = []
    documents: list[dict[str, Any]] = []
    now = await job.store.now()
    for name, result in done:
        if isinstance(result, LongshoreError):
            texts.append(f"{clean(name)}: not pruned: {clean(str(result))}")
            documents.append(_failed_json(name, result))
        else:
            texts.append(prune_text(result, now=now, grace=settings.grace, every=settings.verbose))
            documents.append(_pruned_json(result, now))
    if settings.all_projects:
        results = [result for _, result in done if isinstance(result, PruneResult)]
        texts.append(
            total_text(results, failed=len(done) - len(results))
            if done
            else f"{job.store.url()} has no project"
        )
    return _shown(job, texts, documents)


def _check(job: Job, settings: Settings) -> None:
    """Refuse what contradicts itself or is not safe.

    Raises:
        UsageError: it is so.
    """
    if settings.all_projects and settings.branches_from is not None:
        raise UsageError(
            "--branches-from tells the branches of one project, and --all-projects is for many;"
            " prune that one by itself"
        )
    if settings.grace >= GRACE:
        return
    assumed = (
        f"no import or export takes longer than {exact(settings.grace / 2)}"
        if settings.grace
        else "no import or export, and no other prune, runs meanwhile"
    )
    if not settings.force:
        raise UsageError(
            f"a grace period of {exact(settings.grace)} is less than {exact(GRACE)}, and safe only"
            f" if {assumed}; say --force if that is so"
        )
    job.report.say("warning", f"with --grace {exact(settings.grace)} it is assumed that {assumed}")


async def _check_branches(job: Job, project: str, wanted: PruneSettings) -> None:
    """Refuse a list of branches that is another repository's.

    Raises:
        UsageError: it has none of the branches that the project has scopes for.
    """
    from longshore.core.keys import name_of

    named = _branches(wanted.rules.branches or ())
    there = _branches(await list_scopes(job.store, project))
    if named and there and not named & there:
        example = name_of(min(there))
        raise UsageError(
            f"none of the project's {len(there)} scopes of branches, such as {example}, is on the"
            f" list of {job.settings.branches_from}, so it seems to be another project's; say"
            " --force if all these branches are gone"
        )


def _branches(scopes: Iterable[str]) -> set[str]:
    from longshore.core.retention import kind_of

    return {scope for scope in scopes if not kind_of(scope)}


def _shown(job: Job, texts: list[str], documents: list[dict[str, Any]]) -> Shown:
    dry = job.settings.dry_run
    return Shown(
        "\n\n".join([*texts, NOTHING_DONE] if dry else texts),
        {"store": job.store.url(), "dry_run": dry, "projects": documents},
    )


def _pruned_json(result: PruneResult, now: datetime) -> dict[str, Any]:
    return {"project": result.project, "error": None, "plan": plan_json(result, now)}


def _failed_json(name: str, error: LongshoreError) -> dict[str, Any]:
    return {"project": name, "error": problem_json(error, str(error)), "plan": None}
