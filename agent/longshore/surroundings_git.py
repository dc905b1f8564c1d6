"""What git says about the branches that there are: the remote's, or those of a repository itself.

A wrong answer would remove what is in use, so every failure is an error, and so is an answer that
may not be the whole one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess

from longshore.config import GIT_REMOTE_TIMEOUT
from longshore.config_secrets import without_secrets
from longshore.core.branches import parse_branch_list, scopes_of_refs
from longshore.errors import UsageError
from longshore.surroundings import World
from longshore.wording import exact

GIT = "git"
STANDARD_INPUT = "-"
_REMOTE = "origin"
_MAX_LIST_BYTES = 32 << 20
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


def read_branches(source: str, world: World) -> frozenset[str]:
    """Name the scopes of the branches that there are.

    Args:
        source: `git`, `-` for standard input, or a file with a list.

    Raises:
        UsageError: they cannot be told.
    """
    if source == GIT:
        return _ask_git(world)
    if source != STANDARD_INPUT:
        return parse_branch_list(_read(source, world), source)
    if world.stdin is None:
        raise UsageError("there is no standard input to read branches from")
    try:
        text = world.stdin.read(_MAX_LIST_BYTES + 1)
    except ValueError as error:
        raise UsageError("standard input: it is no text") from error
    return parse_branch_list(_whole(text, "standard input"), "standard input")


def _read(source: str, world: World) -> str:
    try:
        with (world.directory / source).open("rb") as file:
            return _whole(file.read(_MAX_LIST_BYTES + 1).decode("utf-8-sig"), source)
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{source}: it is no text in UTF-8") from error


def _whole(text: str, source: str) -> str:
    """Accept a text that was read to its end: branches that are cut off would be gone."""
    if len(text) > _MAX_LIST_BYTES:
        raise UsageError(f"{source}: it is larger than any list of branches can be")
    return text


def _ask_git(world: World) -> frozenset[str]:
    remotes = _git(world, "remote").split()
    if _REMOTE in remotes:
        found = _git(world, "ls-remote", "--quiet", "--heads", "--tags", "--refs", _REMOTE)
        return scopes_of_refs(found, f"the remote {_REMOTE}")
    if remotes:
        raise UsageError(
            f"git has no remote {_REMOTE} here, and others; say which branches there are, as in"
            f" `git ls-remote --heads {remotes[0]} | longshore prune --branches-from -`"
        )
    # Branches of a repository without a remote are all there are, unless they came from elsewhere
    # by a URL: then only some may have come.
    fetched = world.directory / _git(world, "rev-parse", "--git-path", "FETCH_HEAD").strip()
    if fetched.exists() or _git(world, "rev-parse", "--is-shallow-repository").strip() != "false":
        raise UsageError(
            "git has no remote here, and the repository may have some of the branches only; say"
            " which there are with --branches-from FILE"
        )
    found = _git(world, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags")
    return scopes_of_refs(found, "the repository")


def _git(world: World, *arguments: str) -> str:
    """Run git to its end.

    It gets a session of its own, so that no program which it starts asks at the terminal, and that
    all of them can be ended.

    Raises:
        UsageError: it fails, or does not end.
    """
    what = f"git {arguments[0]}"
    environment = {
        **without_secrets(world.environment),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C.UTF-8",
    }
    try:
        process = subprocess.Popen(  # noqa: S603 - arguments are this module's own
            [GIT, *arguments],
            cwd=world.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"branches cannot be told: git: {error.strerror or error}") from error
    with process:
        try:
            out, said = process.communicate(timeout=GIT_REMOTE_TIMEOUT.total_seconds())
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise UsageError(
                f"branches cannot be told: {what} did not end within {exact(GIT_REMOTE_TIMEOUT)}"
            ) from None
    if process.returncode:
        lines = said.decode(errors="replace").split("\n")
        reason = _CREDENTIALS.sub("…@", next((line for line in lines if line.strip()), ""))
        raise UsageError(
            f"branches cannot be told: {what} failed: {reason or f'exit code {process.returncode}'}"
        )
    return out.decode(errors="replace")
