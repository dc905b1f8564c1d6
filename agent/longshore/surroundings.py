"""What a command finds around it: environment, working directory, git, services file, CI.

The only place that gathers such things. What they mean is decided in `core`, which gets texts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from longshore.config import GIT_TIMEOUT, Settings
from longshore.config_secrets import without_secrets
from longshore.errors import NotBuilt, UsageError

if TYPE_CHECKING:
    from longshore.core.scopes import GitFacts, ScopeDefaults
    from longshore.core.services import Service, ServicesFile
    from longshore.engine.contract import Engine
    from longshore.ops.credentials import AssumeRole
    from longshore.ops.report import Report
    from longshore.store.contract import Store
    from longshore.store.metrics import StoreMetrics

_MAX_TEXT_BYTES = 32 << 20  # of a services file, a `.env` or an event; all are far smaller


class World(NamedTuple):
    """What a run of longshore may touch; tests pass their own."""

    environment: Mapping[str, str]
    directory: Path
    stdout: TextIO
    stderr: TextIO
    width: int
    """Of the terminal, in columns."""
    open_store: Callable[[Settings, StoreMetrics, Report], Store]
    open_engine: Callable[[], Engine]
    open_sts: Callable[[Settings, str | None], AssumeRole]
    """Takes the region, if the environment names one."""
    stdin: TextIO | None = None
    """Where answers come from; `None` if there is nobody to ask."""


class Project(NamedTuple):
    """What is cached, and under which names.

    Attributes:
        scopes: the own one first, then the fallbacks; empty if the own one cannot be told.
        sources: who said so, for the project, the scope and the fallback scopes.
        notes: what people should know about the services file.
    """

    name: str
    scopes: tuple[str, ...]
    services: tuple[Service, ...]
    file: ServicesFile | None
    defaults: ScopeDefaults
    sources: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def services_file(self) -> str | None:
        """The name of the services file; `None` if there is none."""
        return self.file.path if self.file else None

    def require_services(self) -> None:
        """Make sure that there is something to cache.

        Raises:
            UsageError: there is not.
        """
        if not self.services:
            raise UsageError(self._nothing())

    def require_scopes(self) -> tuple[str, ...]:
        """Return the scopes.

        Raises:
            UsageError: the own scope cannot be told.
        """
        if not self.scopes:
            raise UsageError(
                "the scope cannot be told: neither the CI's variables nor git name a branch or"
                " pull request; give one with --scope or LONGSHORE_SCOPE"
            )
        return self.scopes

    def select(self, names: list[str]) -> tuple[tuple[Service, ...], tuple[NotBuilt, ...]]:
        """Choose services by name, all if none is named; and say which names mean nothing.

        Raises:
            UsageError: there is nothing to choose from.
        """
        if not names:
            self.require_services()
        known = {service.name: service for service in self.services}
        wanted = dict.fromkeys(names or known)
        unknown = tuple(self._unknown(name) for name in wanted if name not in known)
        return tuple(known[name] for name in wanted if name in known), unknown

    def _nothing(self) -> str:
        if self.file is None:
            return (
                "there is no services file here; name one with --services,"
                " or an image with --image web=myorg/web:latest"
            )
        if self.file.kind == "codeship":
            return f"{self.file.path}: no service is cached; add `cached: true` to one"
        return (
            f"{self.file.path}: no service is cached; add `x-longshore: {{cached: true}}` to"
            " one, or to the file for all that are built"
        )

    def _unknown(self, name: str) -> NotBuilt:
        if self.file is not None and name in self.file.uncached:
            return NotBuilt(f"the service {name!r} is not marked as cached in {self.file.path}")
        known = ", ".join(service.name for service in self.services) or "none"
        return NotBuilt(f"there is no service {name!r}; cached services: {known}")


def survey(settings: Settings, world: World) -> Project:
    """Find out what is cached, and under which project and scopes.

    Raises:
        UsageError: the services file cannot be read, or there is no name for the project.
    """
    from longshore.core.scopes import detect_scope

    file = _read_services(settings, world)
    services = _with_images(file, settings.image)
    git = _ask_git(world)
    defaults = detect_scope(world.environment, git, github_event=_github_event(world))
    sources: dict[str, str] = {}
    name = settings.project
    if name is None:
        name = _project_name(file, world)
        sources["project"] = file.path if file else "the directory's name"
    scope = settings.scope
    if scope is None and defaults.scope is not None:
        scope, sources["scope"] = defaults.scope, defaults.source
    fallback = settings.fallback
    if fallback is None:
        named = tuple(s.default_fallback for s in services if s.default_fallback)
        fallback = (*defaults.fallback, *named)
        sources["fallback"] = defaults.source
    notes = (
        tuple(
            f"{file.path}: the variable {unset} is not set, so it counts as empty"
            for unset in file.unset_variables
        )
        if file
        else ()
    )
    return Project(
        name=name,
        scopes=tuple(dict.fromkeys((scope, *fallback))) if scope else (),
        services=services,
        file=file,
        defaults=defaults,
        sources=sources,
        notes=notes,
    )


def scope_of_ci(world: World) -> str | None:
    """Tell the scope by the variables of the CI service alone; `None` if they name none."""
    from longshore.core.scopes import detect_scope

    return detect_scope(world.environment, github_event=_github_event(world)).scope


def read_services_file(settings: Settings, world: World) -> bytes | None:
    """Read the services file as it is; `None` if there is none.

    Raises:
        UsageError: it cannot be read.
    """
    name = _services_name(settings, world)
    return None if name is None else _read(world.directory / name, name)


def _services_name(settings: Settings, world: World) -> str | None:
    """Find the services file that was named, else the one in the working directory."""
    from longshore.core.services_names import find_services_file

    if settings.services is not None:
        return settings.services
    try:
        return find_services_file(path.name for path in world.directory.iterdir())
    except OSError as error:
        raise UsageError(f"{world.directory}: {error.strerror or error}") from error


def _github_event(world: World) -> str | None:
    event = world.environment.get("GITHUB_EVENT_PATH")
    return _read_optional(world.directory / event) if event else None


def _read_services(settings: Settings, world: World) -> ServicesFile | None:
    from msgspec.structs import replace

    from longshore.core.services import CODESHIP_NAMES, parse_services

    name = _services_name(settings, world)
    if name is None:
        return None
    path = world.directory / name
    environment = without_secrets(world.environment)
    if path.name not in CODESHIP_NAMES:  # only Compose reads `.env`
        environment = {**read_dotenv(path.parent, world), **environment}
    folder = path.absolute().parent
    file = parse_services(
        _read(path, name),
        path=name,
        environment=environment,
        # Not longshore's `--project`: that one says where the cache is, not what images are called.
        project_name=None,
        directory_name=folder.resolve().name,
    )
    return replace(file, services=tuple(_with_folder(service, folder) for service in file.services))


def _with_folder(service: Service, folder: Path) -> Service:
    """Find a service's cache directory from the folder of the services file on."""
    if service.buildkit_cache is None:
        return service
    from msgspec.structs import replace

    return replace(service, buildkit_cache=os.path.normpath(folder / service.buildkit_cache))


def _with_images(file: ServicesFile | None, options: tuple[str, ...]) -> tuple[Service, ...]:
    """Put in what `--image` says: it takes a service's place, or adds one."""
    from longshore.core.services import parse_image_options

    services = {service.name: service for service in (file.services if file else ())}
    services.update((service.name, service) for service in parse_image_options(options))
    return tuple(services.values())


def read_dotenv(folder: Path, world: World) -> dict[str, str]:
    """Read the `.env` of a folder, as Compose does; empty if there is none.

    Raises:
        UsageError: it cannot be read.
    """
    from longshore.core.dotenv import parse_dotenv

    path = folder / ".env"
    if not path.is_file():
        return {}
    try:
        text = _read(path, str(path)).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: it is not UTF-8") from error
    return parse_dotenv(text, without_secrets(world.environment), path=str(path))


def _project_name(file: ServicesFile | None, world: World) -> str:
    from longshore.core.service import Context, project_name_of

    if file is not None:
        name = file.project_name
    else:
        context = Context(world.environment)
        name = project_name_of(None, context, None, world.directory.resolve().name)
    if name is None:
        raise UsageError(
            "the project has no name: the directory's name makes none; give one with --project"
        )
    return name


def _ask_git(world: World) -> GitFacts:
    """Ask git about the working copy; whatever it does not tell is left out."""
    from longshore.core.scopes import GitFacts

    default = _git(world, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    return GitFacts(
        branch=_git(world, "symbolic-ref", "--quiet", "--short", "HEAD"),
        default_branch=default.removeprefix("origin/") if default else None,
        revision=_git(world, "rev-parse", "--quiet", "--verify", "HEAD"),
    )


def _git(world: World, *arguments: str) -> str | None:
    environment = {
        **without_secrets(world.environment),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C.UTF-8",
    }
    import subprocess  # not before git is asked

    try:
        done = subprocess.run(  # noqa: S603 - arguments are this module's own
            ["git", *arguments],  # noqa: S607 - found as the user's own commands are
            cwd=world.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=GIT_TIMEOUT.total_seconds(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return done.stdout.decode(sys.getfilesystemencoding(), "replace").strip() or None


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error
    if len(data) > _MAX_TEXT_BYTES:
        raise UsageError(f"{name}: it is larger than any such file can be")
    return data


def _read_optional(path: Path) -> str | None:
    try:
        return _read(path, str(path)).decode(errors="replace")
    except UsageError:
        return None
