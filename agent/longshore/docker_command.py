"""The `docker` command: what it would build with, and builds that it runs for us."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from longshore.config import DOCKER_GRACE, DOCKER_TIMEOUT
from longshore.config_secrets import without_secrets
from longshore.core.builder import DOCKER_DRIVER, Client
from longshore.errors import UsageError

if TYPE_CHECKING:
    from longshore.core.builder import BuilderKind, Tool
    from longshore.surroundings import World

_DRIVER = re.compile(r"^Driver:\s*(\S+)", re.MULTILINE)
_STDERR = 2
_SIGNALLED = 128


class DockerCommand:
    """The `docker` command of a world, which need not be there."""

    def __init__(self, world: World, *, timeout: timedelta = DOCKER_TIMEOUT) -> None:
        # What is built comes from the branch, and a Compose file may hand any variable to it.
        self._environment = without_secrets(world.environment)
        self._directory = world.directory
        self._timeout = timeout
        self._path = shutil.which("docker", path=world.environment.get("PATH"))

    def require(self, *, compose: bool) -> None:
        """Make sure that it can build.

        Raises:
            UsageError: the command, or its plug-in for Compose, is missing.
        """
        if self._path is None:
            raise UsageError(
                "there is no `docker` command to build with; install the Docker CLI"
                " (docker-ce-cli, docker.io or docker-cli)"
            )
        if compose and self._ask("compose", "version") is None:
            raise UsageError(
                "`docker` has no `compose` here; install the Compose plug-in"
                " (docker-compose-plugin or docker-compose-v2)"
            )

    def client(self, tool: Tool, asked: BuilderKind | None, builder: str | None = None) -> Client:
        """Find out what it would build with.

        Args:
            builder: the one of buildx's that is named on the command line.
        """
        named = builder or self._environment.get("BUILDX_BUILDER") or None
        has_buildx: bool | None = None
        driver = DOCKER_DRIVER
        if self._path is not None:
            has_buildx = self._ask("buildx", "version") is not None
            # Unlike Compose and bake, `docker build` uses another builder only if it is named.
            if has_buildx and (named or tool != "docker"):
                said = self._ask("buildx", "inspect", *([named] if named else []))
                found = _DRIVER.search(said or "")
                driver = found[1] if found else DOCKER_DRIVER
        return Client(
            tool=tool,
            asked=asked,
            docker_buildkit=self._environment.get("DOCKER_BUILDKIT", ""),
            has_buildx=has_buildx,
            driver=driver,
        )

    async def run(
        self, arguments: Sequence[str], more: Mapping[str, str], *, out_to_stderr: bool
    ) -> int:
        """Run it on our own terminal, and return its exit code as a shell would.

        When this is cancelled the command is told to end, and has ended when this returns.

        Args:
            more: variables besides those of the world.
            out_to_stderr: keep its output out of ours.
        """
        assert self._path is not None, "see require()"
        process = await asyncio.create_subprocess_exec(
            self._path,
            *arguments,
            cwd=self._directory,
            env={**self._environment, **more},
            stdout=_STDERR if out_to_stderr else None,
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            # On a terminal the plug-in that builds waits for the terminal's own signal; when the
            # command that started it is gone, it ends as well.
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), DOCKER_GRACE.total_seconds())
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            raise
        return code if code >= 0 else _SIGNALLED - code

    def _ask(self, *arguments: str) -> str | None:
        """Return what it says; `None` if it fails."""
        assert self._path is not None
        try:
            done = subprocess.run(  # noqa: S603 - arguments are this module's own
                [self._path, *arguments],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=self._timeout.total_seconds(),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def named_builder(arguments: Sequence[str]) -> str | None:
    """Find `--builder NAME` among the arguments of a build."""
    for index, argument in enumerate(arguments):
        if argument == "--builder":
            return next(iter(arguments[index + 1 :]), None)
        if argument.startswith("--builder="):
            return argument.partition("=")[2]
    return None
