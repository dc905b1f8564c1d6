"""What each command does with a job: call its use case, and put the result into words."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec.structs import replace

from longshore import output, wiring
from longshore.cli_job import Job, Shown
from longshore.cli_running import Interrupted
from longshore.config import Settings
from longshore.config_options import OPTIONS
from longshore.core.service import Service
from longshore.errors import UsageError
from longshore.output_json import export_json, import_json, plain, traffic_json
from longshore.wording import exact, exact_size

if TYPE_CHECKING:
    from longshore.core.builder import Client
    from longshore.core.services import ServicesFile
    from longshore.ops.serving_caches import ServedCache


async def export(job: Job, names: list[str]) -> Shown:
    """Store the images of services."""
    from longshore.core.entry import Source
    from longshore.ops.exporter import export_services

    services = _select(job, names)
    defaults = job.project.defaults
    source = Source(defaults.revision, defaults.branch, defaults.job_url)
    settings = wiring.export_settings(job.settings, source, job.keys)
    reading = job.reading(for_export=True)
    result = await export_services(job.engine, reading, services, settings, job.report)
    text = output.export_text(result, scope=reading.scopes[0], full=job.full_ids)
    return Shown(text, {**_place(job), **export_json(result), **_traffic(job)})


async def import_(
    job: Job,
    names: list[str],
    *,
    builds_with: Callable[[], Client] | None = None,
    arguments: Sequence[str] = (),
    serve: Callable[[ServedCache], None] | None = None,
) -> Shown:
    """Load the newest cached images of services.

    Args:
        builds_with: finds out what will build these services at once, so that nobody needs to be
            told what to give that build; `None` if somebody else may build them.
        arguments: what that build is given.
        serve: takes caches that this build fetches itself; `None` to write them before.
    """
    from longshore.build_contexts import find_contexts, find_given
    from longshore.docker_command import DockerCommand
    from longshore.ops.importer import import_services

    services = _select(job, names)
    docker = DockerCommand(job.world)
    by_hand = functools.cache(functools.partial(docker.client, "docker", None))
    contexts = find_contexts(job.settings, job.project, job.world, services, arguments)
    if builds_with is None:
        builds = set(find_given(job.settings, services))
    else:
        builds = {service.name for service in services if service.build_context is not None}
    settings = wiring.import_settings(
        job.settings,
        by_hand if builds_with is None else None,
        contexts,
        builds,
        builds_with or by_hand,
    )
    settings = replace(settings, serve=serve)
    result = await import_services(job.engine, job.reading(), services, settings, job.report)
    return Shown(
        output.import_text(result), {**_place(job), **import_json(result), **_traffic(job)}
    )


async def list_(job: Job) -> Shown:
    """List what is cached."""
    from longshore.ops.listing import list_entries

    everything = job.settings.all_scopes
    reading = job.reading(any_scope=everything)
    entries = await list_entries(reading, all_scopes=everything, platform=job.settings.platform)
    width = None if job.full_ids else job.world.width
    text = output.list_text(entries, full=job.full_ids, width=width)
    return Shown(text, {**_place(job), "entries": plain(entries)})


async def show(job: Job, service: str) -> Shown:
    """Show what an import of a service would load."""
    from longshore.ops.showing import show_service

    entry = await show_service(job.reading(), service, job.settings.platform)
    return Shown(output.show_text(entry, full=job.full_ids), {**_place(job), "entry": plain(entry)})


async def diff(job: Job, name: str) -> Shown:
    """Compare a service's images in the engine with the cached ones."""
    from longshore.ops.compare import compare_service

    (service,) = _select_all(job, [name])
    comparison = await compare_service(job.engine, job.reading(), service)
    text = output.diff_text(comparison, full=job.full_ids)
    return Shown(text, {**_place(job), "comparison": plain(comparison)})


async def cat(job: Job, service: str) -> Shown:
    """Write a service's images as an archive to standard output."""
    from longshore.ops.cat import cat_service

    if job.settings.json:
        raise UsageError("cat writes an archive, so it cannot write JSON; leave --json away")
    if job.world.stdout.isatty():
        raise UsageError(
            f"an archive is nothing for a terminal; write `longshore cat {service} | docker load`,"
            f" or `longshore cat {service} > {service}.tar`"
        )
    blocks = cat_service(
        job.reading(),
        service,
        job.settings.platform,
        window_bytes=job.settings.window_bytes,
        report=job.report,
    )
    out = job.world.stdout.buffer
    async with contextlib.aclosing(blocks):
        async for block in blocks:
            await asyncio.to_thread(_write, out, block)
    return Shown("", {})


def _write(out: BinaryIO, block: bytes) -> None:
    """Write in a thread: whoever reads may be slow, and what is on its way shall go on."""
    try:
        out.write(block)
        out.flush()
    except BrokenPipeError as error:
        raise Interrupted(signal.SIGPIPE) from error
    except OSError as error:
        raise UsageError(f"the archive cannot be written: {error.strerror or error}") from error


async def doctor(job: Job) -> Shown:
    """Look at everything that an import or export needs."""
    from longshore.ops.doctor import Place, examine

    def services() -> ServicesFile | tuple[Service, ...]:
        project = job.project
        project.require_services()
        if project.file is None:
            return project.services
        return replace(project.file, services=project.services)

    def place() -> Place:
        project = job.project
        scope, *fallback = project.require_scopes()
        sources = {**project.sources, **job.settings.sources}
        return Place(
            project=project.name,
            project_source=sources["project"],
            scope=scope,
            scope_source=sources["scope"],
            fallback=tuple(fallback),
            fallback_source=sources["fallback"],
        )

    setup = wiring.doctor_setup(
        job.settings, services, place, engine=lambda: job.engine, store=lambda: job.store
    )
    findings = await examine(setup)
    width = None if job.full_ids else job.world.width
    bad = any(finding.verdict == "problem" for finding in findings)
    return Shown(
        output.doctor_text(findings, width=width),
        {"findings": plain(findings)},
        exit_code=1 if bad else 0,
    )


async def config(job: Job) -> Shown:
    """Show the settings that count, and where each comes from."""
    settings, project = job.settings, job.project
    shown = effective(job)
    found = {"services": "found here", "image": "the services file", **project.sources}
    options = []
    for option in OPTIONS:
        value = shown[option.name]
        there = value not in (None, [])
        source = settings.sources.get(option.name) or (
            found.get(option.name, "default") if there else "default"
        )
        options.append({"name": option.name, "value": value, "source": source})
    rows = [(o["name"], _value_text(o["value"]), o["source"]) for o in options]
    return Shown(output.config_text(rows), {"options": options})


def effective(job: Job) -> dict[str, Any]:
    """Tell what counts, by the names of options; of keys only that they are given."""
    settings, project = job.settings, job.project
    own, fallback = project.scopes[:1], project.scopes[1:]
    images = [f"{s.name}={image.familiar}" for s in project.services for image in s.images]
    shown: dict[str, Any] = {
        "store": settings.store_url,
        "project": project.name,
        "scope": own[0] if own else None,
        "fallback": list(fallback),
        "services": project.services_file,
        "image": images,
        "sse-customer-key": str(settings.sse_customer_key) if settings.sse_customer_key else None,
        "signing-key": str(settings.signing_key) if settings.signing_key else None,
        "trusted-key": list(settings.trusted_key),
        "memory": exact_size(settings.memory_bytes),
        "max-image-size": exact_size(settings.max_image_bytes),
        "for-build": list(settings.for_build),
        "timeout": exact(settings.timeout),
        "duration": exact(settings.duration),
        "listen": str(settings.listen) if settings.listen else None,
        "token": str(settings.token) if settings.token else None,
        "ready-timeout": exact(settings.ready_timeout),
        "shutdown-timeout": exact(settings.shutdown_timeout),
        **_as_given(settings),
    }
    for option in OPTIONS:
        if option.name not in shown:
            value = getattr(settings, option.parameter)
            shown[option.name] = list(value) if isinstance(value, tuple) else value
    return shown


def _as_given(settings: Settings) -> dict[str, str | None]:
    """Write what says how prune runs as it is given to options."""
    within, gone, most = settings.keep_within, settings.gone_after, settings.max_size
    return {
        "keep-within": None if within is None else exact(within),
        "gone-after": None if gone is None else exact(gone),
        "max-size": None if most is None else exact_size(most),
        "repack-below": f"{100 * settings.repack_below:g}%",
        "grace": exact(settings.grace),
    }


def _value_text(value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)


def _select(job: Job, names: list[str]) -> tuple[Service, ...]:
    """Choose services; a name that means nothing is reported, and the others go on."""
    services, unknown = job.project.select(names)
    for error in unknown:
        job.report.warn(error)
    return services


def _select_all(job: Job, names: list[str]) -> tuple[Service, ...]:
    services, unknown = job.project.select(names)
    if unknown:
        raise unknown[0]
    return services


def _place(job: Job) -> dict[str, Any]:
    scopes = job.project.scopes
    return {
        "store": job.store.url(),
        "project": job.project.name,
        "scope": scopes[0] if scopes else None,
        "fallback": list(scopes[1:]),
    }


def _traffic(job: Job) -> dict[str, Any]:
    return {"traffic": traffic_json(job.metrics)}
