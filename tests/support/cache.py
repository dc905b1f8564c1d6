"""Export and import as a build would, from tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from longshore.core.builder import Client
from longshore.core.compression_level import Level
from longshore.core.entry import Source
from longshore.core.references import ImageReference
from longshore.core.service import Service
from longshore.core.signing import PublicKey, SigningKey, TrustedKeys
from longshore.engine.contract import Engine, EngineInfo
from longshore.engine.disk import EngineDisk
from longshore.engine.docker import DockerEngine
from longshore.errors import LongshoreError
from longshore.ops.exporter import ExportResult, export_services
from longshore.ops.imported import ImportResult
from longshore.ops.importer import ImportSettings, import_services
from longshore.ops.prefixing import BuildContext
from longshore.ops.publishing import ExportSettings
from longshore.ops.reachable import Reading, find_reachable
from longshore.ops.report import Report
from longshore.store.contract import Store

PROJECT = "shop"


@dataclass
class Notes(Report):
    """A report that keeps what it was told."""

    lines: list[str] = field(default_factory=list)
    warnings: list[LongshoreError] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        self.warnings.append(error)


def service(name: str, *images: str) -> Service:
    """Describe a service by the references of its images."""
    return Service(name=name, images=tuple(ImageReference.parse(image) for image in images))


def reading(store: Store, *scopes: str, trusted: Sequence[PublicKey] = ()) -> Reading:
    """Read a project's scopes, `main` unless others are named."""
    keys = TrustedKeys(trusted) if trusted else None
    return Reading(store, PROJECT, scopes or ("main",), trusted=keys)


async def export(
    engine: Engine | str,
    store: Store,
    services: Sequence[Service],
    *,
    scopes: Sequence[str] = ("main",),
    notes: Report | None = None,
    level: Level = 1,
    parents: bool = True,
    random: Callable[[int], bytes] = os.urandom,
    signing: SigningKey | None = None,
    trusted: Sequence[PublicKey] = (),
    disk: Callable[[EngineInfo], EngineDisk | None] | None = None,
) -> ExportResult:
    """Export from an engine, or from the one at an address."""
    settings = ExportSettings(
        level=level,
        parents=parents,
        concurrency=4,
        agent="test",
        source=Source(),
        random=random,
        clock=time.monotonic,
        sign=signing.sign if signing else None,
        disk=disk,
    )
    found = DockerEngine(engine) if isinstance(engine, str) else engine
    where = reading(store, *scopes, trusted=trusted)
    try:
        return await export_services(found, where, services, settings, notes or Notes())
    finally:
        if isinstance(engine, str):
            await found.close()


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the archives that engines are sent numbered as they begin."""
    loads: list[int] = []
    load = DockerEngine.load

    async def counted(engine: DockerEngine, *arguments: Any) -> None:
        loads.append(len(loads))
        await load(engine, *arguments)

    monkeypatch.setattr(DockerEngine, "load", counted)
    return loads


async def stored(store: Store, services: Sequence[Service], platform: str) -> list[object]:
    """Tell what was stored, but for ids and places: images, documents, chunks of blobs."""
    found = await find_reachable(
        reading(store), [service.name for service in services], platform, Notes()
    )
    entries = [
        (name, entry.images, entry.documents, entry.media_types)
        for (_, name), entry in sorted(found.newest.items())
    ]
    cuts = [
        (digest, recipe.method, [[chunk.id for chunk in stream] for stream in recipe.streams])
        for digest, (_, recipe) in sorted(found.blobs.items())
    ]
    return [*entries, *cuts]


async def import_(
    engine: Engine | str,
    store: Store,
    services: Sequence[Service],
    *,
    scopes: Sequence[str] = ("main",),
    notes: Report | None = None,
    window_bytes: int = 32 << 20,
    trusted: Sequence[PublicKey] = (),
    contexts: Mapping[str, BuildContext] | None = None,
) -> ImportResult:
    """Import into an engine, or into the one at an address."""
    settings = ImportSettings(
        window_bytes=window_bytes,
        clock=time.monotonic,
        client=lambda: Client("docker", asked="classic"),
        contexts=contexts or {},
    )
    found = DockerEngine(engine) if isinstance(engine, str) else engine
    where = reading(store, *scopes, trusted=trusted)
    try:
        return await import_services(found, where, services, settings, notes or Notes())
    finally:
        if isinstance(engine, str):
            await found.close()
