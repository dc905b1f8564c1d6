"""One process of `scripts/soak`: builds, imports or prunes again and again, until it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from datetime import timedelta

from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, service
from tests.support.s3_fixtures import open_s3_store

from longshore.core.entry import Source
from longshore.core.retention import Rules
from longshore.errors import CorruptData, LongshoreError
from longshore.ops.exporter import export_services
from longshore.ops.importer import ImportSettings, import_services
from longshore.ops.pruner import PruneSettings, prune_project
from longshore.ops.publishing import ExportSettings
from longshore.ops.reachable import Reading
from longshore.store.clock import seconds_since_boot
from longshore.store.contract import Store

SERVICES = [service("web", "web:1"), service("worker", "worker:1")]


def machine(version: int) -> TinyEngine:
    """A machine after a build: a base that changes seldom, a library, and code that changes."""
    engine = TinyEngine()
    base = random.Random(version // 7).randbytes(200_000)
    library = random.Random(version // 3).randbytes(600_000)
    code = random.Random(version).randbytes(20_000)
    engine.build(
        [("base", {"sh": base}), ("deps", {"lib": library}), ("code", {"app": code})], "web:1"
    )
    engine.build([("base", {"sh": base}), ("job", {"lib": library, "job": code[:99]})], "worker:1")
    return engine


async def build(store: Store, scopes: list[str], grace: timedelta, version: int) -> None:
    """Export a new version of both services."""
    settings = ExportSettings(
        level=1,
        parents=True,
        concurrency=4,
        agent="soak",
        source=Source(),
        random=os.urandom,
        clock=time.monotonic,
    )
    reading = Reading(store, PROJECT, tuple(scopes), longest=grace / 2)
    await export_services(machine(version), reading, SERVICES, settings, Notes())


async def load(store: Store, scopes: list[str], grace: timedelta) -> None:
    """Import both services; whatever is found has to be whole.

    Raises:
        AssertionError: something that was found in time was damaged.
    """
    notes = Notes()
    began = time.monotonic()
    reading = Reading(store, PROJECT, tuple(scopes), longest=grace / 2)
    await import_services(
        TinyEngine(), reading, SERVICES, ImportSettings(32 << 20, time.monotonic), notes
    )
    damaged = [error for error in notes.warnings if isinstance(error, CorruptData)]
    # Two seconds for store times, which are whole ones.
    if damaged and time.monotonic() - began < grace.total_seconds() / 2 - 2:
        raise AssertionError(f"damaged: {damaged}")


async def prune(store: Store, grace: timedelta, number: random.Random) -> None:
    """Prune, with other rules each time."""
    rules = Rules(
        number.choice([1, 1, 2]),
        gone_after=number.choice([None, None, grace]),
        protected=frozenset({"main"}),
    )
    settings = PruneSettings(
        rules=rules,
        max_bytes=number.choice([None, None, 1_000_000]),
        repack_below=number.choice([0.0, 0.5, 0.9]),
        grace=grace,
        dry_run=False,
        random=os.urandom,
        clock=seconds_since_boot,
    )
    await prune_project(store, PROJECT, settings, Notes())


async def work(job: dict[str, object]) -> None:
    """Do one kind of work for ever; say each time that it was done, or what went wrong."""
    number = random.Random(str(job["seed"]))
    grace = timedelta(seconds=float(str(job["grace"])))
    scopes = [str(scope) for scope in job["scopes"]]  # type: ignore[attr-defined]
    store = open_s3_store(str(job["endpoint"]), str(job["bucket"]), prefix="cache")
    async with store:
        while True:
            try:
                if job["kind"] == "prune":
                    await prune(store, grace, number)
                elif job["kind"] == "read":
                    await load(store, scopes, grace)
                else:
                    await build(store, scopes, grace, number.randrange(10**6))
            except LongshoreError as error:
                sys.stdout.write(f"gave up: {type(error).__name__}: {error}\n")
            else:
                sys.stdout.write(f"done {job['kind']}\n")
            sys.stdout.flush()
            await asyncio.sleep(number.random() * 2)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
