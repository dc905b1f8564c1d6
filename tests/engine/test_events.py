"""What real engines tell of images, as `docs/architecture.md`, "Events", says; what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.engine_fixtures import prepare_engine
from tests.support import builds
from tests.support.cache import service
from tests.support.engines import Generation, ImageStore, ThrowawayEngine
from tests.support.images import build, import_busybox

from longshore.core.service import Service
from longshore.engine import connection
from longshore.engine.docker import DockerEngine
from longshore.errors import EngineError, LongshoreError
from longshore.ops.report import Report
from longshore.service.watching import Pace, Watcher

pytestmark = pytest.mark.engine

ENGINES: list[tuple[Generation, ImageStore]] = [
    ("20.10", "graphdriver"),
    ("26.1", "graphdriver"),
    ("26.1", "containerd"),
    ("28.5", "graphdriver"),
    ("28.5", "containerd"),
]
DOCKERFILE = "FROM base:1\nCOPY data /data\n"


class Happened(Report):
    """A report whose lines and warnings can be waited for."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[str] = asyncio.Queue()

    def line(self, text: str) -> None:
        self._said.put_nowait(text)

    def warn(self, error: LongshoreError, text: str | None = None) -> None:
        self._said.put_nowait(text or str(error))

    async def next(self) -> str:
        return await self._said.get()


@pytest.fixture(scope="module", params=ENGINES, ids="-".join)
def engine(request: pytest.FixtureRequest) -> Iterator[ThrowawayEngine]:
    """One engine of each kind, for all tests here."""
    with prepare_engine(*request.param) as engine:
        import_busybox(engine.api, "base:1")
        yield engine


def build_with_buildkit(engine: ThrowawayEngine, folder: Path, data: str, *arguments: str) -> None:
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "data").write_text(data)
    builds.build(engine, "BuildKit", folder, [*arguments, "."])


def tells_of_buildkit(engine: ThrowawayEngine) -> bool:
    return (engine.binaries.generation, engine.image_store) != ("26.1", "containerd")


async def test_engines_tell_what_gave_a_name_another_image(
    engine: ThrowawayEngine, tmp_path: Path
) -> None:
    api, there = engine.api, DockerEngine(engine.host)
    told: dict[str, list[tuple[str, str]]] = {}

    def restore() -> None:
        api.images.load(archive)

    def commit() -> None:
        container = api.containers.run(
            "base:1", ["touch", "/new"], network_mode="none", detach=True
        )
        container.wait()
        container.commit("committed", "1")
        container.remove()

    async with aclosing(there.events()) as events:
        assert await anext(events) is None

        async def note(what: str, work: Callable[[], object]) -> None:
            """Do something, and read the events until that of a tag that is given behind it."""
            work()
            api.images.get("base:1").tag("mark", what)
            told[what] = []
            async for event in events:
                assert event is not None
                if event.name == f"mark:{what}":
                    assert event.image_id == api.images.get("base:1").id
                    return
                named = api.images.get(event.image_id).id if event.image_id else None
                assert event.image_id == named
                name = "id" if event.name == event.image_id else event.name
                told[what].append((event.action, name))

        await note("import", lambda: import_busybox(api, "other:1"))
        await note("classic", lambda: build(api, DOCKERFILE, {"data": b"1"}, tag="web:1"))
        await note("buildkit", lambda: build_with_buildkit(engine, tmp_path, "2", "-t", "web:2"))
        await note("tag", lambda: api.images.get("web:1").tag("web", "3"))
        archive = b"".join(api.images.get("web:1").save(named="web:1"))
        await note("remove", lambda: api.images.remove("web:1"))
        await note("load", restore)
        await note("commit", commit)
    await there.close()

    imports_are_tags = (engine.binaries.generation, engine.image_store) != ("26.1", "containerd")
    assert told == {
        "import": [("tag", "other:1")] * imports_are_tags + [("import", "id")],
        "classic": [("tag", "web:1")],
        "buildkit": [("tag", "web:2")] * tells_of_buildkit(engine),
        "tag": [("tag", "web:3")],
        "remove": [],  # nor of the save before
        "load": [("load", "id")],
        "commit": [("tag", "committed:1")],
    }


async def test_silence_is_no_error_and_listening_ends_at_once_with_no_thread_left_waiting(
    engine: ThrowawayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.05)  # longer silences would be errors
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    there = DockerEngine(engine.host)

    async with aclosing(there.events()) as events:
        assert await anext(events) is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2) as silence:
                await anext(events)
        assert await there.inspect("base:1")  # which needs the only thread
        took = asyncio.get_running_loop().time() - (silence.when() or 0)
    await there.close()

    assert took < 1


async def test_builds_are_wanted_also_after_the_engine_died_and_came_back(
    engine: ThrowawayEngine, tmp_path: Path
) -> None:
    there, looks, notes = DockerEngine(engine.host), Happened(), Happened()
    wanted: asyncio.Queue[Sequence[str]] = asyncio.Queue()

    async def services() -> Sequence[Service]:
        looks.line("look")
        return [service("shop", "shop:1")]

    look_every = 3600 if tells_of_buildkit(engine) else 0.3
    watcher = Watcher(
        there,
        services,
        wanted.put_nowait,
        report=notes,
        clock=time.monotonic,
        sleep=asyncio.sleep,
        pace=Pace(
            quiet=timedelta(milliseconds=50),
            look_every=timedelta(seconds=look_every),
            reconnect_base=timedelta(milliseconds=50),
            reconnect_cap=timedelta(milliseconds=200),
        ),
    )
    watch = asyncio.create_task(watcher.run())
    async with asyncio.timeout(60), aclosing(there.events()) as events:
        assert await anext(events) is None
        await looks.next()
        await looks.next()  # the first one that follows an event: it listens
        build_with_buildkit(engine, tmp_path, "first", "-t", "shop:1")
        assert await wanted.get() == ("shop",)
        assert await notes.next() == "new images of shop: to be exported"
        if tells_of_buildkit(engine):
            engine.kill()
            with pytest.raises(EngineError):
                _ = [event async for event in events]
            assert "until it tells its events again" in await notes.next()
            engine.start()
            build_with_buildkit(engine, tmp_path, "second", "-t", "shop:1")
            assert await wanted.get() == ("shop",)
            assert await notes.next() == "the Docker engine tells its events again"
    watch.cancel()
    await asyncio.wait([watch])
    await there.close()

    assert watch.cancelled()
