"""Import from a folder into an engine that keeps nothing, and tell what it took.

    python -m tests.support.measured_import FOLDER SERVICE...

A process of its own, because the peak of memory is that of a process. The settings are those of the
command line; the clients of S3 and of Docker, which take 55 MiB, are not loaded.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path

from longshore.config import load_settings
from longshore.core.digests import Digest
from longshore.core.images import Step
from longshore.core.references import ImageReference
from longshore.core.service import Service
from longshore.engine.contract import Engine, EngineImage, EngineInfo, ImageEvent
from longshore.errors import EngineError, LongshoreError
from longshore.ops.importer import ImportSettings, import_services
from longshore.ops.reachable import Reading
from longshore.ops.report import Report
from longshore.ops.room import Room
from longshore.store.directory import DirectoryStore
from longshore.store.limit import LimitStore
from longshore.wiring import bound_allocator

CLIENTS_BYTES = 55 << 20


class Sink(Engine):
    """An engine that takes every archive, and has nothing of it afterwards."""

    def __init__(self, image_store: str) -> None:
        self._image_store = image_store
        self.loaded_bytes = 0

    async def info(self) -> EngineInfo:
        return EngineInfo(
            version="28.5.2",
            api_version="1.51",
            image_store="containerd" if self._image_store == "containerd" else "graphdriver",
            platform="linux-amd64",
            storage_driver="overlay2",
            address="unix:///run/sink.sock",
        )

    async def inspect(self, name: str) -> EngineImage | None:
        return None

    async def history(self, name: str) -> tuple[Step, ...]:
        return ()

    async def image_ids(self) -> frozenset[Digest]:
        return frozenset()

    async def save(self, ids: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        if ids:
            raise EngineError("nothing to save")
        yield b""

    async def look_up(self, reference: str) -> Digest | None:
        return None

    async def load(
        self, archive: AsyncIterator[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        async for block in archive:
            self.loaded_bytes += len(block)

    async def tag(self, image_id: Digest, tag: str) -> None: ...

    async def remove(self, image_id: Digest) -> None: ...

    async def events(self) -> AsyncGenerator[ImageEvent | None, None]:
        yield None

    async def close(self) -> None: ...


class Warnings(Report):
    """A report that keeps the first words of what went wrong."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        self.said.append(f"{type(error).__name__}: {error}"[:900])


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


async def main(folder: str, image_store: str, names: Sequence[str]) -> None:
    settings = load_settings({}, {}, {}, "")
    store = LimitStore(DirectoryStore(Path(folder)), concurrency=settings.concurrency)
    engine, report = Sink(image_store), Warnings()
    before, started = peak_bytes(), time.monotonic()
    result = await import_services(
        engine,
        Reading(
            store,
            "shop",
            ("main",),
            room=Room(settings.document_bytes),
            max_image_bytes=settings.max_image_bytes,
        ),
        [Service(name=name, images=(ImageReference.parse(f"{name}:1"),)) for name in names],
        ImportSettings(window_bytes=settings.window_bytes, clock=time.monotonic),
        report,
    )
    said = {
        "outcomes": [done.outcome for done in result.services],
        "warnings": report.said,
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
        "budget_bytes": settings.memory_bytes - CLIENTS_BYTES,
        "downloaded_bytes": result.downloaded_bytes,
        "loaded_bytes": engine.loaded_bytes,
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    bound_allocator()
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
