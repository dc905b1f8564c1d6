"""Prune removes what nobody wants, deletes what nobody can need, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.ops.pruning import GRACE, HOUR, WEB, WORKER, Bucket, machine
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, import_
from tests.support.stepped import Process, Stage, SteppedStore
from tests.support.stopping_store import StoppingStore, Way

from longshore.core import codec
from longshore.core.entry import EngineFacts, Entry, encode_entry
from longshore.core.envelope import Envelope, seal
from longshore.core.ids import new_id
from longshore.core.keys import Ref, entry_key
from longshore.core.recipe import Recipe, decode_recipe, encode_recipe
from longshore.core.retention import Rules
from longshore.errors import CorruptData, NotCached, StoreError, StoreUnavailable, UnsupportedFormat
from longshore.ops.pruner import PruneResult, prune_project

DAY = timedelta(days=1)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


# What goes


async def test_older_entries_go_at_once_and_what_only_they_need_two_marks_later(
    bucket: Bucket,
) -> None:
    await bucket.export(1)
    first = set(bucket.keys("recipes")) | set(bucket.keys("packs"))
    bucket.clock.now += HOUR
    await bucket.export(2, base=2)

    await bucket.prune()
    assert len(bucket.keys("entries")) == 2
    assert first <= bucket.objects.keys()
    bucket.clock.now += HOUR
    await bucket.prune()
    bucket.clock.now += GRACE
    await bucket.prune()
    assert first <= bucket.objects.keys()  # exactly a grace period is not more than one
    bucket.clock.now += timedelta(seconds=1)
    await bucket.prune()

    # The base layer of both is another one, but its library is stored once, and is still needed.
    assert len(first - bucket.objects.keys()) >= 3
    assert await bucket.hits() == ["hit", "hit"]


async def test_a_dry_run_writes_nothing_and_the_run_after_it_does_what_it_said(
    bucket: Bucket,
) -> None:
    await bucket.export(1)
    await bucket.export(2)
    before = bucket.objects

    said = await bucket.prune(dry_run=True)
    assert bucket.objects == before
    done = await bucket.prune()

    assert said.plan.removals == done.plan.removals
    assert len(said.plan.removals) == 2
    gone = before.keys() - bucket.objects.keys()
    assert gone == {
        f"{PROJECT}/scopes/main/entries/{r.key.service}/{r.key.platform}/{r.key.id}"
        for r in said.plan.removals
    }


async def test_an_export_that_died_leaves_nothing_for_long(bucket: Bucket) -> None:
    await bucket.export(1)
    kept = bucket.objects.keys()
    store = StoppingStore(bucket.store, 13, "before")
    with contextlib.suppress(StoreUnavailable):
        await export(machine(2, base=2), store, [WEB])
    upload = await bucket.store.create_upload(f"{PROJECT}/scopes/main/packs/x")
    assert kept < bucket.objects.keys()

    await bucket.prune_until_clean()

    assert {key for key in bucket.objects if "/gc/" not in key} == kept
    assert [pending async for pending in bucket.store.list_uploads("")] == []
    del upload


async def test_unfinished_uploads_younger_than_the_grace_period_go_on(bucket: Bucket) -> None:
    await bucket.store.create_upload(f"{PROJECT}/scopes/main/packs/x")
    bucket.clock.now += GRACE

    result = await bucket.prune()

    assert result.plan.uploads == ()
    assert len([pending async for pending in bucket.store.list_uploads("")]) == 1


async def test_another_project_is_not_looked_at(bucket: Bucket) -> None:
    await bucket.store.put("other/scopes/main/packs/019424f8-632e-7001-8203-040506070809", b"x")
    await bucket.store.put("shop/scopes/main/packs/no-id", b"somebody else's")
    before = bucket.objects

    await bucket.prune_until_clean()

    assert before.items() <= bucket.objects.items()


async def test_notes_are_dropped_when_they_are_too_old_to_matter(bucket: Bucket) -> None:
    await bucket.export(1)
    await bucket.export(2)
    for _ in range(9):
        await bucket.prune()
        bucket.clock.now += GRACE

    assert len(bucket.keys("gc")) <= 4


# What blocks a sweep


async def unreferenced(bucket: Bucket) -> set[str]:
    """Leave something in the store that is due for deletion in the next run."""
    await bucket.export(1)
    await bucket.export(2, base=2)
    await bucket.prune()
    bucket.clock.now += HOUR
    await bucket.prune()
    before = bucket.objects.keys()
    bucket.clock.now += GRACE + HOUR
    planned = await bucket.prune(dry_run=True)
    assert planned.plan.sweep is not None
    assert planned.plan.sweep.delete
    return set(before)


def an_entry(scope: str = "pr:1", **changes: Any) -> Entry:
    plain: dict[str, Any] = {
        "kind": "flushed",
        "project": PROJECT,
        "scope": scope,
        "service": "web",
        "platform": "linux-amd64",
        "id": new_id(Bucket().clock(), b"0123456789"),
        "basis": Bucket().clock(),
        "agent": "test",
        "engine": EngineFacts("", ""),
    }
    return Entry(**(plain | changes))


async def put_entry(bucket: Bucket, entry: Entry, data: bytes | None = None) -> str:
    key = entry_key(entry.project, entry.scope, entry.service, entry.platform, entry.id)
    await bucket.store.put(key, data or seal(Envelope(encode_entry(entry))))
    return key


async def test_an_entry_that_nobody_can_read_stops_the_sweep_and_not_retention(
    bucket: Bucket,
) -> None:
    before = await unreferenced(bucket)
    await bucket.export(3)
    key = await put_entry(bucket, an_entry(), b"rubbish")
    notes = Notes()

    result = await bucket.prune(notes=notes)

    assert result.plan.sweep is None
    assert len(result.plan.removals) == 2
    assert {k for k in before if "/entries/" not in k} <= bucket.objects.keys()
    assert [type(error) for error in notes.warnings] == [CorruptData]
    assert key in str(notes.warnings[0])


async def test_a_recipe_that_nobody_can_read_stops_the_sweep(bucket: Bucket) -> None:
    await unreferenced(bucket)
    await bucket.export(3)
    live = bucket.keys("recipes")[-1]
    await bucket.store.put(live, b"rubbish")
    notes = Notes()

    result = await bucket.prune(notes=notes)

    assert result.plan.sweep is None
    assert live in str(notes.warnings[0])


async def test_a_note_that_cannot_be_read_stops_the_sweep(bucket: Bucket) -> None:
    before = await unreferenced(bucket)
    await bucket.store.put(bucket.keys("gc")[0], b"rubbish")

    result = await bucket.prune()

    assert result.plan.sweep is None
    assert before <= bucket.objects.keys()


async def test_what_a_newer_longshore_wrote_keeps_what_it_names(bucket: Bucket) -> None:
    await unreferenced(bucket)
    due = (await bucket.prune(dry_run=True)).plan.sweep
    assert due is not None
    name = due.delete[0]
    document = {"format": 9, "refs": [["main", name.partition("/")[2]]], "what": "is this"}
    payload = codec.compress(msgspec.json.encode(document), 1)
    await put_entry(bucket, an_entry(), seal(Envelope(payload)))
    notes = Notes()

    result = await bucket.prune(notes=notes)

    assert result.plan.sweep is not None
    assert name not in result.plan.sweep.delete
    assert set(result.plan.sweep.delete) == set(due.delete) - {name}
    assert not [error for error in notes.warnings if isinstance(error, UnsupportedFormat)]


# Kills, races and sleep


@pytest.mark.parametrize("way", ["before", "after", "cancel"])
async def test_a_run_that_stops_at_any_call_leaves_every_entry_loadable(way: Way) -> None:
    prepared = Bucket()
    await unreferenced(prepared)
    await prepared.export(3, "pr:1", "main")
    prepared.clock.now += HOUR
    await prepared.export(4, "pr:1", "main")
    stop_at = 0
    while True:
        stop_at += 1
        bucket = copy.deepcopy(prepared)
        store = StoppingStore(bucket.store, stop_at, way)
        store.victim = asyncio.create_task(bucket.prune(store=store, repack_below=1.0))
        with contextlib.suppress(StoreUnavailable, asyncio.CancelledError):
            await store.victim
        assert await bucket.hits("pr:1", "main") == ["hit", "hit"]
        assert await bucket.hits("main") == ["hit", "hit"]
        await bucket.prune_until_clean(repack_below=0.5)
        assert await bucket.hits("pr:1", "main") == ["hit", "hit"]
        if store.calls < stop_at:
            break

    assert stop_at > 30
    assert store.deleted


class Scene:
    """Processes that a test lets go on one call at a time, while it moves the clock."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.stage = Stage()

    def start(self, work: Callable[[SteppedStore], Awaitable[object]]) -> Process:
        process = Process(getattr(work, "__name__", "process"))
        store = SteppedStore(self.bucket.store, process)

        async def run() -> object:
            return await work(store)

        self.stage.start(process, run())
        return process

    def export(self, version: int, *scopes: str, base: int = 0) -> Process:
        engine, wanted = machine(version, base=base), scopes or ("main",)
        return self.start(lambda store: export(engine, store, [WEB], scopes=wanted))

    def prune(self, rules: Rules | None = None, **changes: Any) -> Process:
        settings = self.bucket.settings(rules, **changes)
        return self.start(lambda store: prune_project(store, PROJECT, settings, Notes()))

    def to_the_end(self, process: Process) -> Any:
        self.stage.finish(process)
        assert process.task is not None
        return process.task.result()

    def until(self, process: Process, condition: Callable[[], bool]) -> None:
        while not condition():
            self.stage.step(process)

    def hits(self, *scopes: str) -> Any:
        return self.stage.run(self.bucket.hits(*scopes))


@pytest.fixture
def scene(bucket: Bucket) -> Any:
    made = Scene(bucket)
    yield made
    made.stage.close()


def test_a_writer_that_builds_on_an_entry_which_is_then_removed_publishes_something_whole(
    scene: Scene,
) -> None:
    bucket = scene.bucket
    # A slow export has stored its packs and recipes, and no entry yet: so they get a mark.
    slow = scene.export(1)
    scene.until(slow, lambda: len(bucket.keys("recipes")) == 2)
    scene.to_the_end(scene.prune())
    bucket.clock.now += 11 * HOUR
    scene.to_the_end(slow)
    first = set(bucket.keys("packs"))
    # Hours later another one builds on its entry.
    bucket.clock.now += 12 * HOUR
    writer = scene.export(1)
    scene.until(writer, lambda: writer.calls > 6)
    # Meanwhile the entry that it builds on is removed, and the old marks would be due.
    bucket.clock.now += 2 * HOUR
    gone = Rules(1, gone_after=timedelta(seconds=1))
    scene.to_the_end(scene.prune(gone))
    assert not bucket.keys("entries")
    for _ in range(2):
        bucket.clock.now += 4 * HOUR
        scene.to_the_end(scene.prune())
    scene.to_the_end(writer)

    assert first <= set(bucket.keys("packs"))
    assert scene.hits()[0] == "hit"


def test_a_prune_that_sleeps_for_a_day_between_listing_and_deleting_deletes_nothing(
    scene: Scene,
) -> None:
    bucket = scene.bucket
    scene.stage.run(unreferenced(bucket))
    run = scene.prune()
    scene.until(run, lambda: run.calls > 10)
    before = bucket.objects
    bucket.clock.now += DAY
    scene.to_the_end(scene.export(7))

    with pytest.raises(StoreError, match="began more than 6 hours ago"):
        scene.to_the_end(run)

    assert before.items() <= bucket.objects.items()


@pytest.mark.parametrize("what", ["put shop/gc/", "delete shop/scopes/", "put shop/scopes/"])
def test_a_prune_that_falls_asleep_with_a_request_on_its_lips_does_not_make_it(
    scene: Scene, what: str
) -> None:
    bucket = scene.bucket
    scene.stage.run(unreferenced(bucket))
    run = scene.prune(repack_below=1.0)
    # Its first note says that it begins, and may come late: all else is counted from there.
    scene.until(run, lambda: run.calls > 5 and any(w.startswith(what) for w in run.wants))
    before = {key: data for key, data in bucket.objects.items() if "/packs/" not in key}
    bucket.clock.now += timedelta(hours=6, seconds=1)

    with pytest.raises(StoreError, match="began more than"):
        scene.to_the_end(run)

    assert {k: d for k, d in bucket.objects.items() if "/packs/" not in k} == before


def test_two_prunes_at_once_do_what_one_would(scene: Scene) -> None:
    bucket = scene.bucket
    scene.stage.run(unreferenced(bucket))
    scene.to_the_end(scene.export(5))
    one, other = scene.prune(repack_below=1.0), scene.prune(repack_below=1.0)
    while not (one.is_done and other.is_done):
        for process in (one, other):
            if not process.is_done:
                scene.stage.step(process)
    for process in (one, other):
        assert process.task is not None
        process.task.result()

    assert scene.hits()[0] == "hit"
    scene.stage.run(bucket.prune_until_clean())
    assert scene.hits()[0] == "hit"


# Repacking


async def half_used(bucket: Bucket) -> PruneResult:
    """Make a pack of which only a part is still needed, and plan a repack."""
    await bucket.export(1)
    bucket.clock.now += HOUR
    await bucket.export(2, base=2)
    await bucket.prune()
    return await bucket.prune(dry_run=True, repack_below=1.0)


async def test_a_pack_of_which_little_is_needed_is_rewritten_and_goes(bucket: Bucket) -> None:
    planned = (await half_used(bucket)).plan.repack
    assert len(planned.packs) == 1
    assert planned.freed_bytes > 0
    old = next(key for key in bucket.keys("packs") if planned.packs[0].partition("/")[2] in key)

    await bucket.prune(repack_below=1.0)
    assert old in bucket.objects
    assert await bucket.hits() == ["hit", "hit"]
    await bucket.prune_until_clean()

    assert old not in bucket.objects
    assert await bucket.hits() == ["hit", "hit"]
    assert (await bucket.prune(dry_run=True, repack_below=1.0)).plan.repack.packs == ()


async def test_a_share_of_nothing_rewrites_nothing(bucket: Bucket) -> None:
    await half_used(bucket)

    assert (await bucket.prune(dry_run=True, repack_below=0.0)).plan.repack.packs == ()


async def test_a_damaged_chunk_is_not_copied_and_its_recipe_keeps_naming_it(
    bucket: Bucket,
) -> None:
    planned = (await half_used(bucket)).plan.repack
    old = next(key for key in bucket.keys("packs") if planned.packs[0].partition("/")[2] in key)
    await bucket.store.put(old, bytes(len(bucket.objects[old])))
    recipes = {key: bucket.objects[key] for key in bucket.keys("recipes")}
    notes = Notes()

    await bucket.prune(repack_below=1.0, notes=notes)

    assert any("not copied" in line for line in notes.lines)
    assert recipes.items() <= bucket.objects.items()


def test_a_repack_that_stalls_replaces_no_recipe_any_more(scene: Scene) -> None:
    bucket = scene.bucket
    scene.stage.run(half_used(bucket))
    run = scene.prune(repack_below=1.0)
    packs = len(bucket.keys("packs"))
    scene.until(run, lambda: len(bucket.keys("packs")) > packs)
    recipes = {key: bucket.objects[key] for key in bucket.keys("recipes")}
    bucket.clock.now += timedelta(hours=3, seconds=1)

    with pytest.raises(StoreError, match="began more than 3 hours ago"):
        scene.to_the_end(run)

    assert recipes.items() <= bucket.objects.items()


def test_an_import_that_began_before_a_repack_reads_on(scene: Scene) -> None:
    bucket = scene.bucket
    scene.stage.run(half_used(bucket))
    notes = Notes()
    reader = scene.start(lambda store: _import(bucket, store, notes))
    scene.until(reader, lambda: reader.calls > 4)
    for _ in range(3):
        scene.to_the_end(scene.prune(repack_below=1.0))
        bucket.clock.now += timedelta(hours=3)

    result = scene.to_the_end(reader)

    assert [done.outcome for done in result.services] == ["hit", "hit"]
    assert notes.warnings == []


def test_what_reads_an_old_pack_is_not_disturbed_though_the_pack_had_a_mark_once(
    scene: Scene,
) -> None:
    bucket = scene.bucket
    # The pack is marked while its writer is slow, and half of it is never referred to.
    slow = scene.start(lambda store: export(machine(1), store, [WEB, WORKER]))
    scene.until(slow, lambda: any("/entries/" in what for what in slow.wants))
    scene.to_the_end(scene.prune())
    bucket.clock.now += 11 * HOUR
    scene.until(slow, lambda: len(bucket.keys("entries")) == 1)
    scene.stage.kill(slow)
    bucket.clock.now += 14 * HOUR
    notes = Notes()
    reader = scene.start(lambda store: _import(bucket, store, notes))
    scene.until(reader, lambda: any(what.startswith("read ") for what in reader.wants))
    assert scene.to_the_end(scene.prune(repack_below=1.0)).plan.repack.packs
    bucket.clock.now += HOUR
    scene.to_the_end(scene.prune())

    result = scene.to_the_end(reader)

    assert [done.outcome for done in result.services] == ["hit", "miss"]
    assert [type(error) for error in notes.warnings] == [NotCached]  # of the other service


async def _import(bucket: Bucket, store: SteppedStore, notes: Notes) -> object:
    return await import_(TinyEngine(), store, [WEB, WORKER], notes=notes)


# Attacks: what somebody with the rights of one scope can have prune do


async def test_a_lie_about_anothers_pack_neither_moves_it_wrongly_nor_keeps_it_from_being_moved(
    bucket: Bucket,
) -> None:
    planned = (await half_used(bucket)).plan.repack
    recipe_key = bucket.keys("recipes")[-1]
    identifier = recipe_key.rpartition("/")[2]
    honest = decode_recipe(bucket.objects[recipe_key], Ref("main", identifier))
    lies: list[Recipe] = [
        replace(
            honest,
            streams=tuple(
                tuple(replace(chunk, stored_bytes=max(1, chunk.stored_bytes - 1)) for chunk in s)
                for s in honest.streams
            ),
        ),
        replace(
            honest,
            streams=tuple(
                tuple(replace(chunk, offset=chunk.offset + 1) for chunk in s)
                for s in honest.streams
            ),
        ),
    ]
    refs = []
    for number, lie in enumerate(lies):
        ref = Ref("pr:1", f"{identifier[:64]}.{new_id(bucket.clock(), bytes([number]) * 10)}")
        await bucket.store.put(ref.key(PROJECT), encode_recipe(lie))
        refs.append(ref)
    await put_entry(bucket, an_entry(refs=tuple(refs), basis=bucket.clock()))

    done = await bucket.prune(repack_below=1.0)
    await bucket.prune_until_clean()

    assert set(planned.packs) <= set(done.plan.repack.packs)
    assert await bucket.hits() == ["hit", "hit"]


async def test_an_entry_that_names_anothers_objects_can_only_keep_them(bucket: Bucket) -> None:
    await unreferenced(bucket)
    due = (await bucket.prune(dry_run=True)).plan.sweep
    assert due is not None
    refs = tuple(Ref("main", name.partition("/")[2]) for name in due.delete)
    await put_entry(bucket, an_entry(refs=refs, basis=bucket.clock()))

    result = await bucket.prune()

    assert result.plan.sweep is not None
    assert result.plan.sweep.delete == ()
    assert await bucket.hits() == ["hit", "hit"]
