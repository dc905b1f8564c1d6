from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from tests.store.contract import StoreContract
from tests.support.faulty_store import FaultyStore

from longshore.errors import AccessDenied, CorruptData, ObjectMissing, StoreError, StoreUnavailable
from longshore.store.contract import Guard, Store, StoredObject, Upload
from longshore.store.limit import LimitStore
from longshore.store.memory import MemoryStore
from longshore.store.metrics import MetricsStore, StoreMetrics
from longshore.store.retry import Retry, RetryStore

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WRAPPERS: tuple[type[Store], ...] = (RetryStore, LimitStore, MetricsStore, FaultyStore)


class Waits:
    """A sleep that does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def retrying(
    inner: Store,
    *,
    attempts: int = 4,
    base: timedelta = timedelta(seconds=1),
    cap: timedelta = timedelta(seconds=5),
    waits: Waits | None = None,
    random: Callable[[], float] = lambda: 1.0,
    reports: list[Retry] | None = None,
) -> RetryStore:
    return RetryStore(
        inner,
        attempts=attempts,
        base=base,
        cap=cap,
        sleep=waits if waits is not None else Waits(),
        random=random,
        report=(reports if reports is not None else []).append,
    )


class ContractOnMemory(StoreContract):
    """The contract of a wrapper around a store in memory."""

    memory: MemoryStore

    async def raw_put(self, key: str, data: bytes) -> None:
        self.memory._objects[key] = StoredObject(data, NOW)

    async def raw_objects(self) -> Mapping[str, bytes]:
        return {key: stored.data for key, stored in self.memory._objects.items()}


class TestAllWrappers(ContractOnMemory):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        self.memory = MemoryStore(now=lambda: NOW)
        faulty = FaultyStore(self.memory, failures=2)
        limited = LimitStore(retrying(faulty), concurrency=2)
        yield MetricsStore(limited, StoreMetrics(), clock=lambda: 0.0)
        assert faulty.hit > 0 or not faulty.calls


class TestLostAnswers(ContractOnMemory):
    @pytest.fixture
    def store(self) -> Store:
        self.memory = MemoryStore(now=lambda: NOW)
        return retrying(FaultyStore(self.memory, failures=2, after=True, break_after=3))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_overrides_every_method(wrapper: type[Store]) -> None:
    operations = {name for name in vars(Store) if not name.startswith("_")}

    assert len(operations) == 15
    assert operations - vars(wrapper).keys() == set()
    assert "__getattr__" not in vars(wrapper)


def operations_of(store: Store) -> dict[str, Callable[[], Awaitable[object]]]:
    upload = Upload("p/1", "upload-1")

    async def list_all() -> object:
        return [info async for info in store.list("")]

    async def list_folders() -> object:
        return [folder async for folder in store.list_folders("")]

    async def list_uploads() -> object:
        return [pending async for pending in store.list_uploads("")]

    return {
        "put": partial(store.put, "a/c", b"x"),
        "get": partial(store.get, "a/b", limit_bytes=10),
        "read": partial(store.read, "a/b", 0, 2, bytearray()),
        "head": partial(store.head, "a/b"),
        "list": list_all,
        "list_folders": list_folders,
        "delete": partial(store.delete, ["a/b"]),
        "create_upload": partial(store.create_upload, "p/2"),
        "upload_part": partial(store.upload_part, upload, 1, 0, b"x"),
        "complete_upload": partial(store.complete_upload, upload, []),
        "abort_upload": partial(store.abort_upload, upload),
        "list_uploads": list_uploads,
        "now": store.now,
    }


async def filled() -> MemoryStore:
    store = MemoryStore(now=lambda: NOW)
    for key in ("a/b", "a/d", "b/e"):
        await store.put(key, b"0123456789")
    await store.create_upload("p/1")
    return store


OPERATIONS = tuple(operations_of(MemoryStore(now=lambda: NOW)))


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_fails_in_passing_is_repeated(operation: str) -> None:
    faulty = FaultyStore(await filled(), failures=3)
    waits, reports = Waits(), list[Retry]()

    await operations_of(retrying(faulty, waits=waits, reports=reports))[operation]()

    assert faulty.hit == 3
    assert waits.seconds == [1.0, 2.0, 4.0]
    assert [(each.operation, each.attempt, each.attempts) for each in reports] == [
        (operation, attempt, 4) for attempt in (1, 2, 3)
    ]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_keeps_failing_is_given_up(operation: str) -> None:
    faulty = FaultyStore(await filled(), failures=4)
    waits = Waits()

    with pytest.raises(StoreUnavailable, match=f"{operation} failed on purpose"):
        await operations_of(retrying(faulty, waits=waits))[operation]()

    assert faulty.hit == 4
    assert waits.seconds == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "error", [StoreError, AccessDenied, CorruptData, ObjectMissing, ValueError, OSError]
)
async def test_what_will_not_get_better_is_not_repeated(
    operation: str, error: type[Exception]
) -> None:
    faulty = FaultyStore(await filled(), failures=1, error=error)
    waits = Waits()

    with pytest.raises(error, match="on purpose"):
        await operations_of(retrying(faulty, waits=waits))[operation]()

    assert faulty.hit == 1
    assert waits.seconds == []


async def test_a_read_that_broke_asks_only_for_the_rest() -> None:
    faulty = FaultyStore(await filled(), failures=3, break_after=2)
    into = bytearray()

    await retrying(faulty).read("a/b", 1, 8, into)

    assert into == b"12345678"
    assert faulty.hit == 3
    assert [call[2:] for call in faulty.calls] == [(1, 9), (3, 9), (5, 9), (7, 9)]


async def test_a_read_that_gets_further_starts_counting_anew() -> None:
    faulty = FaultyStore(await filled(), failures=9, break_after=1)
    waits, into = Waits(), bytearray()

    await retrying(faulty, attempts=2, waits=waits).read("a/b", 0, 10, into)

    assert into == b"0123456789"
    assert faulty.hit == 9
    assert waits.seconds == [1.0] * 9


async def test_a_listing_that_broke_yields_every_object_once() -> None:
    inner = MemoryStore(now=lambda: NOW)
    keys = [f"a/{number}" for number in range(10)]
    for key in keys:
        await inner.put(key, b"x")
    faulty = FaultyStore(inner, failures=2, break_after=4)

    listed = [info.key async for info in retrying(faulty).list("a/")]

    assert sorted(listed) == keys
    assert faulty.hit == 2


async def test_a_listing_that_gets_no_further_is_given_up() -> None:
    inner = MemoryStore(now=lambda: NOW)
    for number in range(10):
        await inner.put(f"a/{number}", b"x")
    faulty = FaultyStore(inner, failures=100, break_after=4)
    waits, listed = Waits(), set()

    async def go_through() -> None:
        async for info in retrying(faulty, attempts=3, waits=waits).list("a/"):
            listed.add(info.key)

    with pytest.raises(StoreUnavailable):
        await go_through()

    assert len(listed) == 4
    assert waits.seconds == [1.0, 2.0]


async def test_what_a_reader_of_a_listing_raises_is_not_repeated() -> None:
    faulty = FaultyStore(await filled(), failures=0)

    async def go_through() -> None:
        async for _ in retrying(faulty).list(""):
            raise StoreUnavailable("the reader's own")

    with pytest.raises(StoreUnavailable, match="the reader's own"):
        await go_through()

    assert faulty.calls == [("list", "")]


async def test_the_delay_grows_to_its_cap_and_is_random_below_it() -> None:
    faulty = FaultyStore(await filled(), failures=6)
    waits, numbers = Waits(), iter([1.0, 1.0, 1.0, 1.0, 0.5, 0.0])

    await retrying(faulty, attempts=7, waits=waits, random=lambda: next(numbers)).now()

    assert waits.seconds == [1.0, 2.0, 4.0, 5.0, 2.5, 0.0]


async def test_many_attempts_do_not_overflow_the_delay() -> None:
    faulty = FaultyStore(await filled(), failures=2000)
    waits = Waits()

    await retrying(faulty, attempts=2001, waits=waits).now()

    assert waits.seconds[-1] == 5.0


async def test_a_wait_can_be_cancelled() -> None:
    waiting = asyncio.Event()

    async def wait(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    store = RetryStore(
        FaultyStore(await filled(), failures=9),
        attempts=9,
        base=timedelta(seconds=1),
        cap=timedelta(seconds=1),
        sleep=wait,
        random=lambda: 1.0,
        report=lambda _: None,
    )
    task = asyncio.create_task(store.now())
    await waiting.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


class SlowStore(MemoryStore):
    """Hold every put until the test lets it go, and count how many are held at once."""

    def __init__(self) -> None:
        super().__init__(now=lambda: NOW)
        self.held = 0
        self.most = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        self.held += 1
        self.begun.set()
        self.most = max(self.most, self.held)
        try:
            await self.go.wait()
            await super().put(key, data, guard=guard)
        finally:
            self.held -= 1


async def test_no_more_operations_than_allowed_run_at_once() -> None:
    slow = SlowStore()
    store = LimitStore(slow, concurrency=3)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(store.put(f"a/{number}", b"x"))
        for _ in range(50):
            await asyncio.sleep(0)
        slow.go.set()

    assert slow.most == 3
    assert len([info async for info in store.list("")]) == 20


async def test_a_failed_or_cancelled_operation_gives_its_turn_back() -> None:
    slow = SlowStore()
    store = LimitStore(slow, concurrency=1)
    task = asyncio.create_task(store.put("a", b"x"))
    await slow.begun.wait()
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(ObjectMissing):
        await store.get("missing", limit_bytes=1)

    slow.go.set()
    async with asyncio.timeout(5):
        await store.put("b", b"x")


async def test_whoever_goes_through_a_listing_may_call_the_store() -> None:
    store = LimitStore(await filled(), concurrency=1)

    async with asyncio.timeout(5):
        async for info in store.list(""):
            await store.get(info.key, limit_bytes=100)
        async for _ in store.list_folders(""):
            await store.head("a/b")


async def test_everything_is_counted() -> None:
    seconds = iter(range(1000))
    metrics = StoreMetrics()
    faulty = FaultyStore(await filled(), failures=1)
    retry = RetryStore(
        faulty,
        attempts=2,
        base=timedelta(seconds=1),
        cap=timedelta(seconds=1),
        sleep=Waits(),
        random=lambda: 1.0,
        report=metrics.count_retry,
    )
    store = MetricsStore(retry, metrics, clock=lambda: float(next(seconds)))

    for operation in operations_of(store).values():
        await operation()

    assert metrics.requests == dict.fromkeys(OPERATIONS, 1)
    assert metrics.retries == dict.fromkeys(OPERATIONS, 1)
    assert not +metrics.failures
    assert metrics.bytes_in == 10 + 2
    assert metrics.bytes_out == 1 + 1
    assert metrics.seconds["put"] == 1
    assert metrics.seconds["list"] == 5  # four objects and the end


async def test_failures_and_what_came_before_them_are_counted() -> None:
    metrics = StoreMetrics()
    faulty = FaultyStore(await filled(), failures=1, break_after=2)
    store = MetricsStore(faulty, metrics, clock=lambda: 0.0)

    for operation in operations_of(store).values():
        with pytest.raises(StoreUnavailable):
            await operation()

    assert metrics.failures == dict.fromkeys(OPERATIONS, 1)
    assert metrics.bytes_in == 2
    assert metrics.bytes_out == 0


@pytest.mark.parametrize(
    "wrap",
    [
        retrying,
        lambda inner: LimitStore(inner, concurrency=1),
        lambda inner: MetricsStore(inner, StoreMetrics(), clock=lambda: 0.0),
    ],
)
async def test_closing_a_wrapper_closes_what_it_wraps(wrap: Callable[[Store], Store]) -> None:
    faulty = FaultyStore(await filled(), failures=0)

    async with wrap(faulty) as store:
        assert store.url("a/b") == faulty.url("a/b")

    assert faulty.calls == [("close",)]
