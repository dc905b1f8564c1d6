"""What the tests of prune share: a store with a clock, machines that build, and runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, Notes, export, import_, service

from longshore.core.retention import Rules
from longshore.ops.imported import ImportResult
from longshore.ops.pruner import PruneResult, PruneSettings, prune_project
from longshore.store.contract import Store
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, tzinfo=UTC)
GRACE = timedelta(hours=24)
HOUR = timedelta(hours=1)
WEB, WORKER = service("web", "web:1"), service("worker", "worker:1")


class Clock:
    """Whole seconds, as S3 tells them; only the test moves it."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now.replace(microsecond=0)

    def seconds(self) -> float:
        return (self.now - T0).total_seconds()


def machine(version: int, *, base: int = 0) -> TinyEngine:
    """A machine on which two services were built; layers and files are shared as in real ones."""
    engine = TinyEngine()
    shell, library = b"base %d" % base * 50, b"lib" * 99
    code = random.Random(version).randbytes(400)
    engine.build([("base", {"bin/sh": shell}), ("web", {"lib": library, "app": code})], "web:1")
    engine.build([("base", {"bin/sh": shell}), ("job", {"lib2": library, "job": code})], "worker:1")
    return engine


@dataclass
class Bucket:
    """A store whose time stands still unless a test moves it."""

    clock: Clock = field(default_factory=Clock)
    random: random.Random = field(default_factory=lambda: random.Random(0))
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)

    @property
    def objects(self) -> dict[str, bytes]:
        return {key: stored.data for key, stored in self.store._objects.items()}

    def keys(self, kind: str) -> list[str]:
        """List the keys of entries, recipes, packs or gc, oldest first."""
        return [key for key in self.objects if f"/{kind}/" in key]

    async def export(self, version: int, *scopes: str, **more: Any) -> None:
        services = more.pop("services", [WEB, WORKER])
        engine = machine(version, **more)
        await export(
            engine, self.store, services, scopes=scopes or ("main",), random=self.random.randbytes
        )

    async def import_(self, *scopes: str, notes: Notes | None = None) -> ImportResult:
        return await import_(
            TinyEngine(), self.store, [WEB, WORKER], scopes=scopes or ("main",), notes=notes
        )

    def settings(self, rules: Rules | None = None, **changes: Any) -> PruneSettings:
        """Say how prune runs: as from cron, unless a test wants something else."""
        plain: dict[str, Any] = {
            "rules": rules or Rules(1),
            "max_bytes": None,
            "repack_below": 0.0,
            "grace": GRACE,
            "dry_run": False,
            "random": self.random.randbytes,
            "clock": self.clock.seconds,
        }
        return PruneSettings(**(plain | changes))

    async def prune(
        self,
        rules: Rules | None = None,
        *,
        store: Store | None = None,
        notes: Notes | None = None,
        **changes: Any,
    ) -> PruneResult:
        settings = self.settings(rules, **changes)
        return await prune_project(store or self.store, PROJECT, settings, notes or Notes())

    async def prune_until_clean(self, **changes: Any) -> None:
        """Let days pass, with a prune on each, until what is left is left for good."""
        for _ in range(4):
            self.clock.now += GRACE + HOUR
            await self.prune(**changes)

    async def hits(self, *scopes: str) -> Sequence[str]:
        """Tell what an import makes of each service."""
        return [done.outcome for done in (await self.import_(*scopes)).services]
