"""Find out what services will be built from, so that an import can leave out what cannot hit."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from longshore.core.build_command import compose_files
from longshore.core.service import Service
from longshore.errors import UsageError
from longshore.surroundings import World, read_dotenv

if TYPE_CHECKING:
    from longshore.config import Settings
    from longshore.ops.prefixing import BuildContext
    from longshore.surroundings import Project

_ELSEWHERE = ("--file", "-f", "--target")  # of a build's arguments: they say what is built instead


def find_contexts(
    settings: Settings,
    project: Project,
    world: World,
    services: Sequence[Service],
    arguments: Sequence[str] = (),
) -> dict[str, BuildContext]:
    """Tell what each service will be built from, as far as that is known.

    Args:
        arguments: what the build is given besides.

    Raises:
        UsageError: an option names a service that there is not.
    """
    from longshore.ops.prefixing import BuildContext

    if settings.whole or any(word.partition("=")[0] in _ELSEWHERE for word in arguments):
        return {}
    given = find_given(settings, services)
    contexts: dict[str, BuildContext] = {}
    by_file = not given and _is_all(project, world, named="services" in settings.sources)
    for service in services:
        if service.name in given:
            folder = world.directory / given[service.name]
        elif by_file and service.build_context is not None and not service.inline_dockerfile:
            if "://" in service.build_context or service.build_context.startswith("git@"):
                continue
            assert project.file is not None
            beside = world.directory / posixpath.dirname(project.file.path)
            folder = beside / service.build_context
        else:
            continue
        dockerfile = folder / (service.dockerfile or "Dockerfile")
        contexts[service.name] = BuildContext(folder, dockerfile, service.target)
    return contexts


def find_given(settings: Settings, services: Sequence[Service]) -> dict[str, str]:
    """Tell from which folders `--for-build` says that services are built.

    Raises:
        UsageError: it names a service that there is not.
    """
    names = {service.name for service in services}
    given: dict[str, str] = {}
    for option in settings.for_build:
        name, equals, folder = option.partition("=")
        if equals and name in names:
            given[name] = folder
        elif len(names) == 1:
            given[next(iter(names))] = option
        else:
            raise UsageError(
                f"{settings.sources['for-build']}: {option[:200]!r}: say which service is built"
                f" from there: {min(names, default='web')}={option[:80]}"
            )
    return given


def _is_all(project: Project, world: World, *, named: bool) -> bool:
    """Tell whether builds follow the services file alone; other files may change its contexts."""
    file = project.file
    if file is None:
        return False
    if file.kind == "codeship":
        return True
    try:
        read = compose_files(
            file.path,
            named=named,
            beside=frozenset(os.listdir(world.directory)),
            variables={**read_dotenv(world.directory, world), **world.environment},
        )
    except (UsageError, OSError):
        return False
    return len(read) == 1
