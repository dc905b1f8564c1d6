"""Builds, prunes, flushes and crashes in any order: nothing that is listed is ever lost.

Each rule lets one process make one call to the store, or lets time pass: hours and days, too, in
the middle of whatever is under way. So a prune sleeps between listing and deleting, a writer
publishes just before its twelve hours are over, a repack stalls, and so on.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, import_, service
from tests.support.stepped import Process, Stage, SteppedStore

from longshore.core.entry import decode_entry
from longshore.core.envelope import unseal
from longshore.core.gc_documents import name_of_ref, parse_object_key
from longshore.core.keys import Ref, parse_entry_key, segment
from longshore.core.recipe import decode_recipe
from longshore.core.retention import Rules
from longshore.errors import CorruptData, LongshoreError
from longshore.ops.flush import FlushSettings, flush, plan_flush
from longshore.ops.imported import ImportResult
from longshore.ops.pruner import PruneSettings, prune_project
from longshore.ops.reachable import MAX_AGE_OF_BASIS
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, tzinfo=UTC)
GRACE = timedelta(hours=24)
SERVICES = ("web", "worker")
SCOPES = (("main",), ("pr:1", "main"), ("pr:2", "main"))
MOST_PROCESSES = 4


class Clock:
    """Whole seconds, as S3 tells them; only the test moves it."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now.replace(microsecond=0)


class Cache(RuleBasedStateMachine):
    """One bucket, and whatever is done to it."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.stage = Stage()
        self.memory = MemoryStore(self.clock)
        self.running: list[Process] = []
        self.random = random.Random(0)
        self.version = 0

    # What happens

    @precondition(lambda self: len(self.running) < MOST_PROCESSES)
    @rule(
        scopes=st.sampled_from(SCOPES),
        names=st.sampled_from([SERVICES, SERVICES[:1], SERVICES[1:]]),
        change=st.sampled_from(["nothing", "code", "all"]),
    )
    def begin_export(self, scopes: tuple[str, ...], names: tuple[str, ...], change: str) -> None:
        if change != "nothing":
            self.version += 1
        engine = machine(self.version, everything=change == "all")
        wanted = [service(name, f"{name}:1") for name in names]
        self.start(
            "export",
            lambda store: export(
                engine, store, wanted, scopes=scopes, random=self.random.randbytes
            ),
        )

    @precondition(lambda self: len(self.running) < MOST_PROCESSES)
    @rule(scopes=st.sampled_from(SCOPES))
    def begin_import(self, scopes: tuple[str, ...]) -> None:
        began = self.clock.now
        notes = Notes()

        async def work(store: SteppedStore) -> None:
            wanted = [service(name, f"{name}:1") for name in SERVICES]
            result: ImportResult = await import_(
                TinyEngine(), store, wanted, scopes=scopes, notes=notes
            )
            if self.clock.now - began <= MAX_AGE_OF_BASIS:
                damaged = [error for error in notes.warnings if isinstance(error, CorruptData)]
                assert not damaged, (damaged, result)

        self.start("import", work)

    @precondition(lambda self: len(self.running) < MOST_PROCESSES)
    @rule(
        keep_last=st.integers(1, 2),
        gone_after=st.sampled_from([None, timedelta(days=2)]),
        max_bytes=st.sampled_from([None, None, 0, 2000]),
        repack_below=st.sampled_from([0.0, 0.9, 1.0]),
    )
    def begin_prune(
        self,
        keep_last: int,
        gone_after: timedelta | None,
        max_bytes: int | None,
        repack_below: float,
    ) -> None:
        rules = Rules(keep_last, gone_after=gone_after, protected=frozenset({"main"}))
        wanted = self.prune_settings(rules, max_bytes, repack_below)
        self.start("prune", lambda store: prune_project(store, PROJECT, wanted, Notes()))

    @precondition(lambda self: len(self.running) < MOST_PROCESSES)
    @rule(scope=st.sampled_from(["main", "pr:1", None]), names=st.sampled_from([None, ("web",)]))
    def begin_flush(self, scope: str | None, names: tuple[str, ...] | None) -> None:
        wanted = FlushSettings(agent="test", random=self.random.randbytes)

        async def work(store: SteppedStore) -> None:
            plan = await plan_flush(store, PROJECT, scope=scope, services=names)
            await flush(store, PROJECT, plan, wanted, Notes())

        self.start("flush", work)

    # Whole runs in the midst of what is under way; single steps alone would hardly ever get there.

    @rule(scopes=st.sampled_from(SCOPES), change=st.sampled_from(["nothing", "code", "all"]))
    def export_whole(self, scopes: tuple[str, ...], change: str) -> None:
        if len(self.running) < MOST_PROCESSES:
            self.begin_export(scopes, SERVICES, change)
            self.to_the_end(self.latest)

    @rule(
        keep_last=st.just(1),
        gone_after=st.sampled_from([None, timedelta(hours=1)]),
        max_bytes=st.sampled_from([None, None, 0]),
        repack_below=st.sampled_from([0.0, 1.0]),
        passed=st.sampled_from([timedelta(seconds=1), timedelta(hours=7), timedelta(hours=25)]),
        times=st.integers(1, 3),
    )
    def prune_whole(
        self,
        keep_last: int,
        gone_after: timedelta | None,
        max_bytes: int | None,
        repack_below: float,
        passed: timedelta,
        times: int,
    ) -> None:
        for _ in range(times):
            if len(self.running) < MOST_PROCESSES:
                self.begin_prune(keep_last, gone_after, max_bytes, repack_below)
                self.to_the_end(self.latest)
                self.clock.now += passed

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 7), call=st.integers(0, 3), times=st.sampled_from([1, 1, 3, 10, 40]))
    def go_on(self, which: int, call: int, times: int) -> None:
        process = self.running[which % len(self.running)]
        for _ in range(times):
            if not process.is_done:
                self.stage.step(process, call)
                self.check_all_loadable()
        self.collect()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 7))
    def end(self, which: int) -> None:
        self.to_the_end(self.running[which % len(self.running)])

    @precondition(lambda self: len(self.running) == MOST_PROCESSES)
    @rule(which=st.integers(0, 7))
    def kill(self, which: int) -> None:
        self.stage.kill(self.running[which % len(self.running)])
        self.collect()

    @rule(
        passed=st.sampled_from(
            [
                *(timedelta(seconds=1), timedelta(minutes=10), timedelta(hours=2, minutes=59)),
                *(timedelta(hours=5, minutes=59), timedelta(hours=11), timedelta(hours=12)),
                *(timedelta(hours=18), timedelta(hours=24), timedelta(hours=24, seconds=1)),
                timedelta(days=3),
            ]
        )
    )
    def wait(self, passed: timedelta) -> None:
        self.clock.now += passed

    # What always holds

    @invariant()
    def check_all_loadable(self) -> None:
        """Every entry that a reader would accept has all that it needs, as long as it needs."""
        objects = getattr(self, "memory", MemoryStore(Clock()))._objects
        for key, stored in objects.items():
            found = parse_entry_key(key)
            if found is None:
                continue
            entry = decode_entry(unseal(stored.data).payload, PROJECT, found)
            if stored.modified_at - entry.basis > MAX_AGE_OF_BASIS:
                continue
            for digest, ref in entry.recipe_refs().items():
                assert ref.key(PROJECT) in objects, (key, digest)
                recipe = decode_recipe(objects[ref.key(PROJECT)].data, ref)
                assert recipe.digest == digest
                for stream in recipe.streams:
                    for chunk in stream:
                        pack = objects.get(chunk.pack.key(PROJECT))
                        assert pack is not None, (key, ref, chunk.pack)
                        assert chunk.offset + chunk.stored_bytes <= len(pack.data)

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            for process in list(self.running):
                self.stage.kill(process)
            self.collect()
            self.check_it_gets_clean()
        finally:
            self.stage.close()

    def check_it_gets_clean(self) -> None:
        """After quiet and two marks, nothing is left that nothing refers to."""
        for _ in range(4):
            self.clock.now += GRACE + timedelta(seconds=2)
            wanted = self.prune_settings(Rules(1), None, 0.0)
            process = Process("prune")
            store = SteppedStore(self.memory, process)
            self.stage.start(process, prune_project(store, PROJECT, wanted, Notes()))
            self.stage.finish(process)
            assert process.task is not None
            process.task.result()
            self.check_all_loadable()
        live = set()
        for key, stored in self.memory._objects.items():
            found = parse_entry_key(key)
            if found is not None:
                entry = decode_entry(unseal(stored.data).payload, PROJECT, found)
                live |= {name_of_ref(ref) for ref in entry.refs}
        for name in tuple(live):
            scope, _, identifier = name.partition("/")
            ref = Ref(_SCOPE_OF[scope], identifier)
            recipe = decode_recipe(self.memory._objects[ref.key(PROJECT)].data, ref)
            live |= {name_of_ref(pack) for pack in recipe.packs}
        there = {parse_object_key(key) for key in self.memory._objects} - {None}
        assert there == live
        assert not self.memory._uploads or all(
            pending.completed for pending in self.memory._uploads.values()
        )

    # How it is done

    def prune_settings(
        self, rules: Rules, max_bytes: int | None, repack_below: float
    ) -> PruneSettings:
        return PruneSettings(
            rules=rules,
            max_bytes=max_bytes,
            repack_below=repack_below,
            grace=GRACE,
            dry_run=False,
            random=self.random.randbytes,
            clock=lambda: (self.clock.now - T0).total_seconds(),
        )

    def start(self, name: str, work: Callable[[SteppedStore], Awaitable[object]]) -> None:
        process = Process(name)
        store = SteppedStore(self.memory, process)

        async def guarded() -> None:
            # It may give up; what it left behind is looked at.
            with contextlib.suppress(LongshoreError):
                await work(store)

        self.stage.start(process, guarded())
        self.running.append(process)
        self.latest = process
        self.collect()

    def to_the_end(self, process: Process) -> None:
        while not process.is_done:
            self.stage.step(process)
            self.check_all_loadable()
        self.collect()

    def collect(self) -> None:
        """Forget processes that have ended, and fail with what they failed with."""
        ended = [process for process in self.running if process.is_done]
        self.running = [process for process in self.running if not process.is_done]
        for process in ended:
            assert process.task is not None
            if not process.task.cancelled():
                process.task.result()


_SCOPE_OF = {segment(scope): scope for scopes in SCOPES for scope in scopes}


def machine(version: int, *, everything: bool) -> TinyEngine:
    """A machine on which two services were built; layers and files are shared as in real ones."""
    engine = TinyEngine()
    base = b"base %d" % (version if everything else 0) * 50
    code = random.Random(version).randbytes(400)
    library = b"lib" * 99
    engine.build([("base", {"bin/sh": base}), ("web", {"lib": library, "app": code})], "web:1")
    engine.build([("base", {"bin/sh": base}), ("job", {"lib2": library, "job": code})], "worker:1")
    return engine


TestCache = pytest.mark.filterwarnings("error")(Cache.TestCase)
TestCache.settings = settings(max_examples=60, stateful_step_count=40)
