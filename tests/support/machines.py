"""A build machine: an engine and a fresh checkout, with longshore and a build script run on it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.builds import Builder, Steps, build
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.scenarios import Scenario

KINDS: tuple[tuple[Generation, ImageStore], ...] = (
    ("20.10", "graphdriver"),
    ("26.1", "graphdriver"),
    ("26.1", "containerd"),
    ("28.5", "graphdriver"),
    ("28.5", "containerd"),
)
"""The engines that are compared with each other."""
ROOM_BYTES = 512 << 20  # three engines with small images on busybox take 25 MB


def is_there_memory() -> bool:
    """Tell whether engines may keep their data on tmpfs, which is half the time of a disk."""
    return shutil.disk_usage("/dev/shm").free > ROOM_BYTES


@dataclass(frozen=True, slots=True)
class Told:
    """What `longshore cache-from` says that a service is to be built with."""

    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """The words for one `docker build`."""
        named = (
            ("--cache-from", self.cache_from),
            ("--cache-to", self.cache_to),
            ("--build-arg", self.build_args),
        )
        return [word for flag, values in named for value in values for word in (flag, value)]

    def for_stage(self, stage: str) -> Told:
        """Take what the build of one stage, with a tag of its own, needs.

        Not the other images: BuildKit 0.25, which is in Docker 28.5, given the inline caches of a
        stage and of what was built on it, finds the steps of the stage or not, by chance. And not
        the cache directory to be written: it would hold the steps of the stage only when the next
        build reads it.
        """
        return replace(
            self,
            cache_from=(stage,) if stage in self.cache_from else self.cache_from,
            cache_to=(),
        )


NOTHING = Told()


@dataclass(frozen=True, slots=True)
class Machine:
    """One engine, one checkout, one builder, and the store that all machines share."""

    engine: ThrowawayEngine
    project: Path
    builder: Builder
    store: Path

    def longshore(self, *arguments: str) -> str:
        """Run longshore as a user would, with `--strict`, and return what it prints.

        Raises:
            AssertionError: it did not end well.
        """
        done = subprocess.run(
            [sys.executable, "-m", "longshore", *arguments],
            cwd=self.project,
            env={
                **self.engine.environment(),
                "DOCKER_BUILDKIT": "1" if self.builder == "BuildKit" else "0",
                "LONGSHORE_STORE": self.store.as_uri(),
                "LONGSHORE_SCOPE": "main",
                "LONGSHORE_STRICT": "1",
                "GIT_CEILING_DIRECTORIES": str(self.project.parent),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"longshore {' '.join(arguments)}:\n{done.stderr}"
        return done.stdout

    def ask(self) -> dict[str, Told]:
        """Ask what the next build of each service is to be told."""
        return {
            said["service"]: Told(
                tuple(said["cache_from"]),
                tuple(said["cache_to"]),
                tuple(f"{name}={value}" for name, value in said["build_args"].items()),
                tuple(said["notes"]),
            )
            for said in json.loads(self.longshore("cache-from", "--json"))["services"]
        }

    def build(self, scenario: Scenario, told: Told = NOTHING) -> Steps:
        """Build a service as its build script does: first the stage that is kept, then the rest.

        Raises:
            BuildFailed: a build did not end well.
        """
        steps = Steps()
        for stage in scenario.stages:
            flags = told.for_stage(stage).flags
            steps += self._build(scenario, stage, ["--target=builder", *flags])
        return steps + self._build(scenario, scenario.image, told.flags)

    def _build(self, scenario: Scenario, tag: str, flags: Iterable[str]) -> Steps:
        words = ["--network=host", "--tag", tag, *flags, scenario.service]
        return build(self.engine, self.builder, self.project, words)

    def layers(self, scenario: Scenario) -> list[list[str]]:
        """List the layers of each image of a service, by diff_id, base first."""
        api: Any = self.engine.api.api
        tags = (scenario.image, *scenario.stages)
        return [list(api.inspect_image(tag)["RootFS"]["Layers"]) for tag in tags]
