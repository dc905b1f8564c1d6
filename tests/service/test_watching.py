"""The watcher: whatever the engine emits, the images that the cache lacks are wanted, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cache import Notes, service
from tests.support.fake_engine import FakeEngine
from tests.support.stepped import Process, Stage, SteppedClock

from longshore.core.digests import Digest, digest_of
from longshore.core.service import Service
from longshore.engine.contract import EngineImage, ImageEvent
from longshore.errors import EngineError, LongshoreError, UsageError
from longshore.service.watching import Pace, Watcher, choose, due_at, reconnect_wait

WEB, DB = service("web", "web:1"), service("db", "db:1", "db:builder")
OTHER = ImageEvent("tag", "unrelated:1", None)


class Picky(FakeEngine):
    """An engine that refuses some requests.

    Attributes:
        refuses: names that it fails to look up, and `events`.
        hangs: it answers no question about images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()
        self.asked_for_events = 0
        self.hangs = False

    async def image_ids(self) -> frozenset[Digest]:
        await self._hang()
        return await super().image_ids()

    async def inspect(self, name: str) -> EngineImage | None:
        await self._hang()
        found = await super().inspect(name)
        if name in self.refuses:
            raise EngineError(f"the Docker engine refused: {name}")
        return found

    async def events(self) -> AsyncGenerator[ImageEvent | None, None]:
        self.asked_for_events += 1
        if "events" in self.refuses:
            raise EngineError("the Docker engine refused: events")
        async for event in super().events():
            yield event

    async def _hang(self) -> None:
        if self.hangs:
            await asyncio.sleep(5)
            raise AssertionError("somebody waited for it")


class Machine:
    """A build machine with a watcher, whose time passes when a test says so."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.clock = SteppedClock(self.stage)
        self.engine = Picky()
        self.services: Sequence[Service] | LongshoreError = (WEB, DB)
        self.wanted: list[tuple[float, tuple[str, ...]]] = []
        self.notes = Notes()
        self.process = Process("watcher")
        self.watcher = Watcher(
            self.engine,
            self._read_services,
            lambda names: self.wanted.append((self.clock.now, tuple(names))),
            report=self.notes,
            clock=self.clock,
            sleep=self.clock.sleep,
            pace=Pace(last_answer=timedelta(milliseconds=10)),
        )

    async def _read_services(self) -> Sequence[Service]:
        if isinstance(self.services, LongshoreError):
            raise self.services
        return self.services

    def start(self) -> None:
        self.stage.start(self.process, self.watcher.run())

    def build(self, data: str, *tags: str) -> Digest:
        image_id = self.engine.build([("COPY data /", {"data": data.encode()})], *tags)
        self.stage.settle()
        return image_id

    def emit(self, event: ImageEvent = OTHER) -> None:
        self.engine.tell(event)
        self.stage.settle()

    def pass_(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        assert not self.process.is_done, self.process.task

    def hurry(self) -> tuple[str, ...]:
        return self.stage.run(self.watcher.hurry())

    def close(self) -> None:
        if self.process.task is not None and not self.process.is_done:
            self.stage.kill(self.process)
        self.stage.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture
def started(machine: Machine) -> Machine:
    machine.start()
    machine.pass_(5)
    return machine


def test_a_build_is_wanted_when_the_engine_has_been_quiet_for_two_seconds(
    started: Machine,
) -> None:
    started.build("one", "web:1")
    started.pass_(1.5)
    started.build("two", "web:1")
    started.pass_(100)

    assert started.wanted == [(8.5, ("web",))]


def test_a_burst_that_does_not_end_is_looked_at_ten_seconds_after_its_first_event(
    started: Machine,
) -> None:
    started.build("one", "web:1")
    for _ in range(14):
        started.emit()
        started.pass_(1)

    assert started.wanted == [(15, ("web",))]


def test_services_that_are_built_together_are_wanted_together(started: Machine) -> None:
    started.build("one", "web:1")
    started.pass_(1)
    started.build("two", "db:1")
    started.pass_(100)

    assert started.wanted == [(8, ("web", "db"))]


def test_a_further_stage_counts_as_the_services_own_image_does(started: Machine) -> None:
    started.build("one", "db:builder")
    started.pass_(100)

    assert started.wanted == [(7, ("db",))]


def test_a_newer_build_is_wanted_while_the_older_one_is_being_exported(started: Machine) -> None:
    started.build("one", "web:1")
    started.pass_(3)
    started.build("two", "web:1")
    started.pass_(100)

    assert started.wanted == [(7, ("web",)), (10, ("web",))]


def test_images_of_other_names_are_not_wanted(started: Machine) -> None:
    started.build("one", "web:2", "else:1")
    started.pass_(100)

    assert started.wanted == []


def test_what_was_there_when_the_watch_began_is_not_wanted(machine: Machine) -> None:
    machine.services = UsageError("there is no services file yet")
    there = machine.build("one", "web:1")
    machine.start()
    machine.pass_(1)
    machine.services = (WEB, DB)
    machine.build("one", "web:1")
    machine.pass_(100)

    assert machine.wanted == []
    assert there in machine.watcher.settled


def test_what_is_built_as_soon_as_the_watch_began_is_wanted(machine: Machine) -> None:
    machine.start()
    machine.build("one", "web:1")
    machine.pass_(100)

    assert machine.wanted == [(2, ("web",))]


def test_what_was_exported_or_imported_is_not_wanted(started: Machine) -> None:
    exported = started.build("one", "web:1")
    started.watcher.settle([exported])
    started.pass_(10)
    started.build("two", "web:1")
    started.pass_(10)
    started.build("one", "web:1")  # as from the build's cache
    started.pass_(100)

    assert started.wanted == [(17, ("web",))]


def test_what_an_import_brings_is_not_looked_at_before_it_is_done(started: Machine) -> None:
    with started.watcher.held():
        loaded = started.build("one", "web:1")
        started.pass_(60)
        assert started.wanted == []
        started.watcher.settle([loaded])
    started.build("two", "db:1")
    started.pass_(100)

    assert started.wanted == [(65, ("db",))]  # the import's events were long ago


def test_a_look_that_was_held_follows_when_the_last_hold_ends(started: Machine) -> None:
    with started.watcher.held():
        with started.watcher.held():
            started.build("one", "web:1")
            started.pass_(10)
        started.pass_(10)
        assert started.wanted == []
    started.pass_(0)

    assert started.wanted == [(25, ("web",))]


def test_a_build_that_no_event_tells_of_is_found_by_a_look_now_and_then(started: Machine) -> None:
    started.engine.silent = True
    started.build("one", "web:1")
    started.pass_(100)

    assert started.wanted == [(30, ("web",))]


def test_a_failed_export_is_tried_again_after_an_event_and_not_before(started: Machine) -> None:
    started.build("one", "web:1")
    started.pass_(5)
    started.watcher.failed(["web"])
    started.pass_(300)
    assert started.wanted == [(7, ("web",))]

    for _ in range(3):
        started.emit()
    started.pass_(5)
    started.watcher.failed(["web"])
    started.pass_(300)

    assert started.wanted == [(7, ("web",)), (312, ("web",))]


def test_a_failure_does_not_count_against_the_export_that_follows(started: Machine) -> None:
    started.build("one", "web:1")
    started.pass_(5)
    started.watcher.failed(["web"])
    started.engine.silent = True
    started.build("two", "web:1")
    started.pass_(25)
    started.emit()
    started.pass_(100)

    assert started.wanted == [(7, ("web",)), (30, ("web",))]


def test_an_export_that_goes_on_is_not_asked_for_again_by_events(started: Machine) -> None:
    started.build("one", "web:1")
    for _ in range(5):
        started.pass_(5)
        started.emit()
    started.pass_(100)

    assert started.wanted == [(7, ("web",))]


def test_an_image_that_an_export_left_out_is_not_wanted_again(started: Machine) -> None:
    web = started.build("one", "db:1")
    started.build("two", "db:builder")  # say it has no layers
    started.pass_(5)
    started.watcher.settle([web])
    started.emit()
    started.pass_(100)

    assert started.wanted == [(7, ("db",))]


def test_an_engine_that_goes_away_is_reported_once_and_looked_at_when_it_is_back(
    started: Machine,
) -> None:
    asked_before = started.engine.asked_for_events
    started.engine.break_off()
    started.pass_(60)
    asked = started.engine.asked_for_events - asked_before
    assert [type(error).__name__ for error in started.notes.warnings] == ["EngineUnavailable"]
    assert started.engine.listeners == 0

    started.build("one", "web:1")  # by whoever made it come back
    started.engine.unreachable = False
    started.pass_(13)

    assert 6 <= asked <= 12  # after 0.5, 1, 2, 4, 8, 10, 10, … seconds
    assert [names for _, names in started.wanted] == [("web",)]
    assert started.watcher.is_connected
    assert started.notes.lines == [
        "the Docker engine tells its events again",
        "new images of web: to be exported",
    ]


def test_a_failed_export_is_tried_again_when_the_engine_is_back(started: Machine) -> None:
    started.build("one", "web:1")
    started.pass_(5)
    started.watcher.failed(["web"])
    started.engine.break_off(unreachable=False)
    started.pass_(100)

    assert started.wanted == [(7, ("web",)), (12.5, ("web",))]


def test_an_engine_that_comes_late_begins_the_watch(machine: Machine) -> None:
    machine.engine.unreachable = True
    machine.start()
    machine.build("one", "web:1")
    machine.pass_(60)
    machine.engine.unreachable = False
    machine.pass_(10)
    assert machine.watcher.is_connected

    machine.build("two", "db:1")
    machine.pass_(100)

    assert machine.wanted == [(72, ("db",))]
    assert len(machine.notes.warnings) == 1


def test_where_events_are_refused_images_are_still_looked_up(machine: Machine) -> None:
    machine.engine.refuses = {"events"}
    machine.start()
    machine.build("one", "web:1")
    machine.pass_(100)

    assert machine.wanted == [(30, ("web",))]
    assert [str(error) for error in machine.notes.warnings] == ["the Docker engine refused: events"]


def test_services_that_cannot_be_read_are_reported_once_and_read_again(started: Machine) -> None:
    started.services = UsageError("compose.yaml, line 3: …")
    started.build("one", "web:1")
    started.pass_(60)
    assert len(started.notes.warnings) == 1
    started.services = UsageError("compose.yaml, line 4: …")
    started.emit()
    started.pass_(10)
    assert len(started.notes.warnings) == 2
    started.services = (WEB,)
    started.emit()
    started.pass_(100)

    assert started.wanted == [(77, ("web",))]


def test_an_image_that_cannot_be_looked_up_does_not_hide_those_of_other_services(
    started: Machine,
) -> None:
    started.engine.refuses = {"web:1"}
    started.build("one", "web:1")
    started.build("two", "db:1")
    started.pass_(10)
    assert started.wanted == [(7, ("db",))]
    assert [str(error) for error in started.notes.warnings] == ["the Docker engine refused: web:1"]

    started.engine.refuses = set()
    started.pass_(100)

    assert started.wanted == [(7, ("db",)), (30, ("web",))]


def test_hurry_looks_at_once_and_says_what_it_wanted(started: Machine) -> None:
    started.build("one", "web:1")

    assert started.hurry() == ("web",)
    assert started.hurry() == ()
    assert started.wanted == [(5, ("web",))]


def test_hurry_wants_what_failed_before(started: Machine) -> None:
    started.build("one", "web:1")
    started.pass_(10)
    started.watcher.failed(["web"])

    assert started.hurry() == ("web",)


def test_hurry_does_not_wait_for_a_hold_nor_for_events(started: Machine) -> None:
    started.engine.silent = True
    with started.watcher.held():
        started.build("one", "web:1")

        assert started.hurry() == ("web",)


def test_hurry_reports_an_engine_that_is_gone(started: Machine) -> None:
    started.build("one", "web:1")
    started.engine.unreachable = True

    assert started.hurry() == ()
    assert [type(error).__name__ for error in started.notes.warnings] == ["EngineUnavailable"]


def test_hurry_does_not_ask_an_engine_that_has_never_answered(machine: Machine) -> None:
    machine.engine.hangs = True
    machine.start()
    machine.stage.kill(machine.process)

    assert machine.hurry() == ()
    assert machine.notes.warnings == []


def test_hurry_does_not_wait_long_for_an_engine_that_has_become_silent(started: Machine) -> None:
    started.engine.hangs = True
    started.pass_(30)  # a look has begun, and is not answered
    started.stage.kill(started.process)

    assert started.hurry() == ()
    (warning,) = started.notes.warnings
    assert str(warning) == (
        "the Docker engine has not answered for 0.01s; what was built since the last look is"
        " not exported"
    )


def test_a_watch_that_is_cancelled_leaves_no_connection(started: Machine) -> None:
    assert started.engine.listeners == 1

    started.stage.kill(started.process)

    assert started.engine.listeners == 0
    assert not started.watcher.is_connected


IDS = [digest_of(bytes([number])) for number in range(6)]
some_ids = st.frozensets(st.sampled_from(IDS))
by_service = st.dictionaries(st.sampled_from(["web", "db", "job"]), some_ids)


@given(by_service, some_ids, by_service)
def test_a_service_is_chosen_exactly_for_an_image_neither_settled_nor_asked_for(
    images: dict[str, frozenset[Digest]],
    settled: frozenset[Digest],
    asked: dict[str, frozenset[Digest]],
) -> None:
    chosen = choose(images, settled, asked)

    for name, ids in images.items():
        new = [i for i in ids if i not in settled and i not in asked.get(name, ())]
        assert (name in chosen) == bool(new)
    assert choose(images, settled, asked | chosen) == {}
    assert choose(images, settled.union(*chosen.values()), asked) == {}


seconds = st.floats(0, 1e6)


@given(seconds, seconds)
def test_a_look_comes_after_the_last_event_and_never_late(first: float, more: float) -> None:
    due = due_at(first, first + more, Pace())

    assert due <= first + 10
    assert due == pytest.approx(first + more + 2) or due == first + 10


def test_waits_for_an_engine_grow_up_to_a_limit() -> None:
    pace = Pace(reconnect_base=timedelta(seconds=1), reconnect_cap=timedelta(seconds=5))

    assert [reconnect_wait(n, pace) for n in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 5, 5, 5]


steps = st.lists(
    st.sampled_from(
        ["web", "db", "silent web", "silent db", "succeed", "fail", "away", "back", "wait"]
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(steps)
def test_whatever_happens_all_that_was_built_is_exported_in_the_end(happens: list[str]) -> None:
    machine = Machine()
    exported: set[Digest] = set()
    done = 0

    def export(*, succeed: bool) -> None:
        """Work off what was wanted, as the job queue does."""
        nonlocal done
        names = {name for _, names in machine.wanted[done:] for name in names}
        assert all(current(name) - exported for name in names)
        if succeed:
            exported.update(*map(current, names))
            machine.watcher.settle(exported)
        else:
            machine.watcher.failed(names)
        done = len(machine.wanted)

    def current(name: str) -> set[Digest]:
        images = machine.engine.images.items()
        return {Digest(identifier) for identifier, image in images if f"{name}:1" in image.tags}

    try:
        machine.start()
        for number, what in enumerate(happens):
            if what in ("web", "db", "silent web", "silent db"):
                machine.engine.silent = what.startswith("silent")
                machine.build(str(number), f"{what.removeprefix('silent ')}:1")
            elif what in ("succeed", "fail"):
                export(succeed=what == "succeed")
            elif what == "away":
                machine.engine.break_off()
            elif what == "back":
                machine.engine.unreachable = False
            machine.pass_(3)
        machine.engine.unreachable = False
        machine.pass_(60)
        export(succeed=True)
        machine.emit()
        machine.pass_(5)
        export(succeed=True)
        before = len(machine.wanted)
        machine.emit()
        machine.pass_(100)

        assert current("web") | current("db") <= exported
        assert len(machine.wanted) == before
    finally:
        machine.close()
