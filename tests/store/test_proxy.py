"""A real server behind a network that fails: what is read and written is right all the same."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from tests.store.contract import MIB, PART_BYTES
from tests.support.faults import Fault, FaultProxy
from tests.support.raw_s3 import RawBucket
from tests.support.s3_fixtures import open_s3_store
from tests.support.seaweedfs import SeaweedFS

from longshore.errors import StoreUnavailable
from longshore.store.retry import Retry, RetryStore

pytestmark = pytest.mark.s3

DATA = random.Random(7).randbytes(2 * PART_BYTES + 3 * MIB + 17)
PATIENT = timedelta(seconds=30)  # so that a busy machine is not taken for a fault


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


def retrying(
    proxy: FaultProxy,
    bucket: str,
    retries: list[Retry],
    *,
    attempts: int = 4,
    read_timeout: timedelta = PATIENT,
) -> RetryStore:
    return RetryStore(
        open_s3_store(proxy.endpoint_url, bucket, concurrency=3, read_timeout=read_timeout),
        attempts=attempts,
        base=timedelta(seconds=1),
        cap=timedelta(seconds=1),
        sleep=at_once,
        random=lambda: 0.0,
        report=retries.append,
    )


DOWN = {
    "cut early": Fault(cut_down=1000),
    "cut late": Fault(cut_down=9 * MIB + 1),
    "cut again and again": Fault(connections=3, cut_down=3 * MIB),
    "unavailable": Fault(connections=3, unavailable=True),
}


@pytest.mark.parametrize("fault", DOWN.values(), ids=DOWN)
async def test_a_read_through_a_bad_network_is_right(
    seaweedfs: SeaweedFS, s3_bucket: str, fault: Fault
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    await raw.put("p/1", DATA)
    raw.close()
    retries: list[Retry] = []
    into = bytearray()

    async with FaultProxy("127.0.0.1", seaweedfs.port, fault) as proxy:
        async with retrying(proxy, s3_bucket, retries) as store:
            await store.read("p/1", 17, len(DATA) - 17, into)

        assert into == DATA[17:]
        assert proxy.faults_hit == len(retries) == fault.connections


async def test_a_read_that_stalls_goes_on_over_another_connection(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    await raw.put("p/1", DATA)
    raw.close()
    retries: list[Retry] = []
    into = bytearray()

    async with FaultProxy("127.0.0.1", seaweedfs.port, Fault(stall_down=2 * MIB)) as proxy:
        second = timedelta(seconds=1)
        async with retrying(proxy, s3_bucket, retries, read_timeout=second) as store:
            await store.read("p/1", 0, len(DATA), into)

        assert into == DATA
        assert proxy.faults_hit == 1
        assert proxy.connections > 1
        assert "did not answer in time" in str(retries[0].error)


UP = {
    "cut in the first part": Fault(cut_up=2 * MIB),
    "cut on many connections": Fault(connections=8, cut_up=PART_BYTES // 2),
    "cut before an answer": Fault(cut_down=0),
    "unavailable": Fault(connections=3, unavailable=True),
}


@pytest.mark.parametrize("fault", UP.values(), ids=UP)
async def test_an_upload_through_a_bad_network_is_right(
    seaweedfs: SeaweedFS, s3_bucket: str, fault: Fault
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    retries: list[Retry] = []

    async with FaultProxy("127.0.0.1", seaweedfs.port, fault) as proxy:
        async with retrying(proxy, s3_bucket, retries) as store:
            upload = await store.create_upload("p/1")
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(
                        store.upload_part(
                            upload, number + 1, offset, DATA[offset : offset + PART_BYTES]
                        )
                    )
                    for number, offset in enumerate(range(0, len(DATA), PART_BYTES))
                ]
            await store.complete_upload(upload, [part.result() for part in parts])
            await store.put("p/2", DATA)

        assert await raw.objects() == {"p/1": DATA, "p/2": DATA}
        # aiohttp sends a PUT that was cut off once more by itself, so not every fault is a retry.
        assert proxy.faults_hit == fault.connections
    raw.close()


async def test_a_put_whose_answer_is_lost_is_whole(seaweedfs: SeaweedFS, s3_bucket: str) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    retries: list[Retry] = []

    async with FaultProxy("127.0.0.1", seaweedfs.port, Fault(cut_down=0)) as proxy:
        async with retrying(proxy, s3_bucket, retries) as store:
            await store.put("p/1", DATA)

        assert proxy.faults_hit == 1
    assert await raw.objects() == {"p/1": DATA}
    raw.close()


async def test_a_completion_whose_answer_is_lost_succeeds(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    async with FaultProxy("127.0.0.1", seaweedfs.port) as proxy:
        async with retrying(proxy, s3_bucket, [], attempts=2) as store:
            upload = await store.create_upload("p/1")
            part = await store.upload_part(upload, 1, 0, b"data")
            proxy.fail_open_connections(Fault(cut_down=0))
            await store.complete_upload(upload, [part])

        assert proxy.faults_hit == 1
    assert await raw.objects() == {"p/1": b"data"}
    raw.close()


async def test_an_upload_that_is_cut_off_for_good_leaves_nothing_visible(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    await raw.put("p/1", b"older")
    fault = Fault(connections=1000, cut_up=MIB)

    async with (
        FaultProxy("127.0.0.1", seaweedfs.port, fault) as proxy,
        retrying(proxy, s3_bucket, []) as store,
    ):
        with pytest.raises(StoreUnavailable, match="p/1"):
            await store.put("p/1", DATA)
        upload = await store.create_upload("p/1")
        with pytest.raises(StoreUnavailable):
            await store.upload_part(upload, 1, 0, DATA)
        await store.abort_upload(upload)

    assert await raw.objects() == {"p/1": b"older"}
    assert await raw.uploads() == []
    raw.close()


async def test_a_cancelled_transfer_leaves_all_or_nothing(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    async with (
        FaultProxy("127.0.0.1", seaweedfs.port) as proxy,
        retrying(proxy, s3_bucket, []) as store,
    ):
        for limit in (1000, MIB, len(DATA) - MIB):
            task = asyncio.create_task(store.put(f"p/{limit}", DATA))
            await proxy.passed_up(proxy.bytes_up + limit)
            task.cancel()
            await asyncio.wait([task])
        await store.put("p/whole", b"the connections that are left work")

    objects = dict(await raw.objects())
    assert objects.pop("p/whole")
    assert all(data == DATA for data in objects.values())
    raw.close()
