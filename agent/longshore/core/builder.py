"""Which builder a project is built with, as the `docker` command finds out."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from longshore.core.engine_facts import parse_version
from longshore.errors import UsageError

BuilderKind = Literal["classic", "buildkit"]
Tool = Literal["docker", "compose", "bake"]

DOCKER_DRIVER = "docker"  # buildx's name for the BuildKit that is part of the engine

_BUILDKIT_SINCE = (23, 0, 0)
# As Go reads them (strconv.ParseBool), and so the docker command.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Client(Struct, frozen=True):
    """What is known of the command that will build.

    Attributes:
        asked: the builder that the caller names; `None` leaves it to what follows.
        docker_buildkit: the variable `DOCKER_BUILDKIT`; empty if it is not set.
        has_buildx: whether `docker` has the plug-in; `None` if there is no `docker` here.
        driver: of the builder that buildx would use.
    """

    tool: Tool
    asked: BuilderKind | None = None
    docker_buildkit: str = ""
    has_buildx: bool | None = None
    driver: str = DOCKER_DRIVER


class Builder(Struct, frozen=True):
    """What will build, and on which engine."""

    kind: BuilderKind
    image_store: Literal["graphdriver", "containerd"]
    version: str
    driver: str = DOCKER_DRIVER
    tool: Tool = "docker"


def choose_builder(client: Client, version: str) -> BuilderKind:
    """Say which builder an engine will build with, as the docker command finds out.

    Raises:
        UsageError: `DOCKER_BUILDKIT` is no truth value, or bake is to use the classic builder.
    """
    if client.tool == "bake":
        if client.asked == "classic":
            raise UsageError("`docker buildx bake` has no classic builder; leave --classic away")
        return "buildkit"
    if client.asked is not None:
        return client.asked
    if client.docker_buildkit:
        if client.docker_buildkit not in _TRUE + _FALSE:
            raise UsageError(
                f"DOCKER_BUILDKIT={client.docker_buildkit[:40]!r} is neither true nor false;"
                " set it to 1 or 0"
            )
        return "buildkit" if client.docker_buildkit in _TRUE else "classic"
    # `docker build` does without a plug-in that is missing; Compose has a client of its own.
    if client.tool == "docker" and client.has_buildx is False:
        return "classic"
    numbers = parse_version(version)
    return "classic" if numbers is not None and numbers < _BUILDKIT_SINCE else "buildkit"
