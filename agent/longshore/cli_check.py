"""What `check` and `stats` do with a job: look at one project or at all, and repair if told so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from longshore import wiring
from longshore.cli_agreement import DECLINED, agree, require_somebody
from longshore.cli_job import Job, Shown
from longshore.cli_projects import each_project
from longshore.config import WHOLE_PROJECT_TIMEOUT
from longshore.errors import CorruptData, LongshoreError
from longshore.ops.check import CheckResult, check_project
from longshore.ops.repair import RepairPlan, plan_repair
from longshore.ops.repair import repair as repair_project
from longshore.ops.stats import ProjectStats, measure_project
from longshore.output_check import check_json, check_text, repair_lines
from longshore.output_json import problem_json
from longshore.output_prune import NOTHING_DONE
from longshore.output_stats import stats_json, stats_text
from longshore.wording import clean, count

R = TypeVar("R")

_NOBODY = "check --repair has nobody to ask; look with --dry-run, then say --yes"


async def check(job: Job) -> Shown:
    """Check one project or all, and remove what is of no use if that is wanted."""
    settings = job.settings
    wanted = wiring.check_settings(settings)
    if settings.repair and not settings.dry_run:
        require_somebody(job, _NOBODY)

    async def one(name: str) -> CheckResult:
        return await check_project(job.store, name, wanted, job.report)

    checked = await each_project(job, one, what="check", limit=WHOLE_PROJECT_TIMEOUT)
    found = [result for _, result in checked if isinstance(result, CheckResult)]
    texts = [_text(job, name, result) for name, result in checked]
    agreed: bool | None = None
    plans = [plan for plan in map(plan_repair, found) if settings.repair and not plan.is_empty]
    if settings.repair and not plans:
        damaged = any(result.damaged for result in found)
        texts.append(f"there is nothing {'that repair can remove' if damaged else 'to repair'}")
    elif plans and settings.dry_run:
        texts.append("\n".join([*repair_lines(job.store, plans), NOTHING_DONE]))
    elif plans:
        agreed, said = await _repair(job, plans, texts)
        # Whoever was asked has seen all else.
        texts = [*texts, said] if settings.yes else [said]
    left = any(one.is_beyond_repair if agreed else bool(one.damaged) for one in found)
    code = CorruptData.exit_code if left else 0
    document = {
        "store": job.store.url(),
        "dry_run": settings.dry_run,
        "repair": settings.repair,
        "agreed": agreed,
        "projects": [_json(name, result, check_json) for name, result in checked],
    }
    text = "\n\n".join(texts) or f"{job.store.url()} has no project"
    return Shown(text, document, max(code, DECLINED if agreed is False else 0))


async def stats(job: Job) -> Shown:
    """Measure one project or all."""
    wanted = wiring.stats_settings(job.settings)

    async def one(name: str) -> ProjectStats:
        return await measure_project(job.store, name, wanted)

    measured = await each_project(job, one, what="stats", limit=WHOLE_PROJECT_TIMEOUT)
    texts = [
        stats_text(result) if isinstance(result, ProjectStats) else _failed(name, result)
        for name, result in measured
    ]
    document = {
        "store": job.store.url(),
        "projects": [_json(name, result, stats_json) for name, result in measured],
    }
    return Shown("\n\n".join(texts) or f"{job.store.url()} has no project", document)


async def _repair(job: Job, plans: list[RepairPlan], found: list[str]) -> tuple[bool, str]:
    """Remove what is of no use, if somebody agrees. Returns whether that was so, and what to say.

    Raises:
        UsageError: there is nobody to ask.
        StoreError: the store failed, or refuses.
    """
    lines = repair_lines(job.store, plans)
    if not await agree(job, lines if job.settings.yes else [*found, *lines], nobody=_NOBODY):
        return False, "nothing was repaired"
    wanted = wiring.repair_settings()
    for plan in plans:
        await repair_project(job.store, plan, wanted)
    entries = count(sum(len(plan.entries) for plan in plans), "entry", "entries")
    notes = sum(len(plan.notes) for plan in plans)
    said = f"removed {entries}" + (f", and put {count(notes, 'note')} away" if notes else "")
    return True, f"{said}; what nothing refers to any more is left to prune"


def _text(job: Job, name: str, result: CheckResult | LongshoreError) -> str:
    if isinstance(result, CheckResult):
        return check_text(result, every=job.settings.verbose)
    return _failed(name, result)


def _failed(name: str, error: LongshoreError) -> str:
    return f"{clean(name)}: {clean(str(error))}"


def _json(name: str, result: R | LongshoreError, describe: Callable[[R], Any]) -> dict[str, Any]:
    if isinstance(result, LongshoreError):
        return {"project": name, "error": problem_json(result, str(result)), "result": None}
    return {"project": name, "error": None, "result": describe(result)}
