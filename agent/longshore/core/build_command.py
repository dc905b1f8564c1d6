"""Which `docker` commands build a project's services, as its own users would write them."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from longshore.core.handover import Handover
from longshore.core.handover_forms import flag_words
from longshore.core.service import Service
from longshore.errors import UsageError

OVERRIDE_NAMES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
"""In Compose's own order of preference (compose-go, `cli/options.go`)."""


def compose_files(
    services_file: str,
    *,
    named: bool,
    beside: Collection[str],
    variables: Mapping[str, str],
) -> tuple[str, ...]:
    """List the files that Compose would read by itself, since it reads none but those given.

    Args:
        services_file: the one that says what is cached.
        named: whether somebody named it, as one does with `docker compose --file`.
        beside: names of the files in its folder.
        variables: for `COMPOSE_FILE` and `COMPOSE_PATH_SEPARATOR`.

    Raises:
        UsageError: Compose would not read the services file.
    """
    if named:
        return (services_file,)
    if given := variables.get("COMPOSE_FILE"):
        separator = variables.get("COMPOSE_PATH_SEPARATOR") or ":"
        files = tuple(file for file in given.split(separator) if file)
        if posixpath.normpath(services_file) not in map(posixpath.normpath, files):
            raise UsageError(
                f"COMPOSE_FILE names {given}, but what is cached is said in {services_file};"
                " name one of them with --services"
            )
        return files
    override = next((name for name in OVERRIDE_NAMES if name in beside), None)
    return (services_file, override) if override else (services_file,)


def compose_command(
    files: Sequence[str], override: str | None, arguments: Sequence[str], services: Sequence[str]
) -> list[str]:
    """Build with Compose.

    Args:
        override: a file that says what is warm.
        services: names; all if there are none.
    """
    given = [word for file in (*files, *([override] if override else [])) for word in ("-f", file)]
    return ["compose", *given, "build", *arguments, *services]


def codeship_command(
    service: Service, folder: str, handover: Handover | None, arguments: Sequence[str]
) -> list[str]:
    """Build one service of a Codeship file.

    Args:
        folder: of the services file, as the command shall get it.

    Raises:
        UsageError: its image has a digest for a name, which no build can give.
    """
    assert service.build_context is not None, "only what has a build is built"
    image = service.images[0]
    if image.digest is not None:
        raise UsageError(f"{service.name}: an image cannot be built as {image}; give it a tag")
    context = posixpath.normpath(posixpath.join(folder, service.build_context))
    if handover and _give_output(arguments):
        handover = replace(handover, output="")  # builds have one
    words = ["build", *(flag_words(handover) if handover else ())]
    for argument in service.build_args:
        words += ["--build-arg", argument]
    words += [*arguments, "--tag", image.familiar]
    if service.dockerfile is not None:
        words += ["--file", posixpath.join(context, service.dockerfile)]
    return [*words, context]


def _give_output(arguments: Sequence[str]) -> bool:
    """Tell whether arguments of `docker build` say where the image goes."""
    return any(
        argument.startswith("-o") or argument.partition("=")[0] in ("--output", "--load", "--push")
        for argument in arguments
    )
