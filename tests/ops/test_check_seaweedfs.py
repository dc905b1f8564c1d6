"""Check and repair against a real S3 server."""

from __future__ import annotations

import os
import random
import time

from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, import_, service

from longshore.ops.check import CheckResult, CheckSettings, check_project
from longshore.ops.repair import RepairSettings, plan_repair, repair
from longshore.store.contract import ObjectInfo
from longshore.store.s3 import S3Store

WEB = service("web", "web:1")


async def check(store: S3Store) -> CheckResult:
    return await check_project(store, PROJECT, CheckSettings(1, 32 << 20, os.urandom), Notes())


async def test_a_bit_that_is_flipped_in_a_bucket_is_found_and_repaired(s3_store: S3Store) -> None:
    packs: dict[str, ObjectInfo] = {}
    for version in (1, 2):
        before_it = packs
        engine = TinyEngine()
        noise = random.Random(version).randbytes(12_000_000)
        engine.build([("base", {"lib": b"lib" * 9999}), ("web", {"app": noise})], "web:1")
        await export(engine, s3_store, [WEB])
        packs = {info.key: info async for info in s3_store.list("shop/scopes/main/packs/")}
    sound = await check(s3_store)
    # Not the greatest key: the server's clock tells seconds, so both may be of the same time.
    (newest,) = (packs[key] for key in packs.keys() - before_it.keys())
    data = bytearray()
    await s3_store.read(newest.key, 0, newest.size_bytes, data)
    data[5_000_000] ^= 1
    await s3_store.put(newest.key, bytes(data))

    damaged = await check(s3_store)
    before = await import_(TinyEngine(), s3_store, [WEB])
    await repair(s3_store, plan_repair(damaged), RepairSettings(os.urandom, time.monotonic))
    after = await import_(TinyEngine(), s3_store, [WEB])

    assert (sound.damaged, sound.layers_read) == ((), 3)
    assert sound.read_bytes > 24_000_000
    assert [one.url for one in damaged.damaged] == [s3_store.url(newest.key)]
    assert before.services[0].outcome == "miss"
    assert (after.services[0].outcome, after.services[0].entry) == ("hit", damaged.lost[0].next)
    assert (await check(s3_store)).damaged == ()
