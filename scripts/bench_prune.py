"""Measure what prune's plan takes, by the number of objects: `scripts/bench prune`.

Each size runs in a process of its own, on a store in memory, with a directory's worth of keys: so
what is measured is longshore's own work, not a server's. A server adds a request for each document
and for each thousand keys.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from tests.support.cache import Notes

from longshore.core.digests import digest_of
from longshore.core.entry import Blob, EngineFacts, Entry, encode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entry_key
from longshore.core.recipe import Chunk, Recipe, encode_recipe
from longshore.core.retention import Rules
from longshore.ops.pruner import PruneSettings, prune_project
from longshore.store.memory import MemoryStore

PROJECT = "shop"
T0 = datetime(2026, 3, 1, tzinfo=UTC)
RECIPES_OF_ENTRY = 12
CHUNKS_OF_RECIPE = 40
SIZES = (12_500, 25_000, 50_000, 100_000)


async def fill(store: MemoryStore, objects: int) -> None:
    """Make entries in many scopes; a third of what there is, is referred to by nothing."""
    noise = random.Random(0)
    count = 0
    number = 0
    while count < objects:
        number += 1
        scope = f"pr:{number % 500}"
        refs: list[Ref] = []
        blobs: list[Blob] = []
        for _ in range(RECIPES_OF_ENTRY):
            pack = Ref(scope, new_id(T0, noise.randbytes(10)))
            await store.put(pack.key(PROJECT), b"")
            chunks = tuple(
                Chunk(noise.randbytes(32), 1000, pack, 500 * i, 500)
                for i in range(CHUNKS_OF_RECIPE)
            )
            digest = digest_of(noise.randbytes(8))
            recipe = Recipe(digest, 1000 * CHUNKS_OF_RECIPE, "raw", (chunks,))
            ref = Ref(scope, f"{digest.partition(':')[2]}.{new_id(T0, noise.randbytes(10))}")
            await store.put(ref.key(PROJECT), encode_recipe(recipe))
            blobs.append(Blob(digest, recipe.size_bytes, "application/x-tar", len(refs)))
            refs.append(ref)
            count += 2
        if number % 3:
            entry = Entry(
                kind="image",
                project=PROJECT,
                scope=scope,
                service=f"service-{number % 7}",
                platform="linux-amd64",
                id=new_id(T0, noise.randbytes(10)),
                basis=T0,
                agent="bench",
                engine=EngineFacts("28.5.2", "graphdriver"),
                blobs=tuple(blobs),
                refs=tuple(refs),
            )
            key = entry_key(PROJECT, scope, entry.service, entry.platform, entry.id)
            await store.put(key, seal(Envelope(encode_entry(entry))))
            count += 1


async def measure(objects: int, repack_below: float) -> None:
    """Plan once, and print the objects, the seconds, and the memory that the plan added."""
    store = MemoryStore(lambda: T0 + timedelta(days=3))
    await fill(store, objects)
    there = len(store._objects)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings = PruneSettings(
        rules=Rules(1, gone_after=timedelta(days=30)),
        max_bytes=None,
        repack_below=repack_below,
        grace=timedelta(hours=24),
        dry_run=True,
        random=os.urandom,
        clock=time.monotonic,
    )
    began = time.perf_counter()
    result = await prune_project(store, PROJECT, settings, Notes())
    seconds = time.perf_counter() - began
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert result.plan.sweep is not None
    waiting = len(result.plan.sweep.wait)
    print(f"{there} {seconds:.2f} {added:.0f} {waiting}", flush=True)


def main() -> None:
    """Measure all sizes, with and without a look at what could be repacked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int)
    parser.add_argument("--repack", type=float, default=0.0)
    options = parser.parse_args()
    if options.one:
        asyncio.run(measure(options.one, options.repack))
        return
    print("| objects | repack | seconds | per 1,000 | MiB more | waiting |")
    print("|---|---|---|---|---|---|")
    for repack in (0.0, 0.5):
        for size in SIZES:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "scripts.bench_prune",
                    f"--one={size}",
                    f"--repack={repack}",
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            objects, seconds, added, waiting = done.stdout.split()
            each = 1000 * float(seconds) / int(objects)
            how = "50 %" if repack else "off"
            print(
                f"| {objects} | {how} | {seconds} | {each:.3f} s | {added} | {waiting} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
