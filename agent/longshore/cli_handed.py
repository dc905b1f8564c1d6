"""The commands whose work a sidecar takes over, if one runs here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from longshore.config_layers import Flags
from longshore.surroundings import World

if TYPE_CHECKING:
    from longshore.cli_job import Job, Shown, Work

HANDED_OVER = ("import", "export", "flush")
NOBODY = "flush has nobody to ask; look with --dry-run, then say --yes"
DECLINED_TEXT = "nothing was flushed"


def run_quickly(command: str, words: Sequence[str], world: World) -> int | None:
    """Run a command, if what was typed is plain; `None` if Typer has to read it."""
    from longshore.cli_arguments import read_arguments

    read = read_arguments(command, words)
    if read is None:
        return None
    if command in HANDED_OVER:
        return run_handed(world, read.flags, command, read.names)
    if read.names:
        return None
    from longshore.cli_wait import wait

    return wait(world, read.flags)


def run_handed(world: World, flags: Flags, command: str, names: list[str]) -> int:
    """Have a sidecar do the work of a command, else do it here; and return the exit code."""
    from longshore.cli_client import hand_over
    from longshore.cli_job import execute

    code = hand_over(world, flags, command, names)
    return execute(world, flags, command, work_of(command, names)) if code is None else code


def work_of(command: str, names: list[str]) -> Work:
    """Tell what a command does with a job."""

    async def work(job: Job) -> Shown:
        from longshore import cli_work

        if command == "import":
            return await cli_work.import_(job, names)
        if command == "export":
            return await cli_work.export(job, names)
        from longshore.cli_flush import flush

        return await flush(job, names)

    return work
