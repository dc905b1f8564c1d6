"""Writers, readers and prunes on one bucket, killed at random; then every byte is looked at."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from tests.support.cache import PROJECT, Notes
from tests.support.s3_fixtures import open_s3_store, require_weed
from tests.support.seaweedfs import SeaweedFS

from longshore.core.keys import parse_entry_key, scopes_prefix
from longshore.errors import CorruptData, NotCached, UnsupportedFormat
from longshore.ops.check import CheckSettings, check_project
from longshore.ops.newest import FoundEntry
from longshore.ops.reachable import Reading
from longshore.ops.rebuilding import build_archive
from longshore.ops.recipes import recipes_for
from longshore.store.contract import Store

SCOPES = (["main"], ["pr:1", "main"], ["pr:2", "main"], ["dev", "main"])
WRITERS, READERS, PRUNES = 8, 2, 2


class Worker:
    """A process that is started again whenever it was killed."""

    def __init__(self, kind: str, number: int, job: dict[str, Any], log: Path) -> None:
        self.kind = kind
        self._number = number
        self._job = job
        self._log = log
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None

    def start(self) -> None:
        self.starts += 1
        job = {**self._job, "kind": self.kind, "seed": f"{self.kind}{self._number}.{self.starts}"}
        self._file = self._log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.soak_worker", json.dumps(job)],
            stdout=self._file,
            stderr=self._file,
            env={**os.environ, "PYTHONPATH": "."},
        )

    def kill(self) -> None:
        assert self._process is not None
        assert self._file is not None
        self._process.kill()
        self._process.wait()
        self._file.close()

    @property
    def died(self) -> bool:
        return self._process is not None and self._process.poll() is not None


def main() -> int:
    """Run, look, and say what was found; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--grace", type=float, default=16, help="grace period, in seconds")
    parser.add_argument("--seed", default=os.urandom(4).hex())
    options = parser.parse_args()
    number = random.Random(options.seed)
    say(f"seed {options.seed}")
    with SeaweedFS(require_weed()) as server, tempfile.TemporaryDirectory() as folder:
        bucket = server.make_bucket()
        job = {"endpoint": server.endpoint_url, "bucket": bucket, "grace": options.grace}
        log = Path(folder) / "log"
        workers = [
            Worker(kind, i, {**job, "scopes": SCOPES[i % len(SCOPES)]}, log)
            for kind, count in (("write", WRITERS), ("read", READERS), ("prune", PRUNES))
            for i in range(count)
        ]
        kills = Counter[str]()
        for worker in workers:
            worker.start()
        end = time.monotonic() + options.seconds
        try:
            while time.monotonic() < end:
                time.sleep(number.uniform(0.2, 2.0))
                for worker in workers:
                    if worker.died:
                        say(f"a {worker.kind} process died of itself:\n{log.read_text()[-4000:]}")
                        return 1
                victim = number.choice(workers)
                victim.kill()
                kills[victim.kind] += 1
                victim.start()
        finally:
            for worker in workers:
                if not worker.died:
                    worker.kill()
        text = log.read_text()
        done = {kind: text.count(f"done {kind}\n") for kind in ("write", "read", "prune")}
        gave_up = Counter(
            line.partition(": ")[2][:100] for line in text.splitlines() if "gave up" in line
        )
        say(f"{done} runs came to their end, {sum(kills.values())} were killed {dict(kills)}")
        for reason, count in gave_up.most_common(6):
            say(f"{count} gave up: {reason}")
        return asyncio.run(look(server.endpoint_url, bucket, options.grace))


async def look(endpoint: str, bucket: str, grace: float) -> int:
    """Load every entry that a reader accepts, whole, and count what cannot be."""
    lost = entries = expired = 0
    async with open_s3_store(endpoint, bucket, prefix="cache") as store:
        async for found in every_entry(store):
            entries += 1
            try:
                problem = await problem_of(store, found, grace)
            except TooOld:
                expired += 1
                continue
            if problem:
                lost += 1
                say(problem)
        # A check knows of the twelve hours only, so it minds entries that were published too late.
        settings = CheckSettings(share=1.0, window_bytes=32 << 20, random=os.urandom)
        checked = await check_project(store, PROJECT, settings, Notes())
    say(f"{entries} entries, {expired} published too late to count, {lost} damaged")
    say(
        f"check --read-data all: {len(checked.damaged)} damaged objects; {checked.layers_read} of"
        f" {checked.layers} layers were read, {checked.read_bytes:,} bytes"
    )
    return 1 if lost or not entries or (checked.damaged and not expired) else 0


class TooOld(Exception):
    """No reader accepts the entry."""


async def every_entry(store: Store) -> AsyncGenerator[FoundEntry, None]:
    """Go through all entries, newest or not."""
    async for info in store.list(scopes_prefix(PROJECT)):
        key = parse_entry_key(info.key)
        if key is not None:
            yield FoundEntry(key, info)


async def problem_of(store: Store, found: FoundEntry, grace: float) -> str:
    """Rebuild all that an entry holds; say what is wrong.

    Raises:
        TooOld: no reader accepts the entry.
    """
    reading = Reading(store, PROJECT, (), any_scope=True, longest=timedelta(seconds=grace / 2))
    try:
        entry = await reading.read_entry(found)
        if entry.kind == "flushed":
            return ""
        recipes = await recipes_for(reading, entry, entry.recipe_refs())
        archive = build_archive(
            store,
            PROJECT,
            files=(),
            recipes=list(recipes.values()),
            window_bytes=32 << 20,
            fetched=lambda _: None,
        )
        async with contextlib.aclosing(archive) as blocks:
            async for _ in blocks:
                pass
    except UnsupportedFormat:
        raise
    except NotCached as error:
        raise TooOld(str(error)) from error
    except CorruptData as error:
        return f"{found.info.key}: {error}"
    return ""


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"soak: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
