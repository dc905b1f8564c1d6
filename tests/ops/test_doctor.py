from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.ops.tiny_engine import TinyEngine
from tests.support.cache import PROJECT, export, service
from tests.support.overlay_root import OverlayRoot

from longshore.core.diagnosis import judge_clock, judge_credentials, judge_disk
from longshore.core.keys import entries_prefix, scope_prefix
from longshore.core.service import Service, ServicesFile
from longshore.engine.contract import Engine
from longshore.engine.disk import open_disk
from longshore.errors import (
    AccessDenied,
    EngineUnavailable,
    LongshoreError,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from longshore.ops.doctor import Credentials, Finding, Place, Setup, examine
from longshore.store.contract import Guard, ObjectInfo, Store, StoredObject, Upload, UploadedPart
from longshore.store.memory import MemoryStore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEB = service("web", "web:1")
WORKER = service("worker", "worker:1")


@dataclass
class Refusing(MemoryStore):
    """A store that refuses operations, and notes those that change something."""

    refuse: dict[str, LongshoreError] = field(default_factory=dict)
    hangs: bool = False
    skew: timedelta = timedelta()
    changes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(lambda: T0)

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        self.changes.append(f"put {key}")
        await super().put(key, data, guard=guard)

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        self._check("get", key)
        return await super().get(key, limit_bytes=limit_bytes)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        self._check("list", prefix)
        async for info in super().list(prefix):
            yield info

    async def create_upload(self, key: str) -> Upload:
        self.changes.append(f"create {key}")
        self._check("create", key)
        return await super().create_upload(key)

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        self._check("part", upload.key)
        return await super().upload_part(upload, number, offset, data)

    async def abort_upload(self, upload: Upload) -> None:
        self.changes.append(f"abort {upload.key}")
        self._check("abort", upload.key)
        await super().abort_upload(upload)

    async def now(self) -> datetime:
        if self.hangs:
            await asyncio.Event().wait()
        self._check("now", "")
        return await super().now() + self.skew

    def _check(self, operation: str, key: str) -> None:
        for what, error in self.refuse.items():
            wanted, _, prefix = what.partition(" ")
            if wanted == operation and key.startswith(prefix):
                raise error


def services_file(*services: Service, **changes: object) -> ServicesFile:
    found = ServicesFile("compose.yaml", "compose", PROJECT, services, ("db",))
    return replace(found, **changes)


def place(scope: str = "main", *fallback: str) -> Place:
    return Place(PROJECT, "compose.yaml", scope, "git", fallback, "git")


def setup(store: Store, engine: Engine, *services: Service) -> Setup:
    async def credentials() -> Credentials | None:
        return Credentials("the environment", None)

    return Setup(
        services=lambda: services_file(*(services or (WEB,))),
        place=place,
        engine=lambda: engine,
        store=lambda: store,
        credentials=credentials,
        free_bytes=None,
        clock=lambda: T0,
        random=bytes,
        timeout=timedelta(seconds=20),
    )


@pytest.fixture
def store() -> Refusing:
    return Refusing()


@pytest.fixture
def engine() -> TinyEngine:
    engine = TinyEngine()
    engine.make([("ADD rootfs", b"base"), ("RUN make", b"program")], "web:1")
    return engine


def about(findings: list[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def verdicts(findings: list[Finding]) -> dict[str, str]:
    """All that is not well."""
    return {found.subject: found.verdict for found in findings if found.verdict != "ok"}


async def test_a_healthy_setup_is_well_from_end_to_end(store: Refusing, engine: TinyEngine) -> None:
    await export(engine, store, [WEB])

    findings = await examine(setup(store, engine))

    assert verdicts(findings) == {}
    assert [found.subject for found in findings] == [
        "services file",
        "project",
        "scope",
        "fallback",
        "engine",
        "image store",
        "build cache",
        "BuildKit",
        "saving",
        "image of web",
        "credentials",
        "store",
        "clock",
        "read main",
        "write main",
        "cache of web",
    ]
    assert about(findings, "cache of web").text == "found in main, 0 s old"
    msgspec.json.encode(list(findings))


async def test_services_without_a_buildkit_cache_are_named_where_they_need_one(
    store: Refusing,
) -> None:
    cached = replace(WORKER, buildkit_cache=".cache/worker")

    cold = await examine(setup(store, TinyEngine(image_store="containerd"), WEB, cached))
    warm = await examine(setup(store, TinyEngine(image_store="containerd"), cached))
    classic = await examine(setup(store, TinyEngine(), WEB))

    assert about(cold, "BuildKit").verdict == "warning"
    assert about(cold, "BuildKit").text.endswith("cold with web")
    assert about(warm, "BuildKit").verdict == "ok"
    assert about(classic, "BuildKit").verdict == "ok"


async def test_every_problem_and_warning_has_an_advice(store: Refusing) -> None:
    engine = TinyEngine(version="20.10.24", image_store="containerd")
    store.skew = timedelta(hours=1)
    store.refuse = {"list": AccessDenied("denied"), "create": StoreError("no")}

    findings = await examine(setup(store, engine, WEB, WORKER))

    assert len(verdicts(findings)) >= 6
    assert all(found.advice for found in findings if found.verdict != "ok")


async def test_looking_leaves_no_trace_in_the_store(store: Refusing, engine: TinyEngine) -> None:
    findings = await examine(setup(store, engine))

    assert about(findings, "write main").verdict == "ok"
    assert [change.split()[0] for change in store.changes] == ["create", "abort"]
    assert [info async for info in store.list("")] == []
    assert store._uploads == {}


async def test_only_the_own_scope_is_tried_to_write(store: Refusing, engine: TinyEngine) -> None:
    await examine(replace(setup(store, engine), place=lambda: place("pr:1", "main")))

    prefix = scope_prefix(PROJECT, "pr:1")
    assert store.changes
    assert all(change.split()[1].startswith(prefix) for change in store.changes)


async def test_a_services_file_that_cannot_be_read_ends_nothing_else(
    store: Refusing, engine: TinyEngine
) -> None:
    def unreadable() -> ServicesFile:
        raise UsageError("compose.yaml:3: expected a mapping")

    findings = await examine(replace(setup(store, engine), services=unreadable))

    assert verdicts(findings) == {"services file": "problem"}
    assert about(findings, "services file").text == "compose.yaml:3: expected a mapping"
    assert about(findings, "write main").verdict == "ok"


async def test_a_services_file_without_cached_services_says_how_to_cache_one(
    store: Refusing, engine: TinyEngine
) -> None:
    findings = await examine(replace(setup(store, engine), services=lambda: services_file()))

    found = about(findings, "services file")
    assert found.verdict == "problem"
    assert "it has db" in found.text
    assert "x-longshore: {cached: true}" in found.advice


async def test_variables_that_are_not_set_are_named(store: Refusing, engine: TinyEngine) -> None:
    file = services_file(WEB, unset_variables=("TAG",))

    findings = await examine(replace(setup(store, engine), services=lambda: file))

    assert any(f.verdict == "warning" and "TAG" in f.text for f in findings)


async def test_services_of_options_need_no_file(store: Refusing, engine: TinyEngine) -> None:
    findings = await examine(replace(setup(store, engine), services=lambda: (WEB,)))

    assert about(findings, "services file").text == "none is read; options name web"
    assert about(findings, "image of web").verdict == "ok"


async def test_a_scope_that_nobody_knows_leaves_the_rest(
    store: Refusing, engine: TinyEngine
) -> None:
    def unknown() -> Place:
        raise UsageError("the scope cannot be told; give --scope")

    findings = await examine(replace(setup(store, engine), place=unknown))

    assert verdicts(findings) == {"scopes": "problem"}
    assert about(findings, "store").verdict == "ok"
    assert store.changes == []


async def test_an_engine_that_is_away_leaves_the_rest(store: Refusing, engine: TinyEngine) -> None:
    engine.unreachable = True

    findings = await examine(setup(store, engine))

    assert verdicts(findings) == {"engine": "problem"}
    assert "DOCKER_HOST" in about(findings, "engine").advice
    assert about(findings, "write main").verdict == "ok"


async def test_an_engine_that_cannot_be_made_is_a_finding(
    store: Refusing, engine: TinyEngine
) -> None:
    def broken() -> Engine:
        raise EngineUnavailable("no TLS")

    findings = await examine(replace(setup(store, engine), engine=broken))

    assert about(findings, "engine").text == "no TLS"


async def test_images_that_were_not_built_are_warned_of(
    store: Refusing, engine: TinyEngine
) -> None:
    findings = await examine(setup(store, engine, WEB, WORKER))

    assert about(findings, "image of web").verdict == "ok"
    assert about(findings, "image of worker").verdict == "warning"
    assert "worker:1" in about(findings, "image of worker").text


async def test_a_store_that_is_away_is_one_finding(store: Refusing, engine: TinyEngine) -> None:
    store.refuse = {"now": StoreUnavailable("no connection")}

    findings = await examine(setup(store, engine))

    assert verdicts(findings) == {"store": "problem"}
    assert about(findings, "store").text == "no connection"


async def test_a_store_that_never_answers_does_not_hold_up(
    store: Refusing, engine: TinyEngine
) -> None:
    store.hangs = True

    findings = await examine(replace(setup(store, engine), timeout=timedelta(seconds=0.05)))

    assert about(findings, "store").text == "no answer within 0.05 s"


async def test_each_scope_is_read_and_one_refusal_leaves_the_others(
    store: Refusing, engine: TinyEngine
) -> None:
    await export(engine, store, [WEB], scopes=["main"])
    store.refuse = {f"list {entries_prefix(PROJECT, 'develop')}": AccessDenied("denied")}

    findings = await examine(
        replace(setup(store, engine), place=lambda: place("pr:1", "develop", "main"))
    )

    assert about(findings, "read pr:1").text == "it can be listed, and holds nothing yet"
    assert about(findings, "read develop").verdict == "problem"
    assert "policy" in about(findings, "read develop").advice
    assert about(findings, "read main").text == "its entries can be listed and read"


async def test_a_scope_that_can_be_listed_but_not_read_is_a_problem(
    store: Refusing, engine: TinyEngine
) -> None:
    await export(engine, store, [WEB])
    store.refuse = {"get": AccessDenied("may list, may not get")}

    findings = await examine(setup(store, engine))

    assert about(findings, "read main").text == "may list, may not get"


@pytest.mark.parametrize("operation", ["create", "part"])
async def test_a_scope_that_cannot_be_written_is_a_problem(
    store: Refusing, engine: TinyEngine, operation: str
) -> None:
    store.refuse = {operation: AccessDenied("read-only")}

    findings = await examine(setup(store, engine))

    assert (about(findings, "write main").verdict, about(findings, "write main").text) == (
        "problem",
        "read-only",
    )
    assert store._uploads == {}


async def test_an_upload_that_cannot_be_given_up_is_a_warning(
    store: Refusing, engine: TinyEngine
) -> None:
    store.refuse = {"abort": AccessDenied("no s3:AbortMultipartUpload")}

    findings = await examine(setup(store, engine))

    assert about(findings, "write main").verdict == "warning"
    assert "s3:AbortMultipartUpload" in about(findings, "write main").advice
    assert [info async for info in store.list("")] == []


async def test_a_clock_that_is_off_is_judged_against_the_stores(
    store: Refusing, engine: TinyEngine
) -> None:
    store.skew = timedelta(minutes=20)

    found = about(await examine(setup(store, engine)), "clock")

    assert found.verdict == "problem"
    assert found.text.startswith("this machine's clock is 20 min behind the store's")


async def test_a_service_that_is_not_cached_is_a_warning(
    store: Refusing, engine: TinyEngine
) -> None:
    await export(engine, store, [WEB], scopes=["main"])

    findings = await examine(
        replace(setup(store, engine, WEB, WORKER), place=lambda: place("pr:1", "main"))
    )

    assert about(findings, "cache of web").text == "found in main, 0 s old"
    assert about(findings, "cache of worker").verdict == "warning"
    assert about(findings, "cache of worker").text == "no cached image for worker on linux-amd64"


async def test_a_damaged_entry_is_a_problem(store: Refusing, engine: TinyEngine) -> None:
    await export(engine, store, [WEB])
    (info,) = [i async for i in store.list(entries_prefix(PROJECT, "main"))]
    await store.put(info.key, b"nonsense")

    found = about(await examine(setup(store, engine)), "cache of web")

    assert found.verdict == "problem"
    assert "export again" in found.advice


async def test_credentials_are_a_finding_of_their_own(store: Refusing, engine: TinyEngine) -> None:
    async def none() -> Credentials | None:
        return None

    async def broken() -> Credentials | None:
        raise AccessDenied("the profile 'ci' does not exist")

    missing = await examine(replace(setup(store, engine), credentials=none))
    failed = await examine(replace(setup(store, engine), credentials=broken))
    unneeded = await examine(replace(setup(store, engine), credentials=None))

    assert about(missing, "credentials").verdict == "problem"
    assert about(failed, "credentials").text == "the profile 'ci' does not exist"
    assert "credentials" not in {found.subject for found in unneeded}


async def test_whether_the_engines_disk_can_be_read_is_told(
    store: Refusing, engine: TinyEngine, tmp_path: Path
) -> None:
    OverlayRoot(tmp_path / "docker")
    here = replace(
        setup(store, engine), disk=partial(open_disk, data_root=str(tmp_path / "docker"))
    )
    nowhere = replace(setup(store, engine), disk=open_disk)

    found = about(await examine(here), "direct reading")
    missing = about(await examine(nowhere), "direct reading")
    unasked = await examine(setup(store, engine))

    assert (found.verdict, found.text) == ("ok", f"exports read layers from {tmp_path}/docker")
    assert missing.verdict == "ok"
    assert "the engine does not say where its data is" in missing.text
    assert "--data-root" in missing.advice
    assert "direct reading" not in {finding.subject for finding in unasked}


async def test_room_on_the_engines_disk_is_judged_if_it_is_known(
    store: Refusing, engine: TinyEngine
) -> None:
    async def little() -> int | None:
        return 100 << 20

    async def unknown() -> int | None:
        return None

    full = await examine(replace(setup(store, engine), free_bytes=little))
    dark = await examine(replace(setup(store, engine), free_bytes=unknown))

    assert about(full, "engine's disk").verdict == "problem"
    assert "engine's disk" not in {found.subject for found in dark}


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(0, "ok"), (6, "ok"), (6.5, "warning"), (-6.5, "warning"), (301, "warning"), (302, "problem")],
)
def test_a_clock_is_judged_by_what_is_certain(ahead: float, verdict: str) -> None:
    found = judge_clock(timedelta(seconds=ahead), timedelta(seconds=1))

    assert found.verdict == verdict
    if ahead < 0:
        assert "behind" in found.text


@pytest.mark.parametrize(
    ("left", "verdict"),
    [(timedelta(0), "problem"), (timedelta(minutes=59), "warning"), (timedelta(hours=1), "ok")],
)
def test_credentials_are_judged_by_the_time_that_is_left(left: timedelta, verdict: str) -> None:
    assert judge_credentials("a role", T0 + left, T0).verdict == verdict


@pytest.mark.parametrize(
    ("gib", "verdict"), [(0.9, "problem"), (1, "warning"), (4.9, "warning"), (5, "ok")]
)
def test_room_is_judged_in_gib(gib: float, verdict: str) -> None:
    assert judge_disk(int(gib * (1 << 30))).verdict == verdict
