"""Ask before something is changed."""

from __future__ import annotations

from collections.abc import Sequence

from longshore.cli_job import Job
from longshore.errors import UsageError
from longshore.surroundings import World

DECLINED = 1
"""The exit code of a command that was told not to go on."""


async def agree(job: Job, plan: Sequence[str], *, nobody: str) -> bool:
    """Show a plan, and ask whether it is to be done; with `--yes` it is.

    Args:
        plan: lines, free of control characters.
        nobody: the error if there is nobody to ask.

    Raises:
        UsageError: there is nobody to ask.
    """
    require_somebody(job, nobody)
    if job.settings.yes:
        for line in plan:
            job.report.line(line)
        return True
    import asyncio

    return await asyncio.to_thread(ask, job.world, plan)


def ask(world: World, plan: Sequence[str]) -> bool:
    """Show a plan on a terminal, and wait for the answer."""
    assert world.stdin is not None
    # Whatever --quiet says: nobody can agree to what is not shown.
    world.stderr.write("\n".join([*plan, "Go on? [y/N] "]))
    world.stderr.flush()
    return world.stdin.readline().strip().lower() in ("y", "yes")


def require_somebody(job: Job, nobody: str) -> None:
    """Make sure that there is somebody to ask, before work is done that would be for nothing.

    Raises:
        UsageError: there is nobody.
    """
    stdin = job.world.stdin
    if not job.settings.yes and (stdin is None or not stdin.isatty()):
        raise UsageError(nobody)
