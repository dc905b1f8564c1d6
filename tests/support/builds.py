"""Builds through the `docker` command, as users run them, and what their output says of each step.

`tests.support.images.build` is the classic builder's API; here both are asked the same way.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.engines import ThrowawayEngine

Builder = Literal["classic", "BuildKit"]

BUILDERS: tuple[Builder, ...] = ("classic", "BuildKit")

# `#8 [builder 3/6] COPY package.json ./`; a lone stage has no name, a foreign platform has one too.
VERTEX = re.compile(r"^#(\d+) \[((?:[^\]]* )?\d+/\d+)\] (.+)$")
# Either it says so, or it fetches layers. What a RUN itself writes has the seconds in front; the
# lone digests of 20.10 name the steps.
CACHED = re.compile(r"^#(\d+) (?:CACHED$|extracting sha256:|sha256:[0-9a-f]{64} )")
# Now and then 28.5 with the containerd store loses layers of the image that the new one replaces,
# while it unpacks the new one (moby/buildkit#6521). All steps have run then.
LOST_LAYERS = re.compile(r"parent snapshot sha256:[0-9a-f]{64} does not exist: not found")
STEP = re.compile(r"^Step (\d+/\d+) : (.+)$")


class BuildFailed(Exception):
    """The build failed; `log` is all that the command wrote."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log


@dataclass(frozen=True, slots=True)
class Steps:
    """Which steps of a Dockerfile a build ran, and which it took from a cache.

    `FROM` is no step here. What only changes the config (`ENV`, `CMD`) is one to the classic
    builder, and none to BuildKit.
    """

    ran: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()

    def __add__(self, other: Steps) -> Steps:
        return Steps(self.ran + other.ran, self.cached + other.cached)


def build(
    engine: ThrowawayEngine, builder: Builder, folder: Path, arguments: Iterable[str]
) -> Steps:
    """Run an engine's own `docker build` in a folder.

    Raises:
        BuildFailed: it did not end well.
    """
    command = ["docker", "build", *arguments]
    if builder == "BuildKit":
        command[2:2] = ["--progress=plain"]
    done = _run(engine, builder, folder, command)
    steps = read_steps(builder, done.stdout)
    if done.returncode and LOST_LAYERS.search(done.stdout):
        done = _run(engine, builder, folder, command)
    if done.returncode:
        raise BuildFailed(done.stdout)
    return steps


def _run(
    engine: ThrowawayEngine, builder: Builder, folder: Path, command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**engine.environment(), "DOCKER_BUILDKIT": "1" if builder == "BuildKit" else "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def read_steps(builder: Builder, log: str) -> Steps:
    """Read what a build wrote."""
    lines = log.splitlines()
    return _read_buildkit(lines) if builder == "BuildKit" else _read_classic(lines)


def _read_buildkit(lines: Sequence[str]) -> Steps:
    """Read `--progress=plain`: steps side by side, each line with the number of its step.

    A step's head comes again when another step's lines came between. A cached step whose layers are
    fetched only now says so, and then not always that it was cached (buildx 0.13.1 and 0.29.1).
    """
    heads: dict[str, str] = {}
    cached: set[str] = set()
    for line in lines:
        if head := VERTEX.match(line):
            place, instruction = head[2], head[3]
            if instruction.split()[0].upper() != "FROM":
                heads[head[1]] = f"{place} {instruction}"
        elif found := CACHED.match(line):
            cached.add(found[1])
    return Steps(
        tuple(sorted(head for number, head in heads.items() if number not in cached)),
        tuple(sorted(head for number, head in heads.items() if number in cached)),
    )


def _read_classic(lines: Sequence[str]) -> Steps:
    """Read one step after the other, each with its own output behind it."""
    ran: list[str] = []
    cached: list[str] = []
    step = ""
    for line in lines:
        if found := STEP.match(line):
            step = "" if found[2].split()[0].upper() == "FROM" else f"{found[1]} {found[2]}"
        elif step and line.startswith(" ---> "):
            # The first such line decides; what a RUN itself writes comes later. An ARG before the
            # first FROM has none.
            (cached if line == " ---> Using cache" else ran).append(step)
            step = ""
    return Steps(tuple(ran), tuple(cached))
