"""The command line: from arguments to an exit code.

Importing this module is cheap, and so is `longshore --version`: all else is imported when a command
needs it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from longshore import __version__

if TYPE_CHECKING:
    from longshore.surroundings import World

BUG, USAGE = 1, 2
SIGINT, SIGPIPE = 2, 13
_QUICK = ("import", "export", "flush", "wait")
"""What a sidecar takes over: Typer, which takes 0.2 seconds, is not imported for it."""


def main() -> NoReturn:
    """Run longshore as a process."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"longshore {__version__}\n")
        sys.exit()
    # Python would look for garbage a hundred times while modules are imported, a tenth of the time.
    gc.set_threshold(10_000, 20, 100)
    try:
        from longshore.wiring import real_world

        code = run(sys.argv[1:], real_world())
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has gone, as in `| head`; Python must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + SIGPIPE
    except KeyboardInterrupt:
        code = 128 + SIGINT
    except Exception as bug:
        sys.stderr.write(_traceback(bug))
        code = BUG
    # A thread may hang in a dead engine or a dead file system: Python would wait for it. And it
    # would take everything apart first, which takes a sidecar longer than all else at its end.
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _traceback(bug: Exception) -> str:
    """Write a traceback as Python does, less what servers or libraries quoted of secrets."""
    import traceback

    from longshore.config_secrets import hider
    from longshore.core.foreign_words import hide_what_looks_secret

    hide = hider(os.environ)
    lines = hide("".join(traceback.format_exception(bug))).splitlines(keepends=True)
    # Names of files are long words, too.
    return "".join(x if 'File "' in x else hide_what_looks_secret(x) for x in lines)


def run(arguments: Sequence[str], world: World) -> int:
    """Run one command in `world`, and return its exit code."""
    if arguments and arguments[0] in _QUICK:
        from longshore.cli_handed import run_quickly

        code = run_quickly(arguments[0], arguments[1:], world)
        if code is not None:
            return code
    from typer import TyperException

    try:
        code = _command().main(
            args=list(arguments), prog_name="longshore", standalone_mode=False, obj=world
        )
    except TyperException as error:
        return _wrong_usage(error, world)
    return int(code or 0)


@cache
def _command() -> Any:
    """Make the command line, which takes 50 ms; tests run it a thousand times in one process."""
    from typer.main import get_command

    from longshore.cli_commands import app

    return get_command(app)


def _wrong_usage(error: Exception, world: World) -> int:
    context = getattr(error, "ctx", None)
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        world.stderr.write(f"{text}\n")
        return USAGE
    path = context.command_path if context is not None else "longshore"
    world.stderr.write(f"error: {' '.join(text.split())} (see `{path} --help`)\n")
    return USAGE
