"""Export and import one layer that is far larger than memory, and show what the agent held.

The engine is a synthetic one that makes its archive while it is read and forgets what is loaded, so
only the agent's own memory counts. Each direction runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from tests.support.cache import export, import_, service

from longshore.core.archive import TRAILER, blob_name, member_header, padding, small_member
from longshore.core.digests import Digest, digest_of
from longshore.core.images import Step
from longshore.engine.contract import Engine, EngineImage, EngineInfo, ImageEvent
from longshore.store.directory import DirectoryStore

MIB = 1 << 20
_TILE = hashlib.shake_256(b"longshore").digest(4096) * 4


def layer_blocks(files: int) -> Iterator[bytes]:
    """Make a layer of files of 1 MiB, no 16 KiB of which are like any other."""
    for number in range(files):
        yield member_header(f"files/{number:08}", MIB)
        stamps = (b"%08d%08d" % (number, part) for part in range(64))
        yield b"".join(stamp + _TILE[16:] for stamp in stamps)
    yield TRAILER


class StreamEngine(Engine):
    """An engine with one image of one huge layer."""

    def __init__(self, files: int, diff_id: Digest, *, has_image: bool) -> None:
        self._files = files
        self._diff_id = diff_id
        self._has_image = has_image
        self._size = files * (MIB + 512) + len(TRAILER)
        rootfs = {"type": "layers", "diff_ids": [diff_id]}
        config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
        self._config = json.dumps(config).encode()

    async def info(self) -> EngineInfo:
        """Say what it is."""
        return EngineInfo("28.5.2", "1.51", "graphdriver", "linux-amd64", "overlay2", "synthetic")

    async def inspect(self, name: str) -> EngineImage | None:
        """Look up the only image."""
        if not self._has_image:
            return None
        config = digest_of(self._config)
        return EngineImage(config, ("huge:1",), None, (self._diff_id,), self._size)

    async def history(self, name: str) -> tuple[Step, ...]:
        """Know of no steps."""
        return ()

    async def image_ids(self) -> frozenset[Digest]:
        """List the only image."""
        return frozenset({digest_of(self._config)} if self._has_image else ())

    async def look_up(self, reference: str) -> Digest | None:
        """Reach no registry."""
        return None

    async def save(self, ids: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        """Make the archive."""
        yield small_member(blob_name(digest_of(self._config)), self._config)
        yield member_header(blob_name(self._diff_id), self._size)
        pending: list[bytes] = []
        for block in layer_blocks(self._files):
            pending.append(block)
            if len(pending) >= 8:
                yield b"".join(pending)
                pending.clear()
        yield b"".join(pending) + padding(self._size) + TRAILER

    async def load(
        self, archive: AsyncIterator[bytes], progress: Callable[[int], None] | None = None
    ) -> None:
        """Read the archive and forget it."""
        loaded = 0
        async for block in archive:
            loaded += len(block)
        if loaded < self._size:
            raise SystemExit(f"only {loaded:,} bytes were loaded")
        self._has_image = True

    async def tag(self, image_id: Digest, tag: str) -> None:
        """Have all tags already."""

    async def remove(self, image_id: Digest) -> None:
        """Have nothing to remove."""

    async def events(self) -> AsyncGenerator[ImageEvent | None, None]:
        """Have nothing to tell."""
        yield None


def child(verb: str, store: Path, files: int, diff_id: str) -> None:
    """Run one direction, and print what it took."""
    engine = StreamEngine(files, Digest(diff_id), has_image=verb == "export")
    started = time.perf_counter()
    services = [service("huge", "huge:1")]
    if verb == "export":
        asyncio.run(export(engine, DirectoryStore(store), services, level=3))
    else:
        window = 144 * MIB  # what `--memory 256MiB` leaves for it
        result = asyncio.run(import_(engine, DirectoryStore(store), services, window_bytes=window))
        if result.services[0].outcome != "hit":
            raise SystemExit(result.services[0].reason)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{verb:8} {time.perf_counter() - started:7.1f} s   peak RSS {rss:6.1f} MiB\n")


def main() -> None:
    """Run both directions."""
    parser = argparse.ArgumentParser(prog="scripts/bench stream", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        verb, store, files, diff_id = options.child
        return child(verb, Path(store), int(files), diff_id)
    files = int(options.gigabytes * 1e9 / MIB)
    whole = hashlib.sha256()
    for block in layer_blocks(files):
        whole.update(block)
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir="/var/tmp") as folder:
        for verb in ("export", "import"):
            arguments = [verb, folder, str(files), f"sha256:{whole.hexdigest()}"]
            command = [sys.executable, "-m", "scripts.bench_stream", "--child", *arguments]
            subprocess.run(command, check=True)
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        sys.stdout.write(f"stored   {stored / 1e6:,.0f} MB of {options.gigabytes:g} GB\n")
    return None


if __name__ == "__main__":
    main()
