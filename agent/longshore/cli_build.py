"""The commands around a build: `cache-from` tells it what is warm, `build` runs it in between."""

from __future__ import annotations

import asyncio
import functools
import os
import posixpath
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from longshore.cli_job import Job, Shown, say
from longshore.cli_running import bounded
from longshore.cli_serving import after_the_build, caches_served, tell_failures
from longshore.cli_work import export, import_
from longshore.core.build_command import codeship_command, compose_command, compose_files
from longshore.core.builder import BuilderKind, Client, Tool
from longshore.core.handover import Handover
from longshore.core.handover_forms import bake_override, compose_override, flag_line
from longshore.core.service import Service, ServicesFile
from longshore.docker_command import DockerCommand, named_builder
from longshore.errors import LongshoreError, UsageError
from longshore.ops.handing_over import hand_over_services
from longshore.output_json import plain
from longshore.surroundings import read_dotenv

_TOOLS: dict[str, Tool] = {"flags": "docker", "compose": "compose", "bake": "bake"}
_OVERRIDE = "longshore.cache.yaml"


async def cache_from(job: Job, names: list[str]) -> Shown:
    """Say what makes the next build warm."""
    services, unknown = job.project.select(names)
    if unknown:
        raise unknown[0]
    form = job.settings.format_for("cache-from")
    as_flags = form == "flags" and not job.settings.json
    if as_flags and len(services) != 1:
        several = ", ".join(service.name for service in services)
        raise UsageError(f"flags are for one build; name one service: {several}")
    if form in ("compose", "bake"):
        services = _built(job, services)
    docker = DockerCommand(job.world)
    client = await asyncio.to_thread(docker.client, _TOOLS.get(form, "docker"), _asked(job))
    shown = _near(job) if as_flags else str
    handovers = await hand_over_services(job.engine, services, client, shown)
    _tell_notes(job, handovers)
    if form == "compose":
        text = compose_override(handovers)
    elif form == "bake":
        text = bake_override(handovers)
    else:
        text = _one_line(job, handovers) if as_flags else ""
    return Shown(text, _handover_json(handovers), output=job.settings.output)


async def build(job: Job, names: list[str], arguments: list[str]) -> Shown:
    """Import, build with what is warm, and export; the exit code is the build's.

    Raises:
        UsageError: there is nothing to build, or nothing to build with. All else that goes wrong
            with the cache is reported only.
    """
    file, services = _to_build(job, names)
    docker = DockerCommand(job.world)
    await asyncio.to_thread(docker.require, compose=file.kind == "compose")
    files = _compose_files(job, file) if file.kind == "compose" else ()
    cached = [service.name for service in services]
    moves = bool(cached) and (job.settings.import_ or job.settings.export)
    if moves:
        job.reading()  # what is not set is said before the build, not after it
    elif not cached:
        job.report.line("none of these services is cached, so they are only built")
    client = functools.cache(functools.partial(_client, job, docker, file, arguments))
    imported = exported = None
    async with caches_served(job, services, client) as registry:
        if cached and job.settings.import_:
            serve = registry.add if registry else None
            work = import_(job, cached, builds_with=client, arguments=arguments, serve=serve)
            imported = await _part(job, "import", work)
            if imported is not None and not job.settings.json:
                say(job, imported.text)
        served = registry.references if registry else {}
        handovers = await _handovers(job, services, client, served)
        run = functools.partial(_run_builds, job, docker, file, files, services, names, arguments)
        code = await run(handovers)
        failures = registry.failures if registry else {}
        tell_failures(job, failures)
        if code and failures:
            # A cache never makes a build fail; and what went well so far, the engine has.
            job.report.line("the build is repeated without the cache")
            handovers = await _handovers(job, services, client, {})
            code = await run(handovers)
        if registry:
            await after_the_build(job, registry, imported and imported.document, built=code == 0)
    if code:
        job.report.say("error", f"the build ended with exit code {code}; nothing is exported")
    elif cached and job.settings.export:
        exported = await _part(job, "export", export(job, cached))
    document = {
        **_common(imported, exported),
        "project": job.project.name,
        "import": _own(imported),
        "build": {**_handover_json(handovers), "exit_code": code},
        "export": _own(exported),
    }
    return Shown(exported.text if exported else "", document, exit_code=code)


def _to_build(job: Job, names: list[str]) -> tuple[ServicesFile, tuple[Service, ...]]:
    """Find the services file, and the cached ones of the services that will be built."""
    project = job.project
    project.require_services()
    file = project.file
    if file is None:
        raise UsageError("there is no services file here to build from; name one with --services")
    services = {service.name: service for service in project.services}
    known = {*(service.name for service in file.services), *file.uncached}
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no service {name!r} in {file.path}; known are {', '.join(sorted(known))}"
            )
        if file.kind == "codeship" and name in file.uncached:
            raise UsageError(f"{file.path}: {name} is not cached; `docker build` is enough for it")
    chosen = tuple(services[n] for n in dict.fromkeys(names or services) if n in services)
    if file.kind == "codeship" and all(service.build_context is None for service in chosen):
        raise UsageError(f"{file.path}: there is nothing to build; no cached service has a `build`")
    return file, chosen


async def _part(job: Job, command: str, work: Coroutine[Any, Any, Shown]) -> Shown | None:
    """Import or export as the command of that name does; what goes wrong is reported only."""
    try:
        return await bounded(work, job.settings.timeout, command)
    except LongshoreError as error:
        job.report.warn(error)
        return None


async def _run_builds(
    job: Job,
    docker: DockerCommand,
    file: ServicesFile,
    files: Sequence[str],
    services: Sequence[Service],
    names: Sequence[str],
    arguments: Sequence[str],
    handovers: Sequence[Handover],
) -> int:
    """Build, and return the exit code of what failed."""
    job.report.close()
    if file.kind != "compose":
        return await _one_by_one(job, docker, file, services, handovers, arguments)
    async with _override(handovers) as override:
        return await _run(job, docker, compose_command(files, override, arguments, names))


async def _handovers(
    job: Job,
    services: Sequence[Service],
    client: Callable[[], Client],
    served: Mapping[str, str],
) -> list[Handover]:
    try:
        known = await asyncio.to_thread(client)
        work = hand_over_services(job.engine, _built(job, services), known, str, served)
        found = await bounded(work, job.settings.timeout, "cache-from")
    except UsageError:
        raise
    except LongshoreError as error:
        job.report.warn(error)
        return []
    _tell_notes(job, found)
    return found


def _client(
    job: Job, docker: DockerCommand, file: ServicesFile, arguments: Sequence[str]
) -> Client:
    tool: Tool = "compose" if file.kind == "compose" else "docker"
    return docker.client(tool, _asked(job), named_builder(arguments))


def _compose_files(job: Job, file: ServicesFile) -> tuple[str, ...]:
    directory = job.world.directory
    return compose_files(
        file.path,
        named="services" in job.settings.sources,
        beside=frozenset(os.listdir(directory)),
        variables={**read_dotenv(directory, job.world), **job.world.environment},
    )


@asynccontextmanager
async def _override(handovers: Sequence[Handover]) -> AsyncIterator[str | None]:
    """Write the override file where it is in nobody's way, if there is anything to say."""
    if all(handover.is_empty for handover in handovers):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        path = Path(folder) / _OVERRIDE
        path.write_text(compose_override(handovers) + "\n", encoding="utf-8")
        yield str(path)


async def _one_by_one(
    job: Job,
    docker: DockerCommand,
    file: ServicesFile,
    services: Sequence[Service],
    handovers: Sequence[Handover],
    arguments: Sequence[str],
) -> int:
    told = {handover.service: handover for handover in handovers}
    folder = posixpath.dirname(file.path) or "."
    for service in services:
        if service.build_context is None:
            continue
        if service.has_encrypted_args:
            job.report.line(
                f"{service.name}: only Codeship could read its encrypted build arguments; give them"
                f" by hand: longshore build {service.name} -- --build-arg NAME=value"
            )
        command = codeship_command(service, folder, told.get(service.name), arguments)
        if code := await _run(job, docker, command):
            return code
    return 0


async def _run(job: Job, docker: DockerCommand, command: Sequence[str]) -> int:
    asked = _asked(job)
    more = {} if asked is None else {"DOCKER_BUILDKIT": "1" if asked == "buildkit" else "0"}
    job.world.stdout.flush()
    return await docker.run(command, more, out_to_stderr=job.settings.json)


def _built(job: Job, services: Sequence[Service]) -> tuple[Service, ...]:
    """Leave out services that are not built: a build cannot be told anything about them."""
    for service in services:
        if service.build_context is None:
            job.report.line(f"{service.name} is left out: it is not built here")
    return tuple(service for service in services if service.build_context is not None)


def _asked(job: Job) -> BuilderKind | None:
    asked = job.settings.buildkit
    return None if asked is None else "buildkit" if asked else "classic"


def _near(job: Job) -> Callable[[Path], str]:
    """Write paths from the working directory on, if they are inside of it."""
    directory = job.world.directory.absolute()

    def shown(path: Path) -> str:
        return str(path.relative_to(directory) if path.is_relative_to(directory) else path)

    return shown


def _one_line(job: Job, handovers: Sequence[Handover]) -> str:
    (handover,) = handovers
    line, refused = flag_line(handover)
    for value in refused:
        job.report.line(
            f"{handover.service}: {value} is left out, since a shell would take it apart; use"
            " --format compose, or --json"
        )
    return line


def _tell_notes(job: Job, handovers: Sequence[Handover]) -> None:
    for handover in handovers:
        for note in handover.notes:
            job.report.line(f"{handover.service}: {note}")


def _handover_json(handovers: Sequence[Handover]) -> dict[str, Any]:
    return {"services": [plain(handover) for handover in handovers]}


_COMMON = ("store", "project", "scope", "fallback", "traffic")


def _common(*parts: Shown | None) -> dict[str, Any]:
    """Take what the parts say alike from the last one, which has seen all of the traffic."""
    found: dict[str, Any] = dict.fromkeys(_COMMON)
    for part in parts:
        if part is not None:
            found.update({name: part.document[name] for name in _COMMON})
    return found


def _own(part: Shown | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {name: value for name, value in part.document.items() if name not in _COMMON}
