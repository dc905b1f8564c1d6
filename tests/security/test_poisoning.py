"""The attack is played: a pull request writes all that it can to change what `main` loads."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count

import pytest
from msgspec.structs import replace
from tests.support.cache import PROJECT, Notes, export, import_, service
from tests.support.fake_engine import FakeEngine
from tests.support.isolation import ROOT, hand_out, open_session_store
from tests.support.raw_s3 import RawBucket
from tests.support.seaweedfs import SeaweedFS

from longshore.core.entry import Entry, decode_entry, encode_entry
from longshore.core.envelope import Envelope, seal, unseal
from longshore.core.keys import Ref, entry_key, parse_entry_key
from longshore.core.recipe import Recipe, decode_recipe, encode_recipe
from longshore.errors import AccessDenied, StoreError
from longshore.store.s3 import S3Store

pytestmark = pytest.mark.s3

WEB, WORKER = service("web", "web:1", "web:builder"), service("worker", "worker:1")
SERVICES = [WEB, WORKER]
BASE = ("base", {"bin/sh": b"#!" * 3000})
MAIN, PR, OTHER = ("main",), ("pr-1", "main"), ("pr-2", "main")
MAIN_PREFIX, PR_PREFIX = f"{PROJECT}/scopes/main/", f"{PROJECT}/scopes/pr-1/"
TRASH = b"evil" * 1000

# Ids that are greater than any that a build makes before the year 10889.
GREATEST = (f"ffffffff-ffff-7fff-bfff-{number:012x}" for number in count(0xFFFFFFFFFF00))


def machine(version: int) -> FakeEngine:
    engine = FakeEngine()
    noise = random.Random(version).randbytes(50_000)
    engine.build([BASE, ("deps", {"deps": noise})], "web:builder")
    engine.build([BASE, ("web", {"app": noise[:30_000]})], "web:1")
    engine.build([BASE, ("worker", {"job": b"%d" % version * 1000})], "worker:1")
    return engine


def contents(engine: FakeEngine) -> object:
    """Take down all that makes a difference to a build."""
    images = {i: (image.config, image.tags, image.parent) for i, image in engine.images.items()}
    return images, engine.layers


@asynccontextmanager
async def granted(
    server: SeaweedFS, bucket: str, scopes: tuple[str, ...]
) -> AsyncIterator[S3Store]:
    session = await hand_out(server, bucket, scope=scopes[0], fallback=scopes[1:])
    async with open_session_store(server, bucket, session) as store:
        yield store


@pytest.fixture
def raw(seaweedfs: SeaweedFS, s3_bucket: str) -> Iterator[RawBucket]:
    bucket = RawBucket(seaweedfs.endpoint_url, s3_bucket, f"{ROOT}/")
    yield bucket
    bucket.close()


async def load(store: S3Store, scopes: tuple[str, ...]) -> tuple[object, list[object]]:
    """Import on a fresh machine; return what it has then, and where that came from."""
    fresh, notes = FakeEngine(), Notes()
    result = await import_(fresh, store, SERVICES, scopes=scopes, notes=notes)
    assert notes.warnings == []
    return contents(fresh), [(s.service, s.outcome, s.scope, s.entry) for s in result.services]


def entry_of(key: str, data: bytes) -> Entry:
    found = parse_entry_key(key)
    assert found is not None
    return decode_entry(unseal(data).payload, PROJECT, found)


def stored(entry: Entry) -> tuple[str, bytes]:
    """Write an entry under the key that it belongs to, as it claims."""
    key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
    return key, seal(Envelope(encode_entry(entry)))


def in_pr(key: str) -> str:
    return key.replace(MAIN_PREFIX, PR_PREFIX)


def forged_entries(entries: Mapping[str, Entry], evil: Entry) -> Iterator[tuple[str, bytes]]:
    """Forge entries, in keys of the own scope and with the claims of others.

    Args:
        evil: an entry of the attacker, of which everything exists.
    """
    for key, entry in entries.items():
        for claim in ("main", "pr-1", "pr-2", "../main", "pr-1/../main"):
            identifier = next(GREATEST)
            forged = replace(
                evil, scope=claim, service=entry.service, id=identifier, basis=entry.basis
            )
            yield f"{in_pr(key).rpartition('/')[0]}/{identifier}", stored(forged)[1]
            yield stored(replace(forged, scope="pr-1", project="acme"))
        # With the name of an entry of main, in the own scope.
        yield in_pr(key), stored(replace(evil, scope="main", id=entry.id))[1]
        yield stored(replace(entry, scope="pr-1", id=next(GREATEST), kind="flushed"))
        yield stored(replace(entry, scope="main", id=next(GREATEST), kind="flushed"))
        # Main's images, made of the attacker's layers and the other way round.
        yield stored(replace(entry, scope="pr-1", id=next(GREATEST), refs=evil.refs))
        yield stored(replace(evil, scope="pr-1", id=next(GREATEST), refs=entry.refs))
        yield stored(replace(entry, scope="pr-1", id=next(GREATEST), refs=entry.refs[::-1]))
        # An export that seems to have begun long ago, or not yet.
        for shift in (timedelta(days=-30), timedelta(days=3000)):
            yield stored(replace(entry, scope="pr-1", id=next(GREATEST), basis=entry.basis + shift))


def forged_recipes(recipes: Mapping[str, tuple[Ref, Recipe]]) -> Iterator[tuple[str, bytes]]:
    """Forge recipes of main's layers: the wrong place, the wrong pack, the wrong order."""
    for key, (ref, recipe) in recipes.items():
        shifted = tuple(
            tuple(replace(chunk, offset=chunk.offset + 1) for chunk in stream)
            for stream in recipe.streams
        )
        elsewhere = tuple(
            tuple(replace(chunk, pack=Ref("pr-1", chunk.pack.id)) for chunk in stream)
            for stream in recipe.streams
        )
        forms = (shifted, elsewhere, tuple(stream[::-1] for stream in recipe.streams))
        for streams in forms:
            forged = encode_recipe(replace(recipe, streams=streams))
            yield f"{PR_PREFIX}recipes/{ref.id.partition('.')[0]}.{next(GREATEST)}", forged
            yield in_pr(key), forged


def all_writes(main: Mapping[str, bytes], evil: Entry) -> Iterator[tuple[str, bytes]]:
    """List all that is written, each with the key that it would be best written to."""
    entries = {key: entry_of(key, data) for key, data in main.items() if "/entries/" in key}
    recipes = {
        key: (ref := Ref("main", key.rpartition("/")[2]), decode_recipe(data, ref))
        for key, data in main.items()
        if "/recipes/" in key
    }
    assert entries
    assert recipes
    for key, data in main.items():
        yield in_pr(key), data
        yield key, TRASH
    yield from forged_entries(entries, evil)
    yield from forged_recipes(recipes)
    for key in main:
        if "/packs/" in key:
            yield in_pr(key), TRASH
    for name in (f"{PROJECT}/gc/{next(GREATEST)}.removed", f"{PROJECT}/gc/{next(GREATEST)}.mark"):
        yield name, TRASH
        yield f"{PR_PREFIX}{name}", TRASH


async def test_a_pull_request_cannot_change_what_others_load(
    seaweedfs: SeaweedFS, s3_bucket: str, raw: RawBucket
) -> None:
    async with granted(seaweedfs, s3_bucket, MAIN) as store:
        await export(machine(1), store, SERVICES, scopes=MAIN)
        baseline, origin = await load(store, MAIN)
    async with granted(seaweedfs, s3_bucket, OTHER) as store:
        assert await load(store, OTHER) == (baseline, origin)
    assert baseline == contents(machine(1))
    assert [where[1:3] for where in origin if isinstance(where, tuple)] == [("hit", "main")] * 2
    before = await raw.objects()

    async with granted(seaweedfs, s3_bucket, PR) as store:
        await export(machine(666), store, SERVICES, scopes=PR)
        (evil,) = [
            entry_of(key, data)
            for key, data in (await raw.objects()).items()
            if key.startswith(f"{PR_PREFIX}entries/web/")
        ]
        answers = Counter[str]()
        for key, data in all_writes(before, evil):
            answers += await written(store, key, data)
        own = [key for key in await raw.objects() if key.startswith(PR_PREFIX)]
        for key in own[::2]:
            await store.put(key, TRASH)
        with pytest.raises(StoreError):
            await store.delete(list(before))
        for key in before:
            with pytest.raises(AccessDenied):
                await store.delete([key])
            with pytest.raises(AccessDenied):
                await store.create_upload(key)
    assert answers["taken"] > 50
    assert answers["refused"] > 150

    after = await raw.objects()
    assert {k: v for k, v in after.items() if not k.startswith(PR_PREFIX)} == before
    for scopes in (MAIN, OTHER):
        async with granted(seaweedfs, s3_bucket, scopes) as store:
            assert await load(store, scopes) == (baseline, origin)

    # The attacker has only poisoned himself: no image, but no failure either.
    async with granted(seaweedfs, s3_bucket, PR) as store:
        fresh = FakeEngine()
        result = await import_(fresh, store, SERVICES, scopes=PR)
        assert {done.outcome for done in result.services} <= {"miss", "hit"}

    # What others store next is not built on the poison.
    for scopes, version in ((OTHER, 2), (MAIN, 3)):
        async with granted(seaweedfs, s3_bucket, scopes) as store:
            await export(machine(version), store, SERVICES, scopes=scopes)
            assert (await load(store, scopes))[0] == contents(machine(version))


async def written(store: S3Store, key: str, data: bytes) -> Counter[str]:
    """Write under a key, and under those that it would have in the scopes of others."""
    answers = Counter[str]()
    for prefix in (PR_PREFIX, MAIN_PREFIX, f"{PROJECT}/scopes/pr-2/", "acme/scopes/pr-1/"):
        there = key.replace(PR_PREFIX, prefix).replace(MAIN_PREFIX, prefix)
        mine = there.startswith(PR_PREFIX)
        try:
            await store.put(there, data)
        except AccessDenied:
            assert not mine, there
            answers["refused"] += 1
        else:
            assert mine, there
            answers["taken"] += 1
    return answers
